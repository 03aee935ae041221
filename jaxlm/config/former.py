"""Configs as they were written before: heads were fields of the model, and some classes stood elsewhere.

In: JSON of a config. Out: the same as it would be written today, and the names of the heads that it had. Of a recipe of
before: what to change in it.
"""

import re
from typing import Any

_HEADS = {
    **{f"jaxlm.models.{name}": ("token_head", "next_sentence") for name in ("bert.Bert", "albert.Albert")},
    "jaxlm.models.roberta.Roberta": ("token_head", "next_sentence"),
    "jaxlm.models.distilbert.DistilBert": ("token_head",),
    "jaxlm.models.modernbert.ModernBert": ("token_head",),
    "jaxlm.models.electra.ElectraEncoder": ("head",),
}
_FIELDS = _HEADS | {"jaxlm.objectives.question_answering.QuestionAnswering": ("separators",)}

# Fields that are newer than some configs, and what those meant.
_ADDED = {
    "jaxlm.objectives.classification.Classification": {"pooling": "own"},
    "jaxlm.config.schema.Data": {"moved": []},
}
_MOVED = {
    "jaxlm.data.columns": "jaxlm.data.corpus.columns",
    "jaxlm.data.corpus": "jaxlm.data.corpus.corpus",
    "jaxlm.data.steps": "jaxlm.data.corpus.steps",
}


def present(value: Any) -> Any:
    """The JSON without what is no field any more, and with the classes where they are now."""
    if isinstance(value, list):
        return [present(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not isinstance(kind := value.get("type"), str):
        return {key: present(item) for key, item in value.items()}
    module, _, name = kind.rpartition(".")
    kept = {key: present(item) for key, item in value.items() if key not in _FIELDS.get(kind, ())}
    kept = _ADDED.get(kind, {}) | kept
    return {**kept, "type": f"{_MOVED.get(module, module)}.{name}"} if module else kept


def advice(error: Exception) -> str:
    """What to do about an argument that configs had before; nothing about another error."""
    named = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if named and any(kind.endswith(f".{named[1]}") and named[2] in gone for kind, gone in _FIELDS.items()):
        heads = "Heads are no fields of the model any more, the objective names them."
        why = heads if named[2] != "separators" else "The tokenizer says what stands between two texts."
        return f" {why} Fix: leave {named[2]} out."
    return ""


def heads(model: dict[str, Any]) -> tuple[str, ...]:
    """Names of the heads that the config of a model said it had."""
    kind, pairs = model["type"], model.get("next_sentence", "none")
    if kind == "jaxlm.models.electra.Electra":
        return ("tokens", "replaced")
    if kind == "jaxlm.models.electra.ElectraEncoder":
        return {"detect": ("replaced",), "tokens": ("tokens",)}.get(model["head"], ())
    tokens = ("tokens",) if model.get("token_head", "transform") == "transform" and kind in _HEADS else ()
    question = ("sop" if kind.endswith("Albert") else "nsp",) if pairs == "pooled" else ()
    return (*tokens, *(("pooler",) if pairs != "none" else ()), *question)
