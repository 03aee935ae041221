"""`python -m jaxlm.convert_checkpoint`; the command itself is jaxlm/commands/convert_checkpoint.py."""

from jaxlm.commands.convert_checkpoint import run

if __name__ == "__main__":
    run()
