"""Llama-13B: 40 layers, 5120 wide, 1.0e12 tokens (Touvron et al., 2302.13971); otherwise llama_7b.py.

Command     python -m jaxlm.train --config=configs/llama_13b.py --config.data.corpus=PATH_OR_GLOB
Parameters  13,015,864,320
Expect      with the published data, MMLU 46.9 (5-shot), HellaSwag 79.2 (0-shot)
Hardware    135,168 A100-80 hours when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """llama_7b.py with another shape."""
    run = jaxlm.load_recipe("llama_7b")
    run.model.layers, run.model.hidden = 40, 5120
    run.model.heads, run.model.kv_heads, run.model.mlp = 40, 40, 13_824
    return run
