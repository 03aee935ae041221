"""Claims about tools/board.py: cells that are finished are not done again, rates are chosen on held-out rows, and both sides train."""

import json

import pytest

from tests.commands.test_evaluate import rows
from tests.exchange.folders import hf_folder
from tests.objectives.small import write
from tools import board

SMOKE = {
    "recipe": "classification", "kind": "classification", "train": "train.csv", "test": "test.csv", "batch": 16,
    "metric": "accuracy", "examples": 180, "epochs": 1, "tokens": 32, "rates": [1e-3, 1e-2], "seeds": [1, 2],
}  # fmt: skip


@pytest.fixture
def place(tmp_path):
    write(tmp_path / "train.csv", rows(200))
    write(tmp_path / "test.csv", rows(60))
    (tmp_path / "p.json").write_text(json.dumps({"smoke": SMOKE}))
    words = [
        f"--{name}={tmp_path / file}" for name, file in (("data", ""), ("model", "bert"), ("out", "out"))
    ]
    return tmp_path, [
        *words,
        f"--protocols={tmp_path / 'p.json'}",
        f"--board={tmp_path / 'board.md'}",
        "smoke",
    ]


def finished(folder, dev, test, difference=None):
    """A cell with its scores."""
    folder.mkdir(parents=True)
    (folder / "seconds.json").write_text(json.dumps({"training": 2.0, "whole": 5.0, "examples": 160}))
    score = lambda value: {"metrics": {"accuracy": {"value": value, "low": value - 0.1, "high": value + 0.1}}}
    (folder / "dev.json").write_text(json.dumps(score(dev)))
    (folder / "test.json").write_text(json.dumps(score(test)))
    about = {"value": difference, "low": -0.1, "high": 0.2, "p": 0.3, "test": "McNemar, exact"}
    (folder / "test-against-jaxlm.json").write_text(json.dumps({"differences": {"accuracy": about}}))


def test_a_finished_board_is_written_again_without_training_anything(place, monkeypatch, capsys):
    root, words = place
    assert board.main(["", *words, "--plan"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()][:2] == [
        ["to", "do", "smoke/jaxlm-0.001-1"],
        ["to", "do", "smoke/transformers-0.001-1"],
    ]
    for side, best in (("jaxlm", 0.01), ("transformers", 0.001)):
        for rate in (0.001, 0.01):
            for seed in (1, 2):
                dev, test = (0.9, 0.8) if rate == best else (0.7, 0.99)
                finished(root / "out" / "smoke" / f"{side}-{rate:g}-{seed}", dev, test + 0.01 * seed, 0.05)
    monkeypatch.setattr(board, "call", lambda *words: pytest.fail(f"trains or measures: {words}"))
    assert board.main(["", *words]) == 0
    lines = (root / "board.md").read_text().splitlines()
    assert lines[-4] == (
        "| smoke | jaxlm | accuracy | 0.8150 ± 0.0071 | 0.7100 to 0.9100 | 0.01 of 2 | 2 | 80.0 | 10 |"
    )
    assert (
        lines[-3].startswith("| smoke | transformers | accuracy | 0.8150 ± 0.0071 |")
        and "0.001 of 2" in lines[-3]
    )
    # The peer was measured against ours; the board says it the other way round.
    assert "-0.0500 [-0.2000, +0.1000], p = 0.300 (McNemar, exact)" in lines[-2] and "seed 1" in lines[-2]
    parts = [
        (root / "out" / "smoke" / f"{part}.jsonl").read_text().splitlines()
        for part in ("train", "dev", "test")
    ]
    assert len(parts[0]) + len(parts[1]) == 180 and 5 < len(parts[1]) < 40 and len(parts[2]) == 60
    assert not set(parts[0]) & set(parts[1])


@pytest.mark.slow
def test_both_sides_train_and_are_compared(place, monkeypatch):
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    root, words = place
    monkeypatch.setenv("JAXLM_CACHE", str(root / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "")  # one device, as the peer has
    hf_folder(root / "bert", heads=("tokens", "pooler"))
    (root / "p.json").write_text(json.dumps({"smoke": SMOKE | {"rates": [1e-3], "seeds": [1]}}))
    assert board.main(["", *words]) == 0
    text = (root / "board.md").read_text()
    assert "| smoke | jaxlm | accuracy |" in text and "seed 1: jaxlm less the peer" in text
