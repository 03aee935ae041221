"""`python -m jaxlm.embed`; the command itself is jaxlm/commands/embed.py."""

from jaxlm.commands.embed import run

if __name__ == "__main__":
    run()
