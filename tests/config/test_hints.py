"""Claims about mistyped settings: words of other tools are answered by their meaning, with the flag to type."""

import re

import pytest

from jaxlm.config import flags, hints, recipes
from jaxlm.errors import UserError

RUNS = {
    name: flags.load(path)
    for name, path in recipes.shipped().items()
    if name in ("bert_base", "t5_small", "gpt2_small", "roberta_base")
}


def refusal(*words: str, recipe: str = "bert_base") -> str:
    with pytest.raises(UserError) as refused:
        flags.parse(["train", recipe, *words])
    return str(refused.value)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("learning_rate", "optimizer.schedule.peak"),
        ("lr", "optimizer.schedule.peak"),
        ("optimizer.lr", "optimizer.schedule.peak"),
        ("batch", "batch_size"),
        ("num_train_epochs", "epochs"),
        ("max_steps", "steps"),
        ("seq_length", "stages[0].length"),
        ("num_layers", "model.layers"),
        ("model.num_hidden_layers", "model.layers"),
        ("hidden_size", "model.hidden"),
        ("vocab", "model.vocab_size"),
        ("hidden_dropout_prob", "model.dropout"),
        ("dropout", "model.dropout"),
        ("dataset", "data.corpus"),
        ("mlm_probability", "objective.masked_lm.rate"),
        ("peak", "optimizer.schedule.peak"),
    ],
)
def test_a_word_of_another_tool_is_answered_by_its_meaning_with_and_without_the_prefix(word, meant):
    flag = re.escape(f"--config.{meant}")
    for typed in (f"--config.{word}=1", f"--{word}=1", f"--{word.replace('_', '-')}=1"):
        said = refusal(typed)
        assert re.search(rf"Here it is (.*\(or )?{flag}\b", said), said
        assert "Known in" not in said


def test_the_meaning_is_told():
    assert "steps: optimizer steps of the whole run" in refusal("--config.max_steps=3")
    assert "learning rate at the end of the warm-up" in refusal("--lr=1")
    assert refusal("--output_dir=x").endswith("Here it is --workdir.")


@pytest.mark.parametrize(
    "word", ["steps=100", "optimizer.schedule.peak=1e-3", "stages[0].length=64", "batch-size=8"]
)
def test_a_forgotten_prefix_is_shown_as_it_is_typed(word):
    assert f"values of the run are written --config.{word.replace('-s', '_s')}." in refusal(f"--{word}")


def test_words_without_a_meaning_are_answered_with_the_closest_key_before_any_list():
    said = refusal("--config.setps=3")
    assert said.index('Did you mean "steps"?') < said.index("Known in config: ")


def test_every_key_of_the_table_ends_a_key_of_some_recipe():
    known = {key for run in RUNS.values() for key in hints.keys(run)}
    for end in hints._WORDS:
        assert any(key == end or key.endswith(f".{end}") for key in known), end


def test_no_word_means_two_things_in_the_table():
    words = [word for line in (hints._WORDS | hints._FLAGS).values() for word in line.split()]
    twice = {word for word in words if words.count(word) > 1}
    # The rate of masked LM is in two places, of which a recipe has one.
    assert twice == set(hints._WORDS["objective.rate"].split())
