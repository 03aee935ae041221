"""SmolLM2-1.7B: 24 layers, 2048 wide, 11e12 tokens, a stable rate, decayed at the end (Ben Allal et al., 2502.02737).

Command     python -m jaxlm.train --config=configs/smollm2_1_7b.py --config.data.corpus=PATH_OR_GLOB
Parameters  1,711,376,384
Data        the built-in corpus by default, which is far too small for it: FineWeb-Edu, DCLM, Stack-Edu, FineMath, ...
Rows        2,048 tokens; 1,024 of them a step (2M tokens)
Expect      with the published data, HellaSwag 68.7, ARC (mean) 60.5, PIQA 77.6
Hardware    256 H100 when published; not yet trained to the end with jaxlm
Differs     one mix of data throughout (published: four stages of it, and rows of 8,192 at the end); the tokenizer is
            trained on the corpus at hand; weight decay and clipping are those of SmolLM's published run files
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.data.tokenizer import ByteBpe
from jaxlm.optim.schedules import WarmupStableDecay


def get_config() -> Run:
    """llama_7b.py with another vocabulary, shape, schedule and length."""
    run = jaxlm.load_recipe("llama_7b")
    run.model.vocab_size, run.model.layers, run.model.hidden, run.model.mlp = 49_152, 24, 2048, 8192
    run.model.heads, run.model.kv_heads, run.model.head_dim = 32, 32, 64
    run.model.max_positions, run.model.rope.base = 8192, 130_000.0
    run.model.norm_epsilon, run.model.embeddings = 1e-5, "tied"
    run.tokenizer = ByteBpe(vocab_size=49_152, sentinels=0, infill="off")
    run.optimizer.schedule = WarmupStableDecay(
        peak=5e-4, warmup="2000 steps", end=0.0, decay="10%", shape="linear"
    )
    run.optimizer.weight_decay = 0.01
    run.batch_size, run.steps = 1024, 5_245_209
    return run
