"""ALBERT-xlarge v2: 24 times one block, 2048 wide, 16 heads (Lan et al., 2019); otherwise albert_base.py.

Command     python -m jaxlm.train --config=configs/albert_xlarge.py --config.data.corpus=PATH_OR_GLOB
Parameters  59,021,490
Expect      with the published v2 data and 3M steps, average 87.9 of SQuAD 1.1 and 2.0, MNLI 87.9, SST-2 and RACE (dev)
Hardware    64 to 512 TPU v3 chips when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """albert_base.py with another shape."""
    run = jaxlm.load_recipe("albert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 2048, 24, 16, 8192
    return run
