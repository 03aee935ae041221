"""A tag for every word, such as names of people and places: fine-tunes an encoder on sentences of words with tags.

Command     python -m jaxlm.train --config=configs/tagging.py --config.init_from=hf:DIR --config.data.corpus=train.conll
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            encoder of quickstart.py begins from nothing, or with what runs/quickstart learnt where that is
            The corpus: .conll (a word and its tag a line), or .jsonl with {"tokens": [...], "tags": [...]}. Parts of
            speech: --config.objective.scheme=words and scheme="words" of the column, which is "upos" in a .conllu file
Parameters  1,858,689
Data        builtin:pydocs_words: which words of two described parameters are their names, and which their types
Expect      from nothing, on the built-in data: held-out F1 0.742 (every word's most frequent tag: 0.60);
            all-MiniLM-L6-v2 on 10,000 sentences of WikiAnn in English, 100 steps of 16 rows, rate 3e-4: F1 of entities
            0.738 (0.719 to 0.758) on 2,000 others
Rows        of 128 tokens, up to 16 sentences each, which do not see each other
Hardware    two CPU cores: 1 min 17 s of CPU time from nothing; 2 min 8 s for MiniLM (2026-11-26)
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.data.corpus.columns import Tags
from jaxlm.exchange import starting
from jaxlm.objectives.tagging import Tagging
from jaxlm.tasks.evaluator import TaskMetrics


def get_config(start: str = "") -> Run:
    """As classification.py, with a tag for every word."""
    run = jaxlm.load_recipe(f"classification:{start}" if start else "classification")
    run.objective = Tagging(column="tags", labels=(), scheme="bio", max_tokens=126, items_per_row=16)
    run.data.corpus, run.data.text_field = "builtin:pydocs_words", "tokens"
    run.data.columns = (Tags(field="tags", text="tokens", between=" ", scheme="bio"),)
    run.evaluators = (TaskMetrics(rows=1000),)
    run.checkpoint.keep.best_metric = "eval/f1"
    return starting.narrowed(run)
