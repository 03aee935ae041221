"""The pages of the site that are no file of docs/. Called by mkdocs, which finds it in mkdocs.yml.

Pages of the repository (README.md is the first) and the reference, which is made of docstrings. Links stay as a code
host follows them, relative to the file they stand in; here they are turned into those of the site.
"""

import json
import os
import pathlib
import posixpath
import re
import sys
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import fields  # noqa: E402

import jaxlm  # noqa: E402

# File of the repository -> file of the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "launch/README.md": "launch.md",
    "notebooks/quickstart_colab.ipynb": "quickstart_colab.ipynb",
}
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")

# Page of the reference -> title, and the packages whose config classes it shows.
REFERENCE = {
    "config": ("A run", ("config", "evaluate", "tasks", "checkpoint", "partition")),
    "models": ("Models", ("models",)),
    "objectives": ("Objectives", ("objectives",)),
    "data": ("Data and tokenizers", ("data",)),
    "optim": ("Optimizers and schedules", ("optim",)),
    "views": ("Views", ("views",)),
    "compress": ("Compression", ("compress",)),
}
OWN = {
    "jaxlm.objectives.objective": ["Objective"],
    "jaxlm.data.corpus.source": ["Reader", "Record"],
    "jaxlm.data.corpus.steps": ["Step"],
    "jaxlm.batch": ["Vocabulary", "Row", "Batch", "Loss"],
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them."""
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for name, text in reference():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository become those of the site."""
    here = page.file.src_uri
    source = next((s for s, name in OUTSIDE.items() if name == here), f"docs/{here}")

    def moved(link: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        name = OUTSIDE.get(target, target.removeprefix("docs/"))
        return f"]({os.path.relpath(name, os.path.dirname(here) or '.')}"

    return _LINK.sub(moved, markdown)


def reference() -> Iterator[tuple[str, str]]:
    """(name, text) of each page of the reference."""
    parts = [directive("jaxlm.api", members=False, show_root_heading=False, show_root_toc_entry=False)]
    parts += [
        directive(f"jaxlm.{name}") for name in sorted(jaxlm.__all__, key=lambda name: name[0].isupper())
    ]
    yield "api", "\n\n".join(["---\nsearch: {boost: 3}\n---\n# From Python", *parts])
    of_module: dict[str, list[str]] = {}
    for name, module in fields.meanings.classes().items():
        of_module.setdefault(module, []).append(name)
    for page, (title, packages) in REFERENCE.items():
        parts = [
            directive(module, members=names, filters=["!^"], show_signature=False)
            for package in packages
            for module, names in of_module.items()
            if module.split(".")[1] == package
        ]
        yield page, "\n\n".join([f"# {title}", *parts])
    parts = [directive(module, members=names) for module, names in OWN.items()]
    yield "own", "\n\n".join(["# Classes of your own", *parts])


def directive(name: str, **options: object) -> str:
    """What mkdocstrings replaces with the docstrings of `name`."""
    return f"::: {name}\n    options: {json.dumps(options)}"
