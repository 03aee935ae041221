"""Which of a few texts goes with a question: fine-tunes an encoder on a table of questions and choices.

Command     python -m jaxlm.train --config=configs/multiple_choice.py --config.init_from=hf:DIR
            --config.data.corpus=FILE
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            encoder of quickstart.py begins from nothing, or with what runs/quickstart learnt where that is
            FILE: a table with the columns question, 0, 1, 2, 3 and label, the name of the right one. Others:
            "--config.data.text_fields=('text', 'a', 'b')"
            --config.objective.choices=2, with labels that, sorted, have the order of the columns
Parameters  1,891,585
Data        builtin:pydocs_choices: which of four types a described parameter has
Expect      on the built-in data, from runs/quickstart: held-out accuracy 0.731 (what its name mostly has: 0.66; the
            most frequent type: 0.26). From nothing it does not leave one in four within the first 90 of 300 steps
Rows        of 256 tokens, up to 4 questions each with all their choices, which do not see each other
Hardware    two CPU cores: 1 min 39 s of CPU time (2026-11-26)
"""

import jaxlm
from jaxlm.config import Run, Stage
from jaxlm.exchange import starting
from jaxlm.objectives.multiple_choice import MultipleChoice


def get_config(start: str = "") -> Run:
    """As classification.py, with a number for each choice."""
    large = bool(start) and not starting.is_tiny(start)
    run = jaxlm.load_recipe(f"classification:{start}" if start else "classification")
    if not large:
        run.model.max_positions = 256
    run.objective = MultipleChoice(column="label", labels=(), choices=4, max_tokens=61, items_per_row=4)
    run.data.corpus, run.data.text_fields = "builtin:pydocs_choices", ("question", "0", "1", "2", "3")
    run.stages, run.batch_size = (Stage(length=min(256, run.model.max_positions), share=1.0),), 8
    run.checkpoint.keep.best_metric = "eval/choice_accuracy"
    return run
