"""4 bits where a weight can bear it, 8 where not, or none: within a budget of bytes, by measured loss.

Command     python -m jaxlm.compress --run=RUN --output=small --config=configs/compress_mixed.py --text=FILE
Method      every matrix and table rounded alone, in every form, and the loss of the model's answers measured on the
            text (sensitivity as in HAWQ, 1911.03852); bytes go where they save most; then GPTQ (2210.17323)
Expect      see docs/compression.md
"""

from jaxlm.compress.calibration import Text
from jaxlm.compress.gptq import GPTQ
from jaxlm.compress.mixed import MixedPrecision
from jaxlm.compress.step import Compress
from jaxlm.views.beside import MATRICES
from jaxlm.views.rounding import Rounding


def get_config() -> Compress:
    """A fifth of float32's bytes."""
    four = lambda weights: Rounding(weights=weights, kind="int4", group=32, low=True, activations="float")
    eight = lambda weights: Rounding(weights=weights, kind="int8", group=0, low=False, activations="float")
    table = r".*tokens/table"
    rules = (four(MATRICES), eight(MATRICES), four(table), eight(table))
    return Compress(
        steps=(MixedPrecision(rules=rules, share=0.22, finder=GPTQ(damping=0.01)),),
        calibration=Text(file="", rows=32, length=256),
    )
