"""A folder that a stranger filled. In: names of files in it. Out: paths and parsed JSON; nothing outside it is touched.

Guaranteed: a name that is absolute or climbs out, a link that leaves the folder and a file beyond its limit are refused
by name. In a hub's cache the links of a snapshot may point to the blobs of the same model, which is how it is laid out.
"""

import collections
import json
import os
import pathlib
from typing import Any

from jaxlm.errors import Damaged, UserError, reading

_LONGEST_NAME = 1024  # characters
_JSON_LIMIT = 64 * 2**20  # bytes; the largest published tokenizer.json has 33 MB


class Folder:
    """Reads of one folder."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(os.path.expanduser(path))
        if not self.path.is_dir():
            raise UserError(
                f"{path}: no such folder. Name the folder that holds config.json and the weights."
            )
        root = self.path.resolve()
        in_cache = root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--")
        self._root = root.parent.parent if in_cache else root

    def has(self, name: str) -> bool:
        """Whether there is something of that name, a file or a link. UserError for a name that leads out."""
        path = self.path / self._checked(name)
        with reading(str(path)):
            return path.exists() or path.is_symlink()

    def file(self, name: str) -> pathlib.Path:
        """The path of a file in the folder. UserError when it is missing, elsewhere, or no plain file."""
        path = self.path / self._checked(name)
        with reading(str(path)):
            target = path.resolve()
            plain = target.is_file()
        if not target.is_relative_to(self._root):
            raise UserError(
                f"{path} is a link to {target}, outside of the folder: refused. Put the file itself there."
            )
        if not plain:
            raise UserError(
                f"{path}: no such file. The download is incomplete, or it is not a model's folder."
            )
        return target

    def _checked(self, name: str) -> pathlib.PurePosixPath:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "\0" in name:
            raise UserError(f"{self.path}: {str(name)[:80]!r} is not the name of a file.")
        given = pathlib.PurePosixPath(name.replace("\\", "/"))
        if given.is_absolute() or ".." in given.parts or ":" in name:
            raise UserError(
                f"{self.path}: the file name {name!r} leads out of the folder: refused. Only files of the folder are "
                "taken; fetch the model anew, from someone you trust."
            )
        return given

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file."""
        return parse(self.text(name), str(self.path / name))

    def text(self, name: str) -> str:
        """The text of a file."""
        path = self.file(name)
        with reading(str(self.path / name)):
            if (size := path.stat().st_size) > _JSON_LIMIT:
                raise Damaged(f"it has {size} bytes; at most {_JSON_LIMIT} are read of such a file")
            return path.read_text(encoding="utf-8")


def parse(text: str | bytes, where: str) -> dict[str, Any]:
    """A JSON object. UserError when it is something else, or names a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice, _ = collections.Counter(name for name, _ in pairs).most_common(1)[0]
            raise UserError(f"{where}: {twice[:80]!r} stands there twice.")
        return found

    with reading(where, "is not JSON"):
        value = json.loads(text, object_pairs_hook=unique)
    if not isinstance(value, dict):
        raise UserError(f"{where} holds a {type(value).__name__}; a JSON object was expected.")
    return value
