"""Reading what a client sent. In: a request. Out: values of the kinds that are wanted; a `Refusal` that names a field.

Fields that nobody knows are ignored, as clients send some. `null` is a field that was left out.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from jaxlm.serve.limits import Limits, Refusal

Body = Mapping[str, Any]
_MISSING = object()


def wrong(name: str, problem: str, *, status: int = 400, code: str = "") -> Refusal:
    """What is wrong with a field."""
    return Refusal(status, f"{name}: {problem}", param=name, code=code)


async def body(request: Request, limits: Limits) -> Body:
    """The JSON object of a request; read no further than the limit, and not for ever."""
    try:
        async with asyncio.timeout(limits.sending):
            raw = await _read(request, limits.body)
    except TimeoutError as error:
        late = f"the request did not arrive within {limits.sending:g} s."
        raise Refusal(408, late, kind="timeout_error") from error
    except ClientDisconnect as error:
        raise Refusal(499, "the client is gone.", kind="timeout_error") from error
    try:
        found = msgspec.json.decode(raw)
        msgspec.json.encode(found)  # halves of letters ("\ud800") are no text
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON in UTF-8: {error!s:.200}", code="invalid_json") from error
    if not isinstance(found, dict):
        raise Refusal(400, f"the body must be a JSON object, and is a {type(found).__name__}.")
    return found


async def _read(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
    return b"".join(parts)


def too_large(most: int) -> Refusal:
    """413."""
    return Refusal(
        413, f"the body is larger than {most} bytes. Send fewer texts at a time.", code="too_large"
    )


def text(found: Body, name: str, default: Any = _MISSING) -> Any:
    """A string."""
    return _of(found, name, default, (str,), "a string")


def flag(found: Body, name: str, default: bool) -> bool:
    """true or false."""
    return _of(found, name, default, (bool,), "true or false")


def integer(found: Body, name: str, default: Any, low: int, high: int) -> Any:
    """A whole number from `low` to `high`."""
    value = _of(found, name, default, (int,), f"a whole number, {low} to {high}")
    return _between(name, value, default, low, high)


def number(found: Body, name: str, default: float, low: float, high: float) -> float:
    """A number from `low` to `high`."""
    value = _of(found, name, default, (int, float), f"a number, {low:g} to {high:g}")
    return _between(name, value, default, low, high)


def texts(value: Any, name: str, limits: Limits) -> list[str]:
    """A string, or a list of them."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise wrong(name, "must be a string, or a list of strings that is not empty.")
    return check_number(found, name, limits)


def ids(value: Any, name: str, size: int, limits: Limits) -> list[list[int]]:
    """A list of a tokenizer's ids, or a list of such lists."""
    whole = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    for one in whole:
        if not isinstance(one, list) or not one or not all(type(id) is int and 0 <= id < size for id in one):
            raise wrong(
                name, f"token ids are whole numbers from 0 to {size - 1}, in lists that are not empty."
            )
    return check_number(whole, name, limits)


def check_number(found: list[Any], name: str, limits: Limits) -> list[Any]:
    """The list, unless it is too long."""
    if len(found) > limits.texts:
        raise wrong(name, f"{len(found)} texts in one request, and {limits.texts} are allowed.", status=413)
    return found


def refuse(found: Body, names: Sequence[str], neutral: Sequence[Any] = (None, False, [], {}, 0)) -> None:
    """A refusal for the first of these that says something: it would not be done, and ignoring it would be a lie."""
    for name in names:
        if (value := found.get(name)) not in neutral:
            raise wrong(name, f"{str(value)[:60]} is not done here. Leave it out.", code="unsupported")


def _of(found: Body, name: str, default: Any, kinds: tuple[type, ...], what: str) -> Any:
    value = found.get(name)
    if value is None:
        if default is _MISSING:
            raise wrong(name, f"is missing: {what}.")
        return default
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise wrong(name, f"must be {what}, and is {str(value)[:60]!r}.")
    return value


def _between(name: str, value: Any, default: Any, low: float, high: float) -> Any:
    if value is not default and not low <= value <= high:
        raise wrong(name, f"must be {low:g} to {high:g}, and is {value:g}.")
    return value
