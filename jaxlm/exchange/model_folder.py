"""A model folder: weights without a run. In: a config, parameters and files. Out: DIR, or what is in it.

DIR/{model.json, tokenizer/, origin/, checkpoints/0/}: model.json has the model's config, its heads and where it came
from, tokenizer/ the tokenizer's files, origin/ the rest of what came with it (config.json, model card, ...), byte for
byte; checkpoints/ is the store of a run, with its SHA-256 of every file. It appears complete, or not at all.
"""

import dataclasses
import glob
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Run, former, tree
from jaxlm.convert import families
from jaxlm.data import places
from jaxlm.errors import UserError
from jaxlm.models.forms import Form, taken_apart
from jaxlm.models.heads import Head
from jaxlm.models.paths import flatten, nest

FILE = "model.json"
BUFFERS = "buffers.safetensors"  # in origin/
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """Paths inside a model folder, and its model.json."""

    root: pathlib.Path
    config: Any  # of the model
    heads: Mapping[str, Head]  # on it, by name
    origin: Mapping[str, Any]  # where the weights came from, see importing
    forms: Mapping[str, Form]  # of the weights that are no single arrays, by path
    run: Run | None  # that trained it, if it was one

    @property
    def tokenizer(self) -> pathlib.Path:
        """The tokenizer's files."""
        return self.root / "tokenizer"

    @property
    def origin_files(self) -> pathlib.Path:
        """What else came with the weights."""
        return self.root / "origin"


def is_one(path: pathlib.Path) -> bool:
    """Whether there is a model folder at the path."""
    return (path / FILE).is_file()


def read(path: pathlib.Path) -> ModelFolder:
    """Opens a model folder. UserError when it is not readable."""
    try:
        value = json.loads((path / FILE).read_text(encoding="utf-8"))
        if value["format"] != _FORMAT:
            raise UserError(f"{path / FILE} has format {value['format']}; this version reads {_FORMAT}.")
        config = tree.from_json(value["config"])
        if "heads" in value:
            heads = {name: tree.from_json(head, f"heads.{name}") for name, head in value["heads"].items()}
        else:
            heads = families.named(config, former.heads(value["config"]))
        if not hasattr(config, "module") or not all(isinstance(head, Head) for head in heads.values()):
            raise UserError(f"{path / FILE} describes no model.")
        forms = {path: tree.from_json(form) for path, form in value.get("forms", {}).items()}
        run = tree.from_json(value["run"]) if value.get("run") else None
        return ModelFolder(path, config, heads, value["origin"], forms, run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path / FILE} cannot be read as a model's description ({error}).") from error


def write(
    target: pathlib.Path,
    config: Any,
    heads: Mapping[str, Head],
    params: Any,
    *,
    origin: Mapping[str, Any],
    fingerprint: str,
    tokenizer: Mapping[str, bytes],
    files: Mapping[str, bytes],
    say: Callable[[str], None],
    run: Run | None = None,
) -> None:
    """Writes a model folder; `tokenizer` and `files` are contents by name, `params` arrays or values. UserError when
    something stands there."""
    arrays, forms = taken_apart(flatten(params))
    with new_folder(target) as partial:
        contents = {f"tokenizer/{name}": content for name, content in tokenizer.items()}
        contents |= {f"origin/{name}": content for name, content in files.items()}
        for name, content in contents.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        described = {"format": _FORMAT, "config": tree.to_json(config)}
        described |= {"heads": {name: tree.to_json(head) for name, head in heads.items()}}
        described |= {
            "origin": dict(origin),
            "forms": {path: tree.to_json(form) for path, form in forms.items()},
        }
        described |= {"run": tree.to_json(run)} if run else {}
        meta = {
            "model": described["config"],
            "fingerprints": {"tokenizer": fingerprint},
            "origin": dict(origin),
        }
        checkpoints = Checkpoints(partial / "checkpoints", Keep(latest=1, best=0), say=say)
        checkpoints.save(0, {"params": nest(arrays)}, meta, final=True)
        checkpoints.close()
        (partial / FILE).write_text(json.dumps(described, indent=1))


def check_free(target: pathlib.Path) -> None:
    """UserError when something stands there."""
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UserError(f"{target} exists and is not empty. Name another folder, or remove that one first.")


@contextmanager
def new_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside `target` that becomes it when all went well, and is removed when not. UserError: a full disk."""
    check_free(target)
    name = f".{target.name}.partial-"
    fix = f"Nothing was written to {target}. Fix: make room, or name a folder you can write to."
    with places.disk_errors(target.parent, fix):
        target.parent.mkdir(parents=True, exist_ok=True)
        places.remove_leftovers(target.parent, f"{glob.escape(name)}*")
        partial = pathlib.Path(tempfile.mkdtemp(prefix=name, dir=target.parent))
        try:
            yield partial
            partial.chmod(0o755)  # mkdtemp's are for one user only
            partial.replace(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
