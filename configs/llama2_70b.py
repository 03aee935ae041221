"""Llama-2-70B: 80 layers, 8192 wide, 64 heads on 8 (Touvron et al., 2307.09288); otherwise the recipe of llama2_7b.py.

Command     python -m jaxlm.train --config=configs/llama2_70b.py --config.data.corpus=PATH_OR_GLOB
Parameters  68,976,648,192
Expect      with the published data, MMLU 68.9 (5-shot), HellaSwag 85.3 (0-shot)
Hardware    1,720,320 A100-80 hours when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """llama2_7b.py with another shape and rate."""
    run = jaxlm.load_recipe("llama2_7b")
    run.model.layers, run.model.hidden = 80, 8192
    run.model.heads, run.model.kv_heads, run.model.mlp = 64, 8, 28_672
    run.optimizer.schedule.peak, run.optimizer.schedule.end = 1.5e-4, 1.5e-5
    return run
