"""A smaller dense model of the same family: a quarter of the hidden units of every MLP goes.

Command     python -m jaxlm.compress --run=RUN --output=small --config=configs/compress_shrink.py --text=FILE
Method      units whose loss the others can make good go one after the other (ZipLM, 2302.04089), the output matrix is
            fitted by least squares; train a while afterwards, or distil from the model that it was made of
Expect      see docs/compression.md
"""

from jaxlm.compress.calibration import Text
from jaxlm.compress.shrinking import Shrink
from jaxlm.compress.step import Compress


def get_config() -> Compress:
    """Units alone, which every family has."""
    return Compress(
        steps=(Shrink(heads=0.0, units=0.25, layers=0, width=0.0, by="activations", damping=0.01, seed=0),),
        calibration=Text(file="", rows=128, length=512),
    )
