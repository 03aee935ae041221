"""The mistakes of a first hour: each is answered by its message, and the fix that the message names works as typed."""

import csv
import pathlib

import pytest

from jaxlm.config import flags, folder
from jaxlm.errors import UserError
from jaxlm.partition import mesh as meshes
from jaxlm.run import inputs
from jaxlm.run.program import Program
from jaxlm.training import foreseen

TINY = str(pathlib.Path(__file__).parent / "recipes" / "tiny.py")


def ready(*words: str) -> None:
    """All of a run that precedes its first step, but for compiling."""
    run = flags.parse(["train", *words]).run
    foreseen.check(Program.of(run, meshes.make(run.mesh)))
    inputs.text(run, lambda line: None)


def refusal(*words: str) -> str:
    with pytest.raises(UserError) as refused:
        ready(*words)
    return str(refused.value)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what a beginner has."""
    root = tmp_path_factory.mktemp("mistakes")
    texts = [
        f"Film {i} was seen by {i * i} people; {'most' if i % 3 else 'few'} liked it." for i in range(300)
    ]
    with (root / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "review", "label"], *([i, t, i % 2] for i, t in enumerate(texts))])
    (root / "twenty.txt").write_text("\n\n".join(texts[:20]))
    (root / "one.txt").write_text(texts[0])
    (root / "docs.txt").write_text("\n\n".join(texts))
    (root / "empty.txt").write_text("\n")
    (root / "header.csv").write_text("id,review\n")
    (root / "ragged.csv").write_text("id,review\n1,one, and two\n")
    (root / "letters.xlsx").write_text("PK")
    return root


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("JAXLM_CACHE", str(place / "cache"))


CSV = "--config.data.corpus=reviews.csv"
TXT = "--config.data.corpus=docs.txt"
FIELD = "--config.data.text_field=review"


@pytest.mark.parametrize(
    ("wrong", "message", "fix"),
    [
        # what is mistyped
        (["--config.learning_rate=1e-3"], "--config.optimizer.schedule.peak", ["--config.optimizer.schedule.peak=1e-3"]),
        (["--learning_rate=1e-3"], "--config.optimizer.schedule.peak", ["--config.optimizer.schedule.peak=1e-3"]),
        (["--lr=1e-3"], "--config.optimizer.schedule.peak", ["--config.optimizer.schedule.peak=1e-3"]),
        (["--steps=30"], "written --config.steps=30", ["--config.steps=30"]),
        (["--config.setps=30"], 'Did you mean "steps"?', ["--config.steps=30"]),
        (["reviews.csv", FIELD], f"Text to train on: {CSV}", [CSV, FIELD]),
        (["--config.optimizer=adamw"], 'Did you mean "AdamW"?', ["--config.optimizer=AdamW"]),
        (["--config.tokenizer=docs.txt"], "\"Pretrained(path='docs.txt')\"", None),
        (["--config.optimizer.schedule.warmup=90 steps"], 'a share like "6%"', ["--config.optimizer.schedule.warmup=6%"]),
        (["--config.tokenizer.vocab_size=900"], "--config.model.vocab_size=900",
         ["--config.tokenizer.vocab_size=900", "--config.model.vocab_size=900"]),
        # where the text is
        (["--config.data.corpus="], "--config.data.corpus=FILE", [TXT]),
        (["--config.data.corpus=review.csv"], 'Did you mean "reviews.csv"?', [CSV, FIELD]),
        (["--config.data.corpus=letters.xlsx"], "of a spreadsheet: .csv", None),
        # what is in it
        ([CSV], FIELD, [CSV, FIELD]),
        ([CSV, "--config.data.text_field=Review"], f'Did you mean "review"? Fields there: id, review, label. Fix: {FIELD} ',
         [CSV, FIELD]),
        ([CSV, FIELD, "--config.data.columns=(Label(field='lable'),)"],
         "\"--config.data.columns=(Label(field='label'),)\"",
         [CSV, FIELD, "--config.data.columns=(Label(field='label'),)"]),
        ([CSV, "--config.data.text_fields=('reviews', 'label')"], "\"--config.data.text_fields=('review', 'label')\"",
         [CSV, "--config.data.text_fields=('review', 'label')"]),
        (["--config.data.corpus=ragged.csv", FIELD], "ragged.csv:2: 3 cells, and the header names 2", None),
        (["--config.data.corpus=header.csv", FIELD], "header.csv: holds no documents", None),
        (["--config.data.corpus=empty.txt"], "empty.txt: holds no documents", None),
        (["--config.data.corpus=one.txt"], "--config.data.validation_share=0 --config.data.test_share=0 for no such split",
         ["--config.data.corpus=one.txt", "--config.data.validation_share=0", "--config.data.test_share=0"]),
        (["--config.data.corpus=twenty.txt", "--config.data.validation_share=0.001", "--config.data.test_share=0"],
         "--config.data.validation_share=0.15 or more",
         ["--config.data.corpus=twenty.txt", "--config.data.validation_share=0.15", "--config.data.test_share=0"]),
        ([TXT, "--config.tokenizer=Unigram(vocab_size=500, sentinels=0)"], "Fix: --config.tokenizer.vocab_size=",
         "--config.tokenizer.vocab_size="),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_by_what_works_as_typed(wrong, message, fix):
    given = [] if any("corpus=" in word or word.endswith(".csv") for word in wrong) else [TXT]
    said = refusal(TINY, *given, *wrong)
    assert message in said
    if isinstance(fix, str):  # with a number that the message knows
        fix = [*wrong, fix + said.partition(fix)[2].partition(",")[0]]
    if fix is not None:
        ready(TINY, *([] if any("corpus=" in word for word in fix) else [TXT]), *fix)


def test_a_recipe_that_is_none_is_answered_with_the_closest():
    assert 'Did you mean "quickstart"?' in refusal("quickstrat", CSV, FIELD)
    ready("quickstart", CSV, FIELD)


def test_a_second_terminal_in_the_same_folder_is_told_who_is_there(tmp_path):
    place = folder.RunFolder(tmp_path)
    taken = pytest.raises(UserError, match=r"in use by process \d+ on .* another --workdir")
    with folder.lock(place, print), taken, folder.lock(place, print):
        pytest.fail("two runs work in one folder")
    with folder.lock(place, print):
        pass  # the first has ended
