"""`python -m jaxlm.inspect_checkpoint`: what `jaxlm inspect` was called before."""

from jaxlm.commands.inspect import run

if __name__ == "__main__":
    run()
