"""BERT-base on three tasks at once, over two corpora: masked LM, sentence order and contrastive sentences.

Command     python -m jaxlm.train --config=configs/bert_multi_task.py --config.data.corpus=PATH_OR_GLOB \\
                --config.objective.tasks[2].data.corpus=OTHER_PATH_OR_GLOB
Parameters  110,106,428
Data        the built-in corpus for all tasks by default, which is far too small: bring your own. The tokenizer is
            trained on the main corpus, which the first two tasks read; the third reads its own
Tasks       words: masked LM, 160 of 256 rows a step; order: masked LM and sentence order, 64 rows; sentences: SimCSE
            of every sentence, 32 rows of up to 8. Rows share out the compute, `weight` what a task counts in the loss
Expect      an example of how tasks are put together, not a published recipe: no result to compare with
Hardware    as bert_base.py
"""

import jaxlm
from jaxlm.config import Data, Run, Stage
from jaxlm.objectives.contrastive import DropoutContrastive
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.objectives.sentence_order import SentenceOrder
from jaxlm.objectives.units import Tokens


def get_config() -> Run:
    """bert_base.py with three tasks and rows of 128 tokens."""
    run = jaxlm.load_recipe("bert_base")
    masked = MaskedLM(rate=0.15, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
    order = SentenceOrder(
        masked_lm=masked, short_share=0.1, swapped_share=0.5, duplicates=10, pairs_per_row=8
    )
    # "mean", as the pooler answers the question about order
    sentences = DropoutContrastive(
        temperature=0.05, pooling="mean", max_tokens=62, items_per_row=8, text="sentences"
    )
    own = Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.01, test_share=0.0)
    run.objective = MultiTask(
        tasks=(
            Task(name="words", objective=masked, weight=1.0, rows=160),
            Task(name="order", objective=order, weight=1.0, rows=64),
            Task(name="sentences", objective=sentences, weight=0.1, rows=32, data=own),
        )
    )
    run.stages = (Stage(length=128, share=1.0),)
    run.checkpoint.keep.best_metric = "eval/words/mlm_loss"
    return run
