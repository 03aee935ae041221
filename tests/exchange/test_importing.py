"""Claims about model folders: complete or absent, nothing written of a hostile source, and what is in them is what came."""

import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.exchange import exporting, importing, model_folder
from jaxlm.formats import safetensors_file
from jaxlm.infer import loaded
from jaxlm.models.paths import flatten
from tests.exchange.folders import CONFIG, hf_folder, params

QUIET = lambda line: None
ROOT = pathlib.Path(__file__).parents[2]


def tensors(path) -> dict[str, np.ndarray]:
    return safetensors_file.load(path / "model.safetensors")


def test_a_model_folder_loads_like_the_folder_it_was_made_from(tmp_path):
    source, target = hf_folder(tmp_path / "hf"), tmp_path / "model"
    importing.from_hf(str(source), target, say=QUIET)
    direct, through = loaded.load_hf(source), loaded.load(target)
    for ready in (direct, through):
        assert ready.model.config == CONFIG and ready.row_length == 32 and ready.stored.run is None
        expected = flatten(params())
        assert all(np.array_equal(array, expected[path]) for path, array in flatten(ready.params).items())
    assert direct.tokenizer.fingerprint == through.tokenizer.fingerprint
    assert (target / "tokenizer" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert (target / "origin" / "config.json").read_bytes() == (source / "config.json").read_bytes()


def spoil(path, what: str) -> str:
    """Makes a folder hostile or damaged; returns what the message has to say."""
    held, config = tensors(path), json.loads((path / "config.json").read_text())
    if what == "missing":
        del held["bert.encoder.layer.1.output.dense.bias"]
        message = r"1 missing \(bert\.encoder\.layer\.1\.output\.dense\.bias\)"
    elif what == "unexpected":
        held["bert.backdoor.weight"] = np.zeros(3, "f")
        message = r"1 unexpected \(bert\.backdoor\.weight\)"
    elif what == "shape":
        held["cls.predictions.transform.dense.weight"] = np.zeros((24, 25), "f")
        message = r"cls\.predictions\.transform\.dense\.weight has shape \(24, 25\), the model config says \(24, 24\)"
    elif what == "absurd":
        config["hidden_size"] = 10**12
        message = r"hidden_size=1000000000000: at most"
    elif what == "layers":
        config["num_hidden_layers"] = 4000
        message = r"missing \(bert\.encoder\.layer\.10\."
    elif what == "tied":
        held["cls.predictions.decoder.weight"] = held["bert.embeddings.word_embeddings.weight"] + 1
        message = r"cls\.predictions\.decoder\.weight differs from"
    elif what == "tokenizer":
        config["vocab_size"] = 40
        for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
            held[name] = held[name][:40]
        message = r"the tokenizer has 63 tokens, the model 40"
    elif what == "double":
        held["cls.predictions.bias"] = held["cls.predictions.bias"].astype(np.float64)
        message = r"stored as float64"
    else:
        raise ValueError(what)
    safetensors_file.save(path / "model.safetensors", held)
    (path / "config.json").write_text(json.dumps(config))
    return message


@pytest.mark.parametrize(
    "what", ["missing", "unexpected", "shape", "absurd", "layers", "tied", "tokenizer", "double"]
)
def test_nothing_is_written_of_a_source_that_is_refused(tmp_path, what):
    source = hf_folder(tmp_path / "hf")
    message = spoil(source, what)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=message):
        importing.from_hf(str(source), tmp_path / "model", say=QUIET)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_target_that_holds_something_is_left_alone(tmp_path):
    source = hf_folder(tmp_path / "hf")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years")
    for call in (
        lambda: importing.from_hf(str(source), tmp_path / "full", say=QUIET),
        lambda: importing.from_hf(str(source), source / "config.json", say=QUIET),
    ):
        with pytest.raises(UserError, match="exists and is not empty"):
            call()
    importing.from_hf(str(source), tmp_path / "model", say=QUIET)
    with pytest.raises(UserError, match="exists and is not empty"):
        exporting.to_hf(tmp_path / "model", tmp_path / "full", say=QUIET)
    assert os.listdir(tmp_path / "full") == ["thesis.txt"]


def test_an_export_that_fails_midway_leaves_nothing(tmp_path, monkeypatch):
    importing.from_hf(str(hf_folder(tmp_path / "hf")), tmp_path / "model", say=QUIET)
    before, calls = sorted(os.listdir(tmp_path)), []

    def fails(*arguments):
        calls.append(arguments)
        raise OSError("disk full")

    monkeypatch.setattr(exporting.table, "write", fails)
    with pytest.raises(UserError, match="disk full. Nothing was written"):
        exporting.to_hf(tmp_path / "model", tmp_path / "out", say=QUIET)
    assert calls and sorted(os.listdir(tmp_path)) == before


