"""`python -m jaxlm.prepare_corpus`: what `jaxlm data` was called before."""

from jaxlm.commands.data import run

if __name__ == "__main__":
    run()
