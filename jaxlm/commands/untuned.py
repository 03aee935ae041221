"""Options that say what is asked of a model that was not fine-tuned for it: the fields of `tasks.setup.Setup`."""

from jaxlm.commands.options import Parser, names

_KINDS = ("minimal_pairs", "perplexity", "choice", "completion", "translation", "summarisation")


def add_options(parser: Parser) -> None:
    """--task and what belongs to it."""
    add = parser.add_argument_group("what is asked of a model that was not fine-tuned for it").add_argument
    add(
        "--task", choices=_KINDS, help="the last three are written by the model, and compared each in its way"
    )
    fields = "fields of minimal_pairs; default: good,bad"
    add("--pair", type=names, default=("good", "bad"), metavar="A,B", help=fields)
    add("--shared", action="store_true", help="of minimal_pairs: count the tokens that both sentences have")
    prompt = "a prompt; {NAME} is a field; default: {text}"
    add("--template", type=_template, default="{text}", metavar="TEXT", help=prompt)
    given = "of choice; default: the field choices of a row"
    add("--choices", type=names, default=(), metavar="A,B", help=given)
    add("--answer", default="label", metavar="FIELD", help="of the right answer; default: label")
    add("--shots", type=int, default=0, metavar="K", help="answered prompts before each; default: 0")
    add("--shots-from", default="", metavar="FILE", help="table that they are drawn from")
    add("--seed", type=int, default=0, metavar="N", help="of drawing them; default: 0")
    normal = ("none", "tokens", "characters", "unconditional")
    add("--normalise", choices=normal, default="none", help="log-probabilities of choices; default: none")
    tokens = "tokens of perplexity; default: the model's, to 1024"
    add("--window", type=int, default=0, metavar="N", help=tokens)
    between = "tokens between two windows; default: half a window"
    add("--stride", type=int, default=0, metavar="N", help=between)


def _template(text: str) -> str:
    """A line break is hard to type."""
    return text.replace("\\n", "\n")
