"""GPT-2 XL (1.6B): 48 layers, 1600 wide, 25 heads (Radford et al., 2019); otherwise the recipe of gpt2_small.py.

Command     python -m jaxlm.train --config=configs/gpt2_xl.py --config.data.corpus=PATH_OR_GLOB
Parameters  1,557,611,200
Source      peak rate of the GPT-3 of that size (Brown et al., 2005.14165, table 2.1); GPT-2's own was never published
Expect      OpenAI's weights, zero-shot: LAMBADA accuracy 63.24 %, WikiText-103 perplexity 17.48
Hardware    not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.partition.mesh import Mesh


def get_config() -> Run:
    """gpt2_small.py with another shape and rate."""
    run = jaxlm.load_recipe("gpt2_small")
    run.model.layers, run.model.hidden = 48, 1600
    run.model.heads, run.model.mlp = 25, 6400
    run.optimizer.schedule.peak, run.optimizer.schedule.end = 2e-4, 2e-5
    run.model.remat = "block"
    run.mesh = Mesh(data=1, fsdp=-1)
    return run
