"""ALBERT-xxlarge v2: 12 times one block, 4096 wide, 64 heads (Lan et al., 2019); otherwise albert_base.py.

Command     python -m jaxlm.train --config=configs/albert_xxlarge.py --config.data.corpus=PATH_OR_GLOB
Parameters  223,158,450
Expect      with the published v2 data and 3M steps, average 90.9 of SQuAD 1.1 and 2.0, MNLI 90.6, SST-2 and RACE (dev)
Hardware    64 to 512 TPU v3 chips when published, 32 hours; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """albert_base.py with another shape."""
    run = jaxlm.load_recipe("albert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 4096, 12, 64, 16384
    return run
