"""Llama-2-7B: Llama-7B's shape, rows of 4,096, 2.0e12 tokens (Touvron et al., 2307.09288); otherwise llama_7b.py.

Command     python -m jaxlm.train --config=configs/llama2_7b.py --config.data.corpus=PATH_OR_GLOB
Parameters  6,738,415,616
Rows        4,096 tokens; 1,024 of them a step, as in Llama 1 4M tokens
Expect      with the published data (a new mix of public sources), MMLU 45.3 (5-shot), HellaSwag 77.2 (0-shot)
Hardware    184,320 A100-80 hours when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run, Stage


def get_config() -> Run:
    """llama_7b.py with longer rows and a longer run."""
    run = jaxlm.load_recipe("llama_7b")
    run.model.max_positions, run.model.norm_epsilon = 4096, 1e-5
    run.stages, run.batch_size = (Stage(length=4096, share=1.0),), 1024
    run.steps = 476_837
    return run
