"""Llama-3.2-1B: 16 layers, 2048 wide, 32 heads on 8 key/value heads, tied, 128k positions; otherwise llama3_8b.py.

Command     python -m jaxlm.train --config=configs/llama3_2_1b.py --config.data.corpus=PATH_OR_GLOB
Parameters  1,235,814,400
Source      config.json of the release. It was cut out of Llama-3.1-8B and trained on 9e12 tokens with the logits of
            larger models, by settings that were not published: those here are llama3_8b.py's
Expect      the released weights: MMLU 32.2 (5-shot)
Hardware    370,000 H100-80 hours when published; not yet trained with jaxlm
"""

import jaxlm
from jaxlm.config import Run
from jaxlm.models.rope import Llama3


def get_config() -> Run:
    """llama3_8b.py with another shape."""
    run = jaxlm.load_recipe("llama3_8b")
    run.model.layers, run.model.hidden, run.model.mlp = 16, 2048, 8192
    run.model.heads, run.model.head_dim = 32, 64
    run.model.max_positions, run.model.embeddings = 131_072, "tied"
    run.model.rope.scaling = Llama3(factor=32.0, low_frequency=1.0, high_frequency=4.0, original=8192)
    return run
