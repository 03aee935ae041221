"""Claims about Flax's msgpack files, written by flax itself."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from jaxlm.errors import UserError
from jaxlm.formats import flax_file


def tree() -> dict:
    rng = np.random.default_rng(0)
    return {
        "bert": {
            "encoder": {
                "layer": {
                    "0": {"dense": {"kernel": rng.normal(size=(30, 50)).astype("f"), "bias": np.arange(50.0)}}
                }
            },
            "embeddings": {"word_embeddings": {"embedding": jnp.ones((7, 3), jnp.bfloat16)}},
            "LayerNorm": {"scale": np.full(3, 2, "f"), "bias": np.zeros(3, "f")},
        },
        "final_logits_bias": np.zeros((1, 300), "f"),
    }


@pytest.mark.parametrize("outer", [False, True])
def test_names_and_layouts_become_those_of_pytorch(tmp_path, outer):
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(serialization.to_bytes({"params": tree()} if outer else tree()))
    entries = flax_file.entries(path)
    assert sorted(entries) == [
        "bert.LayerNorm.bias",
        "bert.LayerNorm.weight",
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.dense.bias",
        "bert.encoder.layer.0.dense.weight",
        "final_logits_bias",
    ]
    kernel = tree()["bert"]["encoder"]["layer"]["0"]["dense"]["kernel"]
    assert np.array_equal(entries["bert.encoder.layer.0.dense.weight"].read(()), kernel.T)
    part = entries["bert.encoder.layer.0.dense.weight"].read((slice(3, 9), slice(1, 5)))
    assert np.array_equal(part, kernel.T[3:9, 1:5])
    assert entries["bert.embeddings.word_embeddings.weight"].dtype == jnp.bfloat16


BOMBS = {
    "a map of 2^32 entries": (
        b"\xdf\xff\xff\xff\xff\xa1a",
        "it claims 4294967295 entries, with 2 bytes left",
    ),
    "maps in maps": (b"\x81\xa1a" * 1000, "nested more than 16 deep"),
    "an array of 2^31 bytes": (b"\x81\xa1a\xc9\x7f\xff\xff\xff\x01" + b"\0" * 40, "reaches beyond the end"),
    "text of 2^32 bytes": (b"\x81\xdb\xff\xff\xff\xff", "it ends in the middle"),
    "a number": (b"\x2a", "does not hold named arrays"),
    "a list": (b"\x81\xa1a\x93\x01\x02\x03", "a is not an array"),
    "a key that is a number": (b"\x81\x07\x01", "a key is a int"),
    "nothing": (b"", "cannot mmap an empty file"),
    "another extension": (b"\x81\xa1a\xd4\x05\x00", "a is of kind 5, not an array"),
    "a key and no more": (b"\x81\xa1a", "it ends in the middle"),
    "a dtype that is a list": (
        b"\x81\xa1a\xc7\x07\x01\x93\x91\x01\x91\x01\xc4\x00",
        r"shape \[1\] and dtype \[1\]",
    ),
    "numbers that are a number": (b"\x81\xa1a\xc7\x06\x01\x93\x91\x01\xa1f\x05", "TypeError"),
    "more behind it": (b"\x80\x80", "1 bytes follow its end"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_what_is_wrong(tmp_path, name):
    content, message = BOMBS[name]
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"flax_model.msgpack: not a readable Flax file: .*{message}"):
        flax_file.entries(path)


def test_a_file_that_was_cut_or_lies_about_a_shape_is_refused(tmp_path):
    path = tmp_path / "flax_model.msgpack"
    whole = serialization.to_bytes({"w": np.zeros((3, 5), "f")})
    path.write_bytes(whole[:-7])
    with pytest.raises(UserError, match="beyond the end of the file"):
        flax_file.entries(path)
    path.write_bytes(whole.replace(b"\x92\x03\x05", b"\x92\x03\x06"))
    with pytest.raises(UserError, match=r"w has 60 bytes for shape \[3, 6\] of float32"):
        flax_file.entries(path)


def test_an_array_that_is_named_as_the_outer_map_is_an_array(tmp_path):
    (tmp_path / "x.msgpack").write_bytes(serialization.to_bytes({"params": np.ones(2, "f")}))
    assert list(flax_file.entries(tmp_path / "x.msgpack")) == ["params"]
