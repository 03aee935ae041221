"""The command from a folder to a smaller one, and what is done with that."""

import dataclasses
import json
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

from jaxlm.commands import compress as command
from jaxlm.commands import export
from jaxlm.compress.calibration import Calibration, Text
from jaxlm.compress.rounding import size_of
from jaxlm.errors import UserError
from jaxlm.exchange import stored
from jaxlm.infer import generate, likelihood, loaded
from jaxlm.infer.sampling import Sampling
from jaxlm.models.paths import flatten, nest
from jaxlm.models.quantised import Quantised
from jaxlm.models.values import is_value, plain
from jaxlm.objectives.frame import Frame
from jaxlm.partition.mesh import Mesh
from tests.compress import models

RECIPES = {
    "compress_int8": ["--config.steps[0].finder.inputs=2"],  # outliers of 32
    "compress_int4": [],
    "compress_w8a16": [],
    "compress_mixed": [],
}
SMALL = ["--config.calibration.rows=4", "--config.calibration.length=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return models.decoder(tmp_path_factory.mktemp("compress") / "decoder")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("compress") / "text.txt"
    path.write_text("\n".join(models.TEXTS * 6))
    return path


@pytest.fixture(scope="module")
def smaller(folder, text, tmp_path_factory):
    """{recipe: its folder}."""
    made = {}
    for recipe in RECIPES:
        made[recipe] = tmp_path_factory.mktemp("compress") / recipe
        words = [
            f"--run={folder}",
            f"--output={made[recipe]}",
            f"--config={recipe}",
            f"--text={text}",
            *SMALL,
        ]
        assert command.main(["", *words, *RECIPES[recipe]]) == 0
    return made


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_folder_is_smaller_and_reads_back_what_was_made(folder, smaller, recipe):
    before, after = models.opened(folder), models.opened(smaller[recipe])
    values = {path: leaf for path, leaf in flatten(after.params).items() if is_value(leaf)}
    assert {"blocks/mlp/w_in", "tokens/table"} <= values.keys()
    rows = [[5, 9, 30, 7, 8, 40, 11], [6, 20, 7]]
    exact, found = (
        np.concatenate([one.log_p for one in likelihood.followed(m, rows)]) for m in (before, after)
    )
    assert 0 < np.abs(exact - found).max() < 0.5
    size = lambda model: sum(map(size_of, flatten(model.params).values()))
    assert size(after) < 0.4 * size(before)


def test_what_others_read_of_it_is_the_arrays_that_values_stand_for(smaller, tmp_path):
    found = stored.open_stored(str(smaller["compress_int4"]), say=print)
    values = flatten(models.opened(smaller["compress_int4"]).params)
    for path, array in found.hosts():
        np.testing.assert_allclose(
            array, np.asarray(flatten(plain(nest({path: values[path]})))[path]), atol=1e-6
        )


def test_a_mesh_reads_and_computes_the_same(smaller):
    rows = [[5, 9, 30, 7, 8, 40, 11], [6, 20, 7]]
    one = models.opened(smaller["compress_int4"])
    shared = loaded.load(smaller["compress_int4"], mesh=Mesh(data=1, fsdp=2, tensor=2))
    codes = flatten(shared.params)["blocks/mlp/w_in"]
    assert isinstance(codes, Quantised) and not codes.codes.sharding.is_fully_replicated
    for a, b in zip(likelihood.followed(one, rows), likelihood.followed(shared, rows), strict=True):
        np.testing.assert_allclose(a.log_p, b.log_p, atol=2e-4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_it_writes_is_what_it_scores(smaller, recipe):
    model = models.opened(smaller[recipe])
    frame = Frame(before=(), after=(), start=(), stops=())
    (found,), _ = generate.generate(
        model, [[5, 9, 30]], frame, new_tokens=6, sampling=Sampling(temperature=0), seed=0
    )
    scored = likelihood.followed(model, [[5, 9, 30, *found.tokens]])[0]
    assert scored.likeliest[2:].all()
    np.testing.assert_allclose(found.log_probabilities, scored.log_p[2:], atol=1e-3)


def test_json_and_quality_on_a_text(folder, text, tmp_path, capsys):
    words = [
        f"--run={folder}",
        f"--output={tmp_path / 'out'}",
        "--config=compress_int8",
        f"--text={text}",
        *SMALL,
    ]
    words += RECIPES["compress_int8"]
    assert command.main(["", *words, f"--data={text}", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["after"]["bytes"] < 0.4 * said["before"]["bytes"]
    before, after = (said[side]["metrics"]["perplexity"] for side in ("before", "after"))
    assert abs(after[0] / before[0] - 1) < 0.2 and after[1] < after[0] < after[2]


def test_several_recipes_are_compared(folder, text, tmp_path, capsys):
    target = tmp_path / "tried"
    words = [f"--run={folder}", f"--output={target}", f"--text={text}", f"--data={text}", *SMALL]
    assert command.main(["", *words, "--config=compress_w8a16", "--config=compress_int4"]) == 0
    *_, before, wide, four = (line.split() for line in capsys.readouterr().out.splitlines())
    assert before[:2] == ["as", "it"] and (wide[0], four[0]) == ("compress_w8a16", "compress_int4")
    size = lambda name: sum(map(size_of, flatten(models.opened(target / name).params).values()))
    assert float(wide[1]) == pytest.approx(size("compress_w8a16") / 1e6, abs=0.06)
    picture = ElementTree.parse(target / "compared.svg").getroot()
    said = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"as it was", "compress_w8a16", "compress_int4", "perplexity (lower is better)"} <= set(said)
    with pytest.raises(UserError, match="a second recipe of that name"):
        command.main(["", *words, "--config=compress_int4", "--config=compress_int4"])


def test_what_goes_in_is_summed_over_all_batches_and_layers(folder, text):
    model = models.opened(folder)
    rows = Text(file=str(text), rows=6, length=16).read(model)
    found = rows.inputs(model, ["blocks/mlp/w_in", "blocks/attention/wo", "blocks/attention/wq"])
    # The first layer's queries get the norm of the embeddings, which is computed here in numpy.
    params = {path: np.asarray(leaf, np.float64) for path, leaf in flatten(model.params).items()}
    x_RD = params["tokens/table"][rows.tokens_RT.reshape(-1)]
    x_RD = x_RD / np.sqrt(np.square(x_RD).mean(-1, keepdims=True) + model.model.config.norm_epsilon)
    x_RD = x_RD * params["blocks/norm_attention/scale"][0]
    first = jax.tree.map(lambda a: a[0], dataclasses.asdict(found["blocks/attention/wq"]))
    np.testing.assert_allclose(first["square_II"], x_RD.T @ x_RD, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(first["largest_I"], np.abs(x_RD).max(0), rtol=1e-5)
    np.testing.assert_allclose(first["total_I"], np.abs(x_RD).sum(0), rtol=1e-4)
    # Two halves are the whole.
    halves = [
        Calibration(half).inputs(model, ["blocks/mlp/w_in"])["blocks/mlp/w_in"]
        for half in np.split(rows.tokens_RT, 2)
    ]
    np.testing.assert_allclose(
        halves[0].square_II + halves[1].square_II, found["blocks/mlp/w_in"].square_II, rtol=1e-4, atol=1e-3
    )
    assert found["blocks/attention/wo"].square_II.shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=compress_int8"], "none is named. Fix: --text=FILE"),
        (["--config=compress_int8", "--config.calibration.rows=9999"], "take .* Fix: more text"),
        (["--config=quickstart"], "gives Run; its get_config\\(\\) must return a Compress"),
        (["--config=compress_int9"], "Did you mean"),
        (["--config=compress_int8", "--config.steps[0].finder.strengt=1"], "strength"),
        (["--config=compress_int4", "--config.steps[0].rules[0].group=24"], "Fix: a group of"),
        (["--config=compress_int4", "--config.steps[0].rules[0].weights=nothing"], "names no matrix"),
    ],
)
def test_bad_input_is_named(folder, text, tmp_path, words, message):
    given = [] if words == ["--config=compress_int8"] else [f"--text={text}"]
    with pytest.raises(UserError, match=message):
        command.main(["", f"--run={folder}", f"--output={tmp_path / 'out'}", *given, *words])
    assert not (tmp_path / "out").exists()


def test_twice_is_refused(smaller, text, tmp_path):
    words = [
        f"--run={smaller['compress_int8']}",
        f"--output={tmp_path / 'out'}",
        "--config=compress_int4",
        *SMALL,
    ]
    with pytest.raises(UserError, match="compressed already"):
        command.main(["", *words, f"--text={text}"])


def test_an_encoder_and_its_vectors(tmp_path, text, capsys):
    folder = models.encoder(tmp_path / "encoder")
    words = [
        f"--run={folder}",
        f"--output={tmp_path / 'out'}",
        "--config=compress_int8",
        f"--text={text}",
        *SMALL,
    ]
    assert command.main(["", *words, f"--data={text}"]) == 0
    said = capsys.readouterr().out
    assert "mean cosine" in said and "x as fast" in said


def test_it_is_exported_as_the_arrays_its_values_stand_for(smaller, tmp_path):
    target = tmp_path / "hf"
    assert export.main(["", str(smaller["compress_int4"]), str(target)]) == 0
    there, here = loaded.load(f"hf:{target}", mesh=models.ONE), models.opened(smaller["compress_int4"])
    for path, array in flatten(plain(here.params)).items():
        np.testing.assert_allclose(flatten(there.params)[path], array, atol=1e-6)
