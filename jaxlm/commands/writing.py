"""Options of commands that let a model write: how long, and how the text is looked for. What is not given is None."""

from jaxlm.commands.options import Parser


def add(parser: Parser, *, several: bool = False) -> None:
    """`several`: whether a prompt may have more answers than one."""
    option = parser.add_argument
    option("--max-new-tokens", type=int, default=64, metavar="N", help="of an answer, at most; default: 64")
    group = parser.add_argument_group("how an answer is looked for (a run's own way is the default)")
    option = group.add_argument
    option("--beams", type=int, metavar="N", help="search with so many texts at once; default: 1, greedy")
    scores = "of --beams: scores are log-probability / tokens^this; default: 1"
    option("--length-penalty", type=float, metavar="P", help=scores)
    stops = (
        "of --beams: yes stops at as many finished texts as beams, no when no better one seems likely, never when none "
        "is possible; default: no"
    )
    option("--early-stopping", choices=("no", "yes", "never"), help=stops)
    option("--no-repeat-ngram", type=int, metavar="N", help="no N tokens twice; default: 0, off")
    option("--min-new-tokens", type=int, metavar="N", help="no answer ends earlier; default: 0")
    if several:
        option("--n-best", type=int, metavar="N", help="of --beams: answers to each prompt; default: 1")
