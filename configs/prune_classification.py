"""A classifier that loses four fifths of its matrices' weights while it is fine-tuned: those that move towards 0.

Command     python -m jaxlm.train --config=configs/prune_classification.py --config.init_from=hf:DIR
            --config.data.corpus=FILE
            init_from, columns and texts as in classification.py. More or fewer: --config.view[0].share=0.9; the
            smallest in place of those that move towards 0: --config.view[0].by=magnitude. The more go, the more
            epochs it takes (published: 10 for nine tenths): --config.epochs=6. What is written, and how it is trained
            on with its zeros: docs/compression.md
Parameters  1,875,072
Data        builtin:pydocs with its label: which of 12 packages a docstring is from
Expect      exactly 80 % of each matrix of attention and MLP is 0 (tests/test_pruned_run.py); what that costs in
            accuracy was not measured here
Rows        of 128 tokens, up to 8 texts each, which do not see each other
Hardware    as classification.py; a score beside each weight of a matrix doubles their memory and that of their moments
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.views import Movement
from jaxlm.views.beside import MATRICES


def get_config(start: str = "") -> Run:
    """Movement pruning (Sanh et al., 2005.07683) by the schedule of Zhu and Gupta (1710.01878)."""
    run = jaxlm.load_recipe(f"classification:{start}" if start else "classification")
    run.view = (Movement(weights=MATRICES, share=0.8, by="movement", begin=0.1, end=0.7),)
    run.ema_decay, run.average_from = 0.0, ""  # an average of the weights would have fewer zeros
    return run
