"""The raw training step of two commits side by side in one run: did a change make a step slower?

    python tools/benchmark_commits.py bert_base e63dfdd HEAD

Each commit is checked out beside the other and runs `sides.Bench` of its own in its own process; blocks of steps
alternate, so that a machine whose speed drifts drifts for both. Prints medians, and the ratio of neighbouring blocks.
Needs the extra `parity`; the options are those of tools/benchmark.py.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]

# Runs in the checkout of a commit: a line of JSON (seconds, loss) per step, as many as a line of input asks for.
SIDE = """
import json, sys, time
answers, sys.stdout = sys.stdout, sys.stderr
import benchmark, sides
from jaxlm.runtime import memory
import argparse
memory.keep_freed_memory()
options = argparse.Namespace(**json.loads(sys.argv[1]))
side = sides.Bench(benchmark.recipe(options), options).make("jaxlm float32")
for _ in range(2):
    side.step()
print("ready", file=answers, flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        begin = time.perf_counter()
        loss = side.step()[0]
        print(json.dumps([time.perf_counter() - begin, loss]), file=answers, flush=True)
"""


class Side:
    """One commit, checked out into `folder`."""

    def __init__(self, commit: str, folder: pathlib.Path, options: dict) -> None:
        git = ["git", "-C", str(ROOT), "worktree", "add", "--detach", "--force", str(folder), commit]
        subprocess.run(git, check=True, capture_output=True)
        paths = os.pathsep.join([str(folder), str(folder / "tools")])
        self.blocks: list[list[float]] = []
        self.losses: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", SIDE, json.dumps(options)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(self, steps: int) -> None:
        """Measures a block; the other side sleeps."""
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        measured = [json.loads(self._answer()) for _ in range(steps)]
        self.blocks.append([seconds for seconds, _ in measured])
        self.losses += [loss for _, loss in measured]

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("A side ended early; its messages are above.")
        return line

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--row_length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--block", type=int, default=3)
    parser.add_argument("--corpus", default="")
    o = parser.parse_args()
    options = {"recipe": o.recipe, "corpus": o.corpus, "dropout": None, "compile": "off"}
    options |= {"batch_size": o.batch_size, "row_length": o.row_length}
    options |= {"pipeline_batch_size": o.batch_size, "pipeline_row_length": o.row_length}
    with tempfile.TemporaryDirectory() as temporary:
        folders = [pathlib.Path(temporary, name) for name in ("old", "new")]
        try:
            pair = [
                Side(commit, folder, options) for commit, folder in zip((o.old, o.new), folders, strict=True)
            ]
            for _ in range(o.rounds):
                for side in pair:
                    side.run(o.block)
            for side in pair:
                side.close()
        finally:
            for folder in folders:
                subprocess.run(
                    ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(folder)], check=False
                )
    old, new = pair
    ratios = [
        statistics.median(b) / statistics.median(a) for a, b in zip(old.blocks, new.blocks, strict=True)
    ]
    for name, side in ((o.old, old), (o.new, new)):
        seconds = statistics.median(s for block in side.blocks for s in block)
        print(f"{name}: {seconds:.4f} s per step, losses {' '.join(f'{x:.4f}' for x in side.losses[:6])}")
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(
        f"{o.recipe}: new / old {middle:.3f} (median of {len(ratios)} pairs of blocks; {low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
