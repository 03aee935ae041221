"""Qwen3-0.6B: 28 layers, 1024 wide, 16 heads of 128 on 8, tied (Qwen team, 2505.09388); otherwise qwen3_8b.py.

Command     python -m jaxlm.train --config=configs/qwen3_0_6b.py --config.data.corpus=PATH_OR_GLOB
Parameters  596,049,920
Expect      the released base weights: MMLU 52.81 (5-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """qwen3_8b.py with another shape."""
    run = jaxlm.load_recipe("qwen3_8b")
    run.model.layers, run.model.hidden, run.model.mlp = 28, 1024, 3072
    run.model.heads, run.model.embeddings = 16, "tied"
    return run
