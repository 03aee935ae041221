"""`python -m jaxlm.prepare_corpus`; the command itself is jaxlm/commands/prepare_corpus.py."""

from jaxlm.commands.prepare_corpus import run

if __name__ == "__main__":
    run()
