"""Mixtral, whose loss has the balance of its experts in it, and what it becomes with one expert or all of them."""

import dataclasses

from jaxlm.models.mixtral import Mixtral
from tools.parity.case import Case
from tools.parity.cases.llama import LLAMA
from tools.parity.kinds import Causal

MIXTRAL = Mixtral(**vars(LLAMA), experts=5, experts_per_token=2, balance_loss=0.7, router_z_loss=0.0)


def _case(name: str, **changes: object) -> Case:
    config = dataclasses.replace(MIXTRAL, **changes)  # type: ignore[arg-type]
    extra = {"bos_token_id": 1, "eos_token_id": 2, "output_router_logits": config.balance_loss > 0}
    return Case(name=name, config=config, kind=Causal(), extra=extra)


CASES = [
    _case("Mixtral"),
    # The gate of one expert is 1: its router learns from the balance alone.
    _case(
        "Mixtral, one expert of three, window",
        experts=3,
        experts_per_token=1,
        windows=(4,),
        embeddings="tied",
    ),
    _case("Mixtral, three of four, no balance", experts=4, experts_per_token=3, balance_loss=0.0),
]
