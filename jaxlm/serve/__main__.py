"""`python -m jaxlm.serve`; the command itself is jaxlm/commands/serve.py."""

from jaxlm.commands.serve import run

if __name__ == "__main__":
    run()
