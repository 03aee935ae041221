"""Options that say what is asked of a model that was not fine-tuned for it: the fields of `tasks.setup.Setup`."""

from jaxlm.commands.options import Parser, names

_KINDS = ("minimal_pairs", "perplexity", "choice", "completion", "translation", "summarisation")


def add(parser: Parser) -> None:
    """--task and what belongs to it."""
    option = parser.add_argument_group("what is asked of a model that was not fine-tuned for it").add_argument
    option(
        "--task", choices=_KINDS, help="the last three are written by the model, and compared each in its way"
    )
    fields = "fields of minimal_pairs; default: good,bad"
    option("--pair", type=names, default=("good", "bad"), metavar="A,B", help=fields)
    option(
        "--shared", action="store_true", help="of minimal_pairs: count the tokens that both sentences have"
    )
    prompt = "a prompt; {NAME} is a field; default: {text}"
    option("--template", type=_template, default="{text}", metavar="TEXT", help=prompt)
    given = "of choice; default: the field choices of a row"
    option("--choices", type=names, default=(), metavar="A,B", help=given)
    option("--answer", default="label", metavar="FIELD", help="of the right answer; default: label")
    option("--shots", type=int, default=0, metavar="K", help="answered prompts before each; default: 0")
    option("--shots-from", default="", metavar="FILE", help="table that they are drawn from")
    option("--seed", type=int, default=0, metavar="N", help="of drawing them; default: 0")
    normal = ("none", "tokens", "characters", "unconditional")
    option("--normalise", choices=normal, default="none", help="log-probabilities of choices; default: none")
    tokens = "tokens of perplexity; default: the model's, to 1024"
    option("--window", type=int, default=0, metavar="N", help=tokens)
    between = "tokens between two windows; default: half a window"
    option("--stride", type=int, default=0, metavar="N", help=between)


def _template(text: str) -> str:
    """A line break is hard to type."""
    return text.replace("\\n", "\n")
