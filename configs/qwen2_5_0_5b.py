"""Qwen2.5-0.5B: 24 layers, 896 wide, 14 heads on 2, tied (Qwen team, 2412.15115); otherwise qwen2_5_7b.py.

Command     python -m jaxlm.train --config=configs/qwen2_5_0_5b.py --config.data.corpus=PATH_OR_GLOB
Parameters  494,032,768
Expect      the released weights: MMLU 47.5 (5-shot), HellaSwag 52.1 (10-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """qwen2_5_7b.py with another shape."""
    run = jaxlm.load_recipe("qwen2_5_7b")
    run.model.vocab_size, run.model.embeddings = 151_936, "tied"
    run.model.layers, run.model.hidden, run.model.mlp = 24, 896, 4864
    run.model.heads, run.model.kv_heads, run.model.head_dim = 14, 2, 64
    run.model.max_positions = 32_768
    return run
