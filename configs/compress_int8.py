"""Weights and activations in 8 bits: a quarter of float32's size, 2 to 5 times its speed on a CPU with VNNI.

Command     python -m jaxlm.compress --run=RUN --output=small --config=configs/compress_int8.py --text=FILE
Method      SmoothQuant (2211.10438) on all matrices of attention and MLP, 16 inputs of each left as they are
            (2208.07339); the table of tokens, and the head that shares it, rounded to the nearest; every token's
            activations are rounded by its own largest
Expect      see docs/compression.md
"""

from jaxlm.compress.calibration import Text
from jaxlm.compress.rounding import Quantise
from jaxlm.compress.scaling import Outliers, Smooth
from jaxlm.compress.step import Compress
from jaxlm.views.beside import MATRICES
from jaxlm.views.rounding import Rounding


def get_config() -> Compress:
    """One scale for every output."""
    eight = lambda weights: Rounding(weights=weights, kind="int8", group=0, low=False, activations="int8")
    return Compress(
        steps=(
            Quantise(
                rules=(eight(MATRICES), eight(r".*tokens/table")),
                finder=Outliers(inputs=16, rest=Smooth(strength=0.5)),
            ),
        ),
        calibration=Text(file="", rows=32, length=256),
    )
