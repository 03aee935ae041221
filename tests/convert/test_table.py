"""Claims about the conversion engine: moves are exact both ways, and what does not fit is named."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlm.convert import bert, families, table
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.formats import safetensors_file
from jaxlm.formats.source import of_arrays
from jaxlm.models.bert import Bert
from jaxlm.models.build import build

CONFIG = Bert(
    vocab_size=101,
    hidden=24,
    layers=3,
    heads=4,
    mlp=40,
    max_positions=17,
    types=2,
    dropout=0.1,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
    position_init="normal",
)
HEADS = families.named(CONFIG, ("tokens", "pooler", "nsp"))


def params() -> dict:
    """Every number different."""
    leaves, structure = jax.tree.flatten(build(CONFIG, HEADS).shapes)
    rng = np.random.default_rng(0)
    tree = structure.unflatten([rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])
    tree["embeddings"]["tokens"]["table"][101:] = 0
    tree["heads"]["tokens"]["b_vocab"][101:] = 0
    return tree


def test_export_then_import_is_the_identity():
    ours = params()
    back = families.import_params(families.export_params(ours, CONFIG), CONFIG)
    assert jax.tree.structure(back) == jax.tree.structure(ours)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b) and a.dtype == b.dtype, ours, back))


def test_a_projection_is_split_into_heads_as_its_rows_are_ordered():
    row = Row("w", "layer.{}.weight", "(N H) D -> D N H")
    theirs = {f"layer.{i}.weight": np.arange(6 * 5).reshape(6, 5) + 100 * i for i in range(2)}
    ours = table.read(row, of_arrays(theirs), (2, 5, 3, 2), {})
    for layer, d, n, h in np.ndindex(ours.shape):
        assert ours[layer, d, n, h] == theirs[f"layer.{layer}.weight"][2 * n + h, d]


def test_the_exported_vocabulary_is_unpadded():
    exported = families.export_params(params(), CONFIG)
    assert exported["bert.embeddings.word_embeddings.weight"].shape == (101, 24)
    assert exported["cls.predictions.bias"].shape == (101,)


def test_missing_and_unexpected_names_are_listed():
    exported = families.export_params(params(), CONFIG)
    del exported["bert.encoder.layer.1.output.dense.bias"]
    exported["bert.strange.weight"] = np.zeros(3)
    with pytest.raises(UserError) as caught:
        families.import_params(exported, CONFIG)
    assert "1 missing (bert.encoder.layer.1.output.dense.bias)" in str(caught.value)
    assert "1 unexpected (bert.strange.weight)" in str(caught.value)


def test_another_depth_is_noticed_and_another_width_is_named():
    exported = families.export_params(params(), CONFIG)
    with pytest.raises(UserError, match=r"16 unexpected \(bert\.encoder\.layer\.2"):
        families.import_params(exported, dataclasses.replace(CONFIG, layers=2))
    with pytest.raises(
        UserError, match=r"word_embeddings\.weight has shape \(101, 24\), the model config says \(90, 24\)"
    ):
        families.import_params(exported, dataclasses.replace(CONFIG, vocab_size=90))


def test_old_names_and_tied_copies_are_understood():
    exported = families.export_params(params(), CONFIG)
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma"): v for k, v in exported.items()}
    old = {k.replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in old.items()}
    old["cls.predictions.decoder.weight"] = exported["bert.embeddings.word_embeddings.weight"]
    old["bert.embeddings.position_ids"] = np.arange(17)[None]
    back = families.import_params(old, CONFIG)
    assert jax.tree.all(jax.tree.map(np.array_equal, params(), back))
    old["cls.predictions.decoder.weight"] = old["cls.predictions.decoder.weight"] + 1
    with pytest.raises(
        UserError, match=r"cls\.predictions\.decoder\.weight differs from bert\.embeddings\.word"
    ):
        families.import_params(old, CONFIG)


def test_a_weight_that_the_table_forgot_is_noticed():
    with pytest.raises(ValueError, match="forgotten"):
        table.to_theirs((Row("w", "w"),), {"w": np.zeros(3), "forgotten": np.zeros(3)}, {})


def test_the_config_survives_config_json_and_a_decoder_is_refused():
    for heads in (HEADS, ()):
        assert bert.from_hf_config(families.to_hf_config(CONFIG, heads)) == CONFIG
    with pytest.raises(UserError, match="decoder"):
        bert.from_hf_config(families.to_hf_config(CONFIG) | {"is_decoder": True})
    with pytest.raises(UserError, match="hidden_act='swish7'"):
        bert.from_hf_config(families.to_hf_config(CONFIG) | {"hidden_act": "swish7"})


def test_a_file_comes_back_and_a_damaged_one_is_named(tmp_path):
    exported = families.export_params(params(), CONFIG)
    path = tmp_path / "model.safetensors"
    safetensors_file.save(path, exported)
    loaded = safetensors_file.load(path)
    assert set(loaded) == set(exported) and all(np.array_equal(loaded[k], exported[k]) for k in loaded)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        safetensors_file.load(path)
    with pytest.raises(UserError, match="No such file"):
        safetensors_file.load(tmp_path / "absent.safetensors")
