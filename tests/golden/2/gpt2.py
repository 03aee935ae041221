"""The run of gpt2/, made when objectives had come to name the heads; t5.py is this one with another model."""

from jaxlm.checkpoint.policy import Keep
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.data.tokenizer import ByteBpe
from jaxlm.models.gpt2 import Gpt2
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """4 steps of 4 rows."""
    return Run(
        model=Gpt2(
            vocab_size=270,
            hidden=8,
            layers=2,
            heads=2,
            mlp=12,
            max_positions=32,
            embedding_dropout=0.1,
            dropout=0.1,
            attention_dropout=0.0,
            norm_epsilon=1e-5,
            activation="gelu_tanh",
            init_scale=0.02,
        ),
        objective=CausalLM(z_loss=0.0, label_smoothing=0.0),
        tokenizer=ByteBpe(vocab_size=270, sentinels=0, infill="off"),
        optimizer=AdamW(
            schedule=WarmupLinear(peak=3e-3, warmup="10%", end=0.0),
            weight_decay=0.01,
            clip_norm=1.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-8,
        ),
        data=Data(corpus="../1/corpus.txt", packing="best_fit", validation_share=0.1, test_share=0.0),
        stages=(Stage(length=32, share=1.0),),
        steps=4,
        batch_size=4,
        seed=3,
        ema_decay=0.0,
        precision="float32",
        evaluation=Evaluation(every_steps=4, rows=8),
        checkpoint=Checkpointing(every_steps=2, every_minutes=0.0, keep=Keep(latest=2, best=0)),
        logging=Logging(every_steps=1),
    )
