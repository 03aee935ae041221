"""Claims about GGUF: what is written is read by the package gguf, by us, and by llama.cpp; all else is refused by name."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
import sentencepiece

from jaxlm.data import tokenizer as tokenizers
from jaxlm.data.tokens import gguf_tokenizer, spiece_json, wordpiece
from jaxlm.data.tokens.json_tokenizer import JsonTokenizer
from jaxlm.data.tokens.sentencepiece_model import SentencePieceTokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import stored
from jaxlm.export import formats, llama_cpp
from jaxlm.export import gguf_tokenizer as written
from jaxlm.export.gguf import TEXTS
from jaxlm.formats import safetensors_file
from jaxlm.models import rope
from jaxlm.models.llama import Llama
from tests.exchange.folders import hf_folder
from tests.export.folders import CORPUS, LLAMA, llama, save

gguf = pytest.importorskip("gguf", reason="needs the extra `gguf`")

YARN = rope.Yarn(factor=4.0, original=8, beta_fast=4.0, beta_slow=1.0, attention_factor=1.2)
LLAMA3 = rope.Llama3(factor=8.0, low_frequency=1.0, high_frequency=4.0, original=64)
KINDS = {
    "llama": {},
    "untied": {"embeddings": "untied"},
    "biased": {"biases": "all"},
    "mistral": {"windows": (64,)},
    "qwen2": {"biases": "qkv"},
    "qwen3": {"qk_norm": "head"},
    "linear": {"rope": rope.Rope(base=5000.0, scaling=rope.Linear(factor=4.0))},
    "llama3": {"rope": rope.Rope(base=5000.0, scaling=LLAMA3)},
    "yarn": {"rope": rope.Rope(base=5000.0, scaling=YARN)},
}


def export(folder, target, **options):
    source = formats.Source(path=f"hf:{folder}", options=formats.options("gguf", options))
    formats.write("gguf", source, target, say=lambda line: None)
    return source, next(target.glob("*.gguf"))


@pytest.mark.parametrize("kind", ["llama", "untied", "biased", "mistral", "qwen2", "qwen3", "linear"])
def test_our_reader_finds_the_model_and_the_tokenizer_that_were_written(tmp_path, kind):
    folder = llama(tmp_path / "hf", **KINDS[kind])
    _, file = export(folder, tmp_path / "out", dtype="F32")
    a, b = stored.of_hf(folder), stored.of_hf(file)
    changed = {"windows": (0,), "max_positions": 64} if kind == "mistral" else {}
    assert dataclasses.replace(a.config, init_scale=0.0, **changed) == dataclasses.replace(
        b.config, init_scale=0.0
    )
    assert a.shapes.keys() == b.shapes.keys()
    for path in a.shapes:
        np.testing.assert_array_equal(a.host(path), b.host(path), err_msg=path)
    ours = tokenizers.load(folder)
    (tmp_path / "back").mkdir()
    for name, content in b.tokenizer.items():
        (tmp_path / "back" / name).write_bytes(content)
    back = tokenizers.load(tmp_path / "back")
    for text in TEXTS:
        assert ours.encode(text) == back.encode(text), text
    assert ours.vocabulary.eos == back.vocabulary.eos


def test_the_package_gguf_finds_rows_in_llama_cpps_order_and_the_dtypes_that_were_asked_for(tmp_path):
    folder = llama(tmp_path / "hf", **KINDS["llama3"])
    source, file = export(folder, tmp_path / "out", dtype="q4_0")
    read = gguf.GGUFReader(file)
    tensors = {tensor.name: tensor for tensor in read.tensors}
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["token_embd.weight"] == "Q8_0" and kinds["blk.1.attn_q.weight"] == "Q4_0"
    assert kinds["blk.0.attn_norm.weight"] == kinds["rope_freqs.weight"] == "F32"
    hf = source.stored.hf.source
    theirs = hf.read("model.layers.1.self_attn.q_proj.weight")
    turned = (
        theirs.reshape(4, 2, 8, 64).swapaxes(1, 2).reshape(64, 64)
    )  # LlamaModel.permute of llama.cpp's converter
    found = gguf.quants.dequantize(
        tensors["blk.1.attn_q.weight"].data, tensors["blk.1.attn_q.weight"].tensor_type
    )
    step = np.abs(turned.reshape(-1, 32)).max(axis=1, keepdims=True) / 8
    assert (np.abs(found - turned).reshape(-1, 32) <= 1.02 * step).all()
    # The formula of Llama 3.1's release, one angle after the other.
    for i, factor in enumerate(tensors["rope_freqs.weight"].data):
        wave = 2 * math.pi * 5000.0 ** (2 * i / 16)
        smooth = (64 / wave - 1.0) / (4.0 - 1.0)
        expected = 1.0 if wave < 64 / 4 else 8.0 if wave > 64 else 1 / ((1 - smooth) / 8 + smooth)
        assert factor == pytest.approx(expected, rel=1e-6)
    fields = {name: field.contents() for name, field in read.fields.items()}
    assert fields["llama.attention.head_count_kv"] == 2 and fields["llama.rope.freq_base"] == 5000.0
    assert len(fields["tokenizer.ggml.tokens"]) == 400 and fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.token_type"][-1] == gguf_tokenizer.UNUSED


def test_rows_that_are_no_whole_blocks_are_f16_and_berts_names_are_llama_cpps(tmp_path):
    folder = hf_folder(tmp_path / "hf")
    _, file = export(folder, tmp_path / "out", dtype="Q8_0", pooling="cls")
    read = gguf.GGUFReader(file)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in read.tensors}
    assert kinds["blk.2.ffn_up.weight"] == "F16" and kinds["position_embd.weight"] == "F32"
    # Of llama.cpp's own table for this architecture; those that one without a pooler, or with rope, has not.
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 3)
    config = json.loads((folder / "config.json").read_text())
    theirs = [name.removeprefix("bert.") for name in safetensors_file.load(folder / "model.safetensors")]
    names = {table.get_name(name, (".weight", ".bias")) for name in theirs}
    assert set(kinds) == {n for n in names if n and not n.startswith("cls")}
    fields = {name: field.contents() for name, field in read.fields.items()}
    assert fields["bert.pooling_type"] == 2 and fields["bert.attention.causal"] is False
    assert fields["bert.feed_forward_length"] == config["intermediate_size"]
    assert fields["tokenizer.ggml.bos_token_id"] == 2  # [CLS]


def test_berts_pieces_are_marked_where_words_begin():
    made = wordpiece.train(CORPUS, 120, True)
    found = written.metadata(made, made.size + 2, None, "test")
    tokens = found["tokenizer.ggml.tokens"]
    for piece, token in zip(made.pieces, tokens, strict=False):
        expected = (
            piece
            if piece.startswith("[") and len(piece) > 2
            else piece[2:]
            if piece[:2] == "##"
            else "▁" + piece
        )
        assert token == expected
    assert tokens[-2:] == [f"[PAD{made.size}]", f"[PAD{made.size + 1}]"]
    assert found["tokenizer.ggml.normalizer.lowercase"] is True
    assert found["tokenizer.ggml.normalizer.strip_accents"] is True


def spiece(**changes) -> SentencePieceTokenizer:
    model = io.BytesIO()
    settings = dict(model_type="bpe", vocab_size=420, byte_fallback=True, normalization_rule_name="identity")
    settings |= dict(remove_extra_whitespaces=False, split_digits=True, hard_vocab_limit=False, minloglevel=2)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, **{**settings, **changes}
    )
    return SentencePieceTokenizer(model.getvalue(), "test")


@pytest.mark.parametrize("form", ["model", "json"])
def test_a_sentencepiece_tokenizer_keeps_its_ids(tmp_path, form):
    made = spiece()
    if form == "json":
        config = spiece_json.convert(made.model, "test")
        steps = [{"type": "Prepend", "prepend": "▁"}]
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
        config |= {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": steps}}
        made = JsonTokenizer(json.dumps(config), "test")
    metadata = written.metadata(made, made.size, ((made.vocabulary.bos,), ()), "test")
    assert metadata["tokenizer.ggml.add_bos_token"] is True
    assert metadata["tokenizer.ggml.token_type"][:3] == [2, 3, 3]
    assert metadata["tokenizer.ggml.token_type"].count(gguf_tokenizer.BYTE) == 256
    for name, text in gguf_tokenizer.files(metadata, "x.gguf").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    back = tokenizers.load(tmp_path)
    for text in TEXTS:
        assert list(back.encode(text)) == list(made.encode(text)), text


def refuse_tokenizer(made):
    with pytest.raises(UserError) as error:
        written.metadata(made, made.size, None, "RUN")
    return str(error.value)


def test_a_tokenizer_that_llama_cpp_has_not_is_refused_by_name():
    assert "not Unigram" in refuse_tokenizer(spiece(model_type="unigram", vocab_size=330))
    assert "normalises text" in refuse_tokenizer(spiece(normalization_rule_name="nmt_nfkc"))
    from jaxlm.data.tokens import byte_bpe

    config = json.loads(byte_bpe.train(CORPUS, 300, 0, "off").text)
    config["pre_tokenizer"]["add_prefix_space"] = True
    assert "none of llama.cpp's gpt-2, smollm" in refuse_tokenizer(JsonTokenizer(json.dumps(config), "test"))
    words = json.loads(wordpiece.train(CORPUS, 120, True).text)
    words["normalizer"] = {"type": "Lowercase"}
    assert "BertNormalizer" in refuse_tokenizer(JsonTokenizer(json.dumps(words), "test"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "gelu"}, "activation='gelu': llama.cpp's Llamas have silu"),
        ({"qk_norm": "head", "biases": "all"}, "qwen3 has no biases"),
        (
            {"qk_norm": "head", "rope": rope.Rope(base=5e3, scaling=LLAMA3)},
            "Llama3 scaling of RoPE: llama.cpp's qwen3",
        ),
    ],
)
def test_a_llama_that_llama_cpp_has_not_is_refused_before_anything_is_written(tmp_path, changes, message):
    folder = llama(tmp_path / "hf", **changes)
    with pytest.raises(UserError, match=message):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_families_heads_and_poolings_are_refused_by_name(tmp_path):
    from tests.exchange.folders import CONFIG

    folder = save(tmp_path / "tags", CONFIG, wordpiece.train(CORPUS, 120, True), ("tags",))
    with pytest.raises(UserError, match="no place for the head 'tags'"):
        export(folder, tmp_path / "out")
    with pytest.raises(UserError, match="--pooling=mean: .* is no encoder"):
        export(llama(tmp_path / "llama"), tmp_path / "out", pooling="mean")


def test_options_are_those_of_the_format():
    assert formats.options("gguf", {"dtype": "q8_0", "pooling": None}) == {"dtype": "Q8_0"}
    with pytest.raises(
        UserError, match=r"--dtype=Q8_1: --format=gguf takes F16, F32, BF16, Q8_0, Q4_0\..*Q8_0"
    ):
        formats.options("gguf", {"dtype": "Q8_1"})
    with pytest.raises(
        UserError, match=r"--dtype=F16: --format=onnx does not take it. .*--pooling=mean\|cls"
    ):
        formats.options("onnx", {"dtype": "F16"})
    with pytest.raises(UserError, match="--format=ggml: there are .*gguf"):
        formats.of("ggml")


def test_a_damaged_file_and_that_of_another_model_are_refused_by_the_check(tmp_path):
    source, file = export(llama(tmp_path / "hf"), tmp_path / "out")
    other = formats.Source(path=f"hf:{llama(tmp_path / 'other', layers=1)}")
    with pytest.raises(UserError, match="is not of .*other: architecture, names or shapes"):
        formats.check("gguf", other, tmp_path / "out", say=print)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="beyond the end of the file"):
        formats.check("gguf", source, tmp_path / "out", say=print)
    file.write_bytes(b"other bytes" * 9)
    with pytest.raises(UserError, match="does not begin with GGUF"):
        formats.check("gguf", source, tmp_path / "out", say=print)
    file.unlink()
    with pytest.raises(UserError, match=r"has 0 \.gguf files"):
        formats.check("gguf", source, tmp_path / "out", say=print)


def test_without_node_or_its_package_the_check_says_how_to_install_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match="there is no node. Install Node.js 20 .* npm install --ignore-scripts"
    ):
        llama_cpp.find()
    (tmp_path / "node").write_text("#!/bin/sh\n")
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv(llama_cpp.PACKAGES, str(tmp_path))
    with pytest.raises(UserError, match="node-llama-cpp is not in JAXLM_NODE_MODULES="):
        llama_cpp.find()


def with_llama_cpp():
    try:
        llama_cpp.find()
    except UserError as error:
        pytest.skip(str(error))


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("kind", ["llama3", *slow(*(kind for kind in KINDS if kind != "llama3"))])
def test_llama_cpp_says_what_we_say(tmp_path, kind):
    with_llama_cpp()
    source, _ = export(llama(tmp_path / "hf", **KINDS[kind]), tmp_path / "out", dtype="F32")
    lines = []
    assert formats.check("gguf", source, tmp_path / "out", say=lines.append), lines
    told = json.loads((tmp_path / "out" / "check.json").read_text())
    assert told[0]["engine"].startswith("llama.cpp") and all(one["fine"] for one in told)
    assert "| llama.cpp" in (tmp_path / "out" / "README.md").read_text()
    # It could fail: weights of another seed, or the same without the scaling, say something else.
    others = {"rope": LLAMA["rope"]} if "rope" in KINDS[kind] else {"seed": 1, **KINDS[kind]}
    other = formats.Source(path=f"hf:{llama(tmp_path / 'other', **others)}")
    if kind != "llama3":  # whose file has a tensor more
        assert not formats.check("gguf", other, tmp_path / "out", say=lines.append)


@pytest.mark.parametrize("pooling", ["mean", *slow("cls")])
def test_llama_cpps_vectors_of_a_bert_are_ours(tmp_path, pooling):
    with_llama_cpp()
    source, _ = export(hf_folder(tmp_path / "hf"), tmp_path / "out", dtype="F32", pooling=pooling)
    lines = []
    assert formats.check("gguf", source, tmp_path / "out", say=lines.append), lines


@pytest.mark.slow
def test_llama_cpp_splits_sentencepieces_text_as_we_do(tmp_path):
    with_llama_cpp()
    made = spiece()
    folder = save(tmp_path / "hf", Llama(**{**LLAMA, "vocab_size": 440}), made)
    source, _ = export(folder, tmp_path / "out", dtype="F32")
    lines = []
    assert formats.check("gguf", source, tmp_path / "out", say=lines.append), lines
