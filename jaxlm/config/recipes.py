"""Where recipes are. In: what stands behind --config. Out: a file: the one of that path, or a recipe of jaxlm's own.

`--config=bert_base` is the recipe that comes with jaxlm, from any folder, and so is `--config=configs/bert_base.py`
where there is no such file. Either may go on with `:ARGUMENT`, which the recipe's get_config takes.
"""

import pathlib

import jaxlm
from jaxlm.errors import UserError, did_you_mean

_COMPRESSION = "compress_"  # what names of recipes begin with that train nothing


def shipped() -> dict[str, pathlib.Path]:
    """The recipes of this version by name: they are in the wheel, and in configs/ of a checkout."""
    return {name: path for name, path in _all().items() if not name.startswith(_COMPRESSION)}


def of_compression() -> dict[str, pathlib.Path]:
    """Those of `jaxlm compress`."""
    return {name: path for name, path in _all().items() if name.startswith(_COMPRESSION)}


def _all() -> dict[str, pathlib.Path]:
    package = pathlib.Path(jaxlm.__file__).parent
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}


def file(config: str) -> pathlib.Path:
    """The recipe of `recipe.py:argument`, where the argument may hold slashes and colons."""
    return pathlib.Path(config.split(":")[0])


def located(given: str, flag: str = "--config") -> str:
    """The path of the recipe that `given` names, with its argument. UserError for a recipe that does not exist."""
    if file(given).is_file():
        return given
    name, colon, argument = given.partition(":")
    found = _all().get(name.removeprefix("configs/").removesuffix(".py"))
    if found is None:
        raise UserError(f"{flag}={given}: no such file. {hint(given)}")
    return f"{found}{colon}{argument}"


def hint(given: str = "") -> str:
    """What --config may be, with the recipes that there are for a name that is none of them."""
    known = [*map(str, sorted(pathlib.Path("configs").glob("*.py"))), *shipped()]
    close = did_you_mean(given, known) or did_you_mean(file(given).stem, known)
    listed = f" Recipes of jaxlm: {', '.join(shipped())}." if given and not close else ""
    return f"Name a file, or a recipe that `jaxlm recipes` lists, such as --config=bert_base.{close}{listed}"
