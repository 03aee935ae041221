"""T5 1.1 small: 8 + 8 layers, 512 wide, 6 heads of 64 (T5 1.1 release notes); otherwise t5_v1_1_base.py.

Command     python -m jaxlm.train --config=configs/t5_v1_1_small.py --config.data.corpus=PATH_OR_GLOB
Parameters  76,961,152
Expect      no held-out loss was published for this size
Hardware    slices of TPU v3 pods when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """t5_v1_1_base.py with another shape."""
    run = jaxlm.load_recipe("t5_v1_1_base")
    run.model.hidden, run.model.encoder_layers, run.model.decoder_layers = 512, 8, 8
    run.model.heads, run.model.head_dim, run.model.mlp = 6, 64, 1024
    return run
