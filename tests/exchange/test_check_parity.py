"""The comparison of two folders: the same is called the same, and what differs is named, tensor and layer."""

import dataclasses

import numpy as np
import pytest

from jaxlm.convert import families
from jaxlm.exchange import check, exporting, importing, model_folder, stored, tokenizer_files
from jaxlm.formats import safetensors_file
from tests.exchange.folders import CONFIG, HEADS, hf_folder, params

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")


def test_a_folder_and_what_was_made_of_it_are_the_same_model_for_transformers_too(tmp_path):
    source = hf_folder(tmp_path / "hf")
    importing.from_hf(str(source), tmp_path / "model", say=lambda line: None)
    finding = check.compare(str(source), str(tmp_path / "model"))
    assert finding.same, finding.lines
    assert finding.lines[1] == "tensors: 30 parameters the same to the bit"
    assert any("ours and transformers' of" in line for line in finding.lines)


def test_one_number_that_differs_is_found_and_its_tensor_named(tmp_path):
    a, b = hf_folder(tmp_path / "a"), hf_folder(tmp_path / "b")
    tensors = safetensors_file.load(b / "model.safetensors")
    tensors["bert.encoder.layer.1.output.dense.weight"][3, 7] += 0.5
    safetensors_file.save(b / "model.safetensors", tensors)
    finding = check.compare(str(a), str(b))
    assert not finding.same
    assert finding.lines[1] == "tensors: bert.encoder.layer.1.output.dense.weight differs first, by up to 0.5"


def test_the_first_layer_at_which_transformers_parts_from_us_is_named(tmp_path):
    side = stored.of_hf(hf_folder(tmp_path / "hf"))

    def spoiled(wanted):
        arrays = side.place(wanted)
        if "blocks/mlp/b_out" in arrays:
            arrays["blocks/mlp/b_out"] = arrays["blocks/mlp/b_out"].at[1].add(np.linspace(0, 3, 24))
        return arrays

    broken = dataclasses.replace(side, place=spoiled)
    same, lines = check._outputs(broken, broken)
    assert not same and "  they differ first at layer 1 (counted from 0)" in lines


def test_a_config_that_differs_is_said(tmp_path):
    a = hf_folder(tmp_path / "a")
    b = hf_folder(tmp_path / "b", dataclasses.replace(CONFIG, activation="gelu_tanh"))
    finding = check.compare(str(a), str(b))
    assert not finding.same and finding.lines[0] == "config: differs in activation 'gelu' and 'gelu_tanh'"


def test_how_weights_began_is_no_difference_of_an_export(tmp_path):
    began = dataclasses.replace(CONFIG, position_init="sinusoidal", init_scale=0.1)
    source = hf_folder(tmp_path / "hf")
    model_folder.write(
        tmp_path / "model",
        began,
        families.named(began, HEADS),
        params(),
        origin={"from": "a run", "kind": "run", "tensors": {}},
        fingerprint="",
        tokenizer=tokenizer_files.of_folder(source),
        files={},
        say=lambda line: None,
    )
    exporting.to_hf(tmp_path / "model", tmp_path / "out", dtype="float32", say=lambda line: None)
    assert stored.of_hf(tmp_path / "out").config.position_init == "normal"
    finding = check.compare(str(tmp_path / "model"), str(tmp_path / "out"))
    assert finding.same, finding.lines
