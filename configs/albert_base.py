"""ALBERT-base v2: one block 12 times, 768 wide, masked n-grams + sentence order, 4,096 rows of 512 (Lan et al., 2019).

Command     python -m jaxlm.train --config=configs/albert_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  11,813,810
Data        the built-in corpus by default, which is far too small for it: bring Wikipedia + books (16 GB)
Expect      with the published v2 data and 10M steps, average 82.3 of SQuAD 1.1 and 2.0, MNLI 84.6, SST-2 and RACE (dev)
Hardware    64 to 512 TPU v3 chips when published; not yet trained to the end with jaxlm
Differs     125k steps, as in the published command (the v2 checkpoints: 10M for base, 3M for the others); documents are
            cut into pairs 10 times (40); up to 77 positions of a row are predicted (20), rows being packed with pairs
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Unigram
from jaxlm.models.albert import Albert
from jaxlm.objectives.masked_lm import MaskedLM, Ngrams
from jaxlm.objectives.sentence_order import SentenceOrder
from jaxlm.optim.optimizers import Lamb
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """The published recipe (google-research/albert, README)."""
    return Run(
        model=Albert(
            vocab_size=30_000,
            embedding=128,
            hidden=768,
            layers=12,
            heads=12,
            mlp=3072,
            max_positions=512,
            types=2,
            dropout=0.0,  # v1: 0.1, also in attention
            attention_dropout=0.0,
            norm_epsilon=1e-12,
            activation="gelu_tanh",  # v1: "gelu"
            init_scale=0.02,
        ),
        objective=SentenceOrder(
            masked_lm=MaskedLM(
                rate=0.15,
                evaluation_rate=0.15,
                mask_share=0.8,
                random_share=0.1,
                unit=Ngrams(longest=3, of="words"),
            ),
            short_share=0.1,
            swapped_share=0.5,
            duplicates=10,
            pairs_per_row=8,
        ),
        tokenizer=Unigram(vocab_size=30_000, sentinels=0),
        optimizer=Lamb(
            schedule=WarmupLinear(peak=0.00176, warmup="3125 steps", end=0.0),
            weight_decay=0.01,
            clip_norm=1.0,
            b1=0.9,
            b2=0.999,
            epsilon=1e-6,
        ),
        data=Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.01, test_share=0.01),
        stages=(Stage(length=512, share=1.0),),
        steps=125_000,
        batch_size=4096,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=5_000, rows=1024),
        checkpoint=Checkpointing(every_steps=5_000),
    )
