"""An evaluation as files. In: answers, what they are worth, a folder. Out: names of the files.

index.html is a page with all of it; metrics.json, errors.jsonl (the worst items) and the drawings stand beside it.
"""

import json
import pathlib

from jaxlm.data.corpus import written
from jaxlm.errors import UserError
from jaxlm.report import evaluation
from jaxlm.tasks import table
from jaxlm.tasks.table import Answered
from jaxlm.tasks.task import Measured


def place(run: str, step: int | None, data: str) -> pathlib.Path | None:
    """RUN/evaluation/NAME of a table of that name, NAME@N of checkpoint N, where RUN is a run folder; else None."""
    folder = pathlib.Path(run).expanduser()
    if not (folder / "config.json").is_file() or not (folder / "checkpoints").is_dir():
        return None
    name = pathlib.Path(data).name.partition(".")[0]
    return folder / "evaluation" / (name if step is None else f"{name}@{step}")


def keep(
    folder: pathlib.Path, *, model: str, data: str, found: Answered, measured: Measured, errors: int
) -> list[str]:
    """`errors`: items that are listed at most. UserError where nothing can be written."""
    worst = table.worst(found, measured, errors)
    about = f"{model} on {data}: {measured.items:,} items, {found.task.does}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = [name for key, one in measured.drawings.items() for name in one.write(folder, key)]
        shown = json.dumps({"run": model, "data": data, **measured.to_json()}, indent=1)
        (folder / "metrics.json").write_text(shown + "\n", encoding="utf-8")
        title = pathlib.Path(data).name
        page = evaluation.page(title, about, measured.metrics, measured.drawings, measured.table, worst)
        (folder / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written: {error.strerror}. Fix: --folder=DIR, or --folder= for no files."
        ) from error
    with written.table(folder / "errors.jsonl") as write:
        write(worst)
    return ["index.html", "metrics.json", "errors.jsonl", *drawn]
