"""A label for every text, from a table with the columns text and label: fine-tunes an encoder, or trains a small one.

Command     python -m jaxlm.train --config=configs/classification.py --config.init_from=hf:DIR --config.data.corpus=FILE
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            encoder of quickstart.py begins from nothing, or with what runs/quickstart learnt where that is
            Other names of columns: --config.data.text_field=NAME, and for the label --config.objective.column=NAME with
            "--config.data.columns=(Label(field='NAME'),)"; two texts (a premise, a hypothesis):
            "--config.data.text_fields=('premise', 'hypothesis')" --config.objective.texts=2
Parameters  1,875,072
Data        builtin:pydocs with its label: which of 12 packages a docstring is from
Expect      on the built-in data: held-out accuracy 69 % from runs/quickstart, 50 % from nothing (the most frequent
            label: 23 %)
Rows        of 128 tokens, up to 8 texts each, which do not see each other
Length      300 steps; where a model is given at least 3 epochs (--config.epochs=N or --config.steps=N: just so many)
Hardware    two CPU cores: 1 min 30 s, with others on them (2026-11-26)
"""

import jaxlm
from jaxlm.checkpoint.policy import Keep
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.data.corpus.columns import Label
from jaxlm.exchange import starting
from jaxlm.objectives.classification import Classification
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config(start: str = "") -> Run:
    """Devlin et al.'s fine-tuning; `start` says what it starts from."""
    width = starting.width(start) if start else 0
    large = width > starting.TINY
    run = jaxlm.load_recipe("quickstart")
    run.model.max_positions = 128
    run.objective = Classification(
        column="label", labels=(), texts=1, pooling="own", max_tokens=125, items_per_row=8
    )
    run.optimizer = AdamW(
        # 5e-5 for a base of 768: wider ones take less, as ELECTRA's do (3e-4, 1e-4, 5e-5 of small, base, large)
        schedule=WarmupLinear(peak=round(0.0384 / width, 6) if large else 5e-4, warmup="10%", end=0.0),
        weight_decay=0.01,
        clip_norm=1.0,
        b1=0.9,
        b2=0.999,
        epsilon=1e-8,
    )
    run.data = Data(
        corpus="builtin:pydocs",
        columns=(Label(field="label"),),
        packing="best_fit",
        validation_share=0.1,
        test_share=0.0,
    )
    run.stages = (Stage(length=128, share=1.0),)
    run.steps, run.epochs = 300, 3.0 if large else 0.0
    run.batch_size, run.fill = 8 if large else 16, ()
    run.evaluation = Evaluation(every_steps=0 if large else 100, rows=0)
    keep = Keep(best_metric="eval/classes_accuracy", best_mode="max")
    run.checkpoint = Checkpointing(every_steps=run.evaluation.every_steps, keep=keep)
    run.logging = Logging(every_steps=10)
    if start and not large:
        run.extend_positions = "normal"  # the rows of quickstart.py are shorter
    return starting.take(run, start) if start else run
