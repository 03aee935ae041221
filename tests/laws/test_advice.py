"""Law: what messages tell people to type can be typed."""

import ast
import pathlib
import re

import pytest

from jaxlm.compress.step import Compress
from jaxlm.config import Mixture, Share, flags, hints, recipes

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted((ROOT / "jaxlm").rglob("*.py"))
RECIPES = [
    "configs/bert_multi_task.py",
    "configs/t5_small.py",
    "configs/gpt2_small.py",
    "configs/bert_base.py",
    "configs/classification.py",
    "configs/tagging.py",
    "configs/question_answering.py",
    "configs/multi_label.py",
    "configs/multiple_choice.py",
    "configs/chat.py",
]
_BLANK = "\0"  # where a message has a value


def texts(path: pathlib.Path) -> list[tuple[int, str]]:
    """Strings of a file but for docstrings, each whole, with a blank for every value."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)
    }
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else _BLANK for part in node.values]
            found.append((node.lineno, "".join(map(str, parts))))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in skipped | documented
        ):
            found.append((node.lineno, node.value))
    return found


@pytest.fixture(scope="module")
def known() -> set[str]:
    runs = [flags.load(ROOT / recipe) for recipe in RECIPES]
    corpus = runs[0].data.corpus_config()
    runs[0].data.mixture = Mixture(
        shares=(Share(name="a", corpus=corpus, weight=1.0, epochs=0.0),), temperature=1.0
    )
    of_compression = [
        flags.executed_recipe(str(path), kind=Compress)[0] for path in recipes.of_compression().values()
    ]
    return {re.sub(r"\[\d+\]", "[i]", key) for run in (*runs, *of_compression) for key in hints.keys(run)}


def test_every_key_that_a_message_names_is_one(known):
    unknown = []
    for path in FILES:
        for line, text in texts(path):
            for key in re.findall(r"--config\.([\w.\[\]]+)", text):
                key = re.sub(r"\[\w+\]", "[i]", key.rstrip("."))
                if key.isupper() or key in ("key", "KEY") or key in known:
                    continue
                if not any(one.startswith(f"{key}[") for one in known):
                    unknown.append(f"{path.relative_to(ROOT)}:{line}: --config.{key}")
    assert not unknown


def test_advice_is_written_as_it_is_typed():
    bare = []
    for path in FILES:
        for line, text in texts(path):
            for advice in re.findall(r"(?:Fix: |Set |set )(.*)", text):
                if re.search(
                    r"(?<![\w.-])(?:config\.\w|data\.\w+_|\w+_share=|text_fields?=|epochs=)", advice
                ):
                    bare.append(f"{path.relative_to(ROOT)}:{line}: {advice}")
    assert not bare


def test_every_option_that_a_message_names_is_one_of_some_command():
    commands = "".join(path.read_text() for path in (ROOT / "jaxlm" / "commands").glob("*.py"))
    options = set(re.findall(r'add(?:_argument)?\(\s*f?"(--[a-z-]+)', commands)) | {"--help", "--version"}
    options |= {f"--{name.replace('_', '-')}" for name in flags._definitions()}
    foreign = {
        "--xla",
        "--ignore-scripts",
        "--file-format",
        "--local-dir",
        "--shm-size",
        "--long",
        "--logdir",
    }
    former = {"--hf", "--prompt", "--prompts-file"}
    unknown = []
    for path in FILES:
        for line, text in texts(path):
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", text):
                name = option.replace("_", "-")  # which are the same
                if name not in options | foreign | former and not name.startswith("--xla-"):
                    unknown.append(f"{path.relative_to(ROOT)}:{line}: {option}")
    assert not unknown
