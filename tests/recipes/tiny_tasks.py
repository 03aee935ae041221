"""The multi-task run that tests use: masked LM, sentence order and contrastive texts, over one corpus or two."""

import dataclasses

import tiny

from jaxlm.config import Data, Run, Stage
from jaxlm.objectives.contrastive import DropoutContrastive
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.objectives.sentence_order import SentenceOrder


def get_config() -> Run:
    """Three tasks of 4 + 2 + 2 rows; `data.corpus`, the main one and the third task's, come from the command line."""
    run = tiny.get_config()
    run.model = dataclasses.replace(run.model, layers=1)
    run.stages = (Stage(length=32, share=1.0),)
    masked = run.objective
    order = SentenceOrder(masked_lm=masked, short_share=0.1, swapped_share=0.5, duplicates=2, pairs_per_row=3)
    texts = DropoutContrastive(
        temperature=0.05, pooling="cls_mlp", max_tokens=14, items_per_row=4, text="sentences"
    )
    own = Data(corpus="", packing="best_fit", validation_share=0.15, test_share=0.0)
    run.objective = MultiTask(
        tasks=(
            Task(name="words", objective=masked, weight=1.0, rows=4),
            Task(name="order", objective=order, weight=0.5, rows=2),
            Task(name="texts", objective=texts, weight=0.1, rows=2, data=own),
        )
    )
    run.checkpoint.keep.best_metric = "eval/words/mlm_loss"
    return run
