"""The Transformer, big model: 1024 wide, 16 heads, dropout 0.3 (Vaswani et al., 1706.03762); else transformer_base.py.

Command     python -m jaxlm.train --config=configs/transformer_big.py --config.data.corpus=PAIRS.tsv
Parameters  214,245,376
Expect      BLEU 28.4 on newstest2014 English-German; English-French, with --config.model.dropout=0.1 and 32,000
            tokens: 41.8
Hardware    3.5 days on 8 P100 when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.optim.schedules import InverseSquareRoot


def get_config() -> Run:
    """transformer_base.py with another shape, and the rate that follows from it."""
    run = jaxlm.load_recipe("transformer_base")
    run.model.hidden, run.model.heads, run.model.mlp, run.model.dropout = 1024, 16, 4096, 0.3
    run.optimizer.schedule = InverseSquareRoot(peak=1024**-0.5 * 4000**-0.5, warmup="4000 steps")
    run.steps = 300_000
    return run
