"""BERT-small: 4 layers, 512 wide, 8 heads (Turc et al., 2019); otherwise the recipe of bert_base.py.

Command     python -m jaxlm.train --config=configs/bert_small.py --config.data.corpus=PATH_OR_GLOB
Parameters  29,058,876
Expect      GLUE 71.2 (test) with the published data; fits a Colab
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """bert_base.py with another shape."""
    run = jaxlm.load_recipe("bert_base")
    run.model.hidden, run.model.layers, run.model.heads, run.model.mlp = 512, 4, 8, 2048
    return run
