"""Goes on training an encoder-decoder that exists, on text of your own: T5, BART, the Transformer (Marian's format).

Command     python -m jaxlm.train --config=configs/continue_seq2seq.py:START --config.data.corpus=PATH_OR_GLOB
            START: hf:DIR (a Hugging Face folder), or a run or model folder; model, tokenizer and weights come from it.
            Without it: the shape of T5-small from nothing, with a tokenizer trained on the corpus
Parameters  60,506,624
Objective   of T5 span corruption, of BART text infilling with shuffled sentences, of the Transformer translation: then
            the corpus has pairs, such as a .tsv with `source TAB target` a line
Rows        128 tokens, 16 a step: what two CPU cores bear; set batch_size and the length for your device
Expect      a held-out loss that falls from what the folder's model has on your text
Hardware    two CPU cores
"""

import jaxlm
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.exchange import starting
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear

_OBJECTIVE_OF = {"Bart": "bart_base", "Transformer": "transformer_base"}  # of T5: as it is


def get_config(start: str = "") -> Run:
    """A short run at a low rate; `start` says what it starts from."""
    run = jaxlm.load_recipe("t5_small")
    run.optimizer = AdamW(
        schedule=WarmupLinear(peak=1e-4, warmup="10%", end=0.0),
        weight_decay=0.01,
        clip_norm=1.0,
        b1=0.9,
        b2=0.98,
        epsilon=1e-6,
    )
    run.data = Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.02, test_share=0.0)
    run.stages = (Stage(length=128, share=1.0),)
    run.steps, run.batch_size = 100, 16
    run.evaluation = Evaluation(every_steps=50, rows=64)
    run.checkpoint = Checkpointing(every_minutes=15.0)
    run.logging = Logging(every_steps=5)
    if not start:
        return run
    starting.take(run, start)
    if family := _OBJECTIVE_OF.get(type(run.model).__name__):
        run.objective = jaxlm.load_recipe(family).objective
    if family == "transformer_base":
        run.data.corpus, run.data.text_fields = "", ("source", "target")
    return run
