"""`python -m jaxlm.inspect_checkpoint`; the command itself is jaxlm/commands/inspect_checkpoint.py."""

from jaxlm.commands.inspect_checkpoint import run

if __name__ == "__main__":
    run()
