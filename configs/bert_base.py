"""BERT-base as published: 12 layers, 768 wide, masked LM + next sentence, 1M steps of 256 rows (Devlin et al., 2019).

Command     python -m jaxlm.train --config=configs/bert_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  110,106,428
Data        the built-in corpus by default, which is far too small for it: bring Wikipedia + books (16 GB of text)
Rows        128 tokens for 90 % of the steps, 512 for the last 10 %; 42.6e9 token slots in all
Expect      with the published data, GLUE 79.6 (BERT-base, test), masked-LM accuracy near 0.70
Hardware    4 days on 16 TPU v2 chips when published; not yet trained to the end with jaxlm
Differs     at 512 tokens up to 77 positions are predicted (published: 76); sentence pairs are packed
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import WordPiece
from jaxlm.models.bert import Bert
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.next_sentence import NextSentence
from jaxlm.optim.optimizers import BertAdam
from jaxlm.optim.schedules import BertLinear


def get_config() -> Run:
    """The published recipe."""
    return Run(
        model=Bert(
            vocab_size=30_522,
            hidden=768,
            layers=12,
            heads=12,
            mlp=3072,
            max_positions=512,
            types=2,
            dropout=0.1,
            attention_dropout=0.1,
            norm_epsilon=1e-12,
            activation="gelu",
            init_scale=0.02,
            position_init="normal",
        ),
        objective=NextSentence(
            masked_lm=MaskedLM(
                rate=0.15, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens()
            ),
            short_share=0.1,
            random_share=0.5,
            duplicates=10,
            pairs_per_row=8,
        ),
        tokenizer=WordPiece(vocab_size=30_522, lowercase=True),
        optimizer=BertAdam(
            schedule=BertLinear(peak=1e-4, warmup="1%", end=0.0),
            weight_decay=0.01,
            clip_norm=1.0,
            b1=0.9,
            b2=0.999,
            epsilon=1e-6,
        ),
        data=Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.01, test_share=0.01),
        stages=(Stage(length=128, share=0.9), Stage(length=512, share=0.1)),
        steps=1_000_000,
        batch_size=256,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=5_000, rows=1024),
        checkpoint=Checkpointing(every_steps=5_000),
    )
