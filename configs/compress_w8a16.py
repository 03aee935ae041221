"""Weights in 8 bits, activations in 16: a quarter of float32's size, nearly its answers, without text to measure on.

Command     python -m jaxlm.compress --run=RUN --output=small --config=configs/compress_w8a16.py
Method      every weight to the nearest of 8 bits, a scale for every output; every token's activations rounded by its
            own largest to 16 bits, whose two bytes are multiplied by the weights as int8 by int8
Expect      SmolLM2-135M, held-out perplexity: +0.1 to +0.3 % with the table, which the head shares, +0.00 % without
            (--config.steps[0].rules with the first rule alone); MiniLM: mean cosine 0.9996 (docs/compression.md)
"""

from jaxlm.compress.calibration import Text
from jaxlm.compress.rounding import Nearest, Quantise
from jaxlm.compress.step import Compress
from jaxlm.views.beside import MATRICES
from jaxlm.views.rounding import Rounding


def get_config() -> Compress:
    """One scale for every output."""
    eight = lambda weights: Rounding(weights=weights, kind="int8", group=0, low=False, activations="int16")
    return Compress(
        steps=(Quantise(rules=(eight(MATRICES), eight(r".*tokens/table")), finder=Nearest()),),
        calibration=Text(file="", rows=32, length=256),
    )
