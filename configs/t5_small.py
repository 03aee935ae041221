"""T5-small: 6 + 6 layers, 512 wide, 8 heads of 64 (Raffel et al., 1910.10683); otherwise the recipe of t5_base.py.

Command     python -m jaxlm.train --config=configs/t5_small.py --config.data.corpus=PATH_OR_GLOB
Parameters  60,506,624
Expect      the released weights (1e12 tokens of C4 and of the tasks): GLUE 77.4 (test, fine-tuned)
Hardware    slices of TPU v3 pods when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """t5_base.py with another shape."""
    run = jaxlm.load_recipe("t5_base")
    run.model.hidden, run.model.encoder_layers, run.model.decoder_layers = 512, 6, 6
    run.model.heads, run.model.head_dim, run.model.mlp = 8, 64, 2048
    return run
