"""`python -m jaxlm.fill_mask`; the command itself is jaxlm/commands/fill_mask.py."""

from jaxlm.commands.fill_mask import run

if __name__ == "__main__":
    run()
