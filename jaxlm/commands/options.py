"""The one table of options: what every command calls the same. In: argv. Out: a namespace, or a UserError.

`--run RUN` names a model; texts stand behind the options, or one a line in `--input FILE` (`-`: stdin); `--output FILE`
and `--json` (a line of JSON an answer) say where answers go and how. Dashes and underscores mean the same. What was
spelled otherwise before (`--hf`, `--prompt`, `--prompts-file`, `--config`) is understood.
"""

import argparse
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NoReturn

from jaxlm.buckets.bucket import is_url
from jaxlm.commands import inputs
from jaxlm.errors import UserError, did_you_mean

# Former spelling -> today's, and what then stands before its value. "": the value is a text.
_FORMER = {
    "--hf": ("--run", "hf:"),
    "--config": ("--recipe", ""),
    "--prompts-file": ("--input", ""),
    "--prompt": ("", ""),
}
_AXES = {
    "data": "share the rows, each with all weights; default: the rest",
    "fsdp": "share rows and weights; default: all devices, if no size is given",
    "expert": "share rows, and the experts of a mixture",
    "tensor": "share heads, MLP and vocabulary",
}


class _Runs(argparse.Action):
    """The first value, and the others beside it."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """As argparse calls it."""
        if namespace.run is None:
            namespace.run = values
        elif parser.takes_runs:
            namespace.more = [*namespace.more, values]
        else:
            raise UserError("--run (or --hf, which is --run=hf:DIR) is given twice: name one model.")


class Parser(argparse.ArgumentParser):
    """The options of a command; `doc` of its module is the help, with examples. What is mistyped is a UserError."""

    def __init__(self, module: str, doc: str | None) -> None:
        name = module.rpartition(".")[2].rstrip("_")
        super().__init__(
            prog=f"jaxlm {name}",
            usage=f"jaxlm {name} [OPTION ...] [ARGUMENT ...]",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.takes_texts = self.takes_runs = False
        # The options that name runs, perhaps in buckets; which of their weights are read, see config.remote.
        self.runs = list[str]()
        self.weights: Literal["named", "all", "none"] = "named"

    def options(self, argv: Sequence[str]) -> argparse.Namespace:
        """What `argv` says (argv[0] is the program)."""
        words, texts = present(argv[1:], self._option_string_actions)
        found, rest = self.parse_known_intermixed_args([*words, *([] if self.takes_texts else texts)])
        for word in rest:
            known = did_you_mean(word.partition("=")[0], self._option_string_actions)
            kind = "option" if word.startswith("-") else "argument"
            raise UserError(
                f"{self.prog}: unknown {kind} {word}.{known} `{self.prog} --help` lists what there is."
            )
        if self.takes_texts:
            found.texts += texts
        for name in (one for one in self.runs if is_url(str(getattr(found, one)))):
            from jaxlm.config import remote  # after parsing, so that --help answers at once

            setattr(found, name, remote.each(getattr(found, name), self.weights))
        return found

    def error(self, message: str) -> NoReturn:
        """argparse's refusals, with the closest choice and what the missing options are."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        close = did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2])) if choice else ""
        lacking = message.partition("arguments are required: ")[2].split(", ")
        for action in self._actions:
            if {*(action.option_strings or [str(action.metavar)])} & set(lacking):
                message += f"\n  {'/'.join(action.option_strings) or action.metavar}: {action.help}"
        raise UserError(
            f"{self.prog}: {message}{'' if chr(10) in message else '.'}{close}\n{self._example()}"
        )

    def _example(self) -> str:
        found = re.search(rf"^ *({re.escape(self.prog)} .*)$", self.description or "", re.MULTILINE)
        return f"For example: {found[1]}" if found else f"See {self.prog} --help."


