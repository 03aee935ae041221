"""ELECTRA-small as published: 12 layers 256 wide, and a generator of a quarter of it (Clark et al., 2020).

Command     python -m jaxlm.train --config=configs/electra_small.py --config.data.corpus=PATH_OR_GLOB
Parameters  14,196,219
Data        the built-in corpus by default, which is far too small for it: bring Wikipedia + books (16 GB of text)
Expect      with the published data, GLUE 79.9 (dev) after 1M steps
Hardware    4 days on 1 V100 when published; not yet trained to the end with jaxlm
Differs     rows are packed with whole documents, not with pairs of segments of one
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import WordPiece
from jaxlm.models.electra import Electra
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.replaced_tokens import ReplacedTokens
from jaxlm.optim.optimizers import BertAdam
from jaxlm.optim.schedules import BertLinear


def get_config() -> Run:
    """The published recipe (paper, table 6; google-research/electra, configure_pretraining.py)."""
    return Run(
        model=Electra(
            vocab_size=30_522,
            embedding=128,
            hidden=256,
            layers=12,
            heads=4,
            mlp=1024,
            generator_hidden=64,
            generator_layers=12,
            generator_heads=1,
            generator_mlp=256,
            max_positions=512,
            types=2,
            dropout=0.1,
            attention_dropout=0.1,
            norm_epsilon=1e-12,
            activation="gelu",
            init_scale=0.02,
        ),
        objective=ReplacedTokens(
            masked_lm=MaskedLM(
                rate=0.15, evaluation_rate=0.15, mask_share=0.85, random_share=0.0, unit=Tokens()
            ),
            discriminator_weight=50.0,
            temperature=1.0,
        ),
        tokenizer=WordPiece(vocab_size=30_522, lowercase=True),
        optimizer=BertAdam(
            schedule=BertLinear(peak=5e-4, warmup="10000 steps", end=0.0),
            weight_decay=0.01,
            clip_norm=1.0,
            b1=0.9,
            b2=0.999,
            epsilon=1e-6,
        ),
        data=Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.01, test_share=0.01),
        stages=(Stage(length=128, share=1.0),),
        steps=1_000_000,
        batch_size=128,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=5_000, rows=1024),
        checkpoint=Checkpointing(every_steps=5_000),
    )
