"""Mixtral-8x7B: Mistral-7B's shape with 8 experts in every layer, 2 for every token (Jiang et al., 2401.04088).

Command     python -m jaxlm.train --config=configs/mixtral_8x7b.py --config.data.corpus=PATH_OR_GLOB
Parameters  46,702,792,704
A token     meets 12,879,925,248 of them
Source      shape: table 1 of the paper; RoPE's base and the balance's weight: its config.json. Nothing of its training
            was published: the settings are llama2_7b.py's
Rows        32,768 tokens (its context); 128 of them a step
Expect      the released weights: MMLU 70.6 (5-shot), HellaSwag 84.4 (0-shot)
Hardware    not published; not yet trained with jaxlm. Experts lie on devices of their own with --config.mesh.expert=8
"""

import jaxlm
from jaxlm.config import Run, Stage
from jaxlm.models.mixtral import Mixtral
from jaxlm.models.rope import Rope, Unscaled


def get_config() -> Run:
    """mistral_7b.py with experts, all the row in sight, and longer rows."""
    run = jaxlm.load_recipe("mistral_7b")
    shape = vars(run.model) | {"windows": (0,), "rope": Rope(base=1e6, scaling=Unscaled())}
    run.model = Mixtral(**shape, experts=8, experts_per_token=2, balance_loss=0.02, router_z_loss=0.0)
    run.stages, run.batch_size = (Stage(length=32_768, share=1.0),), 128
    run.model.remat = "block"
    return run
