"""The command line of a run: overrides with types, messages for what is mistyped, origins of values."""

import pathlib

import pytest

from jaxlm.config import flags, recipes
from jaxlm.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
BASE = f"--config={ROOT}/configs/bert_base.py"


def parse(*arguments: str) -> flags.Command:
    return flags.parse(["train", BASE, *arguments])


def test_overrides_have_the_type_of_their_key():
    run = parse(
        "--config.steps=7",
        "--config.model.dropout=0",
        "--config.data.packing=none",
        "--config.stages[0].length=64",
    ).run
    assert run.steps == 7 and isinstance(run.steps, int)
    assert run.model.dropout == 0.0 and isinstance(run.model.dropout, float)
    assert run.data.packing == "none"
    assert run.stages[0].length == 64 and run.stages[1].length == 512


def test_the_workdir_is_named_after_the_recipe():
    assert parse().workdir == pathlib.Path("runs/bert_base")
    assert parse("--workdir=/tmp/x").workdir == pathlib.Path("/tmp/x")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--config.model.layer=3",
            r'Unknown config key --config\.model\.layer in .*Did you mean "model\.layers"\?',
        ),
        ("--config.modle.layers=3", r"Here it is --config\.model\.layers: number of blocks"),
        ("--config.setps=3", r'Did you mean "steps"\?'),
        ("--confg=3", r'Unknown flag --confg\. Did you mean "config"\?'),
        ("--config.model.layers=many", r"config\.model\.layers=many: invalid literal for int"),
        (
            "--config.data.packing=bestfit",
            r"config\.data\.packing='bestfit'; allowed: none, concatenate, best_fit",
        ),
        ("--config.batch_size=0", r"config\.batch_size=0 is out of range; allowed: 1 to 1048576"),
        (
            "--config.batch_size=1000000000",
            r"config\.batch_size=1000000000 is out of range; allowed: 1 to 1048576",
        ),
        (
            "--config.steps=1" + "0" * 20,
            r"config\.steps=10+ is out of range; allowed: at most 2147483647",
        ),
        ("--config.model.vocab_size=2147483648", r"config\.model\.vocab_size=2147483648 is out of range"),
        (
            "--config.checkpoint.keep.latest=3000000000",
            r"config\.checkpoint\.keep\.latest=3000000000 is out of",
        ),
        ("--config.stages[0].share=nan", r"config\.stages: the shares are \[nan, 0\.1\]"),
        ("--config.accumulate=3", r"config\.batch_size=256 must be divisible by config\.accumulate=3"),
        ("--config.stages[0].length=1024", r"config\.model\.max_positions=512: rows are 1024 tokens long"),
        ("--config.stages[0].share=0.5", r"config\.stages: the shares are \[0\.5, 0\.1\]; .* add up to 1"),
        (
            "--config.model.hidden=100",
            r"config\.model\.hidden=100 does not divide by config\.model\.heads=12",
        ),
        (
            "--config.data.validation_share=1",
            r"config\.data\.validation_share=1\.0: must be at least 0 and below 1",
        ),
        ("--config.objective.masked_lm.rate=1.5", r"config\.objective\.masked_lm\.rate=1\.5"),
        ("--config.optimizer.schedule.warmup=soon", r"config\.optimizer\.schedule\.warmup='soon'"),
        ("--config.profile=10", r"config\.profile='10': allowed is START:STOP"),
        ("--config.profile=5:5", r"config\.profile='5:5': .* 1 <= START < STOP"),
        ("--config.profile=0:3", r"config\.profile='0:3'"),
        ("--config.profile=2000000:2000001", r"START at most \d+, the last step"),
        ("stray", r"Unexpected argument 'stray'"),
    ],
)
def test_a_mistake_is_answered_with_the_key_and_what_is_allowed(argument, message):
    with pytest.raises(UserError, match=message):
        parse(argument)


