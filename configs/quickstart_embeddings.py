"""Sentence embeddings from nothing on the corpus of quickstart.py: minutes on two CPU cores, no download.

Command     python -m jaxlm.train --config=configs/quickstart_embeddings.py
Parameters  1,857,920
Data        builtin:pydocs, about 13 MB of technical English; the tokenizer is trained on it
Expect      TODO
Hardware    TODO
Why         TODO
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.objectives.contrastive import DropoutContrastive
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """quickstart.py's encoder with two layers; every sentence is drawn to itself under another dropout."""
    run = jaxlm.load_recipe("quickstart")
    run.model.layers, run.model.dropout = 2, 0.1
    run.objective = DropoutContrastive(
        temperature=0.05, pooling="mean", max_tokens=30, items_per_row=4, text="sentences"
    )
    run.optimizer.schedule = WarmupLinear(peak=5e-3, warmup="10%", end=0.0)
    run.optimizer.rest_schedule = WarmupLinear(peak=1e-3, warmup="10%", end=0.0)
    run.steps, run.fill = 400, ()
    run.evaluation.every_steps, run.evaluation.rows = 100, 512
    run.checkpoint.every_steps = 100
    return run
