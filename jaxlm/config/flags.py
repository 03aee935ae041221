"""Reads a recipe and its overrides from a command line. In: argv. Out: `Command` with a validated Run.

`ml_collections.config_flags` loads `--config=configs/x.py` and applies `--config.key=value` with the type of the key;
unknown keys and flags are answered with the closest known one.
"""

import contextlib
import dataclasses
import pathlib
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from jaxlm.config import former, recipes, tree
from jaxlm.config.schema import Run
from jaxlm.data.places import expanded
from jaxlm.errors import UserError, did_you_mean

# Literals are checked by Run.validate, whose message lists the choices.
config_flags.register_flag_parser_for_type(typing.Literal, flags.ArgumentParser())
_NAME = "config"  # of the flag; config_flags calls the recipe's module NAME_config


@dataclasses.dataclass(frozen=True)
class Command:
    """A parsed command line: the run, where it lives, and which values the command line set."""

    run: Run
    workdir: pathlib.Path
    overrides: dict[str, Any]
    explain: bool
    allow_config_change: bool
    words: str  # as typed


def parse(argv: Sequence[str]) -> Command:
    """Parses `argv` (argv[0] is the program). Raises UserError for anything the user typed wrong."""
    words = " ".join(argv[1:])
    argv, path = recipes.located(argv)
    values, config = _definitions(argv)
    with _neighbours(path):
        _check_overrides(argv, path)
    try:
        with _neighbours(path):
            rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"Unknown flag --{error.flagname}.{did_you_mean(error.flagname, values)}") from error
    except (flags.Error, KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"Bad command line: {error}{former.advice(error)}") from error
    if values.help:
        print(f"usage: python -m jaxlm.train --config=RECIPE [--config.KEY=VALUE ...]\n{values.get_help()}")
        raise SystemExit(0)
    if len(rest) > 1:
        raise UserError(f"Unexpected argument {rest[1]!r}: overrides are written --config.key=value.")
    if path is None:
        raise UserError(f"No recipe given. {recipes.hint()}")
    run = config.value
    tree.trust(run, sys.modules[f"{_NAME}_config"])
    run.validate()
    overrides = config_flags.get_override_values(values["config"])
    workdir = local_folder(values.workdir or f"runs/{recipes.file(path).stem}", "--workdir")
    return Command(run, workdir, overrides, values.explain, values.allow_config_change, words)


def _definitions(argv: list[str]) -> tuple[flags.FlagValues, Any]:
    """The flags of a training command, and the holder of the config."""
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        _NAME,
        None,
        "Recipe, e.g. bert_base or a file; override with --config.key=value.",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string(
        "workdir", None, "Run folder. Default: runs/ + the recipe's name.", flag_values=values
    )
    flags.DEFINE_bool(
        "explain", False, "Print every resolved value and its origin, then stop.", flag_values=values
    )
    flags.DEFINE_bool(
        "allow_config_change", False, "Continue a run with a changed schedule.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values, config


def local_folder(path: str, where: str) -> pathlib.Path:
    """A folder of this machine, with ~ expanded. UserError for a bucket."""
    if "://" in path:
        raise UserError(f"{where}={path}: run folders are local (or mounted) folders. Fix: mount the bucket.")
    return expanded(path)


def load(path: str | pathlib.Path) -> Run:
    """The Run of a recipe file, validated, without overrides."""
    return parse(["load", f"--config={path}"]).run


def explain(run: Run, overrides: dict[str, Any]) -> str:
    """Every resolved value, one a line, with its origin: recipe, default or command line."""
    rows = [("key", "value", "origin")]
    for path, value, has_default in tree.leaves(run):
        rows.append((path, repr(value), _origin(run, path, value, has_default, overrides)))
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
        return "recipe"
    parent: Any = run
    *above, name = re.findall(r"\w+|\[\d+\]", path)
    for step in above:
        parent = parent[int(step[1:-1])] if step.startswith("[") else getattr(parent, step)
    field = next(f for f in dataclasses.fields(parent) if f.name == name)
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # pyright: ignore
    return "default" if value == default else "recipe"


@contextlib.contextmanager
def _neighbours(path: str | None) -> Iterator[None]:
    """Lets a recipe import the recipes beside it, as a script may import the modules beside it."""
    folder = str(recipes.file(path or ".").parent.absolute())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _recipe(path: str) -> Run:
    """Executes a recipe. UserError when it cannot be loaded or does not give a Run."""
    try:
        run = config_flags.config_flags.ConfigFileFlagParser(_NAME).parse(path)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[-1:] or [""]
        shown = f"{type(error).__name__}: {reason[0]}{former.advice(error)}"
        raise UserError(f"The recipe {path} cannot be loaded: {shown}") from error
    if not isinstance(run, Run):
        raise UserError(f"The recipe {path} gives {type(run).__name__}; its get_config() must return a Run.")
    return run


def _check_overrides(argv: Sequence[str], path: str | None) -> None:
    """Answers an unknown key before config_flags does, with the closest known key."""
    keys = [m.group(1) for a in argv if (m := re.match(r"--?(?:no)?config\.([^=]+)", a))]
    if path is None:
        return
    run = _recipe(path)
    known = [key for key, _, _ in tree.leaves(run)] + [key for key, _ in tree.nodes(run, "") if key]
    for key in keys:
        element = re.fullmatch(r"(.*)\[\d+\]", key)
        if (
            key in known
            or (element and element.group(1) in known)
            or any(k.startswith(f"{key}[") for k in known)
        ):
            continue
        last = key.rpartition(".")[2]
        hint = did_you_mean(key, known) or did_you_mean(last, [k.rpartition(".")[2] for k in known])
        siblings = _siblings(key, known)
        raise UserError(f"Unknown config key --config.{key} in {path}.{hint} {siblings}".rstrip())


def _siblings(key: str, known: list[str]) -> str:
    parent = key.rpartition(".")[0]
    inside = f"{parent}." if parent else ""
    names = sorted({k[len(inside) :].split(".")[0].split("[")[0] for k in known if k.startswith(inside)})
    if not names:
        return ""
    place = f"config.{parent}" if parent else "config"
    return f"Known in {place}: {', '.join(names)}."
