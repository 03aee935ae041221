"""Mistral-7B v0.1: 32 layers, 4096 wide, 8 key/value heads, a window of 4,096 tokens (Jiang et al., 2310.06825).

Command     python -m jaxlm.train --config=configs/mistral_7b.py --config.data.corpus=PATH_OR_GLOB
Parameters  7,241,732,096
Source      shape: table 1 of the paper. Nothing of its training was published: the settings are llama2_7b.py's
Rows        8,192 tokens (its context); 512 of them a step
Expect      the released weights: MMLU 60.1 (5-shot), HellaSwag 81.3 (0-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run, Stage


def get_config() -> Run:
    """llama2_7b.py with another shape and longer rows."""
    run = jaxlm.load_recipe("llama2_7b")
    run.model.kv_heads, run.model.mlp, run.model.windows = 8, 14_336, (4096,)
    run.model.max_positions = 32_768
    run.stages, run.batch_size = (Stage(length=8192, share=1.0),), 512
    return run
