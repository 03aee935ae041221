"""The names of a label column. In: the records of all parts. Out: the inventory of the training split, and numbers.

Every part numbers the names it meets; once all are made, the sorted names of the training split are the numbers of all.
"""

from typing import Any

import numpy as np

from jaxlm.errors import UserError, did_you_mean

LARGEST = 2**16  # names; beyond, the column is no label


def inventory(by_split: dict[str, list[dict[str, Any]]], number: int, field: str) -> list[str]:
    """The names of column `number` in the training split, sorted. UserError for one that is elsewhere only."""
    names = sorted({name for record in by_split["train"] for name in record["labels"].get(str(number), ())})
    if len(names) > LARGEST:
        raise UserError(
            f'field "{field}": {len(names):,} different labels in the training split; at most {LARGEST:,} are allowed. '
            "Choose a field with fewer, or leave it out of data.columns."
        )
    known = set(names)
    for records in by_split.values():
        for name, where in (
            (n, w) for record in records for n, w in record["labels"].get(str(number), {}).items()
        ):
            if name not in known:
                listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
                raise UserError(
                    f'{where}: field "{field}" is "{name}", which no document of the training split has '
                    f"({listed or 'none'}).{did_you_mean(name, names)} Repair or remove the record, or hold out less."
                )
    return names


def numbers(record: dict[str, Any], number: int, names: list[str]) -> np.ndarray:
    """Of each of a part's own numbers of column `number`, that of the inventory."""
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[name] for name in record["labels"].get(str(number), ())], np.int32)
