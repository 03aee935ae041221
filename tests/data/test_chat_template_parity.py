"""Parity with Hugging Face: a conversation's text, ids and answers are those of transformers' apply_chat_template."""

import numpy as np
import pytest

from jaxlm.data import tokenizer
from jaxlm.data.corpus.columns import Messages, Wanted
from jaxlm.data.corpus.record import Conversation, Record
from jaxlm.data.shards import encoding
from jaxlm.data.tokens import chat_template
from tests.data import templates

transformers = pytest.importorskip("transformers", reason="the reference is in transformers")

SHORT = [("user", "Who wrote it?"), ("assistant", "An old friend.")]
CHATS = {
    "short": SHORT,
    "long": [
        *SHORT,
        ("user", " And <|im_end|> when?\n"),
        ("assistant", "In 1950 — naïve 文字.\n\nSo they say"),
    ],
    "system": [("system", "Be brief."), *SHORT],
}


@pytest.mark.parametrize("end", ["</s>", "<|im_end|>"])
@pytest.mark.parametrize("name", templates.PUBLISHED)
def test_text_ids_and_answers_are_those_of_transformers(tmp_path, name, end):
    folder = templates.folder(tmp_path, templates.PUBLISHED[name], end)
    ours, theirs = tokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(str(folder))
    for kind, chat in CHATS.items():
        if (name, kind) == ("mistral", "system"):
            continue  # it refuses one, see test_chats.py
        said = [{"role": role, "content": content} for role, content in chat]
        for ask in (False, True):
            given = said[: -1 if ask else None]
            wanted = theirs.apply_chat_template(given, tokenize=False, add_generation_prompt=ask)
            assert ours.chat.render(chat[: -1 if ask else None], ask=ask) == wanted
        record = Record(("",), ((Conversation(tuple(chat)),),), where="chats.jsonl:1")
        wanted = Wanted(("messages",), (Messages(field="messages"),))
        _, ids, known = next(encoding.encoded(ours, [record], wanted, False))
        assert ids.tolist() == theirs.apply_chat_template(said)["input_ids"]
        mask = _marked(theirs, said) if name == "marked" else _by_prefix(theirs, said)
        np.testing.assert_array_equal(known["column_0"] > 0, mask)
        assert (known["column_0"] == 1).sum() == sum(role == "assistant" for role, _ in chat)


def _marked(theirs, said):
    found = theirs.apply_chat_template(said, return_dict=True, return_assistant_tokens_mask=True)
    return np.array(found["assistant_masks"]) > 0


def _by_prefix(theirs, said):
    """What a template adds for every answer; the line break behind ChatML's end of a turn is nobody's."""
    ids = lambda given, ask: theirs.apply_chat_template(given, add_generation_prompt=ask)["input_ids"]
    mask = np.zeros(len(ids(said, False)), bool)
    for k, one in enumerate(said):
        if one["role"] == "assistant":
            mask[len(ids(said[:k], True)) : len(ids(said[: k + 1], False))] = True
    tokens = theirs.convert_ids_to_tokens(ids(said, False))
    behind = [
        before == "<|im_end|>" and token == "Ċ" for before, token in zip(["", *tokens], tokens, strict=False)
    ]
    return mask & ~np.array(behind)


def test_the_built_in_template_is_read_by_transformers(tmp_path):
    folder = templates.folder(tmp_path / "bare", None)
    ours = tokenizer.load(folder)
    ours.chat = chat_template.built_in(ours)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    again = tokenizer.load(tmp_path)
    assert again.chat == ours.chat and again.fingerprint == ours.fingerprint
    for ask in (False, True):
        said = [{"role": role, "content": content} for role, content in CHATS["system"]]
        text = theirs.apply_chat_template(said, tokenize=False, add_generation_prompt=ask)
        assert text == again.chat.render(CHATS["system"], ask=ask)
    assert chat_template.end_ids(again) == (theirs.convert_tokens_to_ids("</s>"),)
