"""A small classifier that learns from a large one: half of its layers, its labels, and what it says of every text.

Command     python -m jaxlm.train --config=configs/distil_classification.py --config.teacher=DIR
            --config.data.corpus=FILE
            teacher: a classifier of the same labels, such as a run of classification.py, or hf:DIR. The student begins
            with layers of it, spread evenly; others: --config.init_from=hf:DIR, --config.init_layers=first,
            --config.model.layers=N. Texts whose label nobody gave: --config.objective.hard=0.0 (docs/distillation.md).
            Without a teacher this is classification.py
Parameters  1,875,072
Data        builtin:pydocs with its label: which of 12 packages a docstring is from
Expect      3 of 6 layers of a MiniLM keep 98 % of its accuracy: docs/distillation.md
Rows        of 128 tokens, up to 8 texts each, which do not see each other
Hardware    docs/distillation.md
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.objectives.distil import Distil, SoftTargets


def get_config(teacher: str = "") -> Run:
    """Hinton et al.'s soft targets (1503.02531) beside the labels; layers as DistilBERT's (1910.01108)."""
    run = jaxlm.load_recipe(f"classification:{teacher}" if teacher else "classification")
    if not teacher:
        return run
    run.teacher = teacher
    run.model.layers = max(run.model.layers // 2, 1)
    run.init_layers = "spread"
    run.objective = Distil(
        of=run.objective,
        hard=0.5,
        terms=(SoftTargets(weight=0.5, temperature=2.0, direction="forward", positions="targets"),),
    )
    return run
