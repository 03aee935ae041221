"""Claims about objects on the command line: what is written is what the run gets, and nothing is evaluated."""

import dataclasses
import pathlib
import re
import shlex

import pytest

from jaxlm.config import flags, swap
from jaxlm.data.tokenizer import Pretrained
from jaxlm.errors import UserError
from jaxlm.models.gpt2 import Gpt2
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.r_drop import RDrop
from jaxlm.objectives.units import Ngrams
from jaxlm.optim.optimizers import AdamW, Muon
from jaxlm.optim.schedules import WarmupCosine, WarmupLinear
from jaxlm.views.lora import LoRA

ROOT = pathlib.Path(__file__).parents[2]
ADAMW = "AdamW(schedule=WarmupLinear(peak=1e-3, warmup='10%', end=0.0), weight_decay=0.01, clip_norm=1.0, b1=0.9, "
ADAMW += "b2=0.98, epsilon=1e-8)"


def run(*words: str, recipe: str = "quickstart"):
    return flags.parse(["train", recipe, *words]).run


def test_an_optimizer_is_swapped_and_its_fields_may_be_changed_too():
    schedule = WarmupLinear(peak=1e-3, warmup="10%", end=0.0)
    same = dict(weight_decay=0.01, clip_norm=1.0, b2=0.98, epsilon=1e-8)
    assert run(f"--config.optimizer={ADAMW}").optimizer == AdamW(schedule=schedule, b1=0.9, **same)
    # In whatever order: the object first.
    made = run("--config.optimizer.b1=0.5", f"--config.optimizer={ADAMW}").optimizer
    assert made == AdamW(schedule=schedule, b1=0.5, **same)


def test_a_field_may_be_left_out_where_the_class_is_that_of_the_recipe():
    before, now = run().optimizer, run("--config.optimizer=Muon(momentum=0.9)").optimizer
    assert isinstance(now, Muon) and now.momentum == 0.9
    assert (now.schedule, now.b2) == (before.schedule, before.b2)
    shorter = ADAMW.replace(", warmup='10%', end=0.0", "")
    assert run(f"--config.optimizer={shorter}").optimizer.schedule.warmup == before.schedule.warmup


def test_what_is_missing_is_named_with_a_line_that_can_be_typed():
    with pytest.raises(
        UserError, match=r"AdamW also needs schedule, clip_norm, b1, b2, epsilon\."
    ) as refused:
        run("--config.optimizer=AdamW(weight_decay=0.1)")
    assert "clip_norm: global gradient norm above which" in str(refused.value)
    (word,) = shlex.split(re.search(r"Fix, with what Muon has now: (.*)", str(refused.value))[1])
    made, before = run(word).optimizer, run().optimizer
    assert made.weight_decay == 0.1 and (made.b2, made.schedule) == (before.b2, before.schedule)


def test_what_is_missing_inside_an_object_is_named_there():
    with pytest.raises(UserError, match=r"WarmupCosine also needs peak, warmup, end\.") as refused:
        run(
            f"--config.optimizer={ADAMW}".replace(
                "WarmupLinear(peak=1e-3, warmup='10%', end=0.0)", "WarmupCosine()"
            )
        )
    now = "schedule=WarmupCosine(peak=0.02, warmup='40 steps', end=0.0)"
    assert str(refused.value).endswith(f"Fix, with what WarmupLinear has now: {now}")


def test_what_stands_around_another_takes_what_is_there():
    before = run()
    words = ("--config.optimizer=LayerDecay(decay=0.9, first=1, of=RateGroups(rates=(('heads/', 10.0),)))",)
    now = run(*words, "--config.optimizer.of.of.b2=0.5", "--config.objective=RDrop(alpha=1.0)")
    assert now.optimizer.of.of == dataclasses.replace(before.optimizer, b2=0.5)
    assert (now.optimizer.decay, now.optimizer.of.rates) == (0.9, (("heads/", 10.0),))
    assert now.objective == RDrop(of=before.objective, alpha=1.0)


