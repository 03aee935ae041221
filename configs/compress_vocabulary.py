"""A smaller vocabulary: the tokens that a text uses, with those that every other text can be written in.

Command     python -m jaxlm.compress --run=RUN --output=small --config=configs/compress_vocabulary.py --text=FILE
Method      rows of the table of tokens, of a head and of its bias go with their tokens; the tokenizer is renumbered;
            what uses kept tokens alone is read and computed as before
Expect      see docs/compression.md
"""

from jaxlm.compress.calibration import Text
from jaxlm.compress.step import Compress
from jaxlm.compress.vocabulary import Vocabulary


def get_config() -> Compress:
    """All that the text uses."""
    return Compress(steps=(Vocabulary(minimum=1, size=0),), calibration=Text(file="", rows=0, length=512))
