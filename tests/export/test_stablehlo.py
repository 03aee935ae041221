"""Folders of StableHLO: what they compute with jax alone is what jaxlm computes, and what is damaged is refused."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.export import formats, programs, stablehlo
from jaxlm.export import stablehlo_run as runner
from jaxlm.export.formats import Source
from jaxlm.export.functions import Function
from jaxlm.infer import frame, generate, text_reading
from jaxlm.infer.sampling import Sampling
from jaxlm.models import kernels
from jaxlm.models.heads import (
    Choose,
    Classify,
    ClassifyText,
    Detect,
    Pooler,
    Relate,
    Span,
    Tag,
    Tokens,
    Transitions,
)
from jaxlm.models.traced import known
from jaxlm.models.values import Value
from jaxlm.objectives import labelled
from jaxlm.planning import compiled
from tests.exchange import folders as tiny
from tests.export import models
from tests.infer import small_models as small

GREEDY = Sampling(temperature=0.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
ROOT = pathlib.Path(stablehlo.__file__).parents[2]
HERE = {"cpu": "cpu"}
ENCODER_HEADS = {
    "tokens": Tokens(),
    "pooler": Pooler(),
    "classes": ClassifyText(classes=3),
    "tags": Tag(classes=5),
}
OTHER_HEADS = {
    "pooler": Pooler(),
    "nsp": Classify(classes=2),
    "choices": Choose(),
    "span": Span(),
    "relations": Relate(classes=4),
    "transitions": Transitions(tags=3),
    "replaced": Detect(),
    labelled.OF_MEAN: Classify(classes=3),
}


def exported(folder, config, heads=None):
    source = Source(path=str(models.folder(folder / "model", config, heads)))
    formats.write("stablehlo", source, folder / "out", say=lambda _: None)
    return source, folder / "out"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    config = dataclasses.replace(tiny.CONFIG, layers=1)  # which compile soonest
    return exported(tmp_path_factory.mktemp("encoder"), config, ENCODER_HEADS)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    config = dataclasses.replace(small.DECODERS["Qwen2, biases, unrolled"], layers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "PLATFORMS", HERE)
        return exported(tmp_path_factory.mktemp("decoder"), config)


def test_a_process_with_jax_alone_computes_what_we_do(encoder):
    source, target = encoder
    found = stablehlo.check(source, target, lambda _: None)
    assert {one.what for one in found} == {"features", "embeddings", "logits", "classes", "tags"}
    assert all(one.fine for one in found), found


@pytest.mark.slow
def test_every_head_is_a_function(tmp_path):
    source, target = exported(tmp_path, tiny.CONFIG, OTHER_HEADS)
    found = stablehlo.check(source, target, lambda _: None)
    assert {one.what for one in found} == {"features", "embeddings", *OTHER_HEADS} - {"pooler"}
    assert all(one.fine for one in found), found
    model = runner.Model(target)
    between = model("transitions")["between"]
    np.testing.assert_array_equal(between, source.loaded.params["heads"]["transitions"]["between"])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Narrow(Value):
    """int8, with a scale."""

    small: jax.Array
    scale: jax.Array

    def product(self, x, contracted, result):
        return jnp.tensordot(x, self.full(), contracted)

    def full(self):
        return self.small.astype(jnp.float32) * self.scale


@pytest.mark.slow
def test_weights_may_be_values_of_several_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "PLATFORMS", HERE)
    source = Source(path=str(models.folder(tmp_path / "model", small.LLAMA)))
    weight = source.loaded.params["blocks"]["mlp"]["w_in"]
    layers = len(weight)
    narrow = Narrow(jnp.round(weight * 64).astype(jnp.int8), jnp.full((layers, 1, 1), 1 / 64))
    source.loaded.params["blocks"]["mlp"]["w_in"] = narrow
    vars(source.loaded).pop("module", None)
    formats.write("stablehlo", source, tmp_path / "out", say=lambda _: None)
    names = json.loads((tmp_path / "out" / "manifest.json").read_text())["weights"]
    wanted = [[f"blocks/mlp/w_in/{part}", layer] for part in ("small", "scale") for layer in range(layers)]
    assert [one for one in names["cpu"] if "w_in" in one[0]] == wanted
    found = stablehlo.check(source, tmp_path / "out", lambda _: None)
    assert found and all(one.fine for one in found), found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_classes_of_models_that_write_are_those_of_jaxlm(kind, tmp_path):
    config = small.LLAMA if kind == "decoder" else small.ENCODER_DECODERS["BART"]
    source, target = exported(tmp_path, config, {"classes": ClassifyText(classes=3)})
    found = stablehlo.check(source, target, lambda _: None)
    assert "classes" in {one.what for one in found} and all(one.fine for one in found), found


def test_texts_get_the_vectors_of_jaxlm_embed(encoder):
    source, target = encoder
    texts = ["the cat sat", "a dog and a cat play in the garden", "red"]
    wanted, how = text_reading.vectors(source.loaded, texts)
    vocabulary = source.loaded.tokenizer.vocabulary
    ids = [vocabulary.framed(one).tolist() for one in source.loaded.tokenizer.encode_batch(texts)]
    model = runner.Model(target)
    found = np.asarray(model("embeddings", **model.rows(ids))["embeddings"])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert model.manifest["texts"]["pooling"] == how.pooling == "mean"


def test_layers_are_taken_apart_where_they_are_unrolled(encoder):
    taken = json.loads((encoder[1] / "manifest.json").read_text())["weights"]
    assert ["blocks/attention/wq", 0] in taken["cpu"] and ["blocks/attention/wq", None] in taken["tpu"]
    assert taken["cpu"] == taken["cuda"] and ["embeddings/tokens/table", None] in taken["cpu"]


def test_types_tell_the_texts_of_a_pair_apart(encoder):
    _, target = encoder
    model = runner.Model(target)
    before, after = (model.manifest["tokens"][name][0] for name in ("before", "after"))
    rows = model.rows([[before, 7, 8, after, 9, after], [before, 9, after]], pairs=True)
    assert rows["types"][:, :7].tolist() == [[0, 0, 0, 0, 1, 1, 0], [0] * 7]
    assert model.manifest["functions"]["classes"]["pairs"]


def test_the_command_line_writes_the_tokens_of_jaxlm_generate(decoder):
    source, target = decoder
    prompts = [[5, 17, 40], [9], [30, 31, 32, 33, 34, 35, 36]]
    around = frame.of_loaded(source.loaded)
    wanted, _ = generate.generate(source.loaded, prompts, around, new_tokens=9, sampling=GREEDY, seed=0)
    framed = [[*around.before, *prompt] for prompt in prompts]
    words = [
        sys.executable,
        "-I",
        str(target / "run.py"),
        "generate",
        json.dumps(framed),
        "--max-new-tokens=9",
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [list(one.tokens) for one in wanted]


FAMILIES = {
    **{name: config for name, config in small.DECODERS.items() if name != "Mixtral"},
    **small.ENCODER_DECODERS,
    "T5, one layer": dataclasses.replace(small.ENCODER_DECODERS["T5"], encoder_layers=1, decoder_layers=1),
}
FIRST = ("T5, one layer",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in FAMILIES]
)
def test_what_writes_text_does_so_token_by_token(name, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "PLATFORMS", HERE)
    source, target = exported(tmp_path, FAMILIES[name])
    prompts = [[5, 17, 40], [9, 8]]
    around = frame.of_loaded(source.loaded)
    wanted, _ = generate.generate(source.loaded, prompts, around, new_tokens=6, sampling=GREEDY, seed=0)
    framed = [[*around.before, *prompt, *around.after] for prompt in prompts]
    assert runner.generate(runner.Model(target), framed, 6) == [list(one.tokens) for one in wanted]


def test_a_mixture_of_experts_is_refused_before_anything_is_written(tmp_path):
    source = Source(path=str(models.folder(tmp_path / "model", small.DECODERS["Mixtral"])))
    with pytest.raises(UserError, match=r"of Mixtral cannot be traced .* Fix: --format=safetensors"):
        formats.write("stablehlo", source, tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_layers_are_traced_as_their_target_inside_functions_that_are_jitted_too():
    seen = []

    @jax.jit
    def inner(x):
        seen.append((kernels.platform(), known(x.shape[0])))
        return x * 2

    rows = programs.export.symbolic_shape("B")
    function = Function(
        does="",
        inputs={"x": jax.ShapeDtypeStruct(rows, jnp.int32)},
        compute=lambda module, given: {"y": inner(given["x"])},
    )
    for platform in programs.PLATFORMS:
        made = programs.traced("f", function, _NoModel(), [], platform)
        assert programs.export.deserialize(bytearray(made.data)).platforms == (platform,)
    assert seen == [("cpu", False), ("tpu", False), ("gpu", False)]


class _NoModel:
    config, axes = None, {}

    def bind(self, params):
        return None


def test_a_program_has_no_weights_and_no_path_of_a_source_file(encoder):
    _, target = encoder
    files = sorted(target.glob("*/*.stablehlo"))
    assert {file.parent.name for file in files} == {"cpu", "tpu", "cuda"} and len(files) == 15
    for file in files:
        data = file.read_bytes()
        assert b".py" not in data and str(ROOT).encode() not in data and b"site-packages" not in data
        assert len(data) < 60_000


TPU = """
import json, pathlib, sys
import jax
from jax import export
from jax.experimental import topologies

