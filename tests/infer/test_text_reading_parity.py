"""Vectors of a published folder are those of sentence-transformers, whatever its files say, or a key is refused by name."""

import json

import numpy as np
import pytest

from jaxlm.commands import embed as command
from jaxlm.errors import UserError
from jaxlm.exchange import exporting, importing
from jaxlm.infer import embed, loaded, text_reading

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
pytest.importorskip("sentence_transformers", reason="needs the extra `parity` (sentence-transformers)")

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "The",
    "cat",
    "dog",
    "Dog",
    "sat",
    "on",
    "mat",
    "query",
    ":",
]
TEXTS = ["the cat", "The Dog sat on the mat : the cat sat on the dog on the mat", "mat", "Dog sat"]
KINDS = "sentence_transformers.models."
STEPS = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]


def modules(steps) -> list:
    return [{"idx": i, "name": str(i), "path": p, "type": KINDS + kind} for i, (p, kind) in enumerate(steps)]


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """A folder with a BERT that pools, cased."""
    path = tmp_path_factory.mktemp("transformer")
    torch.manual_seed(0)
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40)
    config = transformers.BertConfig(
        vocab_size=len(PIECES), max_position_embeddings=16, initializer_range=0.5, **sizes
    )
    transformers.BertModel(config).eval().save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return path


def folder(transformer, path, files: dict, steps=STEPS):
    """The folder of sentence-transformers; `files` over those that pool by [CLS]."""
    path.mkdir()
    for file in transformer.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    usual = {
        "modules.json": modules(steps),
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": 24,
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False,
        },
        "sentence_bert_config.json": {"max_seq_length": 9, "do_lower_case": False},
    }
    for name, value in (usual | files).items():
        (path / name).parent.mkdir(exist_ok=True)
        if value is not None:
            (path / name).write_text(json.dumps(value))
    return path


def ours(path, texts=TEXTS) -> np.ndarray:
    ready = loaded.load_hf(path)
    reading = text_reading.reading(ready, None)
    return embed.embed(
        ready,
        [reading.text(text) for text in texts],
        pooling=reading.pooling,
        row_length=reading.length,
    )


