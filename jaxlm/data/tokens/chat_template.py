"""The template that makes one text of a conversation, as Hugging Face's tokenizers carry it. In: messages. Out: text.

Templates are foreign code: they run in Jinja's sandbox, with the filters and functions that transformers offers, and
render what its `apply_chat_template` renders. One that reaches for Python is refused by name. Which part of the text is
an answer is what the template adds for a message of the assistant, up to what closes the turn, and that with it.
"""

import dataclasses
import datetime
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxlm.errors import UserError

if TYPE_CHECKING:
    from jaxlm.data.tokens.subwords import Tokenizer

FILE = "chat_template.jinja"
ANSWERS = "assistant"  # the role whose messages are answers
# For a tokenizer without one: a line says who speaks, and the end token ends an answer.
PLAIN = (
    "{% for message in messages %}{{ message['role'] + ':\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\\n' }}{% endif %}"
)
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
# Around what stands in {% generation %}: no characters, so that no text has them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_EXTRA = 'needs the package "jinja2", 3.1.6 or later. Install it with: pip install "jaxlm[chat]"'

Message = tuple[str, str]  # role, content


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """A template and the names of special tokens that it may use; `where` is for messages."""

    text: str
    names: tuple[tuple[str, str], ...]  # ("eos_token", "</s>"), ...
    where: str = dataclasses.field(default="", compare=False)

    @classmethod
    def of(cls, text: str, roles: Mapping[str, str], where: str) -> "ChatTemplate":
        """`roles`: role -> name of its token."""
        return cls(text, tuple((f"{role}_token", name) for role, name in sorted(roles.items())), where)

    def render(self, messages: Sequence[Message], *, ask: bool = False, where: str = "") -> str:
        """The text of a conversation; with `ask` it ends where an answer begins. UserError, which begins with `where`,
        for what the template refuses, and for a template that cannot be used."""
        return _marks(self._render(messages, ask, where or self.where))[0]

    def prompt(self, text: str) -> str:
        """The text that asks for an answer to one message of a user."""
        return self.render([("user", text)], ask=True)

    def answers(
        self, messages: Sequence[Message], *, after: int = 0, where: str = ""
    ) -> tuple[str, list[tuple[int, int]]]:
        """(the text of a conversation, [start, end) in it of every answer behind the first `after` messages).

        UserError where the template changes what came before with what follows, so that nobody knows which it is.
        """
        where = where or self.where
        text, marked = _marks(self._render(messages, False, where))
        if _GENERATION.search(self.text):
            begin = len(self._grown("", messages[:after], True, text, where)) if after else 0
            return text, [(start, end) for start, end in marked if start >= begin and end > start]
        found, before = [], ""
        for k, (role, content) in enumerate(messages):
            if role == ANSWERS and k >= after:
                asked = self._grown(before, messages[:k], True, text, where)
                before = self._grown(asked, messages[: k + 1], False, text, where)
                found.append((len(asked), len(asked) + _closed(before[len(asked) :], content)))
        return text, found

    def _grown(self, before: str, messages: Sequence[Message], ask: bool, text: str, where: str) -> str:
        made = self.render(messages, ask=ask, where=where)
        if not made.startswith(before) or not text.startswith(made):
            raise UserError(
                f"{where}: the chat template of {self.where} writes the first {len(messages)} messages otherwise when "
                "more follow, so that its answers cannot be told from the rest. Fix: a template with "
                f"{{% generation %}} around the answers, in {FILE} beside the tokenizer; or conversations with one "
                "answer each."
            )
        return made

    def _render(self, messages: Sequence[Message], ask: bool, where: str) -> str:
        said = [{"role": role, "content": content} for role, content in messages]
        try:
            return _compiled(self.text).render(
                messages=said, tools=None, documents=None, add_generation_prompt=ask, **dict(self.names)
            )
        except UserError:
            raise
        except Exception as error:  # whatever the template does
            raise self._refusal(error, where) from error

    def _refusal(self, error: Exception, where: str) -> UserError:
        kind, mine = type(error).__name__, f"the chat template of {self.where}"
        if kind == "SecurityError":
            return UserError(
                f"{mine} tries to call Python ({error}), which is refused: a template only makes text. Take the file "
                "from the model's own folder, or replace it."
            )
        if kind == "TemplateError":  # raise_exception
            return UserError(
                f"{where}: {mine} refuses the conversation: {error} Repair or remove the record."
            )
        return UserError(
            f"{where}: {mine} cannot be used: {kind}: {error!s:.200}. Replace {FILE}, or the key chat_template of "
            "tokenizer_config.json."
        )


def built_in(tokenizer: "Tokenizer") -> ChatTemplate:
    """PLAIN, for a tokenizer without a template. UserError without an end token."""
    end = tokenizer.special("eos")
    if end is None:
        raise UserError(
            f"tokenizer {tokenizer.name}: it has neither a chat template nor an end token, which would end an answer. "
            f"Put a {FILE} beside it, or take a tokenizer with an end token."
        )
    return ChatTemplate.of(PLAIN, {"eos": tokenizer.token(end)}, "jaxlm")


def of_settings(values: Mapping[str, Any], file: str | None, roles: Mapping[str, str], where: str) -> Any:
    """The template of a tokenizer, or None: `file` is the text of its file, which counts before the settings; of
    several by name in the settings it is "default"."""
    given = values.get("chat_template") if file is None else file
    if isinstance(given, list):
        named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
        given = named.get("default")
    return ChatTemplate.of(given, roles, where) if isinstance(given, str) and given.strip() else None


def end_ids(tokenizer: "Tokenizer") -> tuple[int, ...]:
    """What ends an answer of a conversation: the first special token behind its text; () without one."""
    assert tokenizer.chat is not None
    text, found = tokenizer.chat.answers([("user", "a"), (ANSWERS, "b")])
    if not found:
        return ()
    special = tokenizer.control_ids() | {
        id for role in ("eos", "sep") if (id := tokenizer.special(role)) is not None
    }
    start, end = found[-1]
    behind = tokenizer.encode_marked(text[start:end])
    return next(((id,) for id in behind if id in special), ())


def _closed(added: str, content: str) -> int:
    """Characters up to what closes the turn; the line break behind that is not the model's to write."""
    bare = added.rstrip()
    return len(added) if bare.endswith(content.rstrip()) else len(bare)


def _marks(rendered: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and where what they enclose stands in it."""
    parts = re.split(f"[{_OPEN}{_CLOSE}]", rendered)
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    return "".join(parts), [(ends[i], ends[i + 1]) for i in range(1, len(parts) - 1, 2)]


@functools.lru_cache(maxsize=32)
def _compiled(text: str) -> Any:
    """The template in the environment of transformers' `apply_chat_template`."""
    try:
        import jinja2
        import jinja2.ext
        import jinja2.nodes
        import jinja2.sandbox
    except ModuleNotFoundError as error:
        raise UserError(f"A chat template {_EXTRA}") from error
    if tuple(map(int, re.findall(r"\d+", jinja2.__version__)[:3])) < (
        3,
        1,
        6,
    ):  # escapes from older sandboxes are known
        raise UserError(f"A chat template {_EXTRA} (there is {jinja2.__version__})")

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}  # noqa: RUF012 (as Jinja has it)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

        def marked(self, caller: Any) -> str:
            return f"{_OPEN}{caller()}{_CLOSE}"

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda how: datetime.datetime.now().strftime(how),
    }
    return made.from_string(text)


def _to_json(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own escapes what HTML does not like."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