device = topologies.get_topology_desc(
    platform="tpu", topology_name="v5e:1x1", chips_per_host_bounds=(1, 1, 1), num_slices=1
).devices[0]
here, found = jax.sharding.SingleDeviceSharding(device), {}
sizes = {"B": 2, "T": 16, "S": 32, "M": 16}
for file in sorted(pathlib.Path(sys.argv[1]).glob("tpu/*.stablehlo")):
    made = export.deserialize(bytearray(file.read_bytes()))
    number = lambda dim: dim if isinstance(dim, int) else sizes[str(dim)]
    like = [jax.ShapeDtypeStruct([*map(number, a.shape)], a.dtype, sharding=here) for a in made.in_avals]
    args, kwargs = jax.tree.unflatten(made.in_tree, like)
    text = jax.jit(made.call).lower(*args, **kwargs).compile().as_text()
    found[file.stem] = text.count("fusion")
print(json.dumps(found))
"""


@pytest.mark.tpu_compile
@pytest.mark.timeout(900)
def test_programs_for_a_tpu_compile_for_one(encoder, tmp_path):
    _, target = exported(tmp_path, small.LLAMA)
    for folder, names in ((encoder[1], {"embeddings", "classes"}), (target, {"prefill", "decode"})):
        done = subprocess.run(
            [sys.executable, "-c", TPU, str(folder)],
            env=os.environ | compiled.LIBTPU,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert names < set(found) and all(found.values())


def test_a_cut_or_flipped_file_is_refused_by_name(encoder, tmp_path):
    target = shutil.copytree(encoder[1], tmp_path / "copy")
    for name in ("weights.safetensors", "cpu/features.stablehlo", "manifest.json"):
        data = (target / name).read_bytes()
        at = len(data) // 2 if name != "manifest.json" else data.index(b"features") + 2
        (target / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(UserError, match=rf"{name}: damaged, .* Copy the folder again"):
            stablehlo.check(encoder[0], target, lambda _: None)
        (target / name).write_bytes(data)
    (target / "run.py").unlink()
    with pytest.raises(UserError, match=r"run\.py: missing\. Copy the folder again"):
        stablehlo.check(encoder[0], target, lambda _: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a manifest of jaxlm-stablehlo"),
        ({"version": 2}, "version 2, and this program reads version 1. Fix: the run.py"),
    ],
)
def test_a_manifest_of_others_and_of_later_versions_is_refused(change, message, encoder, tmp_path):
    manifest = json.loads((encoder[1] / "manifest.json").read_text()) | change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(runner.Refused, match=message):
        runner.read(tmp_path)
    with pytest.raises(runner.Refused, match=r"not there, so .* is no folder"):
        runner.read(tmp_path / "nothing")


def test_a_calling_convention_that_this_jax_lacks_is_refused(encoder):
    manifest = json.loads((encoder[1] / "manifest.json").read_text())
    with pytest.raises(runner.Refused, match=r"calling convention 99 .* Fix: jax .* or newer"):
        runner.check_jax(manifest | {"calling_convention": 99})
    with pytest.raises(runner.Refused, match=r"calling convention 1 .* Fix: an older jax"):
        runner.check_jax(manifest | {"calling_convention": 1})


def test_without_flatbuffers_the_fix_is_named(encoder, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    monkeypatch.delitem(sys.modules, "jax._src.export.serialization", raising=False)
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"flatbuffers, which is not installed. Fix: pip install 'jaxlm\[stablehlo\]'"
    ):
        formats.write("stablehlo", encoder[0], tmp_path / "out", say=lambda _: None)
    model = runner.Model(encoder[1])
    with pytest.raises(runner.Refused, match=r"Fix: pip install flatbuffers"):
        model("features", **model.rows([[5, 6]]))


def test_calls_with_other_names_shapes_and_lengths_are_refused(encoder):
    model = runner.Model(encoder[1])
    with pytest.raises(runner.Refused, match=r"no function 'vectors': there are features, embeddings"):
        model("vectors")
    with pytest.raises(runner.Refused, match=r"features takes tokens, mask, types, and got tokens"):
        model("features", tokens=np.zeros((1, 16)))
    rows = model.rows([[5, 6]])
    with pytest.raises(runner.Refused, match=r"features: mask has the shape \(1, 8\)"):
        model("features", **rows | {"mask": rows["mask"][:, :8]})
    with pytest.raises(runner.Refused, match=r"a row of 33 tokens: 1 to 32 are allowed"):
        model.rows([[5] * 33])
    long = dict.fromkeys(("tokens", "mask", "types"), np.ones((1, 33), np.int32))
    with pytest.raises(runner.Refused, match=r"T=33, and 1 to 32 is allowed"):
        model("features", **long)
    with pytest.raises(runner.Refused, match=r"platform rocm: there are programs for cpu, tpu, cuda"):
        runner.Model(encoder[1], platform="rocm")


def test_the_copy_of_run_py_is_the_one_of_jaxlm(encoder):
    spec = importlib.util.spec_from_file_location("run", encoder[1] / "run.py")
    assert spec is not None
    assert pathlib.Path(str(spec.origin)).read_bytes() == pathlib.Path(runner.__file__).read_bytes()
