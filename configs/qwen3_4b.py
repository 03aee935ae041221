"""Qwen3-4B: 36 layers, 2560 wide, 32 heads of 128 on 8, tied (Qwen team, 2505.09388); otherwise qwen3_8b.py.

Command     python -m jaxlm.train --config=configs/qwen3_4b.py --config.data.corpus=PATH_OR_GLOB
Parameters  4,022,468,096
Expect      the released base weights: MMLU 72.99 (5-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """qwen3_8b.py with another shape."""
    run = jaxlm.load_recipe("qwen3_8b")
    run.model.layers, run.model.hidden, run.model.mlp = 36, 2560, 9728
    run.model.heads, run.model.embeddings = 32, "tied"
    return run
