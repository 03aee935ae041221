"""The run of this folder: BERT with next sentence, made by the version whose heads were fields of the model."""

from jaxlm.checkpoint.policy import Keep
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.data.tokenizer import WordPiece
from jaxlm.models.bert import Bert
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.next_sentence import NextSentence
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """4 steps of 4 rows."""
    masked = MaskedLM(rate=0.2, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
    return Run(
        model=Bert(
            vocab_size=110,
            hidden=8,
            layers=2,
            heads=2,
            mlp=12,
            max_positions=32,
            types=2,
            dropout=0.1,
            attention_dropout=0.0,
            norm_epsilon=1e-12,
            activation="gelu",
            init_scale=0.02,
            position_init="normal",
        ),
        objective=NextSentence(
            masked_lm=masked, short_share=0.1, random_share=0.5, duplicates=2, pairs_per_row=2
        ),
        tokenizer=WordPiece(vocab_size=110, lowercase=True),
        optimizer=AdamW(
            schedule=WarmupLinear(peak=3e-3, warmup="10%", end=0.0),
            weight_decay=0.01,
            clip_norm=1.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-8,
        ),
        data=Data(corpus="corpus.txt", packing="best_fit", validation_share=0.1, test_share=0.0),
        stages=(Stage(length=32, share=1.0),),
        steps=4,
        batch_size=4,
        seed=3,
        ema_decay=0.9,
        precision="float32",
        evaluation=Evaluation(every_steps=4, rows=8),
        checkpoint=Checkpointing(every_steps=2, every_minutes=0.0, keep=Keep(latest=2, best=0)),
        logging=Logging(every_steps=1),
    )
