"""Claims about filling masks: ids as transformers has them, only real tokens, one small program for all weights."""

import json

import jax
import numpy as np
import pytest

from jaxlm.commands import embed as embed_command
from jaxlm.commands import fill_mask as command
from jaxlm.commands import generate as generate_command
from jaxlm.data import tokenizer
from jaxlm.data.tokens import byte_bpe, json_tokenizer
from jaxlm.errors import UserError
from jaxlm.infer import embed, fill_mask, loaded
from jaxlm.infer.frame import Frame
from jaxlm.infer.generate import generate
from jaxlm.infer.sampling import Sampling, known
from jaxlm.models.build import build
from jaxlm.models.heads import Tokens
from tests.exchange.folders import hf_folder
from tests.infer.predictors import predictor
from tests.infer.small_models import LLAMA, VOCAB, made
from tests.infer.test_embed import TEXTS, bert

SENTENCES = ["one [MASK] three", "[MASK] two [MASK] four five six", "a"]
VOCAB_LARGER = 700


@pytest.fixture(scope="module")
def words():
    return tokenizer.train(tokenizer.WordPiece(vocab_size=120, lowercase=True), TEXTS * 9)


def ready(size, words, seed=3):
    model = build(bert(size), {"tokens": Tokens()})
    return predictor(model, jax.jit(model.init)(jax.random.key(seed)), words)


def byte_level(mask="<mask>", lstrip=True):
    """A byte-level BPE tokenizer.json with a mask token, as RoBERTa has it."""
    trained = byte_bpe.train(["the cat sat on the mat. "] * 40, 300, 0, "off")
    config = json.loads(trained.text)
    names = ("<s>", "</s>", mask)
    for id, name in enumerate(names, trained.size):
        plain = dict.fromkeys(("single_word", "rstrip", "normalized"), False)
        added = {"id": id, "content": name, **plain, "lstrip": lstrip and name == mask, "special": True}
        config["added_tokens"].append(added)
    return json_tokenizer.JsonTokenizer(json.dumps(config), "made")


@pytest.mark.parametrize("lstrip", [True, False])
@pytest.mark.parametrize("mask", ["<mask>", "[MASK]"])
@pytest.mark.parametrize(
    "text", ["the cat [MASK] on the mat.", "[MASK] sat", "the [MASK]", "a[MASK]b  [MASK] [MASK]"]
)
def test_ids_around_a_mask_are_those_of_transformers(text, mask, lstrip, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = byte_level(mask, lstrip)
    (tmp_path / "tokenizer.json").write_text(ours.text)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), mask_token=mask
    )
    begin, end = ours.vocabulary.cls, ours.vocabulary.sep
    written = text.replace("[MASK]", theirs.mask_token)
    expected = [begin, *theirs.encode(written, add_special_tokens=False), end]
    assert fill_mask._encode(ours, text, 64) == fill_mask._encode(ours, written, 64) == expected


