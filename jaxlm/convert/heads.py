"""Where the heads of a model stand in a family's files. In: the family's `HEADS`. Out: which it holds, and its rows.

`HEADS` of a family's file gives a head and its rows by our name; `PREFIX` is what names of the encoder begin with, in
every file but that of a bare one (transformers' BertModel), which may have a pooler and nothing else.
"""

from collections.abc import Collection, Mapping, Set
from dataclasses import replace
from typing import Any

from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.heads import Head


def of(family: Any) -> Mapping[str, tuple[Head, tuple[Row, ...]]]:
    """What the family's files have a place for."""
    return getattr(family, "HEADS", {})


def held(family: Any, names: Set[str]) -> dict[str, Head]:
    """Those of which there are tensors; `names` in their present form. Of two in one place the first is meant."""
    found, left = {}, set(names)
    for name, (head, rows) in of(family).items():
        if rows[0].theirs in left:
            found[name] = head
            left -= {row.theirs for row in rows}
    return found


def table(family: Any, config: Any, heads: Collection[str] | Mapping[str, Head]) -> tuple[Row, ...]:
    """The family's rows with those of the heads. UserError for a head without a place, or in that of another one."""
    known, rows = of(family), family.rows(config)
    for name in heads:
        head, own = known.get(name, (None, ()))
        own = () if isinstance(heads, Mapping) and heads[name] != head else own
        if not own or {row.theirs for row in own} & {row.theirs for row in rows}:
            raise UserError(
                f"transformers' {type(config).__name__} has no place for the head {name!r} beside the others "
                f"({', '.join(heads)}); heads with one: {', '.join(known) or 'none'}."
            )
        rows += own
    if not known or set(heads) - {"pooler"}:
        return rows
    return tuple(replace(row, theirs=row.theirs.removeprefix(family.PREFIX)) for row in rows)
