"""The command `jaxlm plan` without a TPU compiler: what it prints, writes and refuses."""

import json

import pytest

from jaxlm.commands import plan
from jaxlm.errors import UserError
from jaxlm.planning import planned as planned_run
from jaxlm.planning import search, targets

TINY = "--config=tests/recipes/tiny.py"


def planned(capsys, *words):
    code = plan.main(["plan", TINY, *words])
    return code, capsys.readouterr().out


def test_an_estimate_is_a_table_of_every_row_length_and_its_chart(capsys, tmp_path):
    chart = tmp_path / "memory.svg"
    code, said = planned(capsys, "--target=v5e-8", "--estimate", "--price=2", f"--chart={chart}")
    assert code == 0
    assert said.startswith("tiny on v5e-8: 8 chips, TPU v5 lite, topology 2 x 4; mesh data 8\n")
    assert "42 steps of 8 rows of 32 tokens" in said and "18 steps of 8 rows of 48 tokens" in said
    assert "not compiled (--estimate)" in said and "of 15.8 GiB of a device: fits" in said
    assert "at 2 a chip-hour" in said
    assert "48, estimate" in chart.read_text() and "parameters" in chart.read_text()


def test_json_holds_the_numbers_behind_the_table(capsys):
    code, said = planned(capsys, "--target", "v6e-4", "--estimate", "--json", "--efficiency", "0.5")
    found = json.loads(said)
    assert code == 0 and found["chips"] == 4 and found["mesh"]["data"] == 4
    first, second = found["stages"]
    assert first["steps"] + second["steps"] == 60 and first["compiled"] is None
    assert first["seconds"]["compute"] == pytest.approx(first["flops"] / (0.5 * 918e12))
    total = sum(stage["steps"] * stage["seconds"]["step"] for stage in found["stages"])
    assert found["days"] == pytest.approx(total / 86_400)
    assert found["chip_hours"] == pytest.approx(4 * total / 3600)


def test_what_does_not_fit_is_said_with_the_largest_arrays_and_the_flags_that_help(capsys):
    """A million rows of a small model on a host of GPUs, for which nothing can be compiled here: all is estimated."""
    words = ["--target=h100-8", "--config.batch_size=1048576", "--config.model.hidden=192"]
    code, said = planned(capsys, *words)
    assert code == 78 and "only TPU programs can be" in said
    assert "DOES NOT FIT" in said and "kept for the backward pass: float32[" in said
    suggested = [line.strip() for line in said.splitlines() if line.startswith("  --config.")]
    assert 1 <= len(suggested) <= 3 and "What would fit, the fastest first:" in said
    flags = suggested[0].partition("  (")[0].split()
    assert planned(capsys, *words, *flags)[0] == 0


def test_a_search_ranks_meshes_and_shows_the_flags_of_the_fastest(capsys):
    code, said = planned(capsys, "--target=h100-4", "--search", "--config.batch_size=4")
    head, _, lines = said.partition("The fastest that fit, of ")[2].partition(" settings:\n")
    assert code == 0 and int(head) >= 20
    assert len(lines.splitlines()) == 3
    assert all(
        "--config.mesh.fsdp=" in line and "--config.accumulate=" in line for line in lines.splitlines()
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--target=v5e-7"], "no v5e slice of that size"),
        (["--target=v5e-8", "--slices=0"], "--slices=0: at least 1"),
        (["--target=v5e-8", "--efficiency=2"], "above 0, at most 1"),
        (["--target=v5e-8", "--chart=x.gif"], "a .svg, .png or .html"),
        (["--target=v5e-16", "--estimate"], "config.batch_size=8: rows are split over mesh axes data=16"),
        (
            ["--target=2xv5e-4", "--estimate", "--config.mesh.data=1", "--config.mesh.fsdp=-1"],
            "multiple of the 2 TPU",
        ),
        (["--target=v5e-8", "--config.modle=1"], "Unknown config key"),
        ([], "--target: machine, as it is ordered"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_planned_is_refused(words, says):
    with pytest.raises(UserError, match=says):
        plan.main(["plan", TINY, *words])


def test_rows_long_enough_for_a_kernel_of_gpus_are_planned_without_it(capsys):
    """cuDNN cannot even be traced where it is not."""
    assert plan.main(["plan", "smollm2_135m", "--target=h100-16", "--config.batch_size=64", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    scores = 4 * 30 * 4 * 9 * 2048**2  # of 4 rows on a device in 30 layers, 9 heads, float32
    assert stage["estimate"]["activations"] < scores


@pytest.mark.parametrize("recipe", ["classification", "tagging", "translation"])
def test_recipes_of_every_kind_are_planned_without_their_corpus(capsys, recipe):
    code = plan.main(["plan", recipe, "--target=v4-8", "--estimate"])
    assert code in (0, 78) and "predicted" in capsys.readouterr().out


def test_what_moves_moments_to_the_host_comes_last_and_frees_their_bytes():
    found = planned_run.of([TINY], targets.parse("v5e-8"), compile_it=False)
    host, rows = {"mesh.optimizer_memory": "host"}, {"mesh.data": 4, "mesh.fsdp": 2}
    first, last = search.ranked(found, [host, rows])
    assert last.in_host and not first.in_host and last.words == ("--config.mesh.optimizer_memory=host",)
    before, after = found.stages[found.tightest].quick.memory, last.quick.memory
    assert before.held - after.held == after.host > before.parameters
