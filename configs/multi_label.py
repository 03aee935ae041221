"""Any number of labels for every text, such as feelings: fine-tunes an encoder on a table with text and labels.

Command     python -m jaxlm.train --config=configs/multi_label.py --config.init_from=hf:DIR
            --config.data.corpus=FILE
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            encoder of quickstart.py begins from nothing, or with what runs/quickstart learnt where that is
            labels: a list in .jsonl, "joy|surprise" in a table. jaxlm evaluate --data says which thresholds have the
            best F1: give those of validation data as --config.objective.thresholds="(0.31, ...)"
Parameters  1,875,072
Data        builtin:pydocs_sections: how one to three sections of a docstring begin; which sections they are
Expect      on the built-in data: held-out micro F1 0.78 from runs/quickstart, 0.70 from nothing (always the most
            frequent set, parameters and returns: 0.51); all labels of a text right 53 % and 31 % (22 %)
Rows        of 128 tokens, up to 8 texts each, which do not see each other
Hardware    two CPU cores: 1 min 44 s of CPU time (2026-11-26)
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.data.corpus.columns import Labels
from jaxlm.objectives.multi_label import MultiLabel


def get_config(start: str = "") -> Run:
    """As classification.py, with a yes or no for every label."""
    run = jaxlm.load_recipe(f"classification:{start}" if start else "classification")
    run.objective = MultiLabel(
        column="labels", labels=(), texts=1, pooling="own", max_tokens=125, items_per_row=8
    )
    run.data.corpus = "builtin:pydocs_sections"
    run.data.columns = (Labels(field="labels", separator="|"),)
    run.checkpoint.keep.best_metric = "eval/classes_f1"
    return run
