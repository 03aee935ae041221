"""Llama-33B: 60 layers, 6656 wide, 1.4e12 tokens, rate 1.5e-4 (Touvron et al., 2302.13971); otherwise llama_7b.py.

Command     python -m jaxlm.train --config=configs/llama_30b.py --config.data.corpus=PATH_OR_GLOB
Parameters  32,528,943,616
Expect      with the published data, MMLU 57.8 (5-shot), HellaSwag 82.8 (0-shot)
Hardware    530,432 A100-80 hours when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """llama_7b.py with another shape and a longer run."""
    run = jaxlm.load_recipe("llama_7b")
    run.model.layers, run.model.hidden = 60, 6656
    run.model.heads, run.model.kv_heads, run.model.mlp = 52, 52, 17_920
    run.optimizer.schedule.peak, run.optimizer.schedule.end = 1.5e-4, 1.5e-5
    run.steps = 333_786
    return run
