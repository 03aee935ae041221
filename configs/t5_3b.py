"""T5-3B: 24 + 24 layers, 1024 wide, 32 heads of 128 (Raffel et al., 1910.10683); otherwise the recipe of t5_base.py.

Command     python -m jaxlm.train --config=configs/t5_3b.py --config.data.corpus=PATH_OR_GLOB
Parameters  2,851,598,336
Expect      the released weights (1e12 tokens of C4 and of the tasks): GLUE 88.5 (test, fine-tuned)
Hardware    slices of TPU v3 pods when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """t5_base.py with another shape."""
    run = jaxlm.load_recipe("t5_base")
    run.model.hidden, run.model.encoder_layers, run.model.decoder_layers = 1024, 24, 24
    run.model.heads, run.model.head_dim, run.model.mlp = 32, 128, 16384
    return run
