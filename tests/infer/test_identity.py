"""Claims about the digest that says whether a model is the same."""

import hashlib

from jaxlm.infer import identity


def test_a_single_number_that_changed_in_a_large_file_is_another_model(tmp_path):
    content = bytearray(2**25)
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text("{}")
    before = identity.of_model(f"hf:{tmp_path}")
    content[2**24 + 12345] = 1  # a head alone was trained, say
    (tmp_path / "model.safetensors").write_bytes(content)
    assert identity.of_model(f"hf:{tmp_path}") != before
    assert identity.content(tmp_path / "model.safetensors") == hashlib.sha256(content).digest()
    content[2**24 + 12345] = 0
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "notes.txt").write_text("of no model")
    assert identity.of_model(f"hf:{tmp_path}") == before
