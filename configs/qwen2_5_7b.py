"""Qwen2.5-7B: 28 layers, 3584 wide, 28 heads on 4 key/value heads with biases, 18e12 tokens (Qwen team, 2412.15115).

Command     python -m jaxlm.train --config=configs/qwen2_5_7b.py --config.data.corpus=PATH_OR_GLOB
Parameters  7,615,616,512
Source      shape: table 1 and config.json of the release. Rates and batch sizes came from scaling laws that were not
            published: the settings are llama3_8b.py's, rows of 4,096 tokens (its first stage)
Expect      the released weights: MMLU 74.2 (5-shot), HellaSwag 80.2 (10-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run, Stage
from jaxlm.data.tokenizer import ByteBpe


def get_config() -> Run:
    """llama3_8b.py with another vocabulary, shape and length."""
    run = jaxlm.load_recipe("llama3_8b")
    run.model.vocab_size, run.model.layers, run.model.hidden, run.model.mlp = 152_064, 28, 3584, 18_944
    run.model.heads, run.model.kv_heads, run.model.biases = 28, 4, "qkv"
    run.model.max_positions, run.model.rope.base, run.model.norm_epsilon = 131_072, 1_000_000.0, 1e-6
    run.tokenizer = ByteBpe(vocab_size=151_665, sentinels=0, infill="off")
    run.stages, run.batch_size = (Stage(length=4096, share=1.0),), 1024
    run.steps = 4_291_535
    return run
