"""Llama-3-70B: 80 layers, 8192 wide, 64 heads on 8, rate 1.5e-4 (Meta, 2407.21783); otherwise llama3_8b.py.

Command     python -m jaxlm.train --config=configs/llama3_70b.py --config.data.corpus=PATH_OR_GLOB
Parameters  70,553,706,496
Expect      with the published data, MMLU 79.5 (5-shot)
Hardware    6.4M H100-80 hours when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """llama3_8b.py with another shape and rate."""
    run = jaxlm.load_recipe("llama3_8b")
    run.model.layers, run.model.hidden = 80, 8192
    run.model.heads, run.model.mlp = 64, 28_672
    run.optimizer.schedule.peak, run.optimizer.schedule.end = 1.5e-4, 1.5e-6
    return run
