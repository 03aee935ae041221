"""Claims about a stranger's folder: names that climb out, links and indexes that lie are refused; nothing is opened."""

import json
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.formats import safetensors_file, weights
from jaxlm.formats.folder import Folder


def folder(path, files: dict[str, dict[str, np.ndarray]], weight_map=None, config='{"model_type": "bert"}'):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(config)
    for name, tensors in files.items():
        safetensors_file.save(path / name, tensors)
    if weight_map is not None:
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return path


A, B = {"a": np.arange(3.0)}, {"b": np.arange(4.0)}


def test_shards_are_one_source_that_knows_the_file_of_every_tensor(tmp_path):
    found = weights.open_folder(
        folder(
            tmp_path / "m",
            {"1.safetensors": A, "2.safetensors": B},
            {"a": "1.safetensors", "b": "2.safetensors"},
        )
    )
    assert sorted(found.source) == ["a", "b"] and np.array_equal(found.source.read("b"), np.arange(4.0))
    assert found.source.entries["a"].file.endswith("1.safetensors")


@pytest.mark.parametrize("old_shard", [True, False])
def test_one_file_counts_and_not_the_index_of_an_earlier_save_beside_it(tmp_path, old_shard):
    files = {"model.safetensors": {"a": np.full(3, 7.0)}} | ({"1.safetensors": A} if old_shard else {})
    found = weights.open_folder(folder(tmp_path / "m", files, {"a": "1.safetensors"}))
    assert np.array_equal(found.source.read("a"), np.full(3, 7.0))


def test_data_of_a_tensorflow_release_that_are_a_link_out_of_the_folder_are_refused(tmp_path):
    shutil.copytree(pathlib.Path(__file__).parent / "bert_tf", tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{}")
    (data,) = (tmp_path / "m").glob("*.data-*")
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        UserError, match=r"data-00000-of-00001 is a link to .*elsewhere, outside of the folder"
    ):
        weights.open_folder(tmp_path / "m")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "sub/../../secret.safetensors",
        "..\\secret.safetensors",
        "C:secret",
    ],
)
def test_a_shard_name_that_climbs_out_is_refused(tmp_path, name):
    safetensors_file.save(tmp_path / "secret.safetensors", A)
    with pytest.raises(UserError, match=r"leads out of the folder: refused"):
        weights.open_folder(folder(tmp_path / "m", {}, {"a": name}))


@pytest.mark.parametrize("what", ["model.safetensors", "config.json", "1.safetensors"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path, what):
    place = folder(tmp_path / "m", {"model.safetensors": A})
    if what == "1.safetensors":
        (place / "model.safetensors").unlink()
        folder(place, {}, {"a": what})
    outside = tmp_path / "outside"
    if what == "config.json":
        outside.write_text("{}")
    else:
        safetensors_file.save(outside, A)
    (place / what).unlink(missing_ok=True)
    (place / what).symlink_to(outside)
    with pytest.raises(UserError, match=f"{what} is a link to .*outside, outside of the folder: refused"):
        weights.open_folder(place)


def test_a_link_within_the_folder_and_those_of_a_hubs_cache_are_followed(tmp_path, monkeypatch):
    place = folder(tmp_path / "m", {"real": A})
    (place / "model.safetensors").symlink_to("real")
    assert list(weights.open_folder(place).source) == ["a"]
    model = tmp_path / "hub" / "models--some--bert"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    folder(model / "blobs", {"x": A})
    (snapshot / "model.safetensors").symlink_to("../../blobs/x")
    (snapshot / "config.json").symlink_to("../../blobs/config.json")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert list(weights.open_folder("some/bert").source) == ["a"]
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    assert list(weights.open_folder("some/bert").source) == ["a"]


def test_a_name_of_a_hub_is_not_downloaded_but_told_how(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"google/bert: no such folder, and jaxlm downloads nothing.*hf download google/bert"
    ):
        weights.open_folder("google/bert")
    with pytest.raises(UserError, match=r"/no/such/place: no such folder"):
        weights.open_folder("/no/such/place")


@pytest.mark.parametrize(
    ("files", "weight_map", "message"),
    [
        (
            {"1.safetensors": A},
            {"a": "1.safetensors", "b": "2.safetensors"},
            r"names 2\.safetensors, which is not in the folder",
        ),
        (
            {"1.safetensors": A},
            {"a": "1.safetensors", "b": "1.safetensors"},
            r"b is not in 1\.safetensors, where .* has it",
        ),
        (
            {"1.safetensors": A | B},
            {"a": "1.safetensors"},
            r"b of 1\.safetensors is not in model\.safetensors\.index",
        ),
        ({"1.safetensors": A}, {"a": 3}, "no weight_map from names to files"),
        ({"1.safetensors": A}, [], "no weight_map from names to files"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, files, weight_map, message):
    with pytest.raises(UserError, match=message):
        weights.open_folder(folder(tmp_path / "m", files, weight_map))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", r"config\.json: is not JSON"),
        ("[1]", r"config\.json holds a list; a JSON object"),
        ('{"a": 1, "a": 2}', r"config\.json: 'a' stands there twice"),
        ("[" * 100_000, r"config\.json: is not JSON: RecursionError"),
        ("\xff", None),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(tmp_path, config, message):
    place = folder(tmp_path / "m", {"model.safetensors": A})
    (place / "config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(UserError, match=message or r"config\.json: cannot be read: UnicodeDecodeError"):
        weights.open_folder(place)
    (place / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        weights.open_folder(place)


def test_a_file_that_the_system_does_not_open_is_refused_by_name(tmp_path):
    place = folder(tmp_path / "m", {"model.safetensors": A})
    (place / "config.json").unlink()
    (place / "config.json").symlink_to("config.json")
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        weights.open_folder(place)
    with pytest.raises(UserError, match=r"'a{80}' is not the name of a file"):
        weights.open_folder(folder(tmp_path / "n", {"1.safetensors": A}, {"a": "a" * 100_000}))


def test_a_huge_config_is_not_read(tmp_path):
    place = folder(tmp_path / "m", {"model.safetensors": A})
    os.truncate(place / "config.json", 65 * 2**20)
    with pytest.raises(UserError, match="has 68157440 bytes; at most 67108864 are read"):
        weights.open_folder(place)


def test_a_pickle_is_not_opened_without_the_flag_that_says_what_it_does(tmp_path):
    place = folder(tmp_path / "m", {})
    (place / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(
        UserError,
        match=r"pytorch_model\.bin is a pickle, a format that can run programs\. --allow-pickle=weights-only reads it without",
    ):
        weights.open_folder(place)
    with pytest.raises(UserError, match=r"pytorch_model\.bin: refused: it is neither a zip nor"):
        weights.open_folder(place, allow_pickle="weights-only")


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        UserError, match=r"has no weights: looked for model\.safetensors.*It holds config\.json"
    ):
        weights.open_folder(folder(tmp_path / "m", {}))


def test_a_name_that_is_no_name_is_refused(tmp_path):
    for name in ("", "a\0b"):
        with pytest.raises(UserError, match="is not the name of a file"):
            Folder(tmp_path).file(name)
