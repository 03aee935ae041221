"""Llama-7B: 32 layers, 4096 wide, next token, 1.0e12 tokens in steps of 4M (Touvron et al., 2302.13971).

Command     python -m jaxlm.train --config=configs/llama_7b.py --config.data.corpus=PATH_OR_GLOB
Parameters  6,738,415,616
Data        the built-in corpus by default, which is far too small for it: bring 1e12 tokens (CommonCrawl, C4, GitHub,
            Wikipedia, books, ArXiv, StackExchange when published)
Rows        2,048 tokens; 2,048 of them a step
Expect      with the published data, MMLU 35.1 (5-shot), HellaSwag 76.1 (0-shot)
Hardware    82,432 A100-80 hours when published; not yet trained to the end with jaxlm
Differs     documents of a packed row do not see each other; the tokenizer is trained on the corpus at hand
"""

from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Bpe
from jaxlm.models.llama import Llama
from jaxlm.models.rope import Rope, Unscaled
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupCosine
from jaxlm.partition.mesh import Mesh


def get_config() -> Run:
    """The published recipe."""
    return Run(
        model=Llama(
            vocab_size=32_000,
            hidden=4096,
            layers=32,
            heads=32,
            kv_heads=32,
            head_dim=128,
            mlp=11_008,
            activation="silu",
            max_positions=2048,
            rope=Rope(base=10_000.0, scaling=Unscaled()),
            norm_epsilon=1e-6,
            embeddings="untied",
            biases="none",
            qk_norm="none",
            windows=(0,),
            init_scale=0.02,
            remat="block",
        ),
        objective=CausalLM(z_loss=0.0, label_smoothing=0.0),
        tokenizer=Bpe(vocab_size=32_000, sentinels=0),
        optimizer=AdamW(
            schedule=WarmupCosine(peak=3e-4, warmup="2000 steps", end=3e-5),
            weight_decay=0.1,
            clip_norm=1.0,
            b1=0.9,
            b2=0.95,
            epsilon=1e-8,
        ),
        data=Data(corpus="builtin:pydocs", packing="concatenate", validation_share=0.001, test_share=0.0),
        stages=(Stage(length=2048, share=1.0),),
        steps=238_419,
        batch_size=2048,
        seed=0,
        ema_decay=0.0,
        mesh=Mesh(data=1, fsdp=-1),
        evaluation=Evaluation(every_steps=1_000, rows=1024),
        checkpoint=Checkpointing(every_steps=1_000),
    )
