import pytest

from jaxlm.commands.data import parse_tokenizer
from jaxlm.data import tokenizer
from jaxlm.errors import UserError


def test_every_kind_of_tokenizer_can_be_named():
    assert parse_tokenizer("wordpiece:613:lowercase") == tokenizer.WordPiece(vocab_size=613, lowercase=True)
    assert parse_tokenizer("wordpiece:613:cased") == tokenizer.WordPiece(vocab_size=613, lowercase=False)
    assert parse_tokenizer("unigram:401:7") == tokenizer.Unigram(vocab_size=401, sentinels=7)
    assert parse_tokenizer("bpe:409:0") == tokenizer.Bpe(vocab_size=409, sentinels=0)
    made = tokenizer.ByteBpe(vocab_size=467, sentinels=3, infill="on")
    assert parse_tokenizer("bytebpe:467:3:infill") == made
    assert parse_tokenizer("some/folder") == tokenizer.Pretrained(path="some/folder")


@pytest.mark.parametrize(
    "words", ["wordpiece:613", "unigram:401", "bpe:x:0", "bytebpe:467:3:on", "wordpiece:6:x"]
)
def test_what_is_not_understood_lists_the_forms(words):
    with pytest.raises(UserError, match="allowed: wordpiece:SIZE:lowercase"):
        parse_tokenizer(words)
