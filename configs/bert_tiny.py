"""BERT-tiny: 2 layers, 128 wide, 2 heads (Turc et al., 2019); otherwise the recipe of bert_base.py.

Command     python -m jaxlm.train --config=configs/bert_tiny.py --config.data.corpus=PATH_OR_GLOB
Parameters  4,433,468
Expect      GLUE 64.2 (test) with the published data; fits a Colab or a laptop
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """bert_base.py with another shape."""
    run = jaxlm.load_recipe("bert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 128, 2, 2, 512
    return run
