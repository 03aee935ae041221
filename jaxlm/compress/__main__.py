"""`python -m jaxlm.compress`; the command itself is jaxlm/commands/compress.py."""

from jaxlm.commands.compress import run

if __name__ == "__main__":
    run()
