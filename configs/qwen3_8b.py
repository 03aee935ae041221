"""Qwen3-8B: 36 layers, 4096 wide, 32 heads on 8 key/value heads with QK norm, 36e12 tokens (Qwen team, 2505.09388).

Command     python -m jaxlm.train --config=configs/qwen3_8b.py --config.data.corpus=PATH_OR_GLOB
Parameters  8,190,735,360
Source      shape: table 1 and config.json of the release. Rates and batch sizes were not published: the settings are
            llama3_8b.py's, rows of 4,096 tokens (its first stage, 30e12 tokens)
Expect      the released base weights: MMLU 76.89 (5-shot)
Hardware    not published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run, Stage
from jaxlm.data.tokenizer import ByteBpe


def get_config() -> Run:
    """llama3_8b.py with another vocabulary, shape and length."""
    run = jaxlm.load_recipe("llama3_8b")
    run.model.vocab_size, run.model.layers, run.model.mlp = 151_936, 36, 12_288
    run.model.qk_norm, run.model.norm_epsilon = "head", 1e-6
    run.model.max_positions, run.model.rope.base = 32_768, 1_000_000.0
    run.tokenizer = ByteBpe(vocab_size=151_669, sentinels=0, infill="off")
    run.stages, run.batch_size = (Stage(length=4096, share=1.0),), 1024
    run.steps = 7_152_557
    return run
