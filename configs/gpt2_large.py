"""GPT-2 large (774M): 36 layers, 1280 wide, 20 heads (Radford et al., 2019); otherwise the recipe of gpt2_small.py.

Command     python -m jaxlm.train --config=configs/gpt2_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  774,030,080
Source      peak rate of the GPT-3 of that size (Brown et al., 2005.14165, table 2.1); GPT-2's own was never published
Expect      OpenAI's weights, zero-shot: LAMBADA accuracy 60.12 %, WikiText-103 perplexity 22.05
Hardware    not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """gpt2_small.py with another shape and rate."""
    run = jaxlm.load_recipe("gpt2_small")
    run.model.layers, run.model.hidden = 36, 1280
    run.model.heads, run.model.mlp = 20, 5120
    run.optimizer.schedule.peak, run.optimizer.schedule.end = 2.5e-4, 2.5e-5
    return run
