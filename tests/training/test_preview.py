"""Claims about `--preflight` and what is foreseen: nothing is written, every stage is measured, refusals come early."""

import pathlib
import re

import pytest

import jaxlm.train
from jaxlm.config import flags, folder
from jaxlm.data import tokenizer
from jaxlm.data.shards import trained
from jaxlm.errors import UserError

TINY = str(pathlib.Path(__file__).parents[1] / "recipes" / "tiny.py")


def train(workdir, *words: str) -> int:
    return jaxlm.train.main(["train", TINY, f"--workdir={workdir}", *words])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_preflight_measures_every_stage_and_leaves_the_folder_as_it_was(tmp_path, cache, corpus, capfd):
    place = folder.RunFolder(tmp_path / "run")
    words = [f"--config.data.corpus={corpus}", "--config.steps=10", "--config.check_isolation=true"]
    folder.claim(place, flags.parse(["train", TINY, *words]).run)
    was = place.config.read_bytes()
    assert train(place.root, *words, "--preflight") == 0
    assert [path.name for path in place.root.iterdir()] == ["config.json"]
    assert place.config.read_bytes() == was
    said = capfd.readouterr().out
    assert said.count("isolation          packed = alone") == 2 and said.count("memory per device") == 2
    assert re.search(
        r"stage 1 of 2   7 steps of \S+ s; \S+ MiB per device\n +stage 2 of 2   3 steps of", said
    )
    tokens = (7 * 8 * 32 + 3 * 8 * 48) / 1000
    assert f"{tokens:.2f}k in 10 steps" in said and re.search(
        r"per parameter +0\.0\d+ tokens \(\S+k par", said
    )
    assert re.search(r"time +about \d+s in all", said) and re.search(
        r"peak memory +\S+ MiB per device of", said
    )
    assert "step 5/10" not in said, "nothing may be trained"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.optimizer.schedule.warmup=90 steps"], r"warmup='90 steps' is 90 steps, but 60 of the run's 60"),
        (["--config.tokenizer.vocab_size=900"], r"tokenizer.vocab_size=900.* Fix: --config.model.vocab_size=900,"),
        (['--config.tokenizer=ByteBpe(vocab_size=400, sentinels=0, infill="off")'], r"this tokenizer has no mask"),
        (["--config.checkpoint.keep.best_metric=eval/acuracy"], r"is not measured; known: eval/loss, eval/mlm_acc"),
        (["--config.data.text_field=txt"], r'docs.jsonl:1: no field "txt".*Fix: --config.data.text_field=text '),
        (["--config.data.corpus=nowhere.csv"], r'"nowhere.csv": no such file'),
        (["--config.data.corpus="], r"config.data.corpus is empty: .*--config.data.corpus=builtin:pydocs"),
        (["--config.batch_size=12"], r"config.batch_size=12"),
    ],
)  # fmt: skip
def test_what_follows_from_the_recipe_is_refused_before_a_tokenizer_is_trained(
    tmp_path, cache, corpus, monkeypatch, words, message
):
    monkeypatch.setattr(trained, "of_corpus", lambda *_: pytest.fail("a tokenizer is trained"))
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", f"--config.data.corpus={corpus}", *words)


def test_special_tokens_are_foreseen_for_every_tokenizer(tmp_path):
    from jaxlm.training import foreseen

    kinds = [
        tokenizer.WordPiece(vocab_size=30_000, lowercase=True),
        tokenizer.Unigram(vocab_size=32_000, sentinels=100),
        tokenizer.Bpe(vocab_size=32_000, sentinels=3),
        tokenizer.ByteBpe(vocab_size=50_257, sentinels=2, infill="on"),
    ]
    found = [foreseen._vocabulary(kind) for kind in kinds]
    assert [len(one.sentinels) for one in found] == [0, 100, 3, 2]
    assert [one.mask >= 0 for one in found] == [True, True, True, False]
    assert [len(one.infill) for one in found] == [0, 0, 0, 3] and all(one.stops for one in found)
