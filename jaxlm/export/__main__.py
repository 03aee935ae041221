"""`python -m jaxlm.export`; the command itself is jaxlm/commands/export.py."""

from jaxlm.commands.export import run

if __name__ == "__main__":
    run()
