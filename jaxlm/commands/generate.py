"""Text from a decoder, which goes on from a prompt, or an encoder-decoder, which gets it as source.

    jaxlm generate --run=runs/stories "Once upon a time"
    jaxlm generate --run=hf:path/to/model "The capital of France is" --max-new-tokens=20 --temperature=0.8
    jaxlm generate --run=model.gguf --input=prompts.txt --json --output=answers.jsonl
    jaxlm generate --run=hf:large "Once upon a time" --draft=hf:small --max-new-tokens=200
    jaxlm generate --run=runs/summaries --input=news.txt --beams=4 --length-penalty=0.6 --no-repeat-ngram=3

Without --temperature the likeliest token is taken every time (greedy); with --beams the likeliest text is searched for.
A job with --input and --output that was killed goes on when the same line is typed again.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from jaxlm import entry
from jaxlm.commands import inputs, parts, writing
from jaxlm.commands import options as table
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints what the model writes, and on stderr how fast."""
    options = _parser().options(argv)
    in_parts = parts.asked(options)
    prompts = [] if in_parts else table.texts(options)

    from jaxlm.infer import frame, loaded  # after parsing, so that --help answers at once

    how, search = _sampling(options), _search(options)
    ready = loaded.of_options(options)
    framed = frame.of_loaded(ready)
    answered = _answering(options, ready, framed, how, search)
    if in_parts:
        return _in_parts(options, answered, framed.apart)
    live = len(prompts) == search.n_best == 1 and not options.json and options.output is None
    if live:
        _write("" if framed.apart else prompts[0])
    found, speed = answered(prompts, show=_write if live else None)
    if live:
        _write("\n")
    else:
        as_json = table.as_json if options.json else None
        table.write(_text(found, framed.apart, as_json), options.output)
    sys.stdout.flush()
    _end(found, speed)
    return 0


def _answering(options: argparse.Namespace, ready: Any, framed: Any, how: Any, search: Any) -> Any:
    """A function of prompts: (answers, speed). It takes `show` and `first`, as `answers.answer`."""
    from jaxlm.infer import answers, drafted, loaded

    asked = {
        "new_tokens": options.max_new_tokens,
        "sampling": how,
        "seed": options.seed,
        "stop": options.stop,
        "int8": options.cache == "int8",
    }
    if options.draft:
        small = loaded.load(options.draft, **loaded.settings(options))
        asked |= {"draft": small, "guesses": options.guesses}
        return functools.partial(drafted.answer, ready, framed, **asked)
    return functools.partial(answers.answer, ready, framed, search=search, **asked)


def _in_parts(options: argparse.Namespace, answered: Any, apart: bool) -> int:
    def compute(first: int, prompts: list[str]) -> Callable[[pathlib.Path], None]:
        found, speed = answered(prompts, first=first)
        as_json = parts.as_json if options.json else None
        text = _text(found, apart, as_json, first * (len(found) // len(prompts)))
        _end(found, speed, first * (len(found) // len(prompts)))
        return lambda path: table.write(text, path)

    kind = ".jsonl" if options.json else ".txt"
    work = parts.Work(kind=kind, records=lambda: inputs.each_text(options), compute=compute)
    parts.done("generate", options, work)
    return 0


def _text(found: Sequence[Any], apart: bool, as_json: Callable[[Any], str] | None, first: int = 0) -> str:
    """The answers as they are written; `first`: how many stand before them."""
    if as_json is not None:
        return "\n".join(as_json(one.to_json()) for one in found)
    between = " => " if apart else ""
    return "\n".join(
        f"[{number}]{_score(one)} {one.prompt}{between}{one.text}"
        for number, one in enumerate(found, first + 1)
    )


def _end(found: Sequence[Any], speed: Any, first: int = 0) -> None:
    ends = ", ".join(f"[{number}] {one.written.reason}" for number, one in enumerate(found, first + 1))
    print(f"ended by: {ends}\n{speed}, compiling left out", file=sys.stderr)


def _sampling(options: argparse.Namespace) -> Any:
    from jaxlm.infer.sampling import Sampling

    how = Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
    )
    how.validate()
    if not 0 <= options.seed < 2**32:
        raise UserError(f"--seed={options.seed}: allowed: 0 to {2**32 - 1}.")
    return how


def _search(options: argparse.Namespace) -> Any:
    from jaxlm.objectives import search

    made = search.Search(**search.given(options))
    made.validate()
    if options.draft and made.needed:
        raise UserError(
            "--draft beside a search (--beams, --no-repeat-ngram, --min-new-tokens): a draft guesses one text, and a "
            "search follows several. Leave one of them out."
        )
    return made


def _score(one: Any) -> str:
    """Of an answer that was searched for."""
    return f" ({one.written.score:.3f})" if hasattr(one.written, "score") else ""


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    add = parser.add_argument
    table.add_model(parser, "a decoder or an encoder-decoder")
    writing.add_options(parser, several=True)
    add("--temperature", type=float, default=0.0, help="default: 0, the likeliest token every time (greedy)")
    add("--top-k", type=int, default=0, help="draw from the k likeliest tokens; default: 0, from all")
    add(
        "--top-p",
        type=float,
        default=1.0,
        help="from the likeliest with this share together; default: 1, off",
    )
    add(
        "--min-p",
        type=float,
        default=0.0,
        help="from those with this share of the likeliest; default: 0, off",
    )
    add("--repetition-penalty", type=float, default=1.0, help="above 1: repeat less; default: 1, off")
    add("--seed", type=int, default=0, help="of the draws; default: 0")
    add("--stop", action="append", default=[], help="text that ends an answer, and is left out of it")
    _add_means(parser)
    table.add_texts(parser, "prompt")
    answers = "file for the answers instead of the terminal; a folder/ or a URL: in parts"
    table.add_answers(parser, "a prompt, with ids and log-probabilities", answers, place=parts.place)
    parts.add_options(parser, 64)
    return parser


def _add_means(parser: table.Parser) -> None:
    """Of writing the same in less time or memory."""
    add = parser.add_argument
    add(
        "--draft",
        metavar="RUN",
        help="a smaller model of the same tokenizer: it guesses tokens, which saves steps",
    )
    add(
        "--guesses",
        type=int,
        default=4,
        metavar="N",
        help="of --draft: tokens guessed for a step; default: 4",
    )
    held = (
        "how keys and values are held; int8 takes a quarter of float32's memory; default: float, as computed"
    )
    add("--cache", choices=("float", "int8"), default="float", help=held)


def _write(text: str) -> None:
    print(text, end="", flush=True)


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(
        main,
        when_out_of_memory="Fix: fewer prompts at a time, a smaller --max-new-tokens, --precision=bfloat16, or a "
        "device with more memory, or more of them.",
    )