def test_a_missing_recipe_lists_the_ones_there_are(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r'no such file.*Did you mean "configs/bert_base\.py"'):
        flags.parse(["train", "--config=configs/bert_bas.py"])
    with pytest.raises(UserError, match=r"no such file.*Recipes of jaxlm: .*bert_large.*t5_small"):
        flags.parse(["train", "--config=zzzzzzzz"])
    with pytest.raises(UserError, match="No recipe given.*jaxlm recipes.*--config=bert_base"):
        flags.parse(["train"])


@pytest.mark.parametrize("named", ["bert_base", "configs/bert_base.py"])
def test_recipes_of_jaxlm_are_found_from_anywhere(tmp_path, monkeypatch, named):
    there = flags.parse(["train", f"--config={ROOT}/configs/bert_base.py"])
    monkeypatch.chdir(tmp_path)
    for words in ([f"--config={named}"], ["--config", named], [named]):
        here = flags.parse(["train", *words])
        assert here.run == there.run and here.workdir == there.workdir
    found = recipes.located("continue_causal:hf:some/model")
    assert found == f"{ROOT}/configs/continue_causal.py:hf:some/model"


def test_a_recipe_of_ones_own_goes_before_one_of_jaxlm(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    own = (ROOT / "configs" / "bert_base.py").read_text() + "\n\nwhole = get_config\n\n\n"
    own += "def get_config():\n    run = whole()\n    run.steps = 7\n    return run\n"
    (tmp_path / "configs" / "bert_base.py").write_text(own)
    monkeypatch.chdir(tmp_path)
    assert flags.parse(["train", "--config=configs/bert_base.py"]).run.steps == 7
    assert flags.parse(["train", "--config=bert_base"]).run.steps != 7


def test_explain_names_the_origin_of_every_value():
    command = parse("--config.model.layers=6")
    lines = {
        line.split()[0]: line.split()[-1]
        for line in flags.explain(command.run, command.overrides).splitlines()
    }
    assert lines["batch_size"] == "recipe"
    assert lines["logging.every_steps"] == "default"
    explained = flags.explain(command.run, command.overrides)
    assert any("model.layers " in line and line.endswith("command line") for line in explained.splitlines())


def test_a_stage_takes_its_share_of_the_steps():
    assert parse("--config.steps=1000").run.stage_steps() == [(0, 900), (900, 1000)]
    assert parse("--config.steps=3").run.stage_steps() == [(0, 3), (3, 3)]


def test_a_recipe_takes_an_argument_with_slashes_and_colons(tmp_path, monkeypatch):
    monkeypatch.chdir(pathlib.Path(__file__).parents[2])
    (tmp_path / "shared.py").write_text("STEPS = 7\n")
    (tmp_path / "own.py").write_text(
        "import sys\nsys.path.insert(0, 'tests/recipes')\nfrom tiny import get_config as tiny\n"
        "from shared import STEPS\n\n\ndef get_config(start=''):\n"
        "    run = tiny()\n    run.steps, run.data.corpus = STEPS, start\n    return run\n"
    )
    command = flags.parse(["train", f"--config={tmp_path}/own.py:hf:/some/where.x"])
    assert command.run.data.corpus == "hf:/some/where.x" and command.run.steps == 7
    assert command.workdir.name == "own"


@pytest.mark.parametrize("gone", ["next_sentence", "token_head"])
def test_a_recipe_of_when_heads_were_fields_of_the_model_is_told_what_to_leave_out(gone, tmp_path):
    recipe = tmp_path / "before.py"
    text = (ROOT / "configs" / "bert_base.py").read_text()
    recipe.write_text(text.replace("types=2,", f'types=2, {gone}="none",'))
    for read in (lambda: flags.load(recipe), lambda: flags.parse(["train", f"--config={recipe}"])):
        with pytest.raises(UserError, match=f"the objective names them. Fix: leave {gone} out"):
            read()
    recipe.write_text(text.replace("types=2,", "types=2, tokenhead=1,"))
    with pytest.raises(UserError, match="unexpected keyword argument 'tokenhead'$"):
        flags.load(recipe)