def apart(
    words: Sequence[str], values: Sequence[str], switches: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """(a command's own options, those of `jaxlm train`): `values` have one, written behind `=` or as the next word."""
    own, given = list[str](), list[str]()
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        name = name.replace("_", "-")
        mine = name in (*values, *switches, "--help", "-h")
        (own if mine else given).append(word)
        if not equals and name in values:
            own += [value for value in [next(rest, None)] if value is not None]
    return own, given


def present(words: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """(`words` as they are spelled today, texts that stand behind `--` or were options before)."""
    known, made, texts = set(known), [], []
    given: Iterator[str] = iter(words)
    for word in given:
        if word == "--":
            texts += given
            break
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"--[a-zA-Z][\w.-]*", name):
            made.append(word)
            continue
        name = name.replace("_", "-")
        today, before = ("", None) if name in known else _FORMER.get(name, ("", None))
        if before is None or (today and today not in known):
            made.append(name + equals + value)
            continue
        if not equals and (value := next(given, None)) is None:
            raise UserError(f"{word}: there is no value behind it. It is written {today or 'TEXT'} today.")
        if today:
            made.append(f"{today}={'' if value.startswith(before) else before}{value}")
        else:
            texts.append(value)
    return made, texts


def add_run(parser: Parser, what: str, *, several: bool = False) -> None:
    """The options that name a run and its checkpoint; `what` it must be. Of `several` the others are `options.more`."""
    parser.takes_runs = several
    parser.runs += ["run", "more"]
    parser.set_defaults(more=[], adapter=[])
    parser.add_argument("--run", required=True, action=_Runs, metavar="RUN", help=what)
    add_checkpoint(parser)


def add_checkpoint(parser: Parser) -> None:
    """Which checkpoint of a run, and what it needs to be opened."""
    add = parser.add_argument
    add(
        "--step", type=int, metavar="N", help="checkpoint of a run to use; default: the best, else the newest"
    )
    add("--base", default="", metavar="DIR", help="of a run with a view: where its frozen weights are now")
    add_recipe(parser)


def add_recipe(parser: Parser) -> None:
    """The recipe that defines classes of the run's own."""
    text = "recipe of a run with classes of its own; it is executed"
    parser.add_argument("--recipe", metavar="FILE", help=text)


def add_model(parser: Parser, what: str, *, several: bool = False) -> None:
    """The options that name a model and its weights, which `infer.loaded.of_options` reads; of `several` models, which
    answer together, `tasks.of.of_options`."""
    more = "; several times: the mean of their answers; RUN@N: checkpoint N of it" if several else ""
    add_run(parser, f"{what}: a run folder, a model folder, hf:DIR or a .gguf file{more}", several=several)
    add = parser.add_argument
    if several:
        add("--weights", type=_numbers, default=[], metavar="A,B", help="of the runs; default: all the same")
        add("--vote", action="store_true", help="of several runs: each counts for what it finds likeliest")
    add_computation(parser)


def add_computation(parser: Parser) -> None:
    """In which precision, and on which devices; `infer.loaded.settings` reads them."""
    add, kinds = parser.add_argument, ("float32", "bfloat16")
    what = "of weights and computation; bfloat16 takes half the memory; default: float32"
    add("--precision", choices=kinds, default="float32", help=what)
    for axis, role in _AXES.items():
        add(f"--mesh.{axis}", type=int, metavar="N", help=f"devices that {role}; -1: the rest")


def add_fields(parser: Parser) -> None:
    """How the texts of a table are named."""
    of_pairs = "of a Hugging Face model, two are a pair; default: as the run's data, else text"
    what = f"column of the text, or columns: {of_pairs}"
    parser.add_argument("--text-field", type=names, default=(), metavar="NAME[,NAME]", help=what)


def add_adapters(parser: Parser) -> None:
    """Adapters on the model as their base, each for the rows that name it."""
    add = parser.add_argument
    what = "a run with LoRA or a PEFT folder on --run as its base; several times: each row names its own"
    add("--adapter", type=named, action="append", default=[], metavar="NAME=DIR", help=what)
    field = "column with the name of a row's adapter; default: adapter"
    add("--adapter-field", default="adapter", metavar="NAME", help=field)


def add_decisions(parser: Parser) -> None:
    """What may be decided after training, see tasks/calibration.py."""
    add, kept = parser.add_argument, "default: as `evaluate --calibrate` kept it with the run, else"
    add("--temperature", type=float, metavar="T", help=f"logits of labels are divided by it; {kept} 1")
    given = f"probability from which on a label of several is given; {kept} the objective's"
    add("--threshold", type=float, metavar="P", help=given)


def named(text: str) -> tuple[str, str]:
    name, equals, where = text.partition("=")
    if not (name and equals and where):
        raise argparse.ArgumentTypeError(f"{text}: NAME=DIR")
    return name, where


def names(text: str) -> tuple[str, ...]:
    """NAME,NAME."""
    return tuple(text.split(","))


def _numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


def add_texts(parser: Parser, what: str) -> None:
    """Texts behind the options, or in a file, which `texts` reads."""
    parser.takes_texts = True
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help=f"{what}; behind --, it may begin with a dash"
    )
    what = "file with one more text a line, a glob of them, or a URL (s3://, gs://); -: stdin"
    parser.add_argument("--input", metavar="FILE", help=what)


def add_answers(
    parser: Parser,
    each: str,
    output: str = "file for the answers instead of the terminal",
    place: Callable[[str], Any] | None = None,
) -> None:
    """Where answers go, and their form; `each`: what a line of JSON holds; `place` reads --output, else a file."""
    add_output(parser, output, place=place)
    parser.add_argument("--json", action="store_true", help=f"a line of JSON {each}")


def add_output(
    parser: Parser,
    what: str,
    default: pathlib.Path | None = None,
    place: Callable[[str], Any] | None = None,
) -> None:
    """The file that `write` writes."""
    parser.add_argument("--output", type=place or file_place, metavar="FILE", default=default, help=what)


def texts(options: argparse.Namespace) -> list[str]:
    """The texts of a command line, at least one. UserError where there is none, or one cannot be read."""
    found = list(inputs.each_text(options))
    if not found:
        raise UserError(
            'There is no text: write "TEXT" behind the options, or name a file with --input=FILE (-: stdin).'
        )
    return found


def write(answers: str, to: pathlib.Path | None) -> None:
    """Prints the answers, or makes them the contents of a file."""
    if to is None:
        print(answers, flush=True)
        return
    try:
        to.write_text(answers + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output={to}: cannot be written: {error.strerror}.") from error


def as_json(value: Any) -> str:
    """A line of JSON; letters that the terminal cannot show are escaped."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not utf8)


def file_place(text: str) -> pathlib.Path:
    """A file that can be made, known before anything is computed."""
    path = pathlib.Path(text).expanduser()
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: a file in a folder that exists")
    return path
