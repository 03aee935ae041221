"""Writes docs/parity.md: families x checks, with the largest differences seen.  python -m tools.parity [NAME ...]"""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from importlib import metadata

import transformers

from jaxlm import entry
from jaxlm.errors import UserError
from tools.parity.checks import CHECKS, LIMITS
from tools.parity.collection import cases

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "parity.md"
HEAD = """# Parity with transformers

The same weights on both sides, random and far from their initial values, at odd sizes, float32 on a CPU. A number is
the largest difference seen, relative to the largest entry of what is compared (five steps: relative to how far the
weights moved); "same" means equal to the bit. Written by `python -m tools.parity`; the test suite runs the same cases
with these limits: {limits}.

Compared with transformers {transformers}, torch {torch}, on jax {jax}.

- **logits, loss, gradients**: every output, every parameter's gradient. **five AdamW steps**: epsilon 1e-3, so that
  entries whose gradient is only rounding do not follow its sign.
- **unrolled, packed**: layers one by one instead of the scan; all items in one row instead of one a row.
- **export, from_pretrained**: our file loaded by transformers gives our loss, nothing missing or unexpected.
  **import(export)**: our parameters. **round trip of a file**: model.safetensors that transformers saved comes back
  byte for byte.

"""


def main(names: list[str]) -> int:
    """Runs the cases (those whose name or family is given, or all) and writes or prints the table."""
    families = sorted({case.family for case in cases()})
    unknown = set(names) - {case.name for case in cases()} - set(families)
    if unknown:
        raise UserError(f"No case is named {', '.join(sorted(unknown))}: allowed are {', '.join(families)}.")
    transformers.utils.logging.disable_progress_bar()
    rows, failed = [], []
    for case in cases():
        if names and not {case.family, case.name} & set(names):
            continue
        found = {k: v for check in CHECKS.values() for k, v in check(case).items()}
        failed += [f"{case.name}: {k} {v:.1e}" for k, v in found.items() if not v <= LIMITS[k]]
        shown = ["same" if v == 0 and LIMITS[k] == 0 else f"{v:.0e}" for k, v in found.items()]
        rows.append(f"| {case.name} | " + " | ".join(shown) + " |")
        print(rows[-1], flush=True)
    notes = [f"- {case.name}: {case.note}" for case in cases() if case.note]
    titles = f"| model | {' | '.join(LIMITS)} |\n|---|{'---|' * len(LIMITS)}\n"
    limits = ", ".join(f"{k} {v:g}" for k, v in LIMITS.items() if v)
    versions = {name: metadata.version(name) for name in ("transformers", "torch", "jax")}
    if not names:
        exceptions = "\nExceptions:\n\n" + "\n".join(notes) + "\n" if notes else ""
        PAGE.write_text(HEAD.format(limits=limits, **versions) + titles + "\n".join(rows) + "\n" + exceptions)
    print("\n".join(failed) or "all within the limits")
    return bool(failed)


if __name__ == "__main__":
    entry.run(lambda argv: main(list(argv[1:])))
