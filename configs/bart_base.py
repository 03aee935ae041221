"""BART-base: 6 + 6 layers, 768 wide, denoising (Lewis et al., 1910.13461).

Command     python -m jaxlm.train --config=configs/bart_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  139,420,416
Data        the released weights come from bart_large.py's 160 GB; the paper's comparison, section 4, had books and
            Wikipedia and 1M steps
Rows        512 tokens of text, damaged: spans of 30 % of it hidden, all sentences shuffled
Expect      the paper's comparison at this size, text infilling with shuffled sentences: SQuAD 1.1 F1 90.8, MNLI 83.8
Hardware    not published; not yet trained to the end with jaxlm
Differs     the optimizer's settings are RoBERTa-base's (the paper gives none); SentencePiece BPE instead of GPT-2's
            byte-level vocabulary; documents of a packed row do not see each other
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Bpe
from jaxlm.models.bart import Bart
from jaxlm.objectives.denoising import Denoising
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """The published model and damage."""
    return Run(
        model=Bart(
            vocab_size=50_265,
            hidden=768,
            encoder_layers=6,
            decoder_layers=6,
            heads=12,
            mlp=3072,
            max_positions=1024,
            activation="gelu",
            dropout=0.1,
            attention_dropout=0.1,
            activation_dropout=0.1,
            norm_epsilon=1e-5,
            init_scale=0.02,
        ),
        objective=Denoising(
            z_loss=0.0,
            label_smoothing=0.0,
            permute=1.0,
            rotate=0.0,
            infill=0.3,
            mean_span=3.0,
            mask=0.0,
            delete=0.0,
            decoder_start="eos",
        ),
        tokenizer=Bpe(vocab_size=50_265, sentinels=0),
        optimizer=AdamW(
            schedule=WarmupLinear(peak=4e-4, warmup="30000 steps", end=0.0),
            weight_decay=0.01,
            clip_norm=0.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-6,
        ),
        data=Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.01, test_share=0.01),
        stages=(Stage(length=512, share=1.0),),
        steps=500_000,
        batch_size=8000,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=5_000, rows=1024),
        checkpoint=Checkpointing(every_steps=5_000),
    )
