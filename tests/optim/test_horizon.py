"""Claims: durations are parsed exactly, tokens follow the stages, errors name key, value and what is allowed."""

import pytest

from jaxlm.errors import UserError
from jaxlm.optim.horizon import Horizon

# 900 steps of 256 x 128 tokens, then 100 of 256 x 512 (BERT's two stages, scaled down).
STAGES = Horizon(((900, 32_768), (100, 131_072)))


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("10000", 10_000),
        ("10_000 steps", 10_000),
        ("1 step", 1),
        ("0", 0),
        ("10k steps", 10_000),
        ("1.5k", 1_500),
        ("1e4 steps", 10_000),
        (" 37 Steps ", 37),
        ("6%", 60),
        ("0.1 %", 1),
        ("28.43%", 285),
        ("100%", 1_000),
        ("32768 tokens", 1),
        ("32769 tokens", 2),
        ("29_491_200 tokens", 900),
        ("29491201 tokens", 901),
        ("42598400 tokens", 1_000),
        ("42.5984M tokens", 1_000),
        ("0.0425984B tokens", 1_000),
        ("4.25984e7 tokens", 1_000),
        ("1T tokens", 900 + 7_629_170),
    ],
)
def test_duration_in_steps(duration, steps):
    assert STAGES.steps(duration, "schedule.warmup") == steps


def test_percentages_have_no_binary_fractions():
    # 0.06 * 50 is 3.0000000000000004 in binary and would round up to 4... as would 0.29 * 100.
    for total in (50, 100, 700, 12_300):
        for percent in range(0, 101):
            expected = -(-total * percent // 100)
            assert Horizon(((total, 8),)).steps(f"{percent}%", "x") == expected


@pytest.mark.parametrize(
    "duration", ["", "ten", "10 epochs", "-5", "1.5 steps", "101%", "6k%", "5 % of run", "1e-3", 10_000, None]
)
def test_nonsense_is_refused_with_key_and_examples(duration):
    with pytest.raises(UserError) as error:
        STAGES.steps(duration, "config.optimizer.schedule.warmup")
    assert "config.optimizer.schedule.warmup=" in str(error.value)
    assert repr(duration) in str(error.value)
    assert "%" in str(error.value)


def test_total_steps():
    assert STAGES.total_steps == 1_000


def test_impossible_stages_are_refused():
    for stages in ((), ((-1, 8),), ((3, 0),)):
        with pytest.raises(ValueError, match="stages"):
            Horizon(stages)
