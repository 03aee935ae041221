"""Claims about conversations: every form that people have is read; what is none, or cannot be written, is refused."""

import json
import sys

import numpy as np
import pytest

from jaxlm.cached import Cache
from jaxlm.data import tokenizer
from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Choice, Label, Messages, Spans, Wanted, check
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.rows import conversations
from jaxlm.data.shards import prepare, shards
from jaxlm.data.tokens.chat_template import ChatTemplate
from jaxlm.errors import UserError
from tests.data import templates

CHAT = Wanted(("messages",), (Messages(field="messages"),))
PAIR = Wanted(("chosen", "rejected"), (Choice(field="prompt"),))
SAID = (("user", "Who?"), ("assistant", "He."))
TURNS = [{"role": role, "content": content} for role, content in SAID]
SHARED = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "He."}]


def read(record, wanted=CHAT):
    found = readers.of(record, wanted, "chats.jsonl:7", 7)
    return [(one.messages, one.given) for one in found.values[0]]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": TURNS, "task": "x"},
        {"conversations": SHARED, "id": 1},
        {"instruction": "Who?", "input": "", "output": "He."},
        {"prompt": "Who?", "completion": "He."},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"messages": [{"role": "system", "content": ""}, TURNS[0], {**TURNS[1], "name": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}, TURNS[1]]},
    ],
    ids=lambda record: "-".join(record),
)
def test_all_forms_give_the_same_conversation(record):
    assert read(record) == [(SAID, 0)]


def test_instructions_have_inputs_systems_and_histories():
    row = {"instruction": "Say", "input": "it", "output": "It.", "system": "Be", "history": [["a", "b"]]}
    roles = ("system", "user", "assistant", "user", "assistant")
    contents = ("Be", "a", "b", "Say\n\nit", "It.")
    assert read(row) == [(tuple(zip(roles, contents, strict=True)), 0)]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Who?", "chosen": "He.", "rejected": "She."},
        {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "She."}]},
        {"conversations": SHARED[:1], "chosen": SHARED[1], "rejected": {"from": "gpt", "value": "She."}},
        {"chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "She."}]},
    ],
    ids=["texts", "messages", "sharegpt", "whole"],
)
def test_all_forms_give_the_same_pair(record):
    assert read(record, PAIR) == [(SAID, 1), ((SAID[0], ("assistant", "She.")), 1)]


def test_a_csv_of_instructions_is_read(tmp_path):
    (tmp_path / "a.csv").write_text('instruction;output\n"Who?";"He."\n')
    found = list(readers.read(str(tmp_path / "a.csv"), CHAT))
    assert [one.values[0][0].messages for one in found] == [SAID] and found[0].texts == ("Who?\nHe.",)


def turns(*roles):
    return {"messages": [{"role": role, "content": "a"} for role in roles]}


