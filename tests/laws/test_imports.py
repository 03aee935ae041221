"""Law: who may import whom. The table is the architecture; a new arrow is a decision, made here."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "jaxlm"

# Package or module -> what of ours it may import, besides itself and `errors`.
ALLOWED = {
    "batch": set(),
    "cached": set(),
    "errors": set(),
    "formats": set(),
    "buckets": {"cached"},
    "config": {
        "buckets",
        "checkpoint",
        "data",
        "partition",
    },  # the dataclasses a config is made of; the run folder
    "models": {"batch"},
    "optim": {"batch"},
    "partition": {"batch"},
    "monitor": {"batch"},
    "checkpoint": {"batch", "runtime"},  # hosts save and restore together
    "runtime": {"batch"},
    "data": {"batch", "buckets", "cached", "formats"},  # tokenizers stand in protobuf and GGUF files
    # What rows are filled with; what a model returns; sums over rows that a mesh has split.
    "objectives": {"batch", "cached", "data", "models", "partition"},
    "views": {"models"},
    "report": {"checkpoint", "monitor"},  # reads run folders, without JAX
    "convert": {"formats", "models"},
}
# Above them, floor by floor: each imports what is below, nothing beside it and nothing above.
FLOORS = (
    "run",
    "exchange",
    "infer",
    "evaluate",
    "tasks",
    "compress",
    "export",
    "serve",
    "training",
    "planning",
    "commands",
)
TOP = {"api", "train", "entry", "__main__"}


def _ours(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("jaxlm.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxlm":
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxlm."):
            found.add(node.module.split(".")[1])
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_package_may(path):
    package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if package in TOP | {"__init__"} or _is_door(path):
        return
    if package in FLOORS:
        allowed = {
            *ALLOWED,
            *FLOORS[: FLOORS.index(package)],
            *({"entry", "train"} if package == "commands" else ()),
        }
    else:
        assert package in ALLOWED, f"{package} is not in the table of this test: decide what it may import."
        allowed = ALLOWED[package]
    extra = _ours(path) - allowed - {package, "errors"}
    assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}; {package} may not."


def _is_door(path: pathlib.Path) -> bool:
    """`python -m jaxlm.NAME` of a command in jaxlm/commands/."""
    text = path.read_text()
    return bool(re.search(r"^from jaxlm\.commands\.\w+ import run$", text, re.M)) and text.count("\n") < 8


def test_there_is_no_junk_drawer():
    junk = {"utils", "util", "helpers", "common", "misc"}
    assert not [p for p in FILES if p.stem in junk or p.parent.name in junk]


def test_only_build_splits_and_merges_nnx():
    banned = (
        "nnx.split(",
        "nnx.merge(",
        "nnx.jit",
        "nnx.scan",
        "nnx.vmap",
        "nnx.remat",
        "nnx.Optimizer",
        "nnx.Dropout",
    )
    for path in FILES:
        text = path.read_text()
        hits = [b for b in banned if b in text]
        if path.relative_to(PACKAGE) == pathlib.Path("models/build.py"):
            hits = [h for h in hits if h not in ("nnx.split(", "nnx.merge(")]
        assert not hits, f"{path}: {hits}"


def test_only_one_module_imports_orbax():
    users = [p for p in FILES if "orbax" in _imports(p)]
    assert [p.relative_to(PACKAGE).as_posix() for p in users] == ["checkpoint/storage.py"]


def _imports(path: pathlib.Path) -> set[str]:
    roots = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    return roots


def test_nothing_is_unpickled():
    for path in FILES:
        text = path.read_text()
        assert "pickle" not in _imports(path), path
        assert "allow_pickle=True" not in text, path
