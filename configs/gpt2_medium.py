"""GPT-2 medium (355M): 24 layers, 1024 wide, 16 heads (Radford et al., 2019); otherwise the recipe of gpt2_small.py.

Command     python -m jaxlm.train --config=configs/gpt2_medium.py --config.data.corpus=PATH_OR_GLOB
Parameters  354,823,168
Source      peak rate of the GPT-3 of that size (Brown et al., 2005.14165, table 2.1); GPT-2's own was never published
Expect      OpenAI's weights, zero-shot: LAMBADA accuracy 55.48 %, WikiText-103 perplexity 26.37
Hardware    not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """gpt2_small.py with another shape and rate."""
    run = jaxlm.load_recipe("gpt2_small")
    run.model.layers, run.model.hidden = 24, 1024
    run.model.heads, run.model.mlp = 16, 4096
    run.optimizer.schedule.peak, run.optimizer.schedule.end = 3e-4, 3e-5
    return run
