"""What transformers saved comes in and goes out again with the same bytes; what goes out, transformers reads."""

import filecmp
import json

import numpy as np
import pytest

from jaxlm.exchange import exporting, importing

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

QUIET = lambda line: None


def models() -> dict:
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=101, hidden_size=40, num_hidden_layers=3, num_attention_heads=4, intermediate_size=56
    )
    bert = transformers.BertConfig(**sizes, max_position_embeddings=17)
    llama = transformers.LlamaConfig(
        **sizes, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False
    )
    return {
        "BertForPreTraining": transformers.BertForPreTraining(bert),
        "BertModel": transformers.BertModel(bert),
        "BertForMaskedLM in bfloat16": transformers.BertForMaskedLM(bert).bfloat16(),
        "LlamaForCausalLM in shards": transformers.LlamaForCausalLM(llama),
    }


def families() -> dict:
    """One model of every family, from the cases of tools/parity."""
    from tools.parity.collection import cases

    return {case.family: case for case in reversed(cases())}


@pytest.mark.parametrize("family", families())
def test_a_folder_of_any_family_comes_back_with_the_same_bytes(tmp_path, family):
    source, folder, out = (tmp_path / part for part in ("source", "folder", "out"))
    families()[family].reference().save_pretrained(source)
    importing.from_hf(str(source), folder, say=QUIET)
    exporting.to_hf(folder, out, say=QUIET)
    for path in source.iterdir():
        assert filecmp.cmp(path, out / path.name, shallow=False), path.name


@pytest.mark.parametrize("name", models())
def test_a_folder_of_save_pretrained_comes_back_with_the_same_bytes(tmp_path, name):
    source, folder, out = (tmp_path / part for part in ("source", "folder", "out"))
    shards = {"max_shard_size": "60KB"} if "shards" in name else {}
    models()[name].save_pretrained(source, **shards)
    importing.from_hf(str(source), folder, say=QUIET)
    exporting.to_hf(folder, out, say=QUIET)
    files = sorted(path.name for path in source.iterdir())
    assert len([file for file in files if file.endswith(".safetensors")]) > (1 if shards else 0)
    for file in files:
        assert filecmp.cmp(source / file, out / file, shallow=False), file
    assert sorted(path.name for path in out.iterdir()) == sorted({*files, "README.md"})


def test_old_names_buffers_and_copies_come_back_too(tmp_path):
    from jaxlm.formats import safetensors_file

    source, folder, out = (tmp_path / part for part in ("source", "folder", "out"))
    model = models()["BertForPreTraining"]
    model.save_pretrained(source)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in safetensors_file.load(source / "model.safetensors").items()
    }
    old["bert.embeddings.position_ids"] = np.arange(17)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    safetensors_file.save(source / "model.safetensors", old)
    importing.from_hf(str(source), folder, say=QUIET)
    exporting.to_hf(folder, out, say=QUIET)
    assert filecmp.cmp(source / "model.safetensors", out / "model.safetensors", shallow=False)
    exporting.to_hf(folder, tmp_path / "now", say=QUIET, dtype="float32")
    now = safetensors_file.load(tmp_path / "now" / "model.safetensors")
    assert set(now) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_another_dtype_and_smaller_shards_load_into_transformers(tmp_path, dtype):
    source, folder, out = (tmp_path / part for part in ("source", "folder", "out"))
    model = models()["BertForPreTraining"]
    model.save_pretrained(source)
    importing.from_hf(str(source), folder, say=QUIET)
    exporting.to_hf(folder, out, say=QUIET, dtype=dtype, shard_bytes=25_000)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert json.loads((out / "config.json").read_text())["dtype"] == dtype
    back, report = transformers.BertForPreTraining.from_pretrained(out, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    kind = getattr(torch, dtype)
    for (name, ours), (_, theirs) in zip(back.named_parameters(), model.named_parameters(), strict=True):
        assert ours.dtype == kind and torch.equal(ours, theirs.to(kind)), name


@pytest.mark.parametrize("legacy", [False, True])
def test_a_bin_file_gives_the_same_model_folder_as_safetensors(tmp_path, legacy):
    from jaxlm.exchange import stored

    source = tmp_path / "source"
    model = models()["BertForPreTraining"]
    model.save_pretrained(source)
    torch.save(model.state_dict(), source / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    safe = stored.of_hf(source)
    values = {path: safe.host(path) for path in safe.shapes}
    (source / "model.safetensors").unlink()
    loaded = stored.of_hf(source, allow_pickle="weights-only")
    assert not loaded.missing and not loaded.unexpected
    assert all(np.array_equal(loaded.host(path), values[path]) for path in values)


def flax_tree(model) -> dict:
    """A PyTorch model as the retired Flax classes saved it: their names and layouts."""
    norms = {name for name, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm)}
    embeddings = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    tree: dict = {}
    for name, tensor in model.named_parameters():
        outer, _, last = name.rpartition(".")
        array = tensor.detach().numpy()
        if last == "weight":
            last = "scale" if outer in norms else "embedding" if outer in embeddings else "kernel"
            array = array.T if last == "kernel" else array
        inner = tree
        for part in outer.split("."):
            inner = inner.setdefault(part, {})
        inner[last] = array
    return tree


def test_a_flax_file_gives_the_same_weights(tmp_path):
    from flax import serialization

    from jaxlm.exchange import stored

    source = tmp_path / "source"
    model = models()["BertForPreTraining"]
    model.save_pretrained(source)
    safe = stored.of_hf(source)
    values = {path: safe.host(path) for path in safe.shapes}
    (source / "model.safetensors").unlink()
    (source / "flax_model.msgpack").write_bytes(serialization.to_bytes(flax_tree(model)))
    loaded = stored.of_hf(source)
    assert not loaded.missing and not loaded.unexpected
    assert all(np.array_equal(loaded.host(path), values[path]) for path in values)
