"""Claims about `jaxlm train --help`: it shows every key there is, and fits the screen."""

import pytest

from jaxlm.config import flags, hints, meanings, tree


def shown(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        flags.parse(["train", *words, "--help"])
    assert not ended.value.code
    return capsys.readouterr().out


def test_without_a_recipe_it_shows_five_examples_and_what_every_run_has(capsys):
    said = shown(capsys)
    assert len([line for line in said.splitlines() if line.startswith("    jaxlm train ")]) == 5
    for key in (
        "steps",
        "data.corpus",
        "stages[0].length",
        "evaluation.patience=0",
        "checkpoint.keep.latest=2",
    ):
        assert f"\n  {key} " in said, key
    assert "one of AdamW, BertAdam, Lamb, Adafactor, Sgd, Lion, Muon" in " ".join(said.split())


@pytest.mark.parametrize("recipe", ["bert_base", "t5_small", "bert_multi_task"])
def test_of_a_recipe_it_shows_every_key_with_value_and_meaning(capsys, monkeypatch, recipe):
    monkeypatch.setenv("COLUMNS", "100")
    said, run = shown(capsys, recipe), flags.parse(["train", recipe]).run
    for key, value, _ in tree.leaves(run):
        if len(repr(value)) < 40:
            assert f"\n  {key}={value!r}" in said, key
    assert "learning rate at the end of the warm-up" in said
    assert max(map(len, said.splitlines())) <= 110


def test_overrides_of_a_run_are_part_of_its_keys():
    run = flags.parse(["train", "bert_base"]).run
    assert dict(hints.tree_meanings(run))["model.hidden"] == "width of the residual stream (d_model)"


def test_meanings_are_the_comments_behind_and_above_a_field():
    from jaxlm.config.schema import Run
    from jaxlm.optim.optimizers import AdamW

    assert meanings.of(Run)["ema_decay"].startswith("exponential moving average")
    assert meanings.of(Run)["init_from"].startswith("Whose weights")
    assert meanings.of(AdamW)["b1"] == "decay of the first moment"  # inherited, from a private base
    assert meanings.classes()["AdamW"] == "jaxlm.optim.optimizers"