def check(path):
    theirs = SentenceTransformer(str(path), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(ours(path), theirs, atol=2e-5)


POOL = "1_Pooling/config.json"
BERT = "sentence_bert_config.json"
WHOLE = "config_sentence_transformers.json"
TOKENIZER = "tokenizer_config.json"
CASED = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
PROMPTS = {"prompts": {"query": "query: ", "passage": "mat "}}
DONE = [
    {},
    {POOL: {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True}},
    {POOL: {"embedding_dimension": 24, "pooling_mode": "mean", "include_prompt": True}},
    {POOL: {"embedding_dimension": 24, "pooling_mode": ["cls"]}},
    {POOL: {"embedding_dimension": 24, "include_prompt": False}},
    {BERT: {"max_seq_length": 5}},
    {BERT: {"max_seq_length": None}, TOKENIZER: CASED | {"model_max_length": 7}},
    {BERT: {"max_seq_length": 12}, TOKENIZER: CASED | {"model_max_length": 7}},
    {BERT: None, TOKENIZER: CASED | {"model_max_length": 10**30}},
    {BERT: None, "sentence_xlnet_config.json": {"max_seq_length": 6}},
    {BERT: {"max_seq_length": 9, "do_lower_case": True}},
    {WHOLE: PROMPTS},
    {WHOLE: PROMPTS | {"default_prompt_name": "query", "similarity_fn_name": "dot"}},
    {
        WHOLE: PROMPTS | {"default_prompt_name": "passage"},
        POOL: {"embedding_dimension": 24, "pooling_mode": "mean"},
    },
    {WHOLE: PROMPTS, BERT: {"transformer_task": "feature-extraction", "unpad_inputs": False}},
    {"modules.json": modules(STEPS[:2])},
    {"modules.json": None, POOL: None, BERT: None},
]
REFUSED = [
    ({POOL: {"embedding_dimension": 24, "pooling_mode": "max"}}, "pooling_mode='max'"),
    (
        {POOL: {"embedding_dimension": 24, "pooling_mode_lasttoken": True}},
        r"pooling_mode=\['lasttoken'\]|'lasttoken'",
    ),
    (
        {POOL: {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}},
        r"pooling_mode=\['cls', 'max'\]",
    ),
    ({POOL: {"pooling_mode_new_tokens": True}}, "pooling_mode_new_tokens=true"),
    (
        {
            POOL: {"pooling_mode": "mean", "include_prompt": False},
            WHOLE: PROMPTS | {"default_prompt_name": "query"},
        },
        "include_prompt=false",
    ),
    ({WHOLE: PROMPTS | {"default_prompt_name": "other"}}, "default_prompt_name='other'"),
    ({WHOLE: {"truncate_dim": 8}}, "truncate_dim=8"),
    ({WHOLE: {"model_type": "SparseEncoder"}}, "model_type="),
    ({BERT: {"max_seq_length": "long"}}, "max_seq_length='long'"),
    ({BERT: {"transformer_task": "fill-mask"}}, "transformer_task="),
    ({BERT: {"tokenizer_args": {"model_max_length": 5}}}, "tokenizer_args="),
    ({TOKENIZER: CASED | {"truncation_side": "left"}}, "truncation_side"),
    (
        {"modules.json": modules([STEPS[0], STEPS[1], ("2_LayerNorm", "LayerNorm")])},
        "steps Transformer, Pooling, LayerNorm",
    ),
    ({"modules.json": {"a": 1}}, "not a list of modules"),
]


@pytest.mark.parametrize("files", DONE, ids=lambda files: json.dumps(files)[:60])
def test_vectors_are_those_of_sentence_transformers(transformer, tmp_path, files):
    path = folder(transformer, tmp_path / "m", files)
    if BERT in files and files[BERT] is None:
        (path / BERT).unlink(missing_ok=True)
    check(path)


def test_a_tokenizer_json_that_pads_and_cuts_as_published_ones_do_changes_no_vector(transformer, tmp_path):
    """As in all-MiniLM-L6-v2: padding to a fixed length, and a shorter cut than sentence_bert_config.json's."""
    path = folder(transformer, tmp_path / "m", {})
    SentenceTransformer(str(path), device="cpu").tokenizer.save_pretrained(path)
    (path / "vocab.txt").unlink(missing_ok=True)
    file = path / "tokenizer.json"
    made = json.loads(file.read_text())
    made["truncation"] = {"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    made["padding"] = {
        **{"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    }
    file.write_text(json.dumps(made))
    check(path)


@pytest.mark.parametrize(("files", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_done_here_is_refused_by_the_name_of_its_key(transformer, tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        ours(folder(transformer, tmp_path / "m", files))


@pytest.mark.parametrize("pooling", ["mean", "cls", "cls_mlp"])
def test_our_own_export_gives_the_vectors_of_sentence_transformers(transformer, tmp_path, pooling):
    plain = folder(transformer, tmp_path / "plain", {"modules.json": None})
    for file in ("1_Pooling/config.json", BERT):
        (plain / file).unlink()
    importing.from_hf(str(plain), tmp_path / "model", say=lambda line: None)
    exporting.to_hf(tmp_path / "model", tmp_path / "out", pooling=pooling, say=lambda line: None)
    check(tmp_path / "out")
    ready = loaded.load_hf(tmp_path / "out")
    assert text_reading.reading(ready, None).pooling == pooling


def test_a_dense_step_that_is_not_the_pooler_is_refused(transformer, tmp_path):
    plain = folder(transformer, tmp_path / "plain", {"modules.json": None})
    importing.from_hf(str(plain), tmp_path / "model", say=lambda line: None)
    out = tmp_path / "out"
    exporting.to_hf(tmp_path / "model", out, pooling="cls_mlp", say=lambda line: None)
    Dense(24, 24).save(str(out / "2_Dense"))
    with pytest.raises(UserError, match="2_Dense: a dense step that is not the model's pooler"):
        ours(out)


def test_a_model_folder_and_the_command_read_texts_as_the_folder_says(transformer, tmp_path, capsys):
    files = {"modules.json": modules(STEPS[:2]), WHOLE: PROMPTS | {"default_prompt_name": "query"}}
    path = folder(transformer, tmp_path / "m", files)
    importing.from_hf(str(path), tmp_path / "model", say=lambda line: None)
    for where in (f"--run={tmp_path / 'model'}", f"--hf={path}"):
        command.main(["embed", where, f"--output={tmp_path / 'v.npy'}", *TEXTS])
        shown = capsys.readouterr().out
        assert "pooling cls" in shown and "to length 1, which the folder does not do" in shown
        np.testing.assert_allclose(np.load(tmp_path / "v.npy"), ours(path), atol=1e-6)
    command.main(["embed", f"--hf={path}", "--pooling=mean", *TEXTS])
    assert "pooling mean" in capsys.readouterr().out


def test_every_key_of_sentence_transformers_is_in_one_table():
    keys = {
        "Transformer": {
            *Transformer.config_keys,
            "max_seq_length",
            "do_lower_case",
            "tokenizer_name_or_path",
        },
        "Pooling": {*Pooling.config_keys, *Pooling.config_key_renames},
        "Dense": set(Dense.config_keys),
        "Normalize": set(Normalize.config_keys),
    }
    for kind, known in keys.items():
        tables = (text_reading.READ[kind], text_reading.HARMLESS[kind], text_reading.REFUSED[kind])
        assert known <= {key for table in tables for key in table}, kind
        assert sum(map(len, tables)) == len({key for table in tables for key in table})
