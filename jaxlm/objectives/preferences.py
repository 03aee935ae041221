"""Learning from preferences: make the chosen one of two answers likelier (DPO: Rafailov et al., 2305.18290).

In: rows packed with pairs of conversations, chosen and rejected, each a segment of its own. Out: one loss a pair, of
log p summed over the tokens of each answer in float32. The reference is the model as it was before training: the same
weights without what a view has put beside them, so that there is no second copy of what is frozen.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Loss, Row, Shown, Vocabulary
from jaxlm.errors import UserError
from jaxlm.models import values
from jaxlm.objectives import generative, scores
from jaxlm.objectives.conversing import Conversing
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.targets import TokenTargets

# Share of log p by which two passes over the same weights differ in float32: a margin within it prefers neither.
_ROUNDING = 2.0**-19


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferenceTargets:
    """Tokens of answers, and which answer each is of: 2 c and 2 c + 1 are the chosen and the rejected one of pair c."""

    tokens: TokenTargets
    answers_BM: Array  # int32; 0 in unused slots
    weights_BC: Array  # float32: 1 where a pair is real, else 0

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        kinds = ("chosen", "rejected")
        pairs = np.flatnonzero(self.weights_BC[b] > 0).tolist()
        notes = {2 * c + i + 1: kind for c in pairs for i, kind in enumerate(kinds)}
        return dataclasses.replace(self.tokens.show(b), notes=notes)


@dataclasses.dataclass(kw_only=True)
class Preferences(Conversing):
    """DPO: loss "sigmoid", beta 0.1, label_smoothing 0. cDPO: label_smoothing 0.1, say. IPO (Azar et al., 2310.12036):
    "ipo". Without a reference: SimPO (Meng et al., 2405.14734), "simpo", beta 2.0, margin 1.0; ORPO (Hong et al.,
    2403.07691), "orpo", whose beta (their lambda) 0.1 weighs the odds beside the likelihood of the chosen answer."""

    texts: ClassVar[int] = 2

    beta: float  # how dear it is to move away from the reference; published: 0.1
    # sigmoid: -log sigmoid(beta * margin); ipo: (mean margin - 1 / (2 beta))^2; simpo: sigmoid of mean log p; orpo:
    # -mean log p of the chosen - beta * log sigmoid(difference of the log odds of both means)
    form: Literal["sigmoid", "ipo", "simpo", "orpo"]
    label_smoothing: (
        float  # share of the pairs that are taken to be the wrong way round (sigmoid and simpo); 0: none
    )
    margin: float  # simpo: by how much beta times mean log p is to differ; else 0
    chunk: int = 128  # targets per row whose logits exist together; 0: all. Changes memory, not results

    @property
    def has_reference(self) -> bool:
        """Whether it compares with the model as it was."""
        return self.form not in ("simpo", "orpo")

    def validate(self, where: str) -> None:
        """UserError for a loss or numbers that cannot work."""
        super().validate(where)
        generative.check_chunk(self, where)
        generative.share(self, where, "label_smoothing", high=0.49, published="0, or 0.1 for cDPO")
        if not 0.0 < self.beta <= 100.0:
            raise UserError(
                f"{where}.beta={self.beta}: allowed is above 0 to 100 (published: 0.1; SimPO: 2.0)."
            )
        smoothed = self.form in ("ipo", "orpo") and self.label_smoothing
        if smoothed or (self.form != "simpo" and self.margin):
            name = "label_smoothing" if smoothed else "margin"
            raise UserError(f"{where}: form={self.form!r} takes no {name}. Fix: --{where}.{name}=0.0.")

    def check_view(self, view: Sequence[Any], where: str) -> None:
        """The reference must be at hand: the last view keeps the weights that training began with."""
        if self.has_reference and not (view and getattr(view[-1], "keeps_start", False)):
            raise UserError(
                f"{where}={tuple(view)}: Preferences compares with the model as it was, and nothing keeps its weights. "
                f"Fix: \"--{where}=(LoRA(rank=8, alpha=16.0, scaling='sqrt'),)\", which leaves them as they are; or "
                f'"--{where}=(KeepStart(),)", which trains all of them beside a copy.'
            )

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Every answer with its prompt becomes a segment; nothing is drawn."""
        real = row.segments_T > 0
        segments = np.where(real, 2 * row.segments_T - 1 + row.texts_T, 0).astype(np.int32)
        begins = np.flatnonzero(real & (np.diff(segments, prepend=0) != 0))
        positions = np.zeros_like(segments)
        positions[real] = np.flatnonzero(real) - begins[segments[real] - 1]
        tokens = self.answered(row, positions, train=train)
        answers = np.where(tokens.weights_BM > 0, segments[tokens.places_BM] - 1, 0).astype(np.int32)
        pairs = np.arange(len(row.first_C)) < int(row.segments_T.max(initial=0))
        return Batch(
            tokens_BT=row.tokens_T,
            segments_BT=segments,
            positions_BT=positions,
            targets=PreferenceTargets(tokens=tokens, answers_BM=answers, weights_BC=pairs.astype(np.float32)),
            most_segments=2 * len(row.first_C),
        )

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of pairs."""
        return {"preferences": scores.count(batch.targets.weights_BC)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`policy` and `reference`: log p of every answer, [B, C, 2], chosen first; `tokens`: how many each has."""
        at_BM = batch.targets.tokens.places_BM
        encoded = model.encode(batch, key, at_BM=at_BM)
        found = {"policy": self._log_p(model, encoded.x_BTD, batch.targets)}
        if self.has_reference:
            before = values.before(model)
            unchanged = before.encode(batch, None, at_BM=at_BM)
            found["reference"] = self._log_p(before, unchanged.x_BTD, batch.targets)
        return Predictions.of(
            encoded, **found, tokens=_by_answer(batch.targets.tokens.weights_BM, batch.targets)
        )

    def _log_p(self, model: Any, x_BMD: Array, asked: PreferenceTargets) -> Array:
        logits = scores.at_targets(model, x_BMD, asked.tokens)
        return _by_answer(scores.log_p(logits, asked.tokens.ids_BM, chunk=self.chunk), asked)

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `preferences`; measures `preferences_loss`, `preferences_accuracy` (the margin is above 0, by more than
        rounding), and in nats, mean over pairs, `margin`, `chosen_gain`, `rejected_gain` (log p above the reference's).
        """
        weights_BC, tokens_BC2 = batch.targets.weights_BC, jnp.maximum(predictions["tokens"], 1.0)
        gain_BC2 = predictions["policy"]
        noise_BC = _ROUNDING * jnp.abs(gain_BC2).sum(axis=-1)
        if self.has_reference:
            gain_BC2 = gain_BC2 - predictions["reference"]
        shown_BC2, margin_BC = gain_BC2, gain_BC2[..., 0] - gain_BC2[..., 1]
        if self.form != "sigmoid":
            mean_BC2 = gain_BC2 / tokens_BC2
            odds_BC2 = _log_odds(mean_BC2) if self.form == "orpo" else mean_BC2
            margin_BC, noise_BC = odds_BC2[..., 0] - odds_BC2[..., 1], noise_BC / tokens_BC2.max(axis=-1)
        total = lambda values_BC: (jnp.where(weights_BC > 0, values_BC, 0.0).sum(), scores.count(weights_BC))
        likelihood_BC = gain_BC2[..., 0] / tokens_BC2[..., 0] if self.form == "orpo" else 0.0
        term = total(self._loss(margin_BC) - likelihood_BC)
        measures = {
            "preferences_loss": term,
            "preferences_accuracy": total((margin_BC > noise_BC).astype(jnp.float32)),
            "margin": total(margin_BC),
            "chosen_gain": total(shown_BC2[..., 0]),
            "rejected_gain": total(shown_BC2[..., 1]),
        }
        return Loss({"preferences": term}, measures)

    def _loss(self, margin_BC: Array) -> Array:
        if self.form == "ipo":
            return jnp.square(margin_BC - 1.0 / (2.0 * self.beta))
        if self.form == "orpo":
            return -self.beta * jax.nn.log_sigmoid(margin_BC)
        logit_BC = self.beta * margin_BC - self.margin
        share = self.label_smoothing
        return -(1.0 - share) * jax.nn.log_sigmoid(logit_BC) - share * jax.nn.log_sigmoid(-logit_BC)


def _log_odds(log_p: Array) -> Array:
    """log p - log (1 - p); of a certain answer that of the float below 1."""
    log_p = jnp.minimum(log_p, -jnp.finfo(jnp.float32).epsneg)
    return log_p - jnp.log(-jnp.expm1(log_p))


def _by_answer(values_BM: Array, asked: PreferenceTargets) -> Array:
    """[B, C, 2]: sums over the tokens of every answer, float32."""
    rows, pairs = asked.weights_BC.shape
    values_BM = jnp.where(asked.tokens.weights_BM > 0, values_BM, 0.0).astype(jnp.float32)
    number_BM = asked.answers_BM + 2 * pairs * jnp.arange(rows)[:, None]
    sums = jax.ops.segment_sum(values_BM.reshape(-1), number_BM.reshape(-1), num_segments=2 * pairs * rows)
    return sums.reshape(rows, pairs, 2)
