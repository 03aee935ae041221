"""Which of a few texts goes with a question: fine-tunes an encoder on a table of questions and choices.

Command     python -m jaxlm.train --config=configs/multiple_choice.py --config.init_from=hf:DIR
            --config.data.corpus=FILE
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            encoder of quickstart.py begins from nothing
            FILE: a table with the columns question, 0, 1, 2, 3 and label, the name of the right one. Others:
            "--config.data.text_fields=('text', 'a', 'b')"
            --config.objective.choices=2, with labels that, sorted, have the order of the columns
Parameters  1,891,585
Data        yours
Expect      accuracy above one in four
Rows        of 256 tokens, up to 4 questions each with all their choices, which do not see each other
Hardware    two CPU cores: minutes
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
