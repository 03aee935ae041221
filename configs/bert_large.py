"""BERT-large: 24 layers, 1024 wide, 16 heads (Devlin et al., 2019); otherwise the recipe of bert_base.py.

Command     python -m jaxlm.train --config=configs/bert_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  336,226,108
Expect      with the published data, GLUE 82.1 (test), SQuAD 1.1 F1 90.9
Hardware    4 days on 64 TPU v2 chips when published; not yet trained to the end with jaxlm
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """bert_base.py with another shape."""
    run = jaxlm.load_recipe("bert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 1024, 24, 16, 4096
    return run
