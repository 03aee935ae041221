"""`python -m jaxlm.prepare_corpus`, from a checkout that is not installed."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jaxlm.commands.data import run

if __name__ == "__main__":
    run()
