"""Llama-3-8B: 32 layers, 4096 wide, 8 key/value heads, 128k vocabulary, rows of 8,192, 15e12 tokens (Meta, 2407.21783).

Command     python -m jaxlm.train --config=configs/llama3_8b.py --config.data.corpus=PATH_OR_GLOB
Parameters  8,030,261,248
Source      shape and peak rate: table 3 of the paper. The warm-up of 8,000 steps, the cosine to 1 % of the peak and the
            first batch of 4M tokens are those of the 405B; the paper does not give the 8B's
Expect      with the published data, MMLU 66.6 (5-shot)
Hardware    1.3M H100-80 hours when published; not yet trained to the end with jaxlm
Differs     one batch size throughout; decay and clipping are Llama 2's; the tokenizer is trained on the corpus at hand
"""

import jaxlm
from jaxlm.config import Run, Stage
from jaxlm.data.tokenizer import ByteBpe
from jaxlm.optim.schedules import WarmupCosine


def get_config() -> Run:
    """llama2_7b.py with another vocabulary, shape and length."""
    run = jaxlm.load_recipe("llama2_7b")
    run.model.vocab_size, run.model.kv_heads, run.model.mlp = 128_256, 8, 14_336
    run.model.max_positions, run.model.rope.base = 8192, 500_000.0
    run.tokenizer = ByteBpe(vocab_size=128_256, sentinels=0, infill="off")
    run.optimizer.schedule = WarmupCosine(peak=3e-4, warmup="8000 steps", end=3e-6)
    run.stages, run.batch_size = (Stage(length=8192, share=1.0),), 512
    run.steps = 3_576_279
    return run
