"""RoBERTa-base as published: 12 layers, 768 wide, masked LM alone, 500k steps of 8,192 rows of 512 (Liu et al., 2019).

Command     python -m jaxlm.train --config=configs/roberta_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  124,697,433
Data        160 GB of text when published (books, Wikipedia, news, web pages, stories); masks are drawn anew every time
Expect      with the published data, GLUE 86.4 (dev, single task, mean of the eight), MNLI 87.6
Hardware    1,024 V100, a day for 100k steps of the large model when published; not yet trained to the end with jaxlm
Differs     SentencePiece BPE instead of byte-level BPE (the published one: Pretrained in a recipe of your own);
            documents of a packed row do not see each other
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Bpe
from jaxlm.models.roberta import Roberta
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """The published recipe (paper, table 9)."""
    return Run(
        model=Roberta(
            vocab_size=50_265,
            hidden=768,
            layers=12,
            heads=12,
            mlp=3072,
            # The tokenizer's padding id + 1, which transformers goes by; 2 with the published vocabulary, and 512
            # positions: 514 rows in either case.
            first_position=1,
            max_positions=513,
            dropout=0.1,
            attention_dropout=0.1,
            norm_epsilon=1e-5,
            activation="gelu",
            init_scale=0.02,
        ),
        objective=MaskedLM(rate=0.15, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens()),
        tokenizer=Bpe(vocab_size=50_265, sentinels=0),
        optimizer=AdamW(
            schedule=WarmupLinear(peak=6e-4, warmup="24000 steps", end=0.0),
            weight_decay=0.01,
            clip_norm=0.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-6,
        ),
        data=Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.01, test_share=0.01),
        stages=(Stage(length=512, share=1.0),),
        steps=500_000,
        batch_size=8192,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=5_000, rows=1024),
        checkpoint=Checkpointing(every_steps=5_000),
    )
