"""GPT-2 small (124M): 12 layers, 768 wide, next token (Radford et al., 2019), trained as in nanoGPT: 600k steps.

Command     python -m jaxlm.train --config=configs/gpt2_small.py --config.data.corpus=PATH_OR_GLOB
Parameters  124,439,808
Data        the built-in corpus by default, which is far too small for it: bring web text (OpenWebText: 9e9 tokens)
Rows        1,024 tokens; 512 of them a step, 3.1e11 tokens in all
Source      the architecture is OpenAI's; its optimizer was never published, so rates, decay and dropout 0 are nanoGPT's
            (config/train_gpt2.py), which follow GPT-3 (Brown et al., 2005.14165, table 2.1)
Expect      held-out loss near 2.85 nats a token on OpenWebText
Hardware    nanoGPT: 4 days on 8 A100; not yet trained to the end with jaxlm
Differs     512 rows a step (nanoGPT: 480); documents of a packed row do not see each other; the tokenizer is trained on
            the corpus at hand; OpenAI trained with dropout 0.1 (config.model.dropout and its two siblings)
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import ByteBpe
from jaxlm.models.gpt2 import Gpt2
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupCosine


def get_config() -> Run:
    """The recipe."""
    return Run(
        model=Gpt2(
            vocab_size=50_257,
            hidden=768,
            layers=12,
            heads=12,
            mlp=3072,
            max_positions=1024,
            embedding_dropout=0.0,
            dropout=0.0,
            attention_dropout=0.0,
            norm_epsilon=1e-5,
            activation="gelu_tanh",
            init_scale=0.02,
        ),
        objective=CausalLM(z_loss=0.0, label_smoothing=0.0),
        tokenizer=ByteBpe(vocab_size=50_257, sentinels=0, infill="off"),
        optimizer=AdamW(
            schedule=WarmupCosine(peak=6e-4, warmup="2000 steps", end=6e-5),
            weight_decay=0.1,
            clip_norm=1.0,
            b1=0.9,
            b2=0.95,
            epsilon=1e-8,
        ),
        data=Data(corpus="builtin:pydocs", packing="concatenate", validation_share=0.005, test_share=0.0),
        stages=(Stage(length=1024, share=1.0),),
        steps=600_000,
        batch_size=512,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=2_000, rows=1024),
        checkpoint=Checkpointing(every_steps=5_000),
    )
