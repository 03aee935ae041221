"""A BERT of another's making: a soft gate over a few experts in every block, which are asked to be used alike."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.config import Run, Stage
from jaxlm.models import masks, parameters, post_norm, stack
from jaxlm.models.bert import Bert, BertModule
from jaxlm.models.dense import dense
from jaxlm.models.encoded import Extras
from tests.recipes import tiny


@dataclasses.dataclass(kw_only=True)
class Balanced(Bert):
    """BERT with `experts` vectors, mixed by a gate and added to the features after every block."""

    experts: int
    balance: float  # of the term E * sum of squared shares, which is 1 where all experts are used alike

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "BalancedModule":
        return BalancedModule(self, rngs, dtype)


class Block(post_norm.Block):
    """A post-norm block, then the gate; returns (x_BTD, Extras)."""

    def __init__(self, c: Balanced, rngs: nnx.Rngs, dtype: jnp.dtype):
        super().__init__(c, rngs, dtype)
        self.balance = c.balance
        self.w_gate = parameters.weight(rngs, (c.hidden, c.experts), ("embed", None), 1.0)
        self.w_experts = parameters.weight(rngs, (c.experts, c.hidden), (None, "embed"), c.init_scale)

    def __call__(self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None) -> Any:
        x_BTD = super().__call__(x_BTD, mask, key)
        gate_BTE = jax.nn.softmax(dense(x_BTD, self.w_gate[...].astype(x_BTD.dtype)).astype(jnp.float32))
        share_E = gate_BTE.mean((0, 1))
        term = self.balance * len(share_E) * (share_E**2).sum()
        mixed_BTD = dense(gate_BTE.astype(x_BTD.dtype), self.w_experts[...].astype(x_BTD.dtype))
        return x_BTD + mixed_BTD, Extras(terms={"balance": (term, jnp.ones(()))})


class BalancedModule(BertModule):
    def __init__(self, c: Balanced, rngs: nnx.Rngs, dtype: jnp.dtype):
        super().__init__(c, rngs, dtype)
        self.blocks = stack.stacked(lambda r: Block(c, r, dtype), c.layers, rngs)


def get_config() -> Run:
    """As tiny, in 8 steps of one stage."""
    run = tiny.get_config()
    run.model = Balanced(**vars(run.model), experts=3, balance=0.1)
    run.stages = (Stage(length=32, share=1.0),)
    run.steps, run.evaluation.every_steps, run.evaluation.rows = 8, 4, 8
    run.checkpoint.every_steps, run.logging.every_steps = 3, 1
    return run
