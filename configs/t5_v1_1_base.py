"""T5 1.1 base: 12 + 12 layers, 768 wide, gated GELU, a head of its own, no dropout (Shazeer, 2002.05202).

Command     python -m jaxlm.train --config=configs/t5_v1_1_base.py --config.data.corpus=PATH_OR_GLOB
Parameters  247,577,856
Data        C4 alone, without the supervised tasks; otherwise the recipe of t5_base.py
Expect      1.942 nats per target token on held-out C4 after 2^16 steps, 1.633 after 2^19 (Shazeer, table 1: GEGLU);
            dropout is for fine-tuning: --config.model.dropout=0.1
Hardware    slices of TPU v3 pods when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """t5_base.py with another MLP and head, and without dropout."""
    run = jaxlm.load_recipe("t5_base")
    run.model.activation, run.model.gate, run.model.head = "gelu_tanh", "gated", "untied"
    run.model.mlp, run.model.dropout = 2048, 0.0
    return run
