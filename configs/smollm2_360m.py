"""SmolLM2-360M: 32 layers, 960 wide, 15 heads on 5, 4e12 tokens at 3e-3 (2502.02737); otherwise smollm2_1_7b.py.

Command     python -m jaxlm.train --config=configs/smollm2_360m.py --config.data.corpus=PATH_OR_GLOB
Parameters  361,821,120
Rows        2,048 tokens; 512 of them a step (1M tokens), as in the run file of SmolLM
Expect      with the published data, HellaSwag 54.5, ARC (mean) 53.0, PIQA 71.7
Hardware    64 H100 when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.optim.schedules import WarmupStableDecay
from jaxlm.partition.mesh import Mesh


def get_config() -> Run:
    """smollm2_1_7b.py with another shape, rate and length."""
    run = jaxlm.load_recipe("smollm2_1_7b")
    run.model.layers, run.model.hidden, run.model.mlp = 32, 960, 2560
    run.model.heads, run.model.kv_heads = 15, 5
    run.model.rope.base, run.model.remat = 100_000.0, "none"
    run.optimizer.schedule = WarmupStableDecay(
        peak=3e-3, warmup="2000 steps", end=0.0, decay="20%", shape="linear"
    )
    run.mesh = Mesh()
    run.batch_size, run.steps = 512, 3_814_697
    return run
