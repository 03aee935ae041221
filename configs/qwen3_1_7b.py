"""Qwen3-1.7B: 28 layers, 2048 wide, 16 heads of 128 on 8, tied (Qwen team, 2505.09388); otherwise qwen3_8b.py.

Command     python -m jaxlm.train --config=configs/qwen3_1_7b.py --config.data.corpus=PATH_OR_GLOB
Parameters  1,720,574,976
Expect      the released base weights: MMLU 62.63 (5-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """qwen3_8b.py with another shape."""
    run = jaxlm.load_recipe("qwen3_8b")
    run.model.layers, run.model.hidden, run.model.mlp = 28, 2048, 6144
    run.model.heads, run.model.embeddings = 16, "tied"
    return run
