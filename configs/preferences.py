"""Learning from preferences (DPO): of two answers to a prompt, the chosen one is made likelier than the rejected one.

Command     python -m jaxlm.train --config=configs/preferences.py --config.init_from=hf:DIR --config.data.corpus=FILE
            init_from: a model that can chat: a Hugging Face folder, a .gguf, a run of chat.py or a model folder.
            Without it the decoder of quickstart_gpt.py begins from nothing
            The corpus: .jsonl with {"prompt", "chosen", "rejected"}, each a text or a list of {"role", "content"}
            All weights: "--config.view=(KeepStart(),)" --config.optimizer.schedule.peak=1e-6, beside a copy of them
            Others: --config.objective.label_smoothing=0.1 (cDPO), --config.objective.form=ipo, or form=simpo with
            --config.objective.beta=2.0 --config.objective.margin=1.0; form=orpo, which needs no view either
Parameters  1,350,400
Data        builtin:pychats: a function's own docstring, and that of another one
Expect      before training a loss of ln 2, 0.6931
Rows        of 256 tokens (1,024 where a model is given), up to 4 pairs each, which do not see each other
Length      an epoch where a model is given (--config.epochs=N, or --config.steps=N), else 100 steps
Hardware    two CPU cores: about a minute
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.data.corpus.columns import Choice
from jaxlm.exchange import starting
from jaxlm.objectives.preferences import Preferences
from jaxlm.views import LoRA


def get_config(start: str = "") -> Run:
    """As chat.py, with two answers to every prompt; the reference is the model without what LoRA adds."""
    large = bool(start) and not starting.is_tiny(start)
    run = jaxlm.load_recipe("chat")
    run.model.max_positions = 256
    run.objective = Preferences(
        column="prompt", targets=0, items_per_row=4, beta=0.1, form="sigmoid", label_smoothing=0.0, margin=0.0
    )
    run.view = (LoRA(rank=8, alpha=16.0, scaling="rank"),)
    run.optimizer.schedule.peak = 5e-5 if large else 2e-3
    run.data.text_fields, run.data.columns = ("chosen", "rejected"), (Choice(field="prompt"),)
    run.stages[0].length = 1024 if large else 256
    run.steps, run.epochs = (0, 1.0) if large else (100, 0.0)
    run.batch_size = 4 if large else 16
    run.evaluation.every_steps = run.checkpoint.every_steps = 0 if large else 50
    run.checkpoint.keep.best_metric = "eval/preferences_loss"
    run.generate = ()
    if start and not large:
        run.extend_positions = "normal"  # the rows of quickstart_gpt.py are shorter
    return starting.take(run, start) if start else run
