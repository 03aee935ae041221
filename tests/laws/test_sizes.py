"""Law: files near 150 lines and rarely over 300, functions rarely over 40. Exceptions carry their reason."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[2] / "jaxlm"
FILE_LINES, FUNCTION_LINES = 300, 40

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "train.py:train": "the run in chapters, read from top to bottom; splitting it would hide the flow"
}


def test_files_are_short():
    long = {}
    for path in PACKAGE.rglob("*.py"):
        name, count = path.relative_to(PACKAGE).as_posix(), len(path.read_text().splitlines())
        if count > FILE_LINES and name not in LONG_FILES:
            long[name] = count
    assert not long, f"over {FILE_LINES} lines: {long}"


def test_functions_are_short():
    long = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                count = _own_lines(node)
                name = f"{path.relative_to(PACKAGE).as_posix()}:{node.name}"
                if count > FUNCTION_LINES and name not in LONG_FUNCTIONS:
                    long[name] = count
    assert not long, f"over {FUNCTION_LINES} lines: {long}"


def test_train_is_one_readable_file():
    assert len((PACKAGE / "train.py").read_text().splitlines()) < 200


def test_every_module_says_what_it_is():
    silent = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def _own_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and without the functions inside it."""
    inner = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and n is not node]
    outermost = [
        n for n in inner if not any(o is not n and o.lineno <= n.lineno <= (o.end_lineno or 0) for o in inner)
    ]
    nested = sum((n.end_lineno or 0) - n.lineno + 1 for n in outermost)
    docstring = 0
    if ast.get_docstring(node):
        first = node.body[0]
        docstring = (first.end_lineno or 0) - first.lineno + 1
    return (node.end_lineno or 0) - node.lineno + 1 - nested - docstring
