"""The documentation as a site: built without warnings, network or JAX, and whole."""

import dataclasses
import html
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import jaxlm
from jaxlm.config import meanings

ROOT = pathlib.Path(__file__).parents[2]
# No import of JAX and no connection succeeds.
BUILD = """
import socket, sys
sys.modules["jax"] = socket.socket.connect = None
from mkdocs.__main__ import cli
cli()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(name, reason="needs the extra `docs`: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-c", BUILD, "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site):
    read = 0
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text()
        tags = re.findall(r"<(?:script|link|img|iframe|source|object)\b[^>]*>", text)
        assert not [tag for tag in tags if re.search(r"""(src|href|data)=["']?(https?:)?//""", tag)], path
        assert not re.search(r"""(url\(|@import )["']?(https?:)?//""", text), path
        read += len(tags)
    assert read > 100


def test_the_search_finds_what_the_pages_hold(site):
    found = {
        one["location"]: one["text"]
        for one in json.loads((site / "search/search_index.json").read_text())["docs"]
    }
    assert "before every stage" in found["data.html#isolation-shown-before-every-stage"]
    assert "Trains" in found["reference/api.html#jaxlm.fit"]
    pages = {location.partition("#")[0] for location in found}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} < pages
    assert {"index.html", "contributing.html", "changelog.html", "launch.html"} < pages


def test_every_public_name_is_explained(site):
    page = (site / "reference/api.html").read_text()
    assert [name for name in jaxlm.__all__ if f'id="jaxlm.{name}"' not in page] == []


def test_every_config_class_is_shown_with_the_meaning_of_its_fields(site):
    sections = {}
    for path in (site / "reference").glob("*.html"):
        parts = re.split(r'<h\d id="(jaxlm\.[\w.]+)"', path.read_text())
        sections |= dict(zip(parts[1::2], parts[2::2], strict=True))
    for name, module in meanings.classes().items():
        kind = getattr(importlib.import_module(module), name)
        section = sections[f"{module}.{name}"]
        rows = re.findall(r"<tr class=\"doc-section-item\">(.*?)</tr>", section, re.DOTALL)
        shown = {found[1]: _words(row) for row in rows if (found := re.search(r"<code>(\w+)</code>", row))}
        assert list(shown) == [field.name for field in dataclasses.fields(kind)], name
        for field, meaning in meanings.of(kind).items():
            assert _words(html.escape(meaning)) in shown[field], f"{name}.{field}"


def _words(text: str) -> str:
    """Letters and digits, without tags."""
    return re.sub(r"[^\w]|_", "", html.unescape(re.sub(r"<[^>]+>", "", text)))
