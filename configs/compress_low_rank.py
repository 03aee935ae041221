"""Matrices as products of two thin ones: four fifths of their numbers, and of what is multiplied.

Command     python -m jaxlm.compress --run=RUN --output=small --config=configs/compress_low_rank.py --text=FILE
Method      SVD-LLM (2403.07378) on all matrices of attention and MLP; ranks of all matrices together, by what each
            direction carries for its bytes
Expect      see docs/compression.md
"""

from jaxlm.compress.calibration import Text
from jaxlm.compress.low_rank import LowRank
from jaxlm.compress.step import Compress
from jaxlm.views.beside import MATRICES


def get_config() -> Compress:
    """By activations."""
    return Compress(
        steps=(LowRank(weights=MATRICES, share=0.8, activations=True, damping=0.001),),
        calibration=Text(file="", rows=128, length=512),
    )
