"""`python -m jaxlm.verify_resume`; the command itself is jaxlm/commands/verify_resume.py."""

from jaxlm.commands.verify_resume import run

if __name__ == "__main__":
    run()
