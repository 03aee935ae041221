"""Key by key: what stands beside a vocabulary gives the ids that AutoTokenizer gives, or is refused by the key's name."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxlm.data import tokenizer
from jaxlm.data.tokens import byte_bpe, settings
from jaxlm.errors import UserError
from jaxlm.exchange import tokenizer_files
from jaxlm.formats import weights
from jaxlm.infer import frame

pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import transformers

BERT = [
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "uber",
        "über",
        "the",
        "The",
        "cat",
        "#",
        "##ber",
        "u",
        "ü",
    ),
    *("的", "人", "##人", "的人", "<", ">", "ent", "##ent", ",", "."),
]
CORPUS = [
    "the cat sat on the mat with a dog",
    "The door of the red garden",
    "a dog and a cat; <ent> and x",
] * 40
TEXTS = [
    *("the cat", "The über Cat", "two  spaces", "的人 uber", "the <ent> cat", "the<ent>cat", "``quoted''"),
    *("cat <mask> the", "cat [MASK] the", "a</s>b", "tea, cat . x"),
]


def bert(folder: Path) -> str:
    (folder / "vocab.txt").write_text("\n".join(BERT) + "\n", encoding="utf-8")
    return "BertTokenizer"


def bert_json(folder: Path) -> str:
    bert(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    tokenizer.load(folder).save(folder)
    (folder / "vocab.txt").unlink()
    return "BertTokenizer"


def pairs(kind: str, specials: list[str]) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        model = json.loads(byte_bpe.train(CORPUS, 300, 0, "off").text)["model"]
        pieces = [*specials, *list(model["vocab"])[2:]]
        (folder / "vocab.json").write_text(json.dumps({piece: id for id, piece in enumerate(pieces)}))
        (folder / "merges.txt").write_text(
            "#version: 0.2\n" + "\n".join(model["merges"]) + "\n", encoding="utf-8"
        )
        return kind

    return make


def pieces(kind: str, name: str, size: int, **options: Any) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        import sentencepiece

        with (folder / name).open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(CORPUS),
                model_writer=file,
                vocab_size=size,
                minloglevel=2,
                hard_vocab_limit=options["model_type"] == "bpe",
                **options,
            )
        return kind

    return make


ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ROLES = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
# As published: Llama's own normalises nothing.
LLAMA = ROLES | {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
}
T5 = {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
KINDS = {
    "BERT, vocab.txt": ("bert", bert),
    "BERT, tokenizer.json": ("bert", bert_json),
    "RoBERTa": ("roberta", pairs("RobertaTokenizer", ROBERTA)),
    "BART": ("bart", pairs("BartTokenizer", ROBERTA)),
    "GPT-2": ("gpt2", pairs("GPT2Tokenizer", ["<|endoftext|>"])),
    "Llama": ("llama", pieces("LlamaTokenizer", "tokenizer.model", 310, **LLAMA)),
    "T5": ("t5", pieces("T5Tokenizer", "spiece.model", 40, **T5)),
    "XLM-R": (
        "xlm-roberta",
        pieces("XLMRobertaTokenizer", "sentencepiece.bpe.model", 40, model_type="unigram", **ROLES),
    ),
}
BOOLEANS = (
    *(
        "do_lower_case",
        "strip_accents",
        "tokenize_chinese_chars",
        "add_prefix_space",
        "keep_accents",
        "remove_space",
    ),
    *("add_bos_token", "add_eos_token", "legacy", "split_special_tokens", "do_basic_tokenize", "clean_text"),
    *(
        "clean_up_tokenization_spaces",
        "spaces_between_special_tokens",
        "trim_offsets",
        "use_default_system_prompt",
    ),
    *("from_slow", "use_fast"),
)
ENT = {
    "content": "<ent>",
    "lstrip": True,
    "rstrip": False,
    "normalized": False,
    "single_word": False,
    "special": True,
}
VALUES: dict[str, list[Any]] = {key: [True, False] for key in BOOLEANS} | {
    "sp_model_kwargs": [{}, {"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}],
    "extra_ids": [3],
    "additional_special_tokens": [["<ent>"]],
    "extra_special_tokens": [["<ent>"], {"x": "<ent>"}],
    "image_token": ["<ent>"],
    "pad_token": ["<ent>"],
    "added_tokens_decoder": [ENT, ENT | {"lstrip": False}],  # given the next id
    "never_split": [["cat"]],
    "wordpieces_prefix": ["@@"],
    "errors": ["ignore"],
    "padding_side": ["left"],
    "truncation_side": ["left"],
    "model_max_length": [5],
    "max_len": [5],
    "max_length": [3],
    "stride": [2],
    "truncation_strategy": ["only_first"],
    "pad_to_multiple_of": [8],
    "model_input_names": [["input_ids"]],
    "unk_id": [5],
    "fix_mistral_regex": [True],
    "backend": ["tokenizers"],
    "init_inputs": [[]],
    "name_or_path": ["x"],
    "tokenizer_file": ["x.json"],
    "vocab_file": ["x"],
    "special_tokens_map_file": ["x"],
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    """A folder with a vocabulary; its class."""
    path = tmp_path_factory.mktemp("vocabulary")
    model, make = KINDS[request.param]
    kind = make(path)
    (path / "config.json").write_text(json.dumps({"model_type": model, "vocab_size": 500}))
    return path, kind


def both(path: Path, values: dict[str, Any]) -> dict[str, tuple[list[int], list[int]]] | str:
    """The ids of transformers and ours; or the message of a refusal."""
    (path / "tokenizer_config.json").write_text(json.dumps(values))
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    try:
        ours = tokenizer.load(path)
    except UserError as error:
        return str(error)
    found = {}
    for text in TEXTS:
        ids = theirs.encode(text, add_special_tokens=False), list(ours.encode_marked(text))
        assert len(theirs) == ours.size or "pad_token" in values
        found[text] = ids
    return found


@pytest.mark.parametrize("key", VALUES)
def test_a_key_gives_the_ids_of_transformers_or_is_refused_by_name(folder, key):
    path, kind = folder
    base = both(path, {"tokenizer_class": kind})
    assert all(a == b for a, b in base.values())
    size = tokenizer.load(path).size
    for value in VALUES[key]:
        given = {str(size): value} if key == "added_tokens_decoder" else value
        found = both(path, {"tokenizer_class": kind, key: given})
        if isinstance(found, str):
            assert f"{key}=" in found or (
                key == "added_tokens_decoder" and "the added token '<ent>'" in found
            )
        elif key == "pad_token":  # which a text never has
            assert {text: ids[1] for text, ids in found.items()} == {
                text: ids[1] for text, ids in base.items()
            }
        else:
            assert {text: ids for text, ids in found.items() if ids[0] != ids[1]} == {}


@pytest.mark.parametrize(
    "said", [{}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True}], ids=str
)
def test_a_prompt_of_a_decoder_begins_as_with_transformers(folder, said):
    path, kind = folder
    if kind not in ("GPT2Tokenizer", "LlamaTokenizer"):
        return
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind} | said))
    ours, theirs = tokenizer.load(path), transformers.AutoTokenizer.from_pretrained(path)
    before = frame.of_settings({}, {}, frame.template(ours), ours.vocabulary).before
    expected = theirs.encode("the cat")
    assert [*before, *ours.encode("the cat")] == expected[: -1 if "add_eos_token" in said else None]


@pytest.mark.parametrize("said", [True, False], ids=["the class is said", "config.json says the family"])
def test_two_texts_stand_in_a_row_as_transformers_lays_them_out(folder, tmp_path, said):
    path, kind = folder
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": kind} if said else {"max_len": 9})
    )
    save_file({"x": np.zeros(1, np.float32)}, path / "model.safetensors")
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    ours = tokenizer_files.open_files(tokenizer_files.of_weights(weights.open_folder(path)), str(path))
    if kind in ("GPT2Tokenizer", "LlamaTokenizer", "T5Tokenizer"):  # of models that read no pairs
        return
    ours.save(tmp_path)
    for vocabulary in (ours.vocabulary, tokenizer.load(tmp_path).vocabulary):
        a, b = list(ours.encode("the cat")), list(ours.encode("a mat"))
        row = [vocabulary.cls, *a, vocabulary.sep, *vocabulary.between, *b, vocabulary.sep]
        assert row == theirs("the cat", "a mat")["input_ids"]


def test_every_key_of_transformers_tokenizers_is_in_one_table():
    tables = [settings.HONOURED, settings.HARMLESS, frozenset(settings.REFUSED)]
    assert sum(map(len, tables)) == len(frozenset.union(*tables))
    names = {name for kinds in settings.CLASSES.values() for name in kinds} | {
        "AlbertTokenizer",
        "PreTrainedTokenizerFast",
    }
    for name in names:
        keys = set(inspect.signature(getattr(transformers, name).__init__).parameters)
        keys = {key for key in keys if not key.startswith("_")} - {
            "self",
            "vocab",
            "merges",
            "args",
            "kwargs",
        }
        assert keys <= frozenset.union(*tables), name


def test_what_transformers_saves_has_no_key_that_is_unknown(folder, tmp_path):
    path, kind = folder
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    theirs = transformers.AutoTokenizer.from_pretrained(path, extra_special_tokens=["<ent>"])
    theirs.save_pretrained(tmp_path)
    assert settings.read(tmp_path).unknown == ()
    ours = tokenizer.load(tmp_path)
    assert all(theirs.encode(text, add_special_tokens=False) == ours.encode_marked(text) for text in TEXTS)


def test_older_files_with_added_tokens_give_the_ids_of_transformers(folder):
    path, kind = folder
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    size = tokenizer.load(path).size
    try:
        (path / "added_tokens.json").write_text(json.dumps({"<ent>": size}))
        (path / "special_tokens_map.json").write_text(json.dumps({"extra_special_tokens": ["<ent>"]}))
        assert all(a == b for a, b in both(path, {"tokenizer_class": kind}).values())
    finally:
        (path / "added_tokens.json").unlink()
        (path / "special_tokens_map.json").unlink()


@pytest.mark.parametrize(
    "kind", ["CamembertTokenizer", "AlbertTokenizer", "BertJapaneseTokenizer", "Qwen2TokenizerFast"]
)
def test_a_class_that_uses_its_vocabulary_otherwise_is_refused_without_a_tokenizer_json(folder, kind):
    path, _ = folder
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    if (path / "tokenizer.json").exists():
        assert tokenizer.load(path).size == len(BERT)
        return
    with pytest.raises(UserError, match=f"a {kind.removesuffix('Fast')} does not use .* as it is done here"):
        tokenizer.load(path)
