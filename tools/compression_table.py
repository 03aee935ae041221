"""Schemes of compression on a model: size, quality with intervals, speed, as a table of docs/compression.md.

    python tools/compression_table.py hf:DIR --name=MiniLM --text=FILE --data=FILE [--schemes=int8,gptq4] [--write]

--text is what activations are measured on, --data (a table, or a text) what quality is measured on; both as of
`jaxlm compress`. Lines are printed as they come; --write puts them into docs/compression.md.
"""

import argparse
import datetime
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from jaxlm.compress import report  # noqa: E402
from jaxlm.compress.calibration import Calibration, Text  # noqa: E402
from jaxlm.compress.gptq import GPTQ  # noqa: E402
from jaxlm.compress.low_rank import LowRank  # noqa: E402
from jaxlm.compress.report import Measured  # noqa: E402
from jaxlm.compress.rounding import Nearest, Quantise  # noqa: E402
from jaxlm.compress.scaling import AWQ, Outliers, Smooth  # noqa: E402
from jaxlm.compress.shrinking import Shrink  # noqa: E402
from jaxlm.compress.step import Step  # noqa: E402
from jaxlm.infer import loaded  # noqa: E402
from jaxlm.infer.loaded import Loaded  # noqa: E402
from jaxlm.views.beside import MATRICES  # noqa: E402
from jaxlm.views.rounding import Rounding  # noqa: E402

PAGE = ROOT / "docs" / "compression.md"
TABLE = r".*tokens/table"
END = "<!-- end -->"
HEAD = "| scheme | weights | forward pass | quality |\n|---|---|---|---|"


def _rule(weights: str, kind: str, group: int = 0, low: bool = False, activations: str = "float") -> Rounding:
    return Rounding(weights=weights, kind=kind, group=group, low=low, activations=activations)  # pyright: ignore


def _low_rank(share: float, activations: bool) -> LowRank:
    return LowRank(weights=MATRICES, share=share, activations=activations, damping=0.001)


def _without(units: float, layers: int, by: str) -> Shrink:
    return Shrink(heads=0.0, units=units, layers=layers, by=by, damping=0.01, seed=0)  # pyright: ignore


WIDE = (_rule(MATRICES, "int8", activations="int16"), _rule(TABLE, "int8", activations="int16"))
EIGHT = (_rule(MATRICES, "int8", activations="int8"), _rule(TABLE, "int8", activations="int8"))
FOUR = (_rule(MATRICES, "int4", 32), _rule(TABLE, "int8"))
LOW = (_rule(MATRICES, "int4", 32, True), _rule(TABLE, "int8"))
SCHEMES: dict[str, Step] = {
    "int8": Quantise(rules=EIGHT, finder=Nearest()),
    "int8, smoothed": Quantise(rules=EIGHT, finder=Smooth(strength=0.5)),
    "int8, 16 outliers apart": Quantise(rules=EIGHT, finder=Outliers(inputs=16, rest=Smooth(strength=0.5))),
    "int8, activations in 16 bits": Quantise(rules=WIDE, finder=Nearest()),
    "int8 weights alone": Quantise(rules=(_rule(MATRICES, "int8"), _rule(TABLE, "int8")), finder=Nearest()),
    "fp8 weights alone": Quantise(rules=(_rule(MATRICES, "fp8"), _rule(TABLE, "int8")), finder=Nearest()),
    "int4, groups of 32": Quantise(rules=FOUR, finder=Nearest()),
    "int4, groups of 32, GPTQ": Quantise(rules=FOUR, finder=GPTQ(damping=0.01)),
    "int4, groups of 32, AWQ": Quantise(rules=FOUR, finder=AWQ(grid=20)),
    "int4 with the lowest, groups of 32": Quantise(rules=LOW, finder=Nearest()),
    "int4 with the lowest, groups of 32, GPTQ": Quantise(rules=LOW, finder=GPTQ(damping=0.01)),
    "nf4, groups of 32": Quantise(rules=(_rule(MATRICES, "nf4", 32), _rule(TABLE, "int8")), finder=Nearest()),
    "low rank, 0.8 of the matrices, by activations": _low_rank(0.8, True),
    "low rank, 0.8 of the matrices, plain": _low_rank(0.8, False),
    "a quarter of the units gone, by activations": _without(0.25, 0, "activations"),
    "a quarter of the units gone, by magnitude": _without(0.25, 0, "magnitude"),
    "a quarter of the units gone, by chance": _without(0.25, 0, "random"),
    "one layer gone, by activations": _without(0.0, 1, "activations"),
}


def line(name: str, before: Measured, one: Measured) -> str:
    """Of a scheme."""
    size = f"{one.bytes / 1e6:.1f} MB ({one.bytes / before.bytes:.2f} x)"
    speed = f"{1000 * one.seconds:.0f} ms ({before.seconds / one.seconds:.2f} x as fast)"
    quality = [
        f"{metric} {value:.4f} [{low:.4f}, {high:.4f}]" for metric, (value, low, high) in one.metrics.items()
    ]
    if isinstance(one.answers, np.ndarray):
        mean, low, high, worst = report.alike(before.answers, one.answers)
        quality.append(f"mean cosine {mean:.5f} [{low:.5f}, {high:.5f}], worst {worst:.4f}")
    return f"| {name} | {size} | {speed} | {', '.join(quality)} |"


def lines(model: Loaded, text: Calibration, data: str, schemes: list[str]) -> list[str]:
    """Of all schemes, printed as they come."""
    before, found = report.measured(model, data), []
    for name in ("as it was", *schemes):
        made = model if name == "as it was" else SCHEMES[name].apply(model, text, lambda said: None)
        found.append(line(name, before, before if made is model else report.measured(made, data)))
        print(found[-1], flush=True)
    return found


def main(argv: list[str]) -> int:
    """Prints, and with --write writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="RUN")
    add("--name", required=True, help="of the table")
    add("--text", required=True)
    add("--data", required=True)
    add("--rows", type=int, default=32, help="of the text, default 32")
    add("--length", type=int, default=256, help="tokens of each, default 256")
    add("--schemes", default=";".join(SCHEMES), help=f"default all: {'; '.join(SCHEMES)}")
    add("--write", action="store_true", help="into docs/compression.md")
    options = parser.parse_args(argv[1:])
    model = loaded.load(options.model)
    text = Text(file=options.text, rows=options.rows, length=options.length).read(model)
    print(HEAD, flush=True)
    found = lines(model, text, options.data, options.schemes.split(";"))
    if options.write:
        begin = f"<!-- {options.name}: written by tools/compression_table.py -->"
        before, _, rest = PAGE.read_text().partition(begin)
        of = f"Of {datetime.date.today()}; calibrated on {text.tokens:,} tokens."
        PAGE.write_text(
            before + "\n".join([begin, "", HEAD, *found, "", of, "", END]) + rest.partition(END)[2]
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