def test_a_vocabulary_of_two_files_has_the_mask_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = json.loads(byte_level().text)
    vocab = config["model"]["vocab"] | {added["content"]: added["id"] for added in config["added_tokens"]}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in config["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    theirs = transformers.RobertaTokenizer.from_pretrained(tmp_path)
    text = "the cat <mask> on the mat."
    found = fill_mask._encode(tokenizer.load(tmp_path), text, 64)
    assert found[1:-1] == theirs.encode(text, add_special_tokens=False)


def test_only_tokens_of_the_tokenizer_are_chosen(words):
    """The model has 700 entries, and is drawn so that those without a token are likely."""
    filled = fill_mask.fill(ready(VOCAB_LARGER, words), SENTENCES[:2], top=VOCAB_LARGER)
    assert [len(one.candidates) for one in filled] == [words.size] * 3
    for one in filled:
        assert {token for token, _ in one.candidates} == set(words.pieces)
        assert sum(share for _, share in one.candidates) == pytest.approx(1.0, abs=1e-4)


def test_generation_chooses_only_tokens_of_the_tokenizer():
    llama = predictor(*made(LLAMA))
    frame = Frame(before=(), after=(), start=(), stops=())
    settings = {"new_tokens": 20, "sampling": Sampling(temperature=3.0), "seed": 0}
    free, _ = generate(llama, [[5]] * 4, frame, **settings)
    real_V = np.arange(60) != 7
    bound, _ = generate(llama, [[5]] * 4, frame, known_V=real_V, **settings)
    chosen = {id for one in bound for id in one.tokens}
    assert max(id for one in free for id in one.tokens) > 60 and max(chosen) < 60 < VOCAB and 7 not in chosen


def test_gaps_between_the_ids_of_a_tokenizer_are_no_tokens():
    config = json.loads(byte_bpe.train(["the cat sat"] * 9, 300, 0, "off").text)
    vocab = config["model"]["vocab"]
    last = max(vocab, key=vocab.get)
    vocab[last] += 2
    gaps = json_tokenizer.JsonTokenizer(json.dumps(config), "made")
    assert np.flatnonzero(~known(gaps)).tolist() == [vocab[last] - 2, vocab[last] - 1]


def test_weights_are_arguments_and_programs_are_compiled_once(words):
    """For fill and embed: the program is smaller than the weights, and serves other texts, weights and calls."""
    made, pooling = ready(VOCAB_LARGER, words), "mean"
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(made.params))
    places = fill_mask._places(np.full((1, 16), 4), 4)
    batch = made._batch([[2, 4, 3]], 32, lambda _: places)
    for text in (
        fill_mask._likeliest.lower(made.module, batch, known(words), top=5).as_text(),
        embed.encode.lower(made.module, batch, pooling=pooling).as_text(),
    ):
        assert len(text) < weights / 2
    sizes = []
    for seed in range(3):
        made = ready(VOCAB_LARGER, words, seed)
        fill_mask.fill(made, [SENTENCES[seed % 2]] * (5 + seed))
        embed.embed(made, TEXTS[seed:] * 2, pooling=pooling, batch_size=4)
        sizes.append((fill_mask._likeliest._cache_size(), embed.encode._cache_size()))
    assert sizes[1][0] == sizes[0][0] + 1  # two masks in a row
    assert sizes[2] == sizes[1] and sizes[1][1] == sizes[0][1]


def test_weights_in_bfloat16_take_half_the_memory_and_give_nearly_the_same(tmp_path):
    folder = hf_folder(tmp_path / "bert")
    whole, half = loaded.load_hf(folder), loaded.load_hf(folder, dtype="bfloat16")
    size = lambda ready: sum(leaf.nbytes for leaf in jax.tree.leaves(ready.params))
    assert size(half) == size(whole) / 2
    vectors = [embed.embed(ready, TEXTS, pooling="mean") for ready in (whole, half)]
    assert ((vectors[0] * vectors[1]).sum(axis=1) > 0.999).all()


def test_sentences_that_cannot_be_filled_are_refused(words):
    with pytest.raises(UserError, match=r"has no \[MASK\] to fill"):
        fill_mask.fill(ready(words.size, words), SENTENCES)
    with pytest.raises(UserError, match="has 6 tokens; the model takes at most 5"):
        fill_mask.check(words, ["one two [MASK] four"], row_length=5)
    without = byte_bpe.train(["the cat sat"] * 9, 300, 0, "off")
    with pytest.raises(UserError, match="filling masks needs the special tokens mask, .* has no mask"):
        fill_mask.check(without, SENTENCES, row_length=40)
    assert fill_mask.fill(ready(words.size, words), []) == []


def test_commands_refuse_a_model_of_another_kind_and_name_the_right_one(tmp_path):
    from tests.infer.test_answers import written_folder

    decoder = written_folder(tmp_path / "gpt2", "GPT-2")
    with pytest.raises(UserError, match="Gpt2 is of the kind decoder, and filling masks .*jaxlm.generate"):
        command.main(["fill_mask", f"--hf={decoder}", "a [MASK]"])
    with pytest.raises(UserError, match="Gpt2 is of the kind decoder, and embedding texts .*jaxlm.generate"):
        embed_command.main(["embed", f"--hf={decoder}", "a"])
    with pytest.raises(UserError, match="embedding texts takes a head 'pooler', and this Bert has none"):
        folder = hf_folder(tmp_path / "bare", heads=("tokens",))
        embed_command.main(["embed", f"--hf={folder}", "--pooling=cls_mlp", "a"])
    with pytest.raises(UserError, match="Bert is of the kind encoder, and generating text .*jaxlm.fill_mask"):
        generate_command.main(["generate", f"--hf={hf_folder(tmp_path / 'bert')}", "--prompt=a"])
