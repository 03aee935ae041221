"""ELECTRA-large: 24 layers, 1024 wide, a generator of a quarter of it (Clark et al., 2020); else electra_base.py.

Command     python -m jaxlm.train --config=configs/electra_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  354,655,291
Expect      with XLNet's data (33e9 tokens), GLUE 89.0 (dev) after 400k steps; released weights: MNLI 90.9
Hardware    not published as time; a quarter of RoBERTa-large's compute; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """electra_base.py with another shape, batch and masking rate (paper, table 6)."""
    run = jaxlm.load_recipe("electra_base")
    model = run.model
    model.embedding, model.hidden, model.layers, model.heads, model.mlp = 1024, 1024, 24, 16, 4096
    model.generator_hidden, model.generator_layers, model.generator_heads, model.generator_mlp = (
        256,
        24,
        4,
        1024,
    )
    run.objective.masked_lm.rate = 0.25
    run.steps, run.batch_size = 400_000, 2048
    return run
