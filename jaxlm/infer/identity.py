"""What makes a model the same again. In: a run folder, a model folder, `hf:DIR` or a .gguf file. Out: a digest.

It is of the content, wherever that lies: of a run of the manifest of the checkpoint, which holds the hash of every
file; of other files of all bytes, since training may have changed a head alone.
"""

import hashlib
import pathlib
from collections.abc import Iterator

from jaxlm.checkpoint import manifest
from jaxlm.checkpoint.opened import names_step
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.exchange import adapter_reading, model_folder, stored
from jaxlm.formats import weights

_ENDINGS = (".json", ".safetensors", ".bin", ".gguf", ".msgpack", ".model", ".jinja")
_NAMES = ("vocab.txt", "merges.txt", "calibration.json")


def of_model(place: str, step: int | None = None) -> str:
    """`step`: of a run, the best if None. UserError where there is no model."""
    digest = hashlib.sha256()
    for name, path in _files(place, step):
        digest.update(f"{name} {path.stat().st_size} ".encode())
        digest.update(content(path))
    return digest.hexdigest()[:16]


def content(path: pathlib.Path) -> bytes:
    """A digest of a file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error


def _files(place: str, step: int | None) -> Iterator[tuple[str, pathlib.Path]]:
    """Names that do not say where the model lies, and files."""
    if stored.is_foreign(place) or not stored.is_ours(_of_run(expanded(place))):
        path = weights.find(place.removeprefix(stored.HF))
        yield from _below(path)
        base = (adapter_reading.about(path) or {}).get("base_model_name_or_path")
        if base and pathlib.Path(base).expanduser().exists():
            yield from _below(weights.find(base))
        return
    path = expanded(place)
    if model_folder.is_one(path):
        yield from ((model_folder.FILE, path / model_folder.FILE), *_below(path / "tokenizer"))
        yield "checkpoint", path / "checkpoints" / "0" / manifest.FILE
        return
    chosen = path if names_step(path) else None
    if chosen is None:
        number = stored.best_step(path) if step is None else step
        inner = path / "checkpoints"
        chosen = (inner if inner.is_dir() else path) / str(number)
    yield "checkpoint", chosen / manifest.FILE
    root = chosen.parent.parent
    yield from (
        (name, root / name) for name in ("config.json", "calibration.json") if (root / name).is_file()
    )
    yield from _below(root / "tokenizer")


def _of_run(path: pathlib.Path) -> pathlib.Path:
    """The run's folder of that of its checkpoints, or of one of them."""
    inside = path.parent if names_step(path) else path
    return inside.parent if inside.name == "checkpoints" else inside


def _below(path: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """What makes a model of a folder, or a single file."""
    if path.is_file():
        yield path.name, path
        return
    for one in sorted([*path.glob("*"), *path.glob("*/*")]):
        name = str(one.relative_to(path))
        hidden = any(part[0] == "." or part.endswith(".parts") for part in one.relative_to(path).parts)
        if (
            one.is_file()
            and not hidden
            and (one.suffix in _ENDINGS or one.name in _NAMES or ".ckpt" in one.name)
        ):
            yield name, one
