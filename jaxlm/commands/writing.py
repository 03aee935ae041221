"""Options of commands that let a model write: how long, and how the text is looked for. What is not given is None."""

from jaxlm.commands.options import Parser


def add_options(parser: Parser, *, several: bool = False) -> None:
    """`several`: whether a prompt may have more answers than one."""
    add = parser.add_argument
    add("--max-new-tokens", type=int, default=64, metavar="N", help="of an answer, at most; default: 64")
    group = parser.add_argument_group("how an answer is looked for (a run's own way is the default)")
    add = group.add_argument
    add("--beams", type=int, metavar="N", help="search with so many texts at once; default: 1, greedy")
    scores = "of --beams: scores are log-probability / tokens^this; default: 1"
    add("--length-penalty", type=float, metavar="P", help=scores)
    stops = (
        "of --beams: yes stops at as many finished texts as beams, no when no better one seems likely, never when none "
        "is possible; default: no"
    )
    add("--early-stopping", choices=("no", "yes", "never"), help=stops)
    add("--no-repeat-ngram", type=int, metavar="N", help="no N tokens twice; default: 0, off")
    add("--min-new-tokens", type=int, metavar="N", help="no answer ends earlier; default: 0")
    if several:
        add("--n-best", type=int, metavar="N", help="of --beams: answers to each prompt; default: 1")
