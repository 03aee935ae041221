"""`python -m jaxlm.plan`; the command itself is jaxlm/commands/plan.py."""

from jaxlm.commands.plan import run

if __name__ == "__main__":
    run()
