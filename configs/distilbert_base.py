"""DistilBERT-base: 6 layers, 768 wide, distilled from BERT-base as published (Sanh et al., 1910.01108).

Command     python -m jaxlm.train --config=configs/distilbert_base.py --config.teacher=hf:DIR
            --config.data.corpus=PATH_OR_GLOB
            teacher: a folder of bert-base-uncased. The student begins with its layers 0, 2, 4, 7, 9, 11, its embeddings
            and its token head, and has its tokenizer. Without a teacher: masked LM alone, from nothing
Parameters  66,985,530
Data        Wikipedia + books when published: three passes over about 4.3e9 tokens, which are the 6,200 steps
Expect      published: GLUE 77.0 (dev), distilled from BERT-base (79.5) and begun with its layers; less without
Hardware    90 hours on 8 V100 when published; not yet trained to the end with jaxlm
Loss        5 KL at temperature 2 at every token, 2 masked LM, 1 (1 - cosine) of the last states: the command that
            transformers' distillation example gives for DistilBERT (alpha_ce, alpha_mlm, alpha_cos), and its defaults
Differs     tokens are masked uniformly (published: rare ones more often); positions are trained, too (published: they
            stay as BERT's, --freeze_pos_embs; here "--config.view=(Freeze(pattern='embeddings/positions'),)"); rows are
            always full
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Pretrained, WordPiece
from jaxlm.exchange import starting
from jaxlm.models.distilbert import DistilBert
from jaxlm.objectives.distil import Distil, SoftTargets
from jaxlm.objectives.distil_layers import HiddenStates
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config(teacher: str = "") -> Run:
    """The published settings (paper, section 3; transformers' distillation example)."""
    run = Run(
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
    return distilled(run, teacher) if teacher else run


def distilled(run: Run, teacher: str) -> Run:
    """The run with its teacher, whose layers and tokenizer it begins with."""
    run.teacher = run.init_from = teacher
    run.init_layers = "spread"
    run.model.hidden = starting.width(teacher)
    run.tokenizer = Pretrained(path=starting.tokenizer_path(teacher))
    run.objective.chunk = 64  # every token has logits of both
    run.objective = Distil(
        of=run.objective,
        hard=2.0,
        terms=(
            SoftTargets(weight=5.0, temperature=2.0, direction="forward", positions="all"),
            HiddenStates(weight=1.0, loss="cosine", layers="last", embeddings=False, teacher_width=0),
        ),
    )
    return run
