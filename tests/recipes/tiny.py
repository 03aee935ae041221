"""The run that tests use: seconds long, masked LM, dropout on (so that its randomness is part of every claim)."""

from jaxlm.checkpoint.policy import Keep
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.data.tokenizer import WordPiece
from jaxlm.models.bert import Bert
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """60 steps of 8 rows, two stages; the corpus is given on the command line."""
    return Run(
        model=Bert(
            vocab_size=500,
            hidden=48,
            layers=2,
            heads=4,
            mlp=72,
            max_positions=64,
            types=2,
            dropout=0.1,
            attention_dropout=0.0,
            norm_epsilon=1e-12,
            activation="gelu",
            init_scale=0.02,
            position_init="normal",
        ),
        objective=MaskedLM(rate=0.2, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens()),
        tokenizer=WordPiece(vocab_size=500, lowercase=True),
        optimizer=AdamW(
            schedule=WarmupLinear(peak=3e-3, warmup="10%", end=0.0),
            weight_decay=0.01,
            clip_norm=1.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-8,
        ),
        data=Data(corpus="", packing="best_fit", validation_share=0.1, test_share=0.05),
        stages=(Stage(length=32, share=0.7), Stage(length=48, share=0.3)),
        steps=60,
        batch_size=8,
        seed=3,
        ema_decay=0.9,
        evaluation=Evaluation(every_steps=20, rows=16),
        checkpoint=Checkpointing(every_steps=7, every_minutes=0.0, keep=Keep(latest=2, best=1)),
        logging=Logging(every_steps=5),
        check_isolation=False,  # a second a run; tests/training/test_isolation.py has it
    )