def test_parts_of_components_tuples_and_defaults():
    cosine = run(
        "--config.optimizer.schedule=WarmupCosine(peak=1e-2, warmup='5%', end=0.0)"
    ).optimizer.schedule
    assert cosine == WarmupCosine(peak=1e-2, warmup="5%", end=0.0)
    assert run("--config.objective.unit=Ngrams(longest=3, of='words')").objective.unit == Ngrams(
        longest=3, of="words"
    )
    lora = LoRA(rank=4, alpha=8.0, scaling="rank")
    for text in ("LoRA(rank=4, alpha=8.0, scaling='rank')", "(LoRA(rank=4, alpha=8.0, scaling='rank'),)"):
        assert run(f"--config.view={text}").view == (lora,)
    assert run("--config.stages=(Stage(length=32, share=1.0),)").stages[0].length == 32
    keep = run("--config.checkpoint.keep=Keep(latest=3)").checkpoint.keep
    assert (keep.latest, keep.best_metric) == (3, "eval/loss")


def test_model_objective_and_tokenizer(tmp_path):
    text = "MaskedLM(rate=0.4)"
    assert run(f"--config.objective={text}").objective == MaskedLM(**{**vars(run().objective), "rate": 0.4})
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    assert run(f"--config.tokenizer=Pretrained(path='{tmp_path}')").tokenizer == Pretrained(
        path=str(tmp_path)
    )
    gpt2 = swap.as_text(run(recipe="gpt2_small").model)
    decoder = [
        f"--config.model={gpt2}",
        "--config.objective=CausalLM(z_loss=0.0, label_smoothing=0.0)",
        "--config.fill=()",
    ]
    assert isinstance(run(*decoder).model, Gpt2)


def test_a_class_of_the_recipe_can_be_named(tmp_path):
    (tmp_path / "own.py").write_text(
        "import dataclasses\nfrom quickstart import get_config as whole\n"
        "from jaxlm.optim.schedules import WarmupLinear\n\n\n"
        "@dataclasses.dataclass(kw_only=True)\nclass Mine(WarmupLinear):\n    more: float\n\n\n"
        "def get_config():\n    return whole()\n"
    )
    (tmp_path / "quickstart.py").write_text((ROOT / "configs" / "quickstart.py").read_text())
    word = "--config.optimizer.schedule=Mine(peak=1e-2, warmup='5%', end=0.0, more=2.0)"
    made = flags.parse(["train", f"{tmp_path}/own.py", word]).run.optimizer.schedule
    assert type(made).__name__ == "Mine" and made.more == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AdamWW(b1=1)", r'no component AdamWW\. Did you mean "AdamW"\? Allowed are: AdamW, BertAdam'),
        ("adamw", r'Did you mean "AdamW"\?'),
        ("AdamW(beta1=0.9)", r"AdamW has no field beta1\..* Its fields: schedule, weight_decay"),
        ("AdamW(0.9)", r"0\.9 stands in AdamW without the name of a field, one of schedule"),
        ("AdamW(", r"cannot be read"),
        ("Bert(vocab_size=8)", "Bert also needs"),
        ("WordPiece(vocab_size=8, lowercase=True)", "WordPiece is no optimizer. Allowed are: AdamW"),
        ("__import__('os').system('touch X')", "is neither a literal nor an object"),
        ("AdamW(b1=__import__('os'))", "no component __import__"),
        ("AdamW(b1=[x for x in (1,)])", "is neither a literal nor an object"),
        ("AdamW(**{})", r"AdamW has no field None"),
        ("(" * 300 + "1", "cannot be read"),
    ],
)
def test_a_mistake_is_answered_and_nothing_is_evaluated(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(f"--config.optimizer={text}")
    assert not list(tmp_path.iterdir())


def test_a_path_for_a_tokenizer_is_answered_with_what_to_type(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    with pytest.raises(UserError, match=r"cannot be read") as refused:
        run(f"--config.tokenizer={tmp_path}")
    (word,) = shlex.split(re.search(r'Fix: (--config\.tokenizer=".*?")', str(refused.value))[1])
    assert run(word).tokenizer == Pretrained(path=str(tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.reset_layers=1"], "without config.init_from all layers are as drawn"),
        (
            ["--config.average_from=50%", "--config.ema_decay=0.9"],
            "are two averages. Fix: --config.ema_decay=0",
        ),
    ],
)
def test_starts_and_averages_that_contradict_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        run(*words)
