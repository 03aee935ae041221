"""Llama-3.2-3B: 28 layers, 3072 wide, 24 heads on 8 key/value heads, tied, 128k positions; otherwise llama3_2_1b.py.

Command     python -m jaxlm.train --config=configs/llama3_2_3b.py --config.data.corpus=PATH_OR_GLOB
Parameters  3,212,749,824
Expect      the released weights: MMLU 58.0 (5-shot)
Hardware    460,000 H100-80 hours when published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """llama3_2_1b.py with another shape."""
    run = jaxlm.load_recipe("llama3_2_1b")
    run.model.layers, run.model.hidden, run.model.mlp = 28, 3072, 8192
    run.model.heads, run.model.head_dim = 24, 128
    return run
