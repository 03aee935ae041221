"""T5-large: 24 + 24 layers, 1024 wide, 16 heads of 64 (Raffel et al., 1910.10683); otherwise the recipe of t5_base.py.

Command     python -m jaxlm.train --config=configs/t5_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  737,668,096
Expect      the released weights (1e12 tokens of C4 and of the tasks): GLUE 86.4 (test, fine-tuned)
Hardware    slices of TPU v3 pods when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """t5_base.py with another shape."""
    run = jaxlm.load_recipe("t5_base")
    run.model.hidden, run.model.encoder_layers, run.model.decoder_layers = 1024, 24, 24
    run.model.heads, run.model.head_dim, run.model.mlp = 16, 64, 4096
    return run
