"""jaxlm trains language models in JAX, from raw text to a checkpoint. Start reading at jaxlm/train.py."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.stderr.write(f"jaxlm needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.\n")
    sys.exit(78)
