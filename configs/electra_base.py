"""ELECTRA-base: 12 layers, 768 wide, with a generator of a third of it (Clark et al., 2020); else electra_small.py.

Command     python -m jaxlm.train --config=configs/electra_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  119,386,427
Expect      with the published data (Wikipedia + books), GLUE 85.1 (dev); released weights: MNLI 88.8
Hardware    4 days on 16 TPU v3 chips when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run, Stage


def get_config() -> Run:
    """electra_small.py with another shape, longer rows, batch and rate (paper, table 6)."""
    run = jaxlm.load_recipe("electra_small")
    model = run.model
    model.embedding, model.hidden, model.heads, model.mlp = 768, 768, 12, 3072
    model.generator_hidden, model.generator_heads, model.generator_mlp = 256, 4, 1024
    run.optimizer.schedule.peak = 2e-4
    run.stages = (Stage(length=512, share=1.0),)
    run.steps, run.batch_size = 766_000, 256
    return run
