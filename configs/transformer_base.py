"""The Transformer, base model: 6 + 6 layers, 512 wide, translation from scratch (Vaswani et al., 1706.03762).

Command     python -m jaxlm.train --config=configs/transformer_base.py --config.data.corpus=PAIRS.tsv
Parameters  63,082,496
Data        4.5M pairs of WMT 2014 English-German when published. A .tsv has `source TAB target` a line; of JSONL name
            the two fields: --config.data.text_fields="('en', 'de')"
Rows        pairs packed into 256 tokens of source and 256 of target: 25k a batch of each, as published
Expect      BLEU 27.3 on newstest2014 English-German (average of 5 checkpoints, beam 4)
Hardware    12 hours on 8 P100 when published; not yet trained to the end with jaxlm
Differs     pairs longer than a row are left out; norm_epsilon 1e-5 as in Marian's format (published code: 1e-6)
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Bpe
from jaxlm.models.transformer import Transformer
from jaxlm.objectives.search import Search
from jaxlm.objectives.translation import Translation
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import InverseSquareRoot


def get_config() -> Run:
    """The published recipe (sections 5 and 6.1)."""
    return Run(
        model=Transformer(
            vocab_size=37_000,
            hidden=512,
            encoder_layers=6,
            decoder_layers=6,
            heads=8,
            mlp=2048,
            max_positions=512,
            activation="relu",
            dropout=0.1,
            attention_dropout=0.0,
            activation_dropout=0.0,
            norm_epsilon=1e-5,
        ),
        objective=Translation(
            z_loss=0.0,
            label_smoothing=0.1,
            decoder_start="pad",
            pairs_per_row=64,
            search=Search(beams=4, length_penalty=0.6),
        ),
        tokenizer=Bpe(vocab_size=37_000, sentinels=0),
        optimizer=AdamW(
            # Section 5.3: hidden^-0.5 * min(step^-0.5, step * warmup^-1.5)
            schedule=InverseSquareRoot(peak=512**-0.5 * 4000**-0.5, warmup="4000 steps"),
            weight_decay=0.0,
            clip_norm=0.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-9,
        ),
        data=Data(
            corpus="",
            text_fields=("source", "target"),
            packing="best_fit",
            validation_share=0.001,
            test_share=0.0,
        ),
        stages=(Stage(length=256, share=1.0),),
        steps=100_000,
        batch_size=98,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=1_000, rows=0),
        checkpoint=Checkpointing(every_steps=1_000),
    )
