"""BERT-mini: 4 layers, 256 wide, 4 heads (Turc et al., 2019); otherwise the recipe of bert_base.py.

Command     python -m jaxlm.train --config=configs/bert_mini.py --config.data.corpus=PATH_OR_GLOB
Parameters  11,267,900
Expect      GLUE 65.8 (test) with the published data; fits a Colab or a laptop
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """bert_base.py with another shape."""
    run = jaxlm.load_recipe("bert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 256, 4, 4, 1024
    return run
