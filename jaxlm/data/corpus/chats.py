"""Conversations as people keep them. In: records. Out: `Conversation`s: messages by role, in an order that makes sense.

Understood are {"messages": [{"role", "content"}, ...]}, ShareGPT's {"conversations": [{"from", "value"}, ...]}, rows
of instruction, input and output, {"prompt", "completion"}, and for preferences {"prompt", "chosen", "rejected"}, whose
texts are strings or lists of messages. Whatever is none of them is a UserError with file and line.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.data.corpus.record import Conversation
from jaxlm.data.corpus.spans import whole
from jaxlm.data.tokens.chat_template import ANSWERS, Message
from jaxlm.errors import UserError

# ShareGPT's names, and others that are in use -> those of templates.
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), ANSWERS),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
# What may follow what; None is the beginning.
_BEFORE = {
    "system": (None,),
    "user": (None, "system", ANSWERS),
    ANSWERS: ("user", "tool"),
    "tool": (ANSWERS, "tool"),
}
# Fields of records that hold a conversation under other names than the config's.
LISTS = ("messages", "conversations", "conversation")
NAMES = (*LISTS, "instruction", "input", "output", "response", "prompt", "completion", "system")


@dataclasses.dataclass(kw_only=True)
class Messages:
    """A conversation, whose field is the text field, too. Written by the tokenizer's chat template; the shards keep of
    every token whether it is part of an answer."""

    field: str  # the field of the record that holds them; other known forms of a record are read as well

    def check(self, texts: tuple[str, ...], where: str) -> None:
        """UserError unless it is the only text."""
        if texts != (self.field,):
            raise UserError(
                f'{where}: a conversation is the whole text of a record. Fix: "--config.data.text_fields=()" '
                f"--config.data.text_field={self.field}."
            )

    def read(self, record: Mapping[str, Any], texts: tuple[str, ...], where: str) -> tuple[Conversation, ...]:
        """The one conversation of a record."""
        found = tuple(_conversation(record, self.field, where))
        _check_order(found, where)
        if not any(role == ANSWERS for role, _ in found):
            raise UserError(
                f"{where}: no message of the assistant, so there is nothing to learn. Repair or remove the record."
            )
        return (Conversation(found),)


@dataclasses.dataclass(kw_only=True)
class Choice:
    """Two answers to one prompt, the better first: `text_fields` names the two, and `field` the prompt.

    Without a prompt, the two are whole conversations, and what they begin with alike is the prompt.
    """

    field: str  # the field of the prompt: a string, or a list of messages

    def check(self, texts: tuple[str, ...], where: str) -> None:
        """UserError unless there are two texts."""
        if len(texts) != 2:
            raise UserError(
                f"{where}: two answers are compared. Fix: \"--config.data.text_fields=('chosen', 'rejected')\"."
            )

    def read(self, record: Mapping[str, Any], texts: tuple[str, ...], where: str) -> tuple[Conversation, ...]:
        """The chosen and the rejected conversation."""
        said = [_messages(_there(record, name, where), ANSWERS, name, where) for name in texts]
        given = record.get(self.field) or record.get("conversations")
        if given:
            prompt = _messages(given, "user", self.field, where)
            prompt = _with_system(prompt, record)
        else:
            prompt = _common(*said)
            said = [one[len(prompt) :] for one in said]
        if said[0] == said[1]:
            raise UserError(
                f'{where}: "{texts[0]}" and "{texts[1]}" are the same answer, so neither is to be preferred. Repair or '
                "remove the record."
            )
        for name, answer in zip(texts, said, strict=True):
            if not answer or answer[0][0] != ANSWERS or not prompt:
                raise UserError(
                    f'{where}: "{name}" must be an answer of the assistant to the prompt in "{self.field}": a string, '
                    "or a list of messages that begins with the assistant's. Repair or remove the record."
                )
            _check_order([*prompt, *answer], where)
        return tuple(Conversation((*prompt, *answer), len(prompt)) for answer in said)


CHATS = (Messages, Choice)


def text_of(messages: Sequence[Message]) -> str:
    """The contents alone, a line break between two: what a split is drawn from and a tokenizer trained on."""
    return "\n".join(content for _, content in messages)


def _conversation(record: Mapping[str, Any], field: str, where: str) -> list[Message]:
    name = next((name for name in (field, *LISTS) if record.get(name) is not None), "")
    if name:
        return _with_system(_messages(record[name], "user", name, where), record)
    if "instruction" in record:
        asked = [_content(record["instruction"], "instruction", where)]
        if record.get("input") not in (None, ""):
            asked.append(_content(record["input"], "input", where))
        name = "output" if "output" in record else "response"
        said = _content(_there(record, name, where), name, where)
        return _with_system([*_history(record, where), ("user", "\n\n".join(asked)), (ANSWERS, said)], record)
    if "prompt" in record and "completion" in record:
        prompt = _messages(record["prompt"], "user", "prompt", where)
        return _with_system([*prompt, *_messages(record["completion"], ANSWERS, "completion", where)], record)
    raise UserError(
        f'{where}: no conversation: no field "{field}", and none of {", ".join(LISTS)}, instruction with output, '
        f"prompt with completion. Fields there: {', '.join(map(str, record)) or 'none'}. Fix: --config.data.text_field"
        "=NAME and \"--config.data.columns=(Messages(field='NAME'),)\", or remove the record."
    )


def _history(record: Mapping[str, Any], where: str) -> list[Message]:
    """Earlier turns beside an instruction: [[question, answer], ...]."""
    found: list[Message] = []
    for turn in record.get("history") or ():
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise UserError(f'{where}: field "history" has {turn!r:.80}; allowed are pairs of texts.')
        question, answer = (_content(part, "history", where) for part in turn)
        found += [("user", question), (ANSWERS, answer)]
    return found


def _with_system(messages: list[Message], record: Mapping[str, Any]) -> list[Message]:
    """With the message of the system that stands in a field of its own."""
    said = record.get("system")
    if isinstance(said, str) and said.strip() and messages[:1] and messages[0][0] != "system":
        return [("system", whole(said)), *messages]
    return messages


def _messages(given: Any, role: str, field: str, where: str) -> list[Message]:
    """Messages of a list, or of one string, which `role` says."""
    if isinstance(given, str):
        return [(role, _content(given, field, where))]
    listed = [given] if isinstance(given, dict) else given
    found = [_message(one, field, where) for one in listed] if isinstance(listed, list | tuple) else []
    if not found:
        raise _wrong(given, field, where)
    # An empty message of the system says nothing; templates have a default of their own only without one.
    return [one for one in found if one[0] != "system" or one[1].strip()]


def _message(given: Any, field: str, where: str) -> Message:
    if not isinstance(given, dict):
        raise _wrong(given, field, where)
    role, content = given.get("role", given.get("from")), given.get("content", given.get("value"))
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        raise UserError(
            f'{where}: field "{field}" has the role {role!r:.40}; allowed are {", ".join(sorted(ROLES))}. Repair or '
            "remove the record."
        )
    known = ROLES[role.strip().lower()]
    if known == "system" and content in ("", None):
        return known, ""
    return known, _content(content, field, where)


def _content(given: Any, field: str, where: str) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(given, list) and all(isinstance(one, dict) and one.get("type") == "text" for one in given):
        given = "".join(str(one.get("text", "")) for one in given)
    if not isinstance(given, str) or not given.strip():
        raise _wrong(given, field, where)
    return whole(given)


def _check_order(messages: Sequence[Message], where: str) -> None:
    """UserError for a role that cannot follow the one before it."""
    before = None
    for number, (role, _) in enumerate(messages, 1):
        if before not in _BEFORE[role]:
            places = ["the beginning" if one is None else f"a message of the {one}" for one in _BEFORE[role]]
            raise UserError(
                f"{where}: message {number} is the {role}'s, behind {f'one of the {before}' if before else 'nothing'}; "
                f"allowed before it: {' or '.join(places)}. Repair or remove the record."
            )
        before = role


def _common(one: Sequence[Message], other: Sequence[Message]) -> list[Message]:
    """What two conversations begin with alike."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return list(one[:same])


def _there(record: Mapping[str, Any], name: str, where: str) -> Any:
    if record.get(name) is not None:
        return record[name]
    raise UserError(
        f'{where}: no field "{name}". Fields there: {", ".join(map(str, record)) or "none"}. Repair or '
        "remove the record."
    )


def _wrong(given: Any, field: str, where: str) -> UserError:
    return UserError(
        f'{where}: field "{field}" has {given!r:.80}; allowed are a text that is not empty, and lists of '
        '{"role": ..., "content": ...} or {"from": ..., "value": ...} with such texts. Repair or remove the record.'
    )
