"""Llama-65B: 80 layers, 8192 wide, 1.4e12 tokens, rate 1.5e-4 (Touvron et al., 2302.13971); otherwise llama_7b.py.

Command     python -m jaxlm.train --config=configs/llama_65b.py --config.data.corpus=PATH_OR_GLOB
Parameters  65,285,660,672
Expect      with the published data, MMLU 63.4 (5-shot), HellaSwag 84.2 (0-shot)
Hardware    1,022,362 A100-80 hours when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """llama_7b.py with another shape and a longer run."""
    run = jaxlm.load_recipe("llama_7b")
    run.model.layers, run.model.hidden = 80, 8192
    run.model.heads, run.model.kv_heads, run.model.mlp = 64, 64, 22_016
    run.model.norm_epsilon = 1e-5
    run.optimizer.schedule.peak, run.optimizer.schedule.end = 1.5e-4, 1.5e-5
    run.steps = 333_786
    return run
