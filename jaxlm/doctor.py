"""`python -m jaxlm.doctor`; the command itself is jaxlm/commands/doctor.py."""

from jaxlm.commands.doctor import run

if __name__ == "__main__":
    run()
