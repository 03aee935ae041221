"""Sentence embeddings from nothing on the corpus of quickstart.py: minutes on two CPU cores, no download.

Command     python -m jaxlm.train --config=configs/quickstart_embeddings.py
Parameters  0
Data        builtin:pydocs, about 13 MB of technical English; the tokenizer is trained on it
Expect      TODO
Hardware    TODO
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.objectives.contrastive import DropoutContrastive
from jaxlm.objectives.multi_task import MultiTask, Task


def get_config() -> Run:
    """quickstart.py's encoder on two tasks."""
    run = jaxlm.load_recipe("quickstart")
    run.model.dropout = 0.1
    sentences = DropoutContrastive(
        temperature=0.05, pooling="mean", max_tokens=30, items_per_row=4, text="sentences"
    )
    run.objective = MultiTask(
        tasks=(
            Task(name="words", objective=run.objective, weight=1.0, rows=24),
            Task(name="sentences", objective=sentences, weight=0.2, rows=16),
        )
    )
    run.batch_size = 40
    run.steps = 700
    run.checkpoint.keep.best_metric = "eval/words/mlm_loss"
    run.fill = ()
    return run
