"""The table of docs/export.md: models in every format, loaded by its engine, beside our outputs.

    python tools/export_table.py --name=MiniLM hf:path/to/minilm [--format=NAME ...] [--write]

Every format of jaxlm/export/formats.py is made of the model, in every dtype that it has, in a folder that goes away
again. What a format refuses, or whose engine is not installed, is said and left out. With --write the lines of the same
format and model in docs/export.md are replaced; the others stay.
"""

import argparse
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jaxlm import entry
from jaxlm.errors import UserError
from jaxlm.export import formats

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "export.md"
BEGIN, END = "<!-- differences -->", "<!-- /differences -->"
HEAD = "| format | model | MB | engine | what | largest difference | allowed |\n|---|---|---|---|---|---|---|"


def rows(name: str, model: str, path: str) -> list[str]:
    """The lines of a model in one format."""
    dtypes = getattr(formats.of(name), "OPTIONS", {}).get("dtype", (None,))
    found = []
    for dtype in dtypes:
        source = formats.Source(path=path, options=formats.options(name, {"dtype": dtype}))
        with tempfile.TemporaryDirectory() as folder:
            target = pathlib.Path(folder) / "made"
            try:
                formats.write(name, source, target, say=print)
                checked = formats.of(name).check(source, target, print)
            except UserError as error:
                print(f"{name} of {model}: left out: {error}")
                return []
            size = sum(one.stat().st_size for one in target.rglob("*") if one.is_file()) / 1e6
        found += [
            f"| {name} | {model} | {size:.1f} | {one.engine} | {one.what} | {one.largest:.1e} | {one.allowed:.1e} |"
            for one in checked
        ]
    return found


def merged(page: str, made: list[str]) -> str:
    """The page with these lines in place of those of the same format and model."""
    before, rest = page.split(BEGIN)
    table, after = rest.split(END)
    key = lambda line: tuple(word.strip() for word in line.split("|")[1:3])
    names = list(formats.FORMATS)
    new = {key(line) for line in made}
    kept = [
        line for line in re.findall(r"^\| .*$", table, re.M) if key(line)[0] in names and key(line) not in new
    ]
    both = sorted(kept + made, key=lambda line: (names.index(key(line)[0]), key(line)[1]))
    return f"{before}{BEGIN}\n" + "\n".join([HEAD, *both]) + f"\n{END}{after}"


def main(argv: list[str]) -> int:
    """Prints the lines, or writes them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="run folder, model folder or hf:DIR")
    parser.add_argument("--name", required=True, help="what the model is called in the table")
    parser.add_argument("--format", action="append", choices=list(formats.FORMATS), help="default: all")
    parser.add_argument("--write", action="store_true", help="into the page")
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    options = parser.parse_args(argv[1:])
    made = [
        line for name in options.format or formats.FORMATS for line in rows(name, options.name, options.model)
    ]
    print("\n".join([HEAD, *made]))
    if options.write and made:
        options.page.write_text(merged(options.page.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    entry.run(main)
