"""Goes on training an encoder that exists, on text of your own: BERT, RoBERTa, ALBERT, DistilBERT, ModernBERT, ELECTRA.

Command     python -m jaxlm.train --config=configs/continue_mlm.py:START --config.data.corpus=PATH_OR_GLOB
            START: hf:DIR (a Hugging Face folder), or a run or model folder; model, tokenizer and weights come from it.
            Without it: the shape of BERT-base from nothing, with a tokenizer trained on the corpus
Parameters  109,514,298
Objective   masked LM; of ELECTRA's two models in one place (START/discriminator, START/generator) replaced tokens. Of
            a discriminator alone the head that names tokens starts fresh
Rows        128 tokens, 16 a step: what two CPU cores bear; set batch_size and the length for your device
Expect      a held-out loss that falls from what the folder's model has on your text
Hardware    two CPU cores
"""

import jaxlm
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.exchange import starting
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.replaced_tokens import ReplacedTokens
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config(start: str = "") -> Run:
    """A short run at a low rate; `start` says what it starts from."""
    run = jaxlm.load_recipe("bert_base")
    run.objective = MaskedLM(rate=0.15, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
    run.optimizer = AdamW(
        schedule=WarmupLinear(peak=5e-5, warmup="10%", end=0.0),
        weight_decay=0.01,
        clip_norm=1.0,
        b1=0.9,
        b2=0.98,
        epsilon=1e-6,
    )
    run.data = Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.02, test_share=0.0)
    run.stages = (Stage(length=128, share=1.0),)
    run.steps, run.batch_size, run.fill = 100, 16, ()
    run.evaluation = Evaluation(every_steps=50, rows=64)
    run.checkpoint = Checkpointing(every_minutes=15.0)
    run.logging = Logging(every_steps=5)
    if not start:
        return run
    starting.take(run, start)
    if run.model.kind == "pair":
        run.objective = ReplacedTokens(masked_lm=run.objective, discriminator_weight=50.0, temperature=1.0)
    return run
