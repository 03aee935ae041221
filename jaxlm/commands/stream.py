"""Shows which documents a step of a run saw, or replays what the run has read.

    jaxlm stream --run=runs/wiki --step=1200 --rows=0:4
    jaxlm stream --run=runs/wiki --verify --step=1000 --processes=8

--verify computes the hash of a checkpoint's stream again, from the shards alone: no device, model or second host is
asked. When it is another, the training documents that changed are named (exit code 78).
"""

import dataclasses
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, EXIT_USER, UserError

if TYPE_CHECKING:
    from jaxlm.run.attested import Stretch
    from jaxlm.run.seen import Saved, SeenRow

WIDTH = 100
NAMED = 20  # changed documents, at most


def main(argv: Sequence[str]) -> int:
    """Shows a step, or verifies a checkpoint."""
    parser = table.Parser(__name__, __doc__)
    add = parser.add_argument
    parser.runs += ["run"]
    add("--run", required=True, metavar="RUN", help="the run folder")
    add("--step", type=int, metavar="N", help="to show; with --verify the checkpoint, default: the newest")
    add("--rows", default="", metavar="A:B", help="of each task only rows A to B - 1 of the step")
    add("--verify", action="store_true", help="replay the stream and compare its hash")
    add("--processes", type=int, default=1, metavar="N", help="of --verify; default: 1")
    add("--json", action="store_true", help="print JSON")
    table.add_recipe(parser)
    options = parser.options(argv)
    step: int | None = options.step

    from jaxlm.config import flags  # after parsing, so that --help answers at once
    from jaxlm.run import seen

    flags.named_recipe(options.recipe, options.run)
    if options.verify:
        return verify(seen.saved(options.run, step), max(options.processes, 1), as_json=options.json)
    if step is None:
        raise UserError("--step=N: name the step to show, or ask for --verify.")
    show(seen.saved(options.run, None), step, _slice(options.rows), as_json=options.json)
    return EXIT_DONE


def verify(saved: "Saved", processes: int, *, as_json: bool) -> int:
    """Replays all that a checkpoint's run has read; the exit code."""
    from jaxlm.run import attested, inputs, seen

    text = inputs.text(saved.run, _say)
    started = time.perf_counter()
    found, rows = attested.replayed(saved.run, text, saved.read, processes)
    seconds = time.perf_counter() - started
    same = found == saved.hash
    known, changes = (True, []) if same else seen.changes(text, saved.folder.stream)
    if as_json:
        about = {
            "step": saved.step,
            "since": saved.since,
            "rows": rows,
            "hash": saved.hash,
            "replayed": found,
        }
        print(json.dumps({**about, "same": same, "changes": changes}))
        return EXIT_DONE if same else EXIT_USER
    steps = f"steps {saved.since + 1} to {saved.step}"
    rate = f"{rows:,} rows in {seconds:.1f} s, {rows / max(seconds, 1e-9):,.0f} rows/s"
    if same:
        print(f"{steps}: the same rows as were trained on ({rate})\nhash {found}")
        return EXIT_DONE
    print(f"{steps}: NOT the rows that were trained on ({rate})\nhash {found}\nwas  {saved.hash}")
    print("\n".join(changes[:NAMED]) or _no_document(known))
    if len(changes) > NAMED:
        print(f"and {len(changes) - NAMED:,} more documents")
    return EXIT_USER


def _no_document(known: bool) -> str:
    if known:
        return "The tokens of all training documents are as they were: a column, the packing or the checkpoint is not."
    return "Which documents changed is not known: the run, or its shards, are from before that was kept."


def show(saved: "Saved", step: int, rows: slice, *, as_json: bool) -> None:
    """Prints the documents of a step."""
    from jaxlm.run import attested, inputs, seen

    stretch = _stretch(saved, step)
    text = inputs.text(saved.run, _say)
    fingerprints = {
        name: value
        for one in attested.rows_of(saved.run, text, stretch)
        for name, value in one.fingerprint(f"stage {stretch.stage} rows").items()
    }
    changed = [name for name, value in fingerprints.items() if saved.fingerprints.get(name, value) != value]
    if changed:
        _say(
            f"WARNING: {', '.join(changed)} changed since: this is not what the run saw. --verify names the documents."
        )
    found = seen.rows_of_step(saved.run, text, stretch, step, rows)
    if as_json:
        print(json.dumps({"step": step, "rows": [dataclasses.asdict(row) for row in found]}))
        return
    stage = f", stage {stretch.stage + 1} of {len(saved.run.stages)}" if len(saved.run.stages) > 1 else ""
    print(f"step {step}{stage}")
    for row in found:
        print("\n".join(_lines(row)))


def _lines(row: "SeenRow") -> list[str]:
    of = "".join(f", {kind} {name}" for kind, name in (("task", row.task), ("source", row.source)) if name)
    lines = [f"\nrow {row.row}{of}: {len(row.parts)} {'text' if len(row.parts) == 1 else 'texts'}"]
    for part in row.parts:
        first, end = part.tokens
        tokens = (
            f"all {part.of} tokens" if end - first == part.of else f"tokens {first} to {end - 1} of {part.of}"
        )
        lines.append(f"  {part.item}  {part.where}  (document {part.document}, {tokens})")
        lines.append(textwrap.fill(part.text, WIDTH, initial_indent="     ", subsequent_indent="     "))
    return lines


def _stretch(saved: "Saved", step: int) -> "Stretch":
    """Where the step is: as it was read, or as the configuration says."""
    from jaxlm.run.attested import Stretch

    stages = [Stretch(i, first, first, last) for i, (first, last) in enumerate(saved.run.stage_steps())]
    for stretch in (*saved.read, *stages):
        if stretch.start < step <= stretch.end:
            return stretch
    raise UserError(f"--step={step}: the run has steps 1 to {saved.run.steps}.")


def _slice(rows: str) -> slice:
    first, colon, end = rows.partition(":")
    if not rows:
        return slice(None)
    if not colon or not all(one.isdecimal() or not one for one in (first, end)):
        raise UserError(f"--rows={rows}: allowed is FIRST:END, such as 0:4.")
    return slice(int(first or 0), int(end) if end else None)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
