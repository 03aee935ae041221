"""`python -m jaxlm.generate`; the command itself is jaxlm/commands/generate.py."""

from jaxlm.commands.generate import run

if __name__ == "__main__":
    run()
