"""Qwen2.5-1.5B: 28 layers, 1536 wide, 12 heads on 2, tied (Qwen team, 2412.15115); otherwise qwen2_5_7b.py.

Command     python -m jaxlm.train --config=configs/qwen2_5_1_5b.py --config.data.corpus=PATH_OR_GLOB
Parameters  1,543,714,304
Expect      the released weights: MMLU 60.9 (5-shot), HellaSwag 67.9 (10-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """qwen2_5_7b.py with another shape."""
    run = jaxlm.load_recipe("qwen2_5_7b")
    run.model.vocab_size, run.model.embeddings = 151_936, "tied"
    run.model.layers, run.model.hidden, run.model.mlp = 28, 1536, 8960
    run.model.heads, run.model.kv_heads, run.model.head_dim = 12, 2, 128
    run.model.max_positions = 131_072
    return run
