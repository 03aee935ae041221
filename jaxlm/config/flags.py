"""Reads a recipe and its overrides from a command line. In: argv. Out: `Command` with a validated Run.

`--config=bert_base` (or just `bert_base`) names a recipe, `--config.key=value` changes a value of it, with the type of
the key (`ml_collections.config_flags`) or, for an object, as `Name(field=value)` (`config.swap`). Without a recipe the
run of `--workdir` goes on with its own configuration. Unknown keys and flags are answered with the right one.
"""

import dataclasses
import pathlib
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import flags
from ml_collections import config_flags

from jaxlm.config import executed, folder, former, hints, recipes, remote, swap, tree, usage
from jaxlm.config.executed import Code
from jaxlm.config.schema import Run
from jaxlm.data.places import expanded
from jaxlm.errors import UserError, did_you_mean

# Literals are checked by Run.validate, whose message lists the choices.
config_flags.register_flag_parser_for_type(typing.Literal, flags.ArgumentParser())
Made = typing.TypeVar("Made", bound=Any)  # what a recipe gives: a Run, or another config
_NAME = "config"  # of the flag
# What recipes with a parameter of that name get as well
_GIVEN = {"start": "--config.init_from=", "teacher": "--config.teacher="}
_OVERRIDE = re.compile(r"--?(no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Command:
    """A parsed command line: the run, where it lives, and which values the command line set."""

    run: Run
    workdir: pathlib.Path
    overrides: dict[str, Any]
    explain: bool
    allow_config_change: bool
    source: str = "recipe"  # where all other values come from
    words: str = ""  # as typed
    preflight: bool = False  # measure what precedes a run, and stop
    code: Code | None = None  # the recipe and modules that were executed; None: the run came from Python
    note: str = ""  # what it begins with, where the command line leaves that open
    url: str = ""  # of the bucket's folder that `workdir` is a copy of, if any

    @property
    def known(self) -> folder.RunFolder:
        """The run folder as it is before the run is started, to be read only."""
        return folder.RunFolder(remote.glimpsed(self.workdir, self.url), self.url)


def parse(argv: Sequence[str]) -> Command:
    """Parses `argv` (argv[0] is the program). Raises UserError for anything the user typed wrong."""
    values = _definitions()
    try:
        rest = values([argv[0], *map(_spelled, argv[1:])], known_only=True)[1:]
    except flags.Error as error:
        raise UserError(f"Bad command line: {error}") from error
    overrides, others = _sorted(rest)
    if values.config is None:
        values.config = _named(others)
    path = None if values.config is None else recipes.located(values.config)
    code = named_recipe(values.recipe)
    said = lambda flag: next((word.partition("=")[2] for word in overrides if word.startswith(flag)), "")
    named = {name: said(flag) for name, flag in _GIVEN.items()}
    run, code = executed_recipe(path, named) if path is not None else (_saved(values.workdir), code)
    for word in others:
        _refuse(word, run, values)
    if values.help:
        print(usage.general() if run is None else usage.of_run(run, values.config or values.workdir))
        raise SystemExit(0)
    if run is None:
        lost = f" {values.workdir} holds no run to continue." if values.workdir else ""
        raise UserError(f"No recipe given.{lost} {recipes.hint()}")
    run, given = overridden(run, overrides, path or values.workdir)
    tree.trust(run)
    run.validate()
    workdir = values.workdir or f"runs/{recipes.file(path or '').stem}"
    where, url = remote.working(workdir, "--workdir")
    source = "recipe" if path else "run folder"
    words = " ".join(argv[1:])
    explain, preflight = values.explain, values.preflight
    allow = values.allow_config_change
    return Command(run, where, given, explain, allow, source, words, preflight, code, url=url)


def _definitions() -> flags.FlagValues:
    """The flags of a training command, but for `--config.KEY`."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    define, switch = flags.DEFINE_string, flags.DEFINE_bool
    define(_NAME, None, "Recipe: a name such as bert_base, or a file.", flag_values=values)
    define("workdir", None, "Run folder. Default: runs/ + the recipe's name.", flag_values=values)
    define(
        "recipe", None, "File with the classes of the run in --workdir; it is executed.", flag_values=values
    )
    switch("explain", False, "Print every resolved value and its origin, then stop.", flag_values=values)
    switch("preflight", False, "Check and measure all that precedes a run, then stop.", flag_values=values)
    switch("allow_config_change", False, "Continue a run with a changed schedule.", flag_values=values)
    switch("help", False, "Show every key with its meaning.", short_name="h", flag_values=values)
    return values


def _spelled(word: str) -> str:
    """A flag with underscores, as flags and keys are defined."""
    found = re.fullmatch(r"(--?)([a-zA-Z][\w.\[\]-]*)(=.*)?", word, re.DOTALL)
    return word if found is None else f"{found[1]}{found[2].replace('-', '_')}{found[3] or ''}"


def _sorted(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """(overrides as --config.key=value, all other words)."""
    overrides, others = [], []
    words = iter(rest)
    for word in words:
        found = _OVERRIDE.fullmatch(word)
        if found is None:
            others.append(word)
        elif found[3] is None and not found[1]:
            overrides.append(f"{word}={next(words, '')}")
        else:
            overrides.append(word)
    return overrides, others


def _named(words: list[str]) -> str | None:
    """Takes the recipe out of the words: the first that is neither a flag nor, perhaps, the value of one."""
    for i, word in enumerate(words):
        value = i > 0 and words[i - 1].startswith("-") and "=" not in words[i - 1]
        if not word.startswith("-") and not value:
            return words.pop(i)
    return None


def _saved(workdir: str | None) -> Run | None:
    """The run of a run folder, before its overrides."""
    if workdir is None:
        return None
    place = folder.RunFolder(remote.glimpsed(*remote.working(workdir, "--workdir")))
    return folder.saved_run(place) if place.config.exists() else None


def _refuse(word: str, run: Run | None, values: flags.FlagValues) -> None:
    """UserError for a word that is no flag, with what was meant."""
    name, equals, value = word.lstrip("-").partition("=")
    if not word.startswith("-"):
        text = " Text to train on: --config.data.corpus=" + word + "." if pathlib.Path(word).exists() else ""
        raise UserError(f"Unexpected argument {word!r}: overrides are written --config.key=value.{text}")
    if run is not None and hints.is_key(run, name):
        raise UserError(
            f"Unknown flag --{name}: values of the run are written --config.{name}{equals}{value}."
        )
    near = did_you_mean(name, values)
    meant = "" if run is None else hints.hint(run, name)
    raise UserError(f"Unknown flag --{name}.{meant or near}")


def overridden(run: Made, words: Sequence[str], where: str) -> tuple[Made, dict[str, Any]]:
    """(the run, or another config, with overrides `--config.KEY=VALUE`, objects first; {key: value} of them)."""
    made, plain = {}, []
    for word in words:
        _, key, text = _OVERRIDE.fullmatch(word).groups()  # pyright: ignore[reportOptionalMemberAccess]
        if not hints.is_key(run, key):
            if meant := hints.hint(run, key):
                raise UserError(f"Unknown config key --config.{key} in {where}.{meant}")
            raise UserError(f"Unknown config key --config.{key} in {where}.{hints.closest(run, key)}")
        if text is not None and swap.is_component(run, key, text):
            made[key] = swap.swapped(run, key, text, f"--config.{key}={text}")
        else:
            plain.append(word)
    fields = flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_dataclass(_NAME, run, flag_values=fields, sys_argv=["", *plain])
        fields(["", *plain])
    except (flags.Error, KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"Bad command line: {error}{former.advice(error)}") from error
    given = made | config_flags.get_override_values(fields[_NAME])
    return _in_place(holder.value, given), given


def _in_place(run: Made, given: dict[str, Any]) -> Made:
    """The run, in which what is given takes the place of what says the same in another way."""
    for field in dataclasses.fields(run):
        name, other = field.name, field.metadata.get("instead_of")
        if other and (name in given) != (other in given):
            silent = other if name in given else name
            run = dataclasses.replace(run, **{silent: type(getattr(run, silent))(0)})
    return run


def load(path: str | pathlib.Path) -> Run:
    """The Run of a recipe file, validated, without overrides."""
    return parse(["load", f"--config={path}"]).run


def named_recipe(given: str | None, *runs: str) -> Code:
    """Executes the recipe of --recipe=FILE, if any, so that `runs` may name its classes; says what of it is not as it
    was when they were trained."""
    if not given:
        return Code()
    code = executed_recipe(recipes.located(given, "--recipe"))[1]
    for run in runs:
        for line in folder.noted(folder.RunFolder(expanded(run))).changes(code):
            print(f"WARNING: {run} was trained with another {line}", file=sys.stderr)  # --json has stdout
    return code


def explain(run: Run, overrides: dict[str, Any], source: str = "recipe") -> str:
    """Every resolved value, one a line, with its origin: `source`, default or command line."""
    rows = [("key", "value", "origin")]
    for path, value, has_default in tree.leaves(run):
        rows.append((path, repr(value), _origin(run, path, value, has_default, overrides) or source))
    for path, node in tree.nodes(run, ""):
        if path:
            rows.append((path, type(node).__name__, "type"))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(
        f"{k:<{widths[0]}}  {v:<{min(widths[1], 60)}}  {o}" for k, v, o in [rows[0], *sorted(rows[1:])]
    )


def _origin(run: Run, path: str, value: Any, has_default: bool, overrides: dict[str, Any]) -> str:
    if any(path == key or path.startswith((f"{key}.", f"{key}[")) for key in overrides):
        return "command line"
    if not has_default:
        return ""
    above, _, name = path.rpartition(".")
    field = next(f for f in dataclasses.fields(tree.at(run, above)) if f.name == name)
    return "default" if value == tree.default(field) else ""


def executed_recipe(
    path: str, given: Mapping[str, str] = MappingProxyType({}), kind: type[Made] = Run
) -> tuple[Made, Code]:
    """Executes a recipe, with what it starts or learns from where that is `given`; its classes may be named from here
    on. UserError when it gives no `kind`."""
    try:
        run, module, code = executed.execute(path, **given)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[-1:] or [""]
        shown = f"{type(error).__name__}: {reason[0]}{former.advice(error)}"
        raise UserError(f"The recipe {path} cannot be loaded: {shown}") from error
    if not isinstance(run, kind):
        raise UserError(
            f"The recipe {path} gives {type(run).__name__}; its get_config() must return a {kind.__name__} here."
        )
    tree.trust(run, module)
    return run, code
