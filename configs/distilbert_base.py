"""DistilBERT-base: 6 layers, 768 wide, with the published run's optimizer, by masked LM alone (Sanh et al., 2019).

Command     python -m jaxlm.train --config=configs/distilbert_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  66,985,530
Data        Wikipedia + books when published: three passes over about 4.3e9 tokens, which are the 6,200 steps
Expect      published: GLUE 77.0 (dev), distilled from BERT-base (79.5) and begun with its layers; less without
Hardware    90 hours on 8 V100 when published; not yet trained to the end with jaxlm
Differs     no teacher: the published loss adds the teacher's distribution and hidden states; random initial weights
            (published: every other layer of BERT-base); tokens are masked uniformly (published: rare ones
            more often); rows are always full
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import WordPiece
from jaxlm.models.distilbert import DistilBert
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """The published settings (paper, section 3; transformers' distillation example)."""
    return Run(
        model=DistilBert(
            vocab_size=30_522,
            hidden=768,
            layers=6,
            heads=12,
            mlp=3072,
            max_positions=512,
            dropout=0.1,
            attention_dropout=0.1,
            norm_epsilon=1e-12,
            activation="gelu",
            init_scale=0.02,
            position_init="normal",
        ),
        objective=MaskedLM(rate=0.15, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens()),
        tokenizer=WordPiece(vocab_size=30_522, lowercase=True),
        optimizer=AdamW(
            schedule=WarmupLinear(peak=5e-4, warmup="5%", end=0.0),
            weight_decay=0.0,
            clip_norm=5.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-6,
        ),
        data=Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.01, test_share=0.01),
        stages=(Stage(length=512, share=1.0),),
        steps=6_200,
        batch_size=4096,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=500, rows=1024),
        checkpoint=Checkpointing(every_steps=500),
    )
