"""A model card (README.md of a hub's repository). In: weights with what is known of them. Out: its markdown.

Says only what is on record: model, data, steps, configuration, evaluation, and how to load it.
"""

import json
from collections.abc import Mapping
from typing import Any

from jaxlm.config import tree
from jaxlm.exchange.stored import Stored


def text(found: Stored, hf: Mapping[str, Any], parameters: int, pooling: str | None) -> str:
    """The card."""
    architecture = (hf.get("architectures") or [type(found.config).__name__])[0]
    front = ["---", "library_name: " + ("sentence-transformers" if pooling else "transformers")]
    if pooling:
        front.append("pipeline_tag: sentence-similarity")
    front += ["tags:", "- jaxlm", f"- {hf.get('model_type', '')}", "---", ""]
    title = f"# {architecture}, {parameters:,} parameters"
    made = "Trained with jaxlm." if found.run else "Converted with jaxlm."
    parts = [*front, title, "", made, "", *_data(found), *_evaluation(found), *_load(architecture, pooling)]
    parts += ["## Model configuration", "", *_fence(tree.to_json(found.config), "json")]
    if found.run:
        parts += ["## Run configuration", "", *_fence(tree.to_json(found.run), "json")]
    return "\n".join(parts)


def _data(found: Stored) -> list[str]:
    run = found.run
    if run is None:
        origin = found.folder.origin["from"] if found.folder else found.where
        return ["## Origin", "", f"Weights as they were in `{origin}`; nothing was trained.", ""]
    corpora = ", ".join(f"`{corpus.name}`" for corpus in run.data.corpora().values())
    lengths = ", ".join(str(stage.length) for stage in run.stages)
    return [
        "## Training",
        "",
        "| | |",
        "|---|---|",
        f"| data | {corpora} |",
        f"| objective | {type(run.objective).__name__} |",
        f"| optimizer | {type(run.optimizer).__name__} |",
        f"| steps | {found.step} of {run.steps} |",
        f"| rows a step | {run.batch_size} |",
        f"| tokens a row | {lengths} |",
        f"| started from | {f'`{run.init_from}`' if run.init_from else 'nothing'} |",
        f"| weights | {'an average' if run.averages else 'as trained'} |",
        "",
    ]


def _evaluation(found: Stored) -> list[str]:
    if not found.metrics:
        return []
    lines = [f"| {name} | {value:.6g} |" for name, value in sorted(found.metrics.items())]
    return [
        "## Evaluation",
        "",
        "On held-out documents, at this step.",
        "",
        "| metric | value |",
        "|---|---|",
        *lines,
        "",
    ]


def _load(architecture: str, pooling: str | None) -> list[str]:
    if pooling:
        code = [
            "from sentence_transformers import SentenceTransformer",
            "",
            'model = SentenceTransformer("DIR")',
        ]
    else:
        code = [
            f"from transformers import AutoTokenizer, {architecture}",
            "",
            'tokenizer = AutoTokenizer.from_pretrained("DIR")',
            f'model = {architecture}.from_pretrained("DIR")',
        ]
    return ["## How to load", "", "```python", *code, "```", ""]


def _fence(value: Any, kind: str) -> list[str]:
    return [f"```{kind}", json.dumps(value, indent=1), "```", ""]
