"""Where the heads of a model stand in a family's files. In: the family's `HEADS`. Out: which it holds, and its rows.

`HEADS` of a family's file gives a head and its rows by our name; `PREFIX` is what names of the encoder begin with, in
every file but that of a bare one (transformers' BertModel), which may have a pooler and nothing else. `INSIDE` is what
names of all else begin with beside a head, by its name, and only there.
"""

import re
from collections.abc import Collection, Mapping, Set
from dataclasses import replace
from typing import Any

from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.heads import Classify, Head

# Heads with as many classes as config.json says, and how transformers calls a model with one.
CLASSES = {
    "classes": "ForSequenceClassification",
    "tags": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
# These, and one whose places may be those of another.
ALONE = {**CLASSES, "choices": "ForMultipleChoice"}


def of(family: Any) -> Mapping[str, tuple[Head | type[Classify], tuple[Row, ...]]]:
    """What the family's files have a place for."""
    return getattr(family, "HEADS", {})


def held(family: Any, names: Set[str], hf: Mapping[str, Any]) -> dict[str, Head]:
    """Those of which there are tensors; `names` in their present form.

    Of two in one place that is meant which `architectures` of config.json name, else the first.
    """
    found, left = {}, set(names)
    architectures = str(hf.get("architectures"))
    said = {name for name, suffix in ALONE.items() if suffix in architectures} or set(ALONE)
    for name, (head, rows) in of(family).items():
        if rows[0].theirs in left and (name in said or name not in ALONE):
            found[name] = sized(head, hf)
            left -= {row.theirs for row in rows}
    return found


def sized(head: Head | type[Classify], hf: Mapping[str, Any]) -> Head:
    """The head with the classes of a config.json; 2 where it says nothing, as in transformers."""
    if isinstance(head, Head):
        return head
    labels = hf.get("id2label")
    number = hf.get("num_labels", 2) if labels is None else len(labels) if isinstance(labels, dict) else 0
    if type(number) is not int or number < 1:
        raise UserError(
            "config.json: id2label must name the classes {id: name}, and num_labels their number."
        )
    return head(classes=number)


def described(family: Any, config: Any, heads: Collection[str] | Mapping[str, Head]) -> dict[str, Any]:
    """config.json of a model with these heads, labels included."""
    contents = (
        family.to_hf_config(config, heads) if hasattr(family, "PREFIX") else family.to_hf_config(config)
    )
    for name in ALONE.keys() & set(heads):
        bare = re.sub(r"(For\w+|LMHeadModel|EncoderModel|Model)$", "", contents["architectures"][0])
        contents |= {"architectures": [bare + ALONE[name]]}
        if name not in CLASSES:
            continue
        head = heads[name] if isinstance(heads, Mapping) else None
        number = head.classes if isinstance(head, Classify) else 2
        labels = {str(i): f"LABEL_{i}" for i in range(number)}
        contents |= {"id2label": labels, "label2id": {label: int(i) for i, label in labels.items()}}
    return contents


def table(family: Any, config: Any, heads: Collection[str] | Mapping[str, Head]) -> tuple[Row, ...]:
    """The family's rows with those of the heads. UserError for a head without a place, or in that of another one."""
    known, rows, alone = of(family), family.rows(config), len(set(heads) - {"pooler"}) < 2
    for name in heads:
        head, own = known.get(name, (None, ()))
        if isinstance(heads, Mapping):
            fits = heads[name] == head if isinstance(head, Head) else type(heads[name]) is head
            own = own if fits else ()
        if (
            not own
            or (name in ALONE and not alone)
            or {row.theirs for row in own} & {row.theirs for row in rows}
        ):
            raise UserError(
                f"transformers' {type(config).__name__} has no place for the head {name!r} beside the others "
                f"({', '.join(heads)}); heads with one: {', '.join(known) or 'none'}."
            )
        inside = getattr(family, "INSIDE", {}).get(name, "")
        rows = tuple(replace(row, theirs=inside + row.theirs) for row in rows)
        rows += own
    if not hasattr(family, "PREFIX") or set(heads) - {"pooler"}:
        return rows
    return tuple(replace(row, theirs=row.theirs.removeprefix(family.PREFIX)) for row in rows)
