"""RoBERTa-large: 24 layers, 1024 wide, 16 heads (Liu et al., 2019); otherwise the recipe of roberta_base.py.

Command     python -m jaxlm.train --config=configs/roberta_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  355,412,057
Expect      with the published data, GLUE 88.9 (dev, single task, mean of the eight), MNLI 90.2
Hardware    1,024 V100, about one day for 100k steps when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """roberta_base.py with another shape, and a lower peak after a longer warm-up (paper, table 9)."""
    run = jaxlm.load_recipe("roberta_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 1024, 24, 16, 4096
    run.optimizer.schedule.peak, run.optimizer.schedule.warmup = 4e-4, "30000 steps"
    return run
