"""Claims about windows over contexts: those of the tokenizers library, with the answer where it stands."""

import dataclasses
import inspect

import cloudpickle
import numpy as np
import pytest
import tokenizers

from jaxlm.cached import Cache
from jaxlm.data.corpus import answers
from jaxlm.data.rows import windows
from jaxlm.data.rows.windows import Cut
from jaxlm.data.tokenizer import WordPiece, train
from jaxlm.errors import UserError

CUT = Cut(tokens=40, overlap=9, question_tokens=12, separators=1)
TEXTS = [inspect.getdoc(kind) or "" for kind in (np.einsum, np.mean, np.ndarray, str.split, dict.get)]
QUESTIONS = ["What is it?", "Which axis is meant, and why is it that one?", "How?"]


class Shards:
    """Records of question and context, of which some have an answer."""

    fingerprint = "s"

    def __init__(self, records):
        """Of (ids of the question, ids of the context, values of the context's tokens)."""
        self.records = records
        self.lengths = np.array([len(q) + len(c) for q, c, _ in records], np.uint32)

    def __len__(self):
        return len(self.records)

    def __getitems__(self, ks):
        return [np.concatenate(self.records[k][:2]).astype(np.int32) for k in ks]

    def array(self, name):
        assert name == "fields"
        return np.array([[len(q), len(c)] for q, c, _ in self.records], np.uint32)

    def value(self, name, k):
        assert name == "answers"
        return np.concatenate([np.zeros(len(self.records[k][0]), np.int32), self.records[k][2]])

    def labels(self, name):
        return ("answers",)


@pytest.fixture(scope="module")
def tokenizer():
    return train(WordPiece(vocab_size=900, lowercase=True), TEXTS)


def shards(tokenizer, spans):
    pairs = [(question, text) for text in TEXTS for question in QUESTIONS]
    found = []
    for (question, text), span in zip(pairs, spans, strict=True):
        (asked, _), (ids, offsets) = tokenizer.encode_batch_with_offsets([question, text])
        found.append((asked, ids, answers.of_tokens((span,) if span else (), offsets)))
    return Shards(found), pairs


def drawn(seed=0):
    """A span of every context, short or long; none of every fifth."""
    rng = np.random.default_rng(seed)
    spans = []
    for i, text in enumerate(text for text in TEXTS for _ in QUESTIONS):
        start = int(rng.integers(0, len(text) - 60))
        part = text[start : start + int(rng.integers(1, 60))].rstrip()
        start += len(part) - len(part.lstrip())
        spans.append(
            None if i % 5 == 4 or not part.strip() else (start, start + len(part.strip()), "answers")
        )
    return spans


def make(found, tokenizer, cut=CUT, none=True, cache=None, between=()):
    vocabulary = dataclasses.replace(tokenizer.vocabulary, between=between)
    return windows.make_windows(found, vocabulary, cut, column="answers", none=none, cache=cache)


def pieces(items):
    return items.pieces([(k, 0, int(n)) for k, n in enumerate(items.lengths)])


@pytest.mark.parametrize("separators", [1, 2])
@pytest.mark.parametrize(("tokens", "overlap"), [(40, 9), (64, 32), (384, 128)])
def test_windows_are_those_of_the_tokenizers_library(tokenizer, tokens, overlap, separators):
    """Ids, types and answers, where every question is short enough; contexts of one window and of dozens."""
    cut = Cut(tokens=tokens, overlap=overlap, question_tokens=20, separators=separators)
    spans = drawn()
    found, pairs = shards(tokenizer, spans)
    theirs = tokenizers.Tokenizer.from_str(tokenizer.text)
    cls, sep = tokenizer.vocabulary.cls, tokenizer.vocabulary.sep
    theirs.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS]:0 $A:0 [SEP]:0 {'[SEP]:1 ' * (separators - 1)}$B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    theirs.enable_truncation(tokens, stride=overlap, strategy="only_second")
    expected = []
    for (question, text), span in zip(pairs, spans, strict=True):
        first = theirs.encode(question, text)
        for window in (first, *first.overflowing):
            expected.append((window.ids, window.type_ids, place(window, span)))
    items = make(found, tokenizer, cut, between=(sep,) * (separators - 1))
    made = [
        (p.tokens.tolist(), p.texts.tolist(), (int(p.columns[windows.START]), int(p.columns[windows.END])))
        for p in pieces(items)
    ]
    assert made == expected
    whole = [len(p.tokens) for p in pieces(items)]
    assert (items.lengths + items.overhead).tolist() == whole and max(whole) <= tokens
    assert tokens > 300 or len(made) > 2 * len(pairs)


def place(window, span):
    """As transformers' run_qa.py has it: the tokens of a window that hold the answer, or 0 and 0."""
    if span is None:
        return 0, 0
    inside = [i for i, of in enumerate(window.sequence_ids) if of == 1]
    offsets = window.offsets
    if span[0] < offsets[inside[0]][0] or span[1] > offsets[inside[-1]][1]:
        return 0, 0
    touched = [i for i in inside if offsets[i][0] < span[1] and offsets[i][1] > span[0]]
    return touched[0], touched[-1]


def test_a_long_question_is_cut_and_windows_are_random_access_and_found_again(tokenizer, tmp_path):
    found, _ = shards(tokenizer, drawn(1))
    cut = Cut(tokens=30, overlap=3, question_tokens=4, separators=1)
    items = make(found, tokenizer, cut, cache=Cache(tmp_path, print))
    all_pieces = pieces(items)
    assert max(int(p.texts.argmax()) for p in all_pieces) == 6
    again = cloudpickle.loads(cloudpickle.dumps(make(found, tokenizer, cut, cache=Cache(tmp_path, print))))
    assert again.fingerprint == items.fingerprint
    k = len(all_pieces) // 2
    (one,) = again.pieces([(k, 0, int(items.lengths[k]))])
    assert one.tokens.tolist() == all_pieces[k].tokens.tolist()
    (document, _, asked), (same, first, length) = again.documents((k, 0, 0))
    ids = found.__getitems__([document])[0]
    assert document == same
    assert one.tokens[1 : 1 + asked].tolist() == ids[:asked].tolist()
    assert one.tokens[2 + asked : -1].tolist() == ids[first : first + length].tolist()
    other = make(found, tokenizer, Cut(tokens=30, overlap=4, question_tokens=4, separators=1))
    assert other.fingerprint != items.fingerprint


def test_how_many_contexts_need_several_windows_is_said(tokenizer, tmp_path):
    said, (found, _) = [], shards(tokenizer, [None] * 15)
    for cut in (CUT, CUT, Cut(tokens=9999, overlap=9, question_tokens=12, separators=1)):
        make(found, tokenizer, cut, cache=Cache(tmp_path, said.append))
    several = sum(min(len(q), 12) + 3 + len(c) > 40 for q, c, _ in found.records)
    assert 9 <= several <= 15 and said == [
        f"  windows            the contexts of {several} of 15 questions are longer than a window of 40 tokens and "
        "read in several, which share 9"
    ]


def test_a_question_without_an_answer_needs_leave_and_the_question_comes_first(tokenizer):
    found, _ = shards(tokenizer, drawn())
    with pytest.raises(UserError, match=r"question 5 of the split has no answer .*no_answer=True"):
        make(found, tokenizer, none=False)
    turned = Shards([(c, q, v) for q, c, v in found.records])
    turned.value = lambda name, k: np.concatenate(
        [found.records[k][2], np.zeros(len(found.records[k][0]), int)]
    )
    with pytest.raises(UserError, match="the question first"):
        make(turned, tokenizer)
