"""How alike two texts are: fine-tunes an encoder so that the cosine of two vectors follows scores that people gave.

Command     python -m jaxlm.train --config=configs/similarity.py --config.init_from=hf:DIR
            --config.data.corpus=FILE
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            encoder of quickstart.py begins from nothing, or with what runs/quickstart learnt where that is
            FILE: a table with the columns sentence1, sentence2 and score, from 0 to 5. Others:
            "--config.data.text_fields=('a', 'b')", --config.objective.column=NAME with
            "--config.data.columns=(Number(field='NAME'),)", --config.objective.lowest=1 --config.objective.highest=7
            Both texts in one row instead (a cross-encoder): "--config.objective=Regression(column='score', texts=2,
            pooling='own', max_tokens=124, items_per_row=4)"
Parameters  1,858,560
Data        builtin:pydocs_alike: paragraphs of one docstring (5), of neighbours (2.5) and of others (0)
Expect      from nothing, on the built-in data: held-out Pearson 0.530 (the share of common words: 0.17);
            all-MiniLM-L6-v2 on 3,769 pairs of STS-B, 120 steps of 16 rows: Pearson 0.888 (0.867 to 0.906), Spearman
            0.873 on 418 others; its cosine before that: 0.854, 0.828
Rows        of 128 tokens, up to 8 pairs each, which do not see each other
Hardware    two CPU cores: 1 min 47 s of CPU time from nothing; 5 min 25 s for MiniLM, with others on them (2026-11-26)
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.data.corpus.columns import Number
from jaxlm.exchange import starting
from jaxlm.objectives.similarity import Similarity
from jaxlm.tasks.evaluator import TaskMetrics


def get_config(start: str = "") -> Run:
    """As classification.py, with a vector for each of two texts."""
    run = jaxlm.load_recipe(f"classification:{start}" if start else "classification")
    run.objective = Similarity(
        column="score", pooling="mean", lowest=0.0, highest=5.0, max_tokens=62, items_per_row=8
    )
    run.data.corpus, run.data.text_fields = "builtin:pydocs_alike", ("sentence1", "sentence2")
    run.data.columns = (Number(field="score"),)
    run.evaluators = (TaskMetrics(rows=1000),)
    run.checkpoint.keep.best_metric = "eval/pearson"
    return starting.narrowed(run)
