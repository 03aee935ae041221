"""Claims about ONNX: onnxruntime says of padded rows what we say; files that say something else are refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from jaxlm.data.tokens import wordpiece
from jaxlm.errors import UserError
from jaxlm.exchange.sentence_transformers import files as sentence_files
from jaxlm.export import formats
from tests.exchange.folders import CONFIG, hf_folder
from tests.export.folders import CORPUS, llama, save

for needed in ("torch", "transformers", "onnxscript"):
    pytest.importorskip(needed, reason="needs the extra `parity` (torch, onnxscript)")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `parity` (onnxruntime)")


def export(folder, target, **options):
    source, lines = formats.Source(path=f"hf:{folder}", options=formats.options("onnx", options)), []
    formats.write("onnx", source, target, say=lines.append)
    return source, lines


def names(target):
    session = onnxruntime.InferenceSession(target / "onnx" / "model.onnx")
    return [one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]


def test_an_encoders_features_and_vectors_are_ours_and_other_files_are_refused(tmp_path):
    folder = hf_folder(tmp_path / "hf")
    for name, text in sentence_files("mean", 24, 32).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    source, lines = export(folder, tmp_path / "out")
    assert [line.split(":")[0] for line in lines[:2]] == [
        "last_hidden_state, padded rows",
        "sentence_embedding, padded rows",
    ]
    assert names(tmp_path / "out") == (
        ["input_ids", "attention_mask", "token_type_ids"],
        ["last_hidden_state", "sentence_embedding"],
    )
    # The layout of transformers.js, and nothing of PyTorch's weights.
    kept = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert {"onnx/model.onnx", "config.json", "tokenizer.json", "modules.json", "README.md"} <= kept
    assert not [name for name in kept if "safetensors" in name]
    # transformers itself, with a text beside a longer one.
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids, mask = (
        torch.tensor([[2, 9, 8, 3, 0, 0], [2, 7, 6, 5, 4, 3]]),
        torch.tensor([[1] * 4 + [0] * 2, [1] * 6]),
    )
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx" / "model.onnx")
    given = {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), "token_type_ids": 0 * ids.numpy()}
    said = session.run(["last_hidden_state"], given)[0]
    np.testing.assert_allclose(said[mask > 0], expected[mask > 0], atol=1e-5)
    # The check.
    assert formats.check("onnx", source, tmp_path / "out", say=print)
    told = json.loads((tmp_path / "out" / "check.json").read_text())
    assert all(one["engine"].startswith("onnxruntime ") and one["largest"] < 1e-4 for one in told)
    assert (tmp_path / "out" / "README.md").read_text().count("| onnxruntime") == 2
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.copy(hf_folder(tmp_path / "hf2", seed=1) / "model.safetensors", other)
    assert not formats.check("onnx", formats.Source(path=f"hf:{other}"), tmp_path / "out", say=print)
    wider = hf_folder(tmp_path / "wider", dataclasses.replace(CONFIG, hidden=32))
    foreign = formats.Source(path=f"hf:{wider}", options={"pooling": "mean"})
    with pytest.raises(UserError, match="is of another model: last_hidden_state, padded rows has the shape"):
        formats.check("onnx", foreign, tmp_path / "out", say=print)
    with pytest.raises(UserError, match="is of another model"):
        formats.check(
            "onnx", formats.Source(path=f"hf:{llama(tmp_path / 'll')}"), tmp_path / "out", say=print
        )
    file = tmp_path / "out" / "onnx" / "model.onnx"
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(UserError, match="no ONNX file that onnxruntime reads"):
        formats.check("onnx", source, tmp_path / "out", say=print)
    file.unlink()
    with pytest.raises(UserError, match=r"is not there\. Fix: export again"):
        formats.check("onnx", source, tmp_path / "out", say=print)


@pytest.mark.slow
def test_a_decoder_reads_prompts_and_goes_on_from_its_keys_and_values(tmp_path):
    _, lines = export(llama(tmp_path / "hf", biases="qkv"), tmp_path / "out")
    assert [line.split(":")[0] for line in lines[:2]] == [
        "logits of prompts, padded rows",
        "logits after keys and values",
    ]
    inputs, outputs = names(tmp_path / "out")
    past = [f"{layer}.{one}" for layer in range(2) for one in ("key", "value")]
    assert inputs == ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{n}" for n in past)]
    assert outputs == ["logits", *(f"present.{n}" for n in past)]


HEADS = {
    "tokens": ("logits",),
    "classes": ("logits",),
    "tags": ("logits",),
    "span": ("start_logits", "end_logits"),
}


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_what_a_head_says_is_an_output(tmp_path, head):
    made = wordpiece.train(CORPUS, 120, True)
    folder = save(tmp_path / "hf", CONFIG, made, (head, "pooler") if head == "classes" else (head,))
    export(folder, tmp_path / "out")
    assert names(tmp_path / "out")[1] == list(HEADS[head])


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    ["bert", "roberta", "albert", "distilbert", "modernbert", "gpt2", "llama", "t5", "bart", "marian"],
)
def test_every_family_becomes_onnx(tmp_path, family):
    from tests.exchange.transformers_folders import save as save_family

    export(save_family(family, tmp_path), tmp_path / "out")


def test_what_does_not_become_onnx_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="--pooling=mean: .* is no encoder"):
        export(llama(tmp_path / "llama"), tmp_path / "out", pooling="mean")
    made = wordpiece.train(CORPUS, 120, True)
    tags = save(tmp_path / "tags", CONFIG, made, ("tags",))
    with pytest.raises(UserError, match="has the head tags, and answers with that"):
        export(tags, tmp_path / "out", pooling="mean")
    choices = save(tmp_path / "choices", CONFIG, made, ("choices", "pooler"))
    with pytest.raises(UserError, match="the head choices does not become ONNX here"):
        export(choices, tmp_path / "out")
    assert not (tmp_path / "out").exists()
