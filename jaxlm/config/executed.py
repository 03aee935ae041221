"""Executes a recipe. In: FILE or FILE:ARGUMENT. Out: what its get_config returns, and the `Code` it is made of.

A recipe may import modules beside it, as a script may, and load other recipes (`jaxlm.load_recipe`) while it is
executed. Guaranteed: they are all read anew each time, so that one process may execute recipes of several folders, and
what was edited in between counts.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import jaxlm
from jaxlm.config import recipes, tree

MODULE = "config_config"  # what the classes of a recipe's own file are called by in run folders
_FOREIGN = {"site-packages", "dist-packages"}
_beside: set[str] = set()  # modules beside the recipe that was executed last
_read: dict[pathlib.Path, str] = {}  # SHA-256 of that recipe and of the recipes that it loaded
_loading: list[types.ModuleType] = []  # from that recipe to the one that is executed now


@dataclasses.dataclass(frozen=True)
class Code:
    """Which files define a run: what its folder notes of them."""

    recipe: str = ""  # absolute path, with its argument
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # SHA-256 by path, seen from the recipe
    unstarted: bool = False  # its get_config takes a `start`, and was given none

    def changes(self, now: "Code") -> list[str]:
        """A line for each of these files that is another now."""
        return [
            f"{name}: SHA-256 {self.files[name][:12]} then, {sha[:12]} now"
            for name, sha in now.files.items()
            if self.files.get(name, sha) != sha
        ]


def execute(path: str, start: str = "", teacher: str = "") -> tuple[Any, types.ModuleType, Code]:
    """(what get_config gives, the recipe as a module, its code). Raises whatever the recipe raises.

    `start`, `teacher`: the argument of a recipe that takes one of that name, unless the path has one.
    """
    name, colon, argument = path.partition(":")
    file = pathlib.Path(name).absolute()
    if not _loading:
        for one in _beside:
            sys.modules.pop(one, None)
        _beside.clear()
        _read.clear()
    known, source = set(sys.modules), file.read_bytes()
    module = types.ModuleType(MODULE)
    module.__file__ = str(file)
    with _loaded(module, str(file.parent)):
        # Not an import: that takes a file for unchanged whose size and second of change are the same.
        exec(compile(source, str(file), "exec"), module.__dict__)
        named = inspect.signature(module.get_config).parameters
        takes = "start" in named
        given = next((v for name, v in (("start", start), ("teacher", teacher)) if v and name in named), "")
        if given and not colon:
            colon, argument = ":", given
        made = module.get_config(*([argument] if colon else []))
    _read[file] = hashlib.sha256(source).hexdigest()
    _beside.update(name for name in set(sys.modules) - known if _is_own(sys.modules[name], file.parent))
    of_modules = _hashes(_beside | _classes(made))
    files = _named(_read | of_modules, file.parent)
    return made, module, Code(f"{file}{colon}{argument}", files, unstarted=takes and not argument)


def has_own(run: Any) -> bool:
    """Whether a run has classes that are not jaxlm's: commands need its recipe then."""
    return any(not type(node).__module__.startswith("jaxlm.") for _, node in tree.nodes(run, ""))


def of_classes(run: Any) -> Code:
    """The files that define classes of a run, where it came from Python."""
    modules = _classes(run)
    recipe = str(sys.modules[MODULE].__file__) if MODULE in modules else ""
    return Code(recipe, {path.name: sha for path, sha in _hashes(modules).items()})


@contextlib.contextmanager
def _loaded(module: types.ModuleType, folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    sys.modules[MODULE] = module
    _loading.append(module)
    try:
        yield
    finally:
        _loading.pop()
        if _loading:
            sys.modules[MODULE] = _loading[-1]
        sys.path.remove(folder)


def _is_own(module: types.ModuleType | None, folder: pathlib.Path) -> bool:
    """Whether a module belongs to the folder of a recipe, and neither to jaxlm nor to what is installed."""
    path = pathlib.Path(getattr(module, "__file__", None) or "/")
    ours = path.is_relative_to(pathlib.Path(jaxlm.__file__).parent) and path.parent != folder
    return path.is_relative_to(folder) and not ours and not _FOREIGN.intersection(path.parts)


def _classes(run: Any) -> set[str]:
    """The modules of a run's classes that are not jaxlm's."""
    kinds = {type(node) for _, node in tree.nodes(run, "")}
    own = [kind for kind in kinds if not kind.__module__.startswith("jaxlm.")]
    there = lambda kind: getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind
    return {kind.__module__ for kind in own if there(kind)}  # or it was read anew since


def _hashes(modules: set[str]) -> dict[pathlib.Path, str]:
    """SHA-256 of the files of modules, as far as they are files."""
    found = {pathlib.Path(getattr(sys.modules.get(name), "__file__", None) or "") for name in modules}
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found) if path.is_file()}


def _named(files: dict[pathlib.Path, str], folder: pathlib.Path) -> dict[str, str]:
    """By path from `folder`; what came with jaxlm is left out elsewhere, its version says what it is."""
    shipped = set(recipes.shipped().values())
    return {
        (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix(): sha
        for path, sha in sorted(files.items())
        if path.parent == folder or path not in shipped
    }
