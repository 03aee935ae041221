"""What is decided after training, on a table that is neither training nor test. In: right answers, probabilities.
Out: a `Calibration`, kept with its run.

One temperature for all labels (Guo et al., 1706.04599): probabilities to the power of 1 / T, the same order of labels.
Of label sets one threshold. RUN/calibration.json holds it for one checkpoint; `predict` and `evaluate` of that one
apply it and say so.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from jaxlm.errors import UserError
from jaxlm.infer import classify

FILE = "calibration.json"
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are looked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was found on which table."""

    step: int  # of the checkpoint
    data: str  # the table
    items: int  # rows of it
    temperature: float | None = None  # of labels that exclude each other
    threshold: float | None = None  # of label sets

    def __str__(self) -> str:
        what = "temperature" if self.threshold is None else "threshold"
        value = self.temperature if self.threshold is None else self.threshold
        return f"{what} {value:.4g}, fitted on {self.data} ({self.items:,} items)"


def of(model: Any) -> Calibration | None:
    """What is kept with the checkpoint of a `Loaded`; None: nothing, or the model is no run."""
    stored = getattr(model, "stored", None)
    if stored is None or stored.root is None or not (stored.root / FILE).is_file():
        return None
    path = stored.root / FILE
    try:
        found = Calibration(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}). Fix: remove it, or --calibrate again.") from error
    return found if found.step == stored.step else None


def keep(model: Any, found: Calibration) -> pathlib.Path:
    """Writes the file of its run, and returns its path. UserError for a model that is no run."""
    if model.stored.root is None:
        raise UserError(
            f"{model.stored.where} is no run folder, and --calibrate keeps what it finds in one. Fix: --run=RUN; or "
            "--temperature=T and --threshold=P with each command."
        )
    path = model.stored.root / FILE
    path.write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n", encoding="utf-8")
    return path


def temperature(right_N: np.ndarray, shares_NK: np.ndarray) -> float:
    """The T of the least negative log-likelihood, by halving: its slope in 1 / T grows from one end to the other."""
    z_NK = _logits(shares_NK)
    own_N = z_NK[np.arange(len(right_N)), right_N]

    def slope(inverse: float) -> float:
        return float(((classify.shares(z_NK * inverse) * z_NK).sum(axis=1) - own_N).mean())

    low, high = np.log(1.0 / HOTTEST), np.log(1.0 / COLDEST)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(np.exp(middle)) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def tempered(shares: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities over the last axis, of logits that are divided by the temperature."""
    return classify.shares(_logits(shares) / temperature)


def _logits(shares: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(shares.astype(np.float64), np.finfo(np.float64).tiny))
