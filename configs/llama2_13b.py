"""Llama-2-13B: 40 layers, 5120 wide, 40 heads (Touvron et al., 2307.09288); otherwise the recipe of llama2_7b.py.

Command     python -m jaxlm.train --config=configs/llama2_13b.py --config.data.corpus=PATH_OR_GLOB
Parameters  13,015,864,320
Expect      with the published data, MMLU 54.8 (5-shot), HellaSwag 80.7 (0-shot)
Hardware    368,640 A100-80 hours when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """llama2_7b.py with another shape."""
    run = jaxlm.load_recipe("llama2_7b")
    run.model.layers, run.model.hidden = 40, 5120
    run.model.heads, run.model.kv_heads, run.model.mlp = 40, 40, 13_824
    return run
