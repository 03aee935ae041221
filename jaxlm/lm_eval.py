"""`python -m jaxlm.lm_eval`; the command itself is jaxlm/commands/lm_eval.py."""

from jaxlm.commands.lm_eval import run

if __name__ == "__main__":
    run()
