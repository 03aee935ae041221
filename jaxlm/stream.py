"""`python -m jaxlm.stream`; the command itself is jaxlm/commands/stream.py."""

from jaxlm.commands.stream import run

if __name__ == "__main__":
    run()