@pytest.mark.parametrize(
    "record, wanted, message",
    [
        (turns("assistant", "user"), CHAT, "message 1 is the assistant's, behind nothing; allowed before it: a message"),
        (turns("user", "user", "assistant"), CHAT, "message 2 is the user's, behind one of the user"),
        (turns("user", "assistant", "system"), CHAT, "message 3 is the system's, behind one of the assistant"),
        (turns("user"), CHAT, "no message of the assistant"),
        (turns("user", "judge"), CHAT, "has the role 'judge'; allowed are"),
        ({"messages": [{"role": "user", "content": " "}]}, CHAT, "allowed are a text that is not empty"),
        ({"messages": "no list"}, CHAT, "no message of the assistant"),
        ({"messages": 5}, CHAT, "allowed are a text that is not empty, and lists"),
        ({"text": "a"}, CHAT, 'no conversation: no field "messages".*Fields there: text'),
        ({"instruction": "a"}, CHAT, 'no field "response"'),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, PAIR, '"chosen" and "rejected" are the same answer'),
        ({"prompt": "a", "chosen": TURNS, "rejected": "b"}, PAIR, '"chosen" must be an answer of the assistant'),
        ({"prompt": "a", "chosen": "b"}, PAIR, 'no field "rejected". Fields there: prompt, chosen'),
        ({"prompt": TURNS, "chosen": "b", "rejected": "c"}, PAIR, "message 3 is the assistant's, behind one of the"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused_with_its_place(record, wanted, message):
    with pytest.raises(UserError, match=f"chats.jsonl:7: .*{message}"):
        read(record, wanted)


@pytest.mark.parametrize(
    "columns, texts, message",
    [
        ((Messages(field="messages"),), ("messages", "x"), "a conversation is the whole text"),
        ((Choice(field="prompt"),), ("messages",), "two answers are compared"),
        (
            (Messages(field="messages"), Spans(field="x", text="messages")),
            ("messages",),
            "a template writes conversations anew",
        ),
    ],
)
def test_columns_that_do_not_go_together_are_refused(columns, texts, message):
    with pytest.raises(UserError, match=message):
        check(columns, texts, "config.data")
    check((Messages(field="messages"), Label(field="task")), ("messages",), "config.data")


@pytest.mark.parametrize(
    "text, message",
    [
        ("{{ ''.__class__.__mro__ }}", "tries to call Python .*__class__.*which is refused"),
        ("{{ messages.append(1) }}", "tries to call Python"),
        ("{% for i in range(10**9) %}x{% endfor %}", "cannot be used: OverflowError"),
        ("{{ nothing.at.all }}", "chats.jsonl:7: .*cannot be used: UndefinedError"),
        ("{% for %}", "cannot be used: TemplateSyntaxError"),
        ("{{ raise_exception('no tools') }}", "chats.jsonl:7: .*refuses the conversation: no tools"),
        (
            "{{ messages | length }}{{ messages[-1].content }}",
            "writes the first 1 messages otherwise when more follow.*{% generation %}",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        ChatTemplate.of(text, {}, "models/it").answers(SAID, where="chats.jsonl:7")


def test_a_role_order_that_a_template_refuses_names_the_record(tmp_path):
    made = tokenizer.load(templates.folder(tmp_path, templates.MISTRAL))
    with pytest.raises(
        UserError, match="chats.jsonl:3: the chat template of .* Only user and assistant roles"
    ):
        made.chat.answers([("user", "a"), ("tool", "b"), ("assistant", "c")], where="chats.jsonl:3")


def prepared(tmp_path, rows, template=templates.CHATML, **fields):
    corpus = tmp_path / "chats.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tokenizer.Pretrained(path=str(templates.folder(tmp_path / "model", template)))
    text = Corpus(source=str(corpus), validation_share=0.0, test_share=0.0, **fields)
    said = []
    made = prepare.prepare(text, config, sentences=False, cache=tmp_path / "cache", log=said.append)
    return shards.open_shards(made.directory, "train", tokenizer_fingerprint=None), made, said


CHATS = {"text_field": "messages", "columns": CHAT.values}


def test_another_template_makes_other_shards_and_is_kept_beside_them(tmp_path):
    rows = [{"messages": TURNS}, {"conversations": SHARED, "system": "Be brief."}]
    one, first, _ = prepared(tmp_path, rows, **CHATS)
    two, second, _ = prepared(tmp_path, rows, templates.LLAMA3, **CHATS)
    bare, third, said = prepared(tmp_path, rows, None, **CHATS)
    assert len({made.directory for made in (first, second, third)}) == 3
    assert len({one.fingerprint, two.fingerprint, bare.fingerprint}) == 3
    assert (second.directory / "chat_template.jinja").read_text() == templates.LLAMA3
    assert any("no chat template: jaxlm's own is used" in line for line in said)
    tokens = second.tokenizer
    ids = two[0].tolist()
    assert ids[0] == tokens.special("bos") and ids.count(ids[0]) == 1  # the template's; none is added
    answers = [tokens.token(id) for id in two[0][two.value("messages", 0) > 0]]
    assert answers[-1] == "<|eot_id|>" and "".join(answers[:-1]) == "He."


def test_rows_never_have_more_targets_than_slots_and_what_is_cut_is_said(tmp_path):
    rng = np.random.default_rng(0)
    words = lambda n: " ".join(rng.choice(["who", "wrote", "the", "book"], n))
    rows = [
        {"prompt": words(rng.integers(1, 9)), "completion": words(rng.integers(1, 20))} for _ in range(60)
    ]
    rows.append({"prompt": words(80), "completion": "Yes."})
    made, ready, _ = prepared(tmp_path, rows, templates.MISTRAL, **CHATS)
    said, length, slots = [], 64, 12
    items = conversations.make_conversations(
        made, ready.tokenizer.vocabulary, column="messages", texts=1, length=length, slots=slots,
        cache=Cache(tmp_path / "plans", said.append),
    )  # fmt: skip
    assert "1 are left out, of which no answer would be left" in said[-1] and "are cut at the end" in said[-1]
    for k, room in enumerate(items.lengths.tolist()):
        (piece,) = items.pieces([(k, 0, room)])
        targets = int((piece.columns["messages"][1:] > 0).sum())
        assert (
            0 < targets <= slots and len(piece.tokens) <= room <= length and targets * length <= room * slots
        )
        assert piece.tokens.tolist() == made[int(items.table[k]["document"])][: len(piece.tokens)].tolist()
    most, share = conversations.most_targets(made, "messages", 1, length)
    assert most > slots and 0 < share < 1
    with pytest.raises(UserError, match="rows of 8 tokens and 4 targets hold none of the 61 conversations"):
        conversations.make_conversations(
            made, ready.tokenizer.vocabulary, column="messages", texts=1, length=8, slots=4, cache=None
        )


def test_of_a_pair_only_what_follows_the_prompt_is_an_answer(tmp_path):
    prompt = [*TURNS, {"role": "user", "content": "And then?"}]
    rows = [{"prompt": prompt, "chosen": "He left.", "rejected": "Nobody knows."}]
    made, ready, _ = prepared(tmp_path, rows, text_fields=PAIR.texts, columns=PAIR.values)
    marks, token = made.value("prompt", 0) > 0, ready.tokenizer.token
    ends = np.flatnonzero(np.diff(marks.astype(int)) < 0)
    said = "".join(token(id) for id in made[0][marks]).replace("Ġ", " ")
    assert said == "He left.<|im_end|>Nobody knows.<|im_end|>" and len(ends) == 2
    assert made.array("fields")[0].sum() == len(made[0])


def test_without_jinja_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r'pip install "jaxlm\[chat\]"'):
        ChatTemplate.of("{{ 'no other test has this' }}", {}, "models/it").prompt("Who?")
