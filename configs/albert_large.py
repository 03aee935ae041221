"""ALBERT-large v2: 24 times one block, 1024 wide, 16 heads (Lan et al., 2019); otherwise albert_base.py.

Command     python -m jaxlm.train --config=configs/albert_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  17,847,474
Expect      with the published v2 data and 3M steps, average 85.7 of SQuAD 1.1 and 2.0, MNLI 86.5, SST-2 and RACE (dev)
Hardware    64 to 512 TPU v3 chips when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """albert_base.py with another shape."""
    run = jaxlm.load_recipe("albert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 1024, 24, 16, 4096
    return run
