"""Matrices in 4 bits, the table of tokens in 8: about a seventh of float32's size.

Command     python -m jaxlm.compress --run=RUN --output=small --config=configs/compress_int4.py --text=FILE
Method      GPTQ (2210.17323) on all matrices of attention and MLP, 32 inputs a scale, the lowest value kept as well;
            activations stay floating
Expect      see docs/compression.md
"""

from jaxlm.compress.calibration import Text
from jaxlm.compress.gptq import GPTQ
from jaxlm.compress.rounding import Quantise
from jaxlm.compress.step import Compress
from jaxlm.views.beside import MATRICES
from jaxlm.views.rounding import Rounding


def get_config() -> Compress:
    """Groups of 32."""
    four = Rounding(weights=MATRICES, kind="int4", group=32, low=True, activations="float")
    table = Rounding(weights=r".*tokens/table", kind="int8", group=0, low=False, activations="float")
    return Compress(
        steps=(Quantise(rules=(four, table), finder=GPTQ(damping=0.01)),),
        calibration=Text(file="", rows=128, length=512),
    )
