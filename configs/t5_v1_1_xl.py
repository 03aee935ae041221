"""T5 1.1 XL (3B): 24 + 24 layers, 2048 wide, 32 heads of 64 (T5 1.1 release notes); otherwise t5_v1_1_base.py.

Command     python -m jaxlm.train --config=configs/t5_v1_1_xl.py --config.data.corpus=PATH_OR_GLOB
Parameters  2,849,757,184
Expect      no held-out loss was published for this size
Hardware    slices of TPU v3 pods when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """t5_v1_1_base.py with another shape."""
    run = jaxlm.load_recipe("t5_v1_1_base")
    run.model.hidden, run.model.encoder_layers, run.model.decoder_layers = 2048, 24, 24
    run.model.heads, run.model.head_dim, run.model.mlp = 32, 64, 5120
    return run
