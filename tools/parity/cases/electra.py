"""ELECTRA's discriminator and generator, with and without a projection of the embeddings."""

import dataclasses
from typing import Any

import jax
import numpy as np
import torch

from jaxlm.batch import Batch
from jaxlm.models.electra import ElectraEncoder
from jaxlm.objectives.targets import TokenTargets
from tools.parity.case import Case
from tools.parity.kinds import Masked

DISCRIMINATOR = ElectraEncoder(
    vocab_size=101,
    embedding=10,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
)
# The key's bias shifts all scores of a query alike.
ROUNDING = r"key\.bias$"
NOTE = "the gradient of the key's bias is zero but for rounding: below 1e-5 absolutely"


class Detected(Masked):
    """Every real token is a target: 1 where it was replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = ("replaced",)

    def batch(self, vocab_size: int) -> Batch:
        """Masked's rows, with a class at every position."""
        row = super().batch(vocab_size)
        real = row.segments_BT > 0
        replaced = np.random.default_rng(2).random(real.shape) < 0.3
        targets = TokenTargets(ids_BM=(replaced & real).astype(np.int32), weights_BM=real.astype(np.float32))
        return dataclasses.replace(row, targets=targets)

    def ours(self, module: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """Mean over all real tokens of the binary cross-entropy."""
        logits_BT = module.detect(module.encode(batch, None).x_BTD)
        nats_BT = jax.nn.softplus(logits_BT) - batch.targets.ids_BM * logits_BT
        real_BT = batch.segments_BT > 0
        return (nats_BT * real_BT).sum() / real_BT.sum(), {"logits": logits_BT}

    def theirs(self, model: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """The model's own loss."""
        whole = lambda array: torch.tensor(array).long()
        out = model(
            input_ids=whole(batch.tokens_BT),
            attention_mask=whole(batch.segments_BT),
            token_type_ids=whole(batch.types_BT),
            labels=whole(batch.targets.ids_BM),
        )
        return out.loss, {"logits": out.logits}


CASES = [
    Case(
        name="ELECTRA, discriminator",
        config=DISCRIMINATOR,
        kind=Detected(),
        rounding=ROUNDING,
        note=NOTE,
    ),
    Case(
        name="ELECTRA, generator",
        config=dataclasses.replace(DISCRIMINATOR, embedding=36),
        kind=Masked(),
        rounding=ROUNDING,
        note=NOTE,
    ),
]