def test_a_damaged_model_folder_is_named(tmp_path):
    target = tmp_path / "model"
    importing.from_hf(str(hf_folder(tmp_path / "hf")), target, say=QUIET)
    (target / model_folder.FILE).write_text("{")
    with pytest.raises(UserError, match=r"model\.json cannot be read as a model's description"):
        loaded.load(target)
    (target / model_folder.FILE).write_text('{"format": 99}')
    with pytest.raises(UserError, match=r"model\.json has format 99; this version reads 1"):
        loaded.load(target)


def test_source_is_a_dtype_of_model_folders_only(tmp_path):
    from jaxlm.exchange import layout, stored

    found = stored.of_hf(hf_folder(tmp_path / "hf"))
    with pytest.raises(UserError, match="--dtype=source is for a model folder"):
        layout.make(found, {}, "source", None, None)


def test_a_folder_of_sentence_transformers_comes_and_goes_with_its_steps(tmp_path):
    from jaxlm.exchange import sentence_transformers

    source = hf_folder(tmp_path / "hf")
    for name, text in sentence_transformers.files("mean", 24, 32).items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    importing.from_hf(str(source), tmp_path / "model", say=QUIET)
    exporting.to_hf(tmp_path / "model", tmp_path / "out", say=QUIET)
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    modules = json.loads((source / "modules.json").read_text())
    (source / "modules.json").write_text(json.dumps([*modules, {"path": "../evil", "type": "x"}]))
    with pytest.raises(UserError, match="leads out of the folder"):
        importing.from_hf(str(source), tmp_path / "other", say=QUIET)
    (source / "modules.json").write_text(json.dumps([*modules, {"path": "2_Dense", "type": "x"}]))
    (source / "2_Dense").mkdir()
    (source / "2_Dense" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="2_Dense has weights of its own"):
        importing.from_hf(str(source), tmp_path / "other", say=QUIET)


def test_pooling_through_the_pooler_goes_out_as_a_dense_step(tmp_path):
    importing.from_hf(str(hf_folder(tmp_path / "hf")), tmp_path / "model", say=QUIET)
    exporting.to_hf(tmp_path / "model", tmp_path / "out", say=QUIET, pooling="cls_mlp")
    dense = safetensors_file.load(tmp_path / "out" / "2_Dense" / "model.safetensors")
    model = tensors(tmp_path / "out")
    assert np.array_equal(dense["linear.weight"], model["bert.pooler.dense.weight"])
    assert np.array_equal(dense["linear.bias"], model["bert.pooler.dense.bias"])
    paths = [module["path"] for module in json.loads((tmp_path / "out" / "modules.json").read_text())]
    assert paths == ["", "1_Pooling", "2_Dense", "3_Normalize"]
    assert json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"]


@contextlib.contextmanager
def small_disk(folder, size: str):
    """A file system of that size at the folder."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_an_export_into_a_disk_that_fills_is_an_error_and_leaves_nothing(tmp_path):
    importing.from_hf(str(hf_folder(tmp_path / "hf")), tmp_path / "model", say=QUIET)
    words = ["to_hf", str(tmp_path / "model"), str(tmp_path / "disk" / "out")]
    with small_disk(tmp_path / "disk", "64k") as disk:
        # A process of its own: what this is about is a signal that ends it.
        done = subprocess.run(
            [sys.executable, "tools/convert_checkpoint.py", *words], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 78 and "Traceback" not in done.stderr, done.stderr
        assert "cannot be used: No space left on device. Nothing was written to" in done.stderr
        assert list(disk.iterdir()) == []


def test_a_file_that_may_not_be_as_large_is_an_error_too(tmp_path):
    importing.from_hf(str(hf_folder(tmp_path / "hf")), tmp_path / "model", say=QUIET)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(UserError, match="cannot be used: File too large. Nothing was written to .*out"):
            exporting.to_hf(tmp_path / "model", tmp_path / "out", say=QUIET)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "model"]


def test_a_key_of_the_settings_that_nobody_knows_is_said(tmp_path, capsys):
    source, said = hf_folder(tmp_path / "hf"), []
    (source / "tokenizer_config.json").write_text('{"model_max_length": 32, "new_rule": true, "_private": 1}')
    importing.from_hf(str(source), tmp_path / "model", say=said.append)
    loaded.load_hf(source)
    shown = capsys.readouterr()
    line = f"{source}: new_rule in tokenizer_config.json: unknown here, and without effect"
    assert line in said and line in shown.err and not shown.out
