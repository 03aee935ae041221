"""T5-base: 12 + 12 layers, 768 wide, span corruption, 2^19 steps of 128 rows (Raffel et al., 1910.10683, section 3.1).

Command     python -m jaxlm.train --config=configs/t5_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  222,903,552
Data        C4 (750 GB of text) when published. These are the settings of the paper's baseline: 34e9 tokens; the weights
            that were released saw 2^20 steps of 2,048 rows (--config.steps=1048576 --config.batch_size=2048)
Rows        568 tokens of text: 512 of source with its sentinels, 114 of target
Expect      the paper's baseline, fine-tuned: GLUE 83.28, SQuAD exact match 80.88 (validation)
Hardware    slices of TPU v3 pods when published; not yet trained to the end with jaxlm
Differs     documents of a packed row do not see each other; the vocabulary is trained on the corpus at hand
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Unigram
from jaxlm.models.t5 import T5
from jaxlm.objectives.span_corruption import SpanCorruption
from jaxlm.optim.optimizers import Adafactor
from jaxlm.optim.schedules import HeldInverseSquareRoot


def get_config() -> Run:
    """The published recipe."""
    return Run(
        model=T5(
            vocab_size=32_128,  # 32,000 pieces, 100 sentinels, and 28 rows that are no tokens
            hidden=768,
            encoder_layers=12,
            decoder_layers=12,
            heads=12,
            head_dim=64,
            mlp=3072,
            activation="relu",
            gate="none",
            head="scaled",
            buckets=32,
            max_distance=128,
            dropout=0.1,
            norm_epsilon=1e-6,
            init_factor=1.0,
        ),
        objective=SpanCorruption(
            z_loss=1e-4, label_smoothing=0.0, density=0.15, mean_span=3.0, decoder_start="pad"
        ),
        tokenizer=Unigram(vocab_size=32_100, sentinels=100),
        optimizer=Adafactor(
            schedule=HeldInverseSquareRoot(peak=1e-2, warmup="10000 steps"),
            weight_decay=0.0,
            clip_norm=0.0,
            decay_rate=0.8,
            epsilon=1e-30,
            update_clip=1.0,
            parameter_floor=1e-3,
            momentum=0.0,
            factor_from=128,
        ),
        data=Data(corpus="builtin:pydocs", packing="concatenate", validation_share=0.01, test_share=0.01),
        stages=(Stage(length=512, share=1.0),),
        steps=2**19,
        batch_size=128,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=5_000, rows=1024),
        checkpoint=Checkpointing(every_steps=5_000),
    )
