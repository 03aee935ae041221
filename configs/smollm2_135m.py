"""SmolLM2-135M: 30 layers, 576 wide, 9 heads on 3, 2e12 tokens at 3e-3 (2502.02737); otherwise smollm2_1_7b.py.

Command     python -m jaxlm.train --config=configs/smollm2_135m.py --config.data.corpus=PATH_OR_GLOB
Parameters  134,515,008
Rows        2,048 tokens; 512 of them a step (1M tokens), as in the run file of SmolLM
Expect      with the published data, HellaSwag 42.1, ARC (mean) 43.9, PIQA 68.4
Hardware    64 H100 when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.optim.schedules import WarmupStableDecay
from jaxlm.partition.mesh import Mesh


def get_config() -> Run:
    """smollm2_1_7b.py with another shape, rate and length."""
    run = jaxlm.load_recipe("smollm2_1_7b")
    run.model.layers, run.model.hidden, run.model.mlp = 30, 576, 1536
    run.model.heads, run.model.kv_heads = 9, 3
    run.model.rope.base, run.model.remat = 100_000.0, "none"
    run.model.init_scale = 1 / 24  # 1 / sqrt(hidden), as in its config.json
    run.optimizer.schedule = WarmupStableDecay(
        peak=3e-3, warmup="2000 steps", end=0.0, decay="20%", shape="linear"
    )
    run.mesh = Mesh()
    run.batch_size, run.steps = 512, 2_000_000
    return run
