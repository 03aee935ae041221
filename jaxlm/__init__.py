"""jaxlm trains language models in JAX, from raw text to a checkpoint. Start reading at jaxlm/train.py."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036: this file parses on older versions, what it would import does not
    sys.stderr.write(
        "jaxlm needs Python 3.11 or newer; %s is %d.%d.\n" % ((sys.executable,) + sys.version_info[:2])
    )  # noqa
    sys.exit(78)
