"""`python -m jaxlm.evaluate`; the command itself is jaxlm/commands/evaluate.py."""

from jaxlm.commands.evaluate import run

if __name__ == "__main__":
    run()
