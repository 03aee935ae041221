"""llama.cpp, asked about a file. In: a GGUF, texts, rows of ids. Out: its ids, greedy tokens or vectors.

It comes as a prebuilt program with npm's package node-llama-cpp and runs in a process of its own (`llama_cpp.mjs`).
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from jaxlm.errors import UserError

PACKAGES = "JAXLM_NODE_MODULES"
_NAME = "node-llama-cpp"
_SCRIPT = pathlib.Path(__file__).with_name("llama_cpp.mjs")
_FIX = (
    "Install Node.js 20 or newer, then: npm install --ignore-scripts node-llama-cpp@3.22.1 (it brings llama.cpp built "
    f"for this machine), here or in a folder DIR, with {PACKAGES}=DIR/node_modules."
)
_SECONDS = 3600


def find() -> tuple[str, pathlib.Path]:
    """(node, the folder of the package). UserError where one of them is not installed."""
    node = shutil.which("node")
    if node is None:
        raise UserError(f"--check of a GGUF runs llama.cpp through Node.js, and there is no node. {_FIX}")
    here = pathlib.Path.cwd()
    places = [place / "node_modules" for place in (here, *here.parents)]
    if given := os.environ.get(PACKAGES):
        places = [pathlib.Path(given).expanduser()]
    elif npm := shutil.which("npm"):
        found = subprocess.run(
            [npm, "root", "-g"], capture_output=True, text=True, check=False
        ).stdout.strip()
        places += [pathlib.Path(found)] if found else []
    for place in places:
        if (place / _NAME / "dist" / "index.js").is_file():
            return node, place / _NAME
    where = f"{PACKAGES}={given}" if given else "node_modules here or above, nor in npm's global ones"
    raise UserError(f"--check of a GGUF runs llama.cpp, and {_NAME} is not in {where}. {_FIX}")


def ask(
    file: pathlib.Path, texts: Sequence[str], rows: Sequence[Sequence[int]], *, encoder: bool, count: int = 0
) -> dict[str, Any]:
    """`engine`, `tokens` (ids of the texts, without special ones), and of the rows `vectors` of an encoder, or
    `greedy`: at most `count` next tokens, each with the likeliest five and their probabilities.

    UserError: it is not installed, or does not run the file.
    """
    node, package = find()
    request = {"package": str(package), "file": str(file.resolve()), "texts": list(texts), "count": count}
    request |= {"rows": [list(map(int, row)) for row in rows], "encoder": encoder}
    with tempfile.TemporaryDirectory() as folder:
        question, answer = (pathlib.Path(folder) / name for name in ("request.json", "answer.json"))
        question.write_text(json.dumps(request), encoding="utf-8")
        command = [node, str(_SCRIPT), str(question), str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{file}: llama.cpp has no answer after {_SECONDS} seconds.") from error
        if done.returncode or not answer.is_file():
            said = (done.stderr or done.stdout).strip()[-1500:]
            raise UserError(f"{file}: llama.cpp does not run it (exit code {done.returncode}):\n{said}")
        return json.loads(answer.read_text(encoding="utf-8"))
