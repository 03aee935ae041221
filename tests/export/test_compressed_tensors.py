"""Claims about compressed-tensors: its own functions unpack our codes bit for bit, transformers says what we say."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.commands import compress
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.exchange import stored
from jaxlm.export import compressed_scheme, formats
from jaxlm.formats import safetensors_file
from jaxlm.models.beside import Scaled
from jaxlm.models.paths import flatten
from tests.exchange.folders import CONFIG, hf_folder
from tests.export.folders import llama

NAME = "compressed-tensors"
NEAREST = "--config.steps[0].finder=Nearest()"
WAYS = {
    "llama-int8": ["--config=compress_int8"],
    "llama-int4": [
        "--config=compress_int4",
        "--config.steps[0].rules[0].low=False",
        "--config.steps[0].rules[0].group=16",
    ],
    "bert-int8": ["--config=compress_w8a16"],
    "bert-int4": ["--config=compress_int4", "--config.steps[0].rules[0].low=False"],
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """{family: folder of transformers}."""
    root = tmp_path_factory.mktemp("dense")
    bert = dataclasses.replace(CONFIG, hidden=32, mlp=64)
    return {
        "llama": llama(root / "llama"),
        "bert": hf_folder(root / "bert", bert, heads=()),  # without the pooler that transformers makes
    }


@pytest.fixture(scope="module")
def made(dense, tmp_path_factory):
    """{way: (source, what was written)}."""
    root, found = tmp_path_factory.mktemp("made"), {}
    for way, words in WAYS.items():
        run = f"--run=hf:{dense[way.split('-')[0]]}"
        assert compress.main(["", run, f"--output={root / way}", *words, NEAREST]) == 0
        source, target = formats.Source(path=str(root / way)), root / f"{way}-out"
        formats.write(NAME, source, target, say=print)
        found[way] = source, target
    return found


def theirs(value, axes):
    """(codes [layers, outputs, inputs], scales [layers, outputs, groups]) of a stacked weight, by hand."""
    codes = np.asarray(value.codes.astype(jnp.int8))
    layers, inputs = len(codes), int(np.prod(codes.shape[1 : 1 + axes]))
    scale = np.asarray(value.scale)
    groups = int(np.prod(scale.shape[1 : 1 + axes]))
    turned = lambda a, n: a.reshape(layers, n, -1).swapaxes(1, 2)
    return turned(codes, inputs), turned(scale, groups)


LLAMA = {
    "blocks/attention/wq": ("model.layers.{}.self_attn.q_proj.weight", 1),
    "blocks/attention/wo": ("model.layers.{}.self_attn.o_proj.weight", 2),
    "blocks/mlp/w_out": ("model.layers.{}.mlp.down_proj.weight", 1),
}


def test_int8_codes_and_scales_are_ours_under_transformers_names(made):
    source, target = made["llama-int8"]
    held, params = safetensors_file.load(target / "model.safetensors"), flatten(source.loaded.params)
    for path, (name, axes) in LLAMA.items():
        codes, scales = theirs(params[path], axes)
        for layer in range(2):
            assert held[name.format(layer)].dtype == np.int8
            np.testing.assert_array_equal(held[name.format(layer)], codes[layer])
            np.testing.assert_array_equal(held[name.format(layer) + "_scale"], scales[layer])
    said = json.loads((target / "config.json").read_text())["quantization_config"]
    assert said["format"] == "int-quantized" and "lm_head" in said["ignore"]
    assert said["config_groups"]["group_0"]["input_activations"]["strategy"] == "token"


@pytest.mark.parametrize(("way", "bits", "groups"), [("llama-int4", 4, 4), ("bert-int8", 8, 1)])
def test_their_own_functions_unpack_our_codes(made, way, bits, groups):
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    helpers = pytest.importorskip(
        "compressed_tensors.compressors.pack_quantized.helpers",
        reason="needs the extra `parity` (compressed-tensors)",
    )
    source, target = made[way]
    held, params = safetensors_file.load(target / "model.safetensors"), flatten(source.loaded.params)
    paths = {"blocks/attention/wq": ("encoder.layer.{}.attention.self.query.weight", 1)}
    for path, (name, axes) in (LLAMA if way.startswith("llama") else paths).items():
        codes, scales = theirs(params[path], axes)
        for layer in range(2):
            mine = next(one for one in held if one.endswith(name.format(layer) + "_packed"))
            shape = tuple(held[mine.replace("_packed", "_shape")])
            words = torch.from_numpy(held[mine].copy())
            found = helpers.unpack_from_int32(words, bits, torch.Size(shape)).numpy()
            np.testing.assert_array_equal(found, codes[layer])
            np.testing.assert_array_equal(held[mine.replace("_packed", "_scale")], scales[layer])
            assert path != "blocks/attention/wq" or scales[layer].shape[1] == groups


@pytest.mark.parametrize(("bits", "inputs"), [(4, 13), (8, 5), (4, 64)])
def test_rows_that_fill_no_whole_words_are_packed_as_theirs(bits, inputs):
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    helpers = pytest.importorskip(
        "compressed_tensors.compressors.pack_quantized.helpers",
        reason="needs the extra `parity` (compressed-tensors)",
    )
    half = 2 ** (bits - 1)
    codes = np.random.default_rng(0).integers(-half, half, (7, inputs)).astype(np.int8)
    expected = helpers.pack_to_int32(torch.from_numpy(codes), bits).numpy()
    found = compressed_scheme.packed(codes, bits)
    np.testing.assert_array_equal(found, expected)
    unpacked = helpers.unpack_from_int32(torch.from_numpy(found), bits, torch.Size(codes.shape))
    np.testing.assert_array_equal(unpacked.numpy(), codes)


@pytest.mark.parametrize("way", WAYS)
def test_transformers_says_what_we_say(made, way):
    pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    pytest.importorskip("compressed_tensors", reason="needs the extra `parity` (compressed-tensors)")
    source, target = made[way]
    assert formats.check(NAME, source, target, say=print)
    (told,) = json.loads((target / "check.json").read_text())
    assert "compressed-tensors" in told["engine"] and told["engine"] in (target / "README.md").read_text()
    if way != "llama-int8":  # whose activations both sides round, each in its way
        assert told["largest"] < 2e-5


def test_what_has_no_codes_is_refused_with_what_to_do(dense, tmp_path):
    source = formats.Source(path=f"hf:{dense['llama']}")
    with pytest.raises(UserError, match=r"no compressed weights.* Fix: compress it first: .*compress_w8a16"):
        formats.write(NAME, source, tmp_path / "out", say=print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: dataclasses.replace(v, low=v.scale), r"low=True.* Fix: .*low=False"),
        (lambda v: Scaled(v, v.scale, None), r"comes into blocks/mlp/w_in is scaled.*Fix: .*Nearest"),
        (
            lambda v: dataclasses.replace(v, codes=jax.ShapeDtypeStruct(v.shape, jnp.uint4)),
            "codes of uint4; int8 and int4 are written",
        ),
        (
            lambda v: dataclasses.replace(v, codes=jax.ShapeDtypeStruct(v.shape, jnp.int8)),
            "compressed in several ways",
        ),
    ],
)
def test_what_codes_cannot_say_is_refused_by_name(made, change, message):
    found = made["llama-int4"][0].stored
    path = "blocks/mlp/w_in"
    other = dataclasses.replace(found, compressed={**found.compressed, path: change(found.compressed[path])})
    rows, sizes = families.rows(found.config, found.heads), families.sizes(found.config)
    with pytest.raises(UserError, match=message):
        compressed_scheme.of(other, rows, sizes)


def test_such_a_folder_is_not_read_as_floating_numbers(made):
    with pytest.raises(UserError, match=r"compressed \(compressed-tensors\), which is not read here\. Fix"):
        stored.of_hf(made["llama-int4"][1])


def test_a_compressed_weight_can_be_read_alone(made):
    found = made["llama-int4"][0].stored
    value = flatten(made["llama-int4"][0].loaded.params)["blocks/mlp/w_in"]
    np.testing.assert_array_equal(found.host("blocks/mlp/w_in"), np.asarray(value.full()))
