"""Causal LM with a tiny Llama on real text; the other decoder recipes here change its objective."""

from jaxlm.checkpoint.policy import Keep
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.data.tokenizer import ByteBpe
from jaxlm.models.llama import Llama
from jaxlm.models.rope import Rope, Unscaled
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.optim.optimizers import Muon
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """300 steps of 2,048 tokens through 2 layers of width 96."""
    return Run(
        model=Llama(
            vocab_size=2048,
            hidden=96,
            layers=2,
            heads=4,
            kv_heads=2,
            head_dim=24,
            mlp=256,
            activation="silu",
            max_positions=256,
            rope=Rope(base=10000.0, scaling=Unscaled()),
            norm_epsilon=1e-5,
            embeddings="tied",
            biases="none",
            qk_norm="none",
            windows=(0,),
            init_scale=0.02,
            layer_loop="unrolled",
        ),
        objective=CausalLM(z_loss=0.0, label_smoothing=0.0),
        tokenizer=ByteBpe(vocab_size=2048, sentinels=48, infill="on"),
        optimizer=Muon(
            schedule=WarmupLinear(peak=0.02, warmup="7%", end=0.0),
            rest_schedule=WarmupLinear(peak=4e-3, warmup="7%", end=0.0),
            weight_decay=0.0,
            clip_norm=1.0,
            b1=0.9,
            b2=0.98,
            epsilon=1e-8,
            momentum=0.95,
            iterations=5,
            update_rms=0.0,
        ),
        data=Data(corpus="builtin:pydocs", packing="best_fit", validation_share=0.02, test_share=0.0),
        stages=(Stage(length=128, share=1.0),),
        steps=300,
        batch_size=16,
        seed=0,
        ema_decay=0.0,
        evaluation=Evaluation(every_steps=100, rows=64),
        checkpoint=Checkpointing(every_minutes=0.0, keep=Keep(latest=1)),
        logging=Logging(every_steps=50),
    )
