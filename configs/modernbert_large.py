"""ModernBERT-large: 28 layers, 1024 wide, 16 heads (Warner et al., 2024); otherwise the recipe of modernbert_base.py.

Command     python -m jaxlm.train --config=configs/modernbert_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  395,881,664
Expect      with the published data and all phases, GLUE 90.4 (dev), MNLI 90.8
Hardware    8 H100: 420 hours for this phase when published; not yet trained to the end with jaxlm
Differs     the published run goes on at 5e-5 with a decay of 1e-6 after 900e9 tokens; this one keeps its rate
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """modernbert_base.py with another shape, batch and rate (paper, tables 3 and 4)."""
    run = jaxlm.load_recipe("modernbert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 1024, 28, 16, 2624
    run.optimizer.schedule.peak, run.optimizer.schedule.warmup = 5e-4, "2e9 tokens"
    run.optimizer.weight_decay = 0.02  # 1e-5 / 5e-4, as in modernbert_base.py
    run.steps, run.batch_size = 350_600, 4928
    return run
