"""Claims about GGUF: what llama.cpp's converter writes comes back, numbers, config and ids; damage is named."""

import struct

import numpy as np
import pytest

from jaxlm.convert import families
from jaxlm.data.tokens import gguf_tokenizer
from jaxlm.errors import UserError
from jaxlm.formats import gguf_file, gguf_model
from jaxlm.models import rope
from jaxlm.models.build import build
from jaxlm.models.llama import Llama

gguf = pytest.importorskip("gguf", reason="needs the extra `gguf`")

CONFIG = Llama(
    vocab_size=29,
    hidden=64,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=16,
    mlp=96,
    activation="silu",
    max_positions=77,
    rope=rope.Rope(base=5000.0, scaling=rope.Unscaled()),
    norm_epsilon=1e-5,
    embeddings="tied",
    biases="none",
    qk_norm="none",
    windows=(0,),
    init_scale=0.02,
)
BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors() -> dict[str, np.ndarray]:
    import jax

    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f"), build(CONFIG).shapes)
    return families.export_params(params, CONFIG)


def permuted(array: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's convert_hf_to_gguf.py writes queries and keys (LlamaModel.permute)."""
    return (
        array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
        .swapaxes(1, 2)
        .reshape(array.shape)
    )


def name_there(name: str) -> str:
    if not name.startswith("model.layers."):
        return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[
            name
        ]
    _, _, layer, *inner, kind = name.split(".")
    return f"blk.{layer}.{BLOCK['.'.join(inner)]}.{kind}"


def write(path, kind=None, **settings) -> dict[str, np.ndarray]:
    """A file as llama.cpp makes it of `tensors()`; returns what a reader should find."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(CONFIG.layers)
    writer.add_context_length(CONFIG.max_positions)
    writer.add_embedding_length(CONFIG.hidden)
    writer.add_feed_forward_length(CONFIG.mlp)
    writer.add_head_count(CONFIG.heads)
    writer.add_head_count_kv(CONFIG.kv_heads)
    writer.add_layer_norm_rms_eps(CONFIG.norm_epsilon)
    writer.add_rope_freq_base(CONFIG.rope.base)
    for key, value in settings.items():
        getattr(writer, key)(value)
    expected = {}
    for name, array in tensors().items():
        heads = {"q_proj": CONFIG.heads, "k_proj": CONFIG.kv_heads}.get(name.split(".")[-2])
        there = array if heads is None else permuted(array, heads)
        if kind is None or array.ndim == 1:
            writer.add_tensor(name_there(name), there)
            expected[name] = array
        else:
            packed = gguf.quants.quantize(there, kind)
            writer.add_tensor(name_there(name), packed, raw_dtype=kind)
            back = gguf.quants.dequantize(packed, kind)
            undo = lambda a, n: a.reshape(n, len(a) // n // 2, 2, -1).swapaxes(1, 2).reshape(a.shape)
            expected[name] = back if heads is None else undo(back, heads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("kind", [None, "Q8_0", "Q4_1"])
def test_weights_and_config_come_back_with_queries_and_keys_put_in_order(tmp_path, kind):
    path = tmp_path / "model.gguf"
    expected = write(path, kind and gguf.GGMLQuantizationType[kind])
    file = gguf_file.read(path)
    source = gguf_model.source(file)
    assert set(source) == set(expected)
    for name, array in expected.items():
        assert np.array_equal(source.read(name), array), name
        part = tuple(slice(1, 3) for _ in array.shape)
        assert np.array_equal(source.read(name, part), array[part]), name
    assert families.config_from_hf(gguf_model.config(file), list(source)) == CONFIG
    if kind is None:
        back = families.export_params(families.import_params(source, CONFIG), CONFIG)
        assert all(np.array_equal(back[name], array) for name, array in tensors().items())


def test_what_no_config_json_can_say_is_refused(tmp_path):
    write(tmp_path / "a.gguf", add_rope_scaling_type=gguf.RopeScalingType.YARN)
    with pytest.raises(UserError, match=r"rope\.scaling\.type='yarn': read are none and linear"):
        gguf_model.config(gguf_file.read(tmp_path / "a.gguf"))
    llama_31 = gguf_file.Gguf(
        {"general.architecture": "llama", "llama.attention.head_count": 4},
        {"rope_freqs.weight": None},
        "b.gguf",
    )
    with pytest.raises(UserError, match=r"b\.gguf: rope_freqs\.weight: the RoPE of this model is scaled"):
        gguf_model.source(llama_31)
    with pytest.raises(UserError, match=r"general\.architecture='mamba': read are llama"):
        gguf_model.config(gguf_file.Gguf({"general.architecture": "mamba"}, {}, "c.gguf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:100], "it ends in the middle|claims|is not"),
        (lambda data: data[: len(data) // 2], "beyond the end of the file"),
        (lambda data: b"NOPE" + data[4:], "does not begin with GGUF"),
        (lambda data: data[:4] + struct.pack("<I", 99) + data[8:], "it has version 99"),
        (
            lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:],
            "it claims 1152921504606846976 entries",
        ),
        (
            lambda data: data[:16] + struct.pack("<Q", 2**60) + data[24:],
            "it claims 1152921504606846976 entries",
        ),
        (lambda data: data[:24] + struct.pack("<Q", 2**50) + data[32:], "it claims 1125899906842624 entries"),
        (lambda data: b"", "cannot mmap an empty file"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "model.gguf"
    write(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"model.gguf: not a readable GGUF file: .*({message})"):
        gguf_file.read(path)


TEXTS = (
    "The capital of France is Paris.",
    "it's 12345 o'clock, isn't it?\n\n  two  spaces\tand a tab ",
    "naïve café — 日本語 🙂",
    "x=3.14*y[0]; // comment",
    "",
)


ADD = "tokenizer.ggml.add_bos_token"


def corpus() -> list[str]:
    return [" ".join(TEXTS), "the cat sat on the mat and the dog sat on the log; it's 1234 times 98"] * 40


def test_a_byte_level_tokenizer_gives_the_ids_of_the_one_that_it_was_made_from(tmp_path):
    import json

    from jaxlm.data import tokenizer
    from jaxlm.data.tokens import byte_bpe

    original = byte_bpe.train(corpus(), 400, 0, "off")
    model = json.loads(original.text)["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    special = original.control_ids()
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if id in special else 1 for id in range(len(tokens))],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in model["merges"]],
        "tokenizer.ggml.eos_token_id": 0,
    }
    for name, text in gguf_tokenizer.files(metadata, "x.gguf").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    made = tokenizer.load(tmp_path)
    for text in TEXTS:
        assert list(made.encode(text)) == list(original.encode(text)), text
    assert made.vocabulary.eos == 0
    # What llama.cpp does where the file does not say: bos for Llama 3's rule, none for the others.
    for pre, said, begins in (
        ("llama-bpe", {}, True),
        ("gpt-2", {}, False),
        ("llama-bpe", {ADD: False}, False),
    ):
        more = {"tokenizer.ggml.pre": pre, "tokenizer.ggml.bos_token_id": 0, **said}
        template = json.loads(gguf_tokenizer.files(metadata | more, "x")["tokenizer.json"])["post_processor"]
        assert (template is not None) == begins
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.pre='tekken': known are gpt-2, smollm"):
        gguf_tokenizer.files(metadata | {"tokenizer.ggml.pre": "tekken"}, "x.gguf")


def test_a_file_alone_gives_model_tokenizer_and_weights_of_a_run(tmp_path, monkeypatch):
    """`jaxlm train continue_causal:FILE.gguf`, with and without hf: before it."""
    import dataclasses
    import json

    from jaxlm.config import flags
    from jaxlm.data.tokens import byte_bpe
    from jaxlm.exchange import starting

    original = byte_bpe.train(corpus(), 300, 0, "off")
    monkeypatch.setitem(globals(), "CONFIG", dataclasses.replace(CONFIG, vocab_size=original.size))
    model = json.loads(original.text)["model"]
    write(
        tmp_path / "m.gguf",
        add_tokenizer_model="gpt2",
        add_tokenizer_pre="gpt-2",
        add_token_list=[token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])],
        add_token_types=[3 if id in original.control_ids() else 1 for id in range(original.size)],
        add_token_merges=[m if isinstance(m, str) else " ".join(m) for m in model["merges"]],
        add_eos_token_id=0,
    )
    for name in (f"{tmp_path}/m.gguf", f"hf:{tmp_path}/m.gguf"):
        run = flags.load(f"continue_causal:{name}")
        assert run.model.vocab_size == original.size and run.model.layers == CONFIG.layers
        made = run.tokenizer.make(())
        assert [list(made.encode(text)) for text in TEXTS] == [list(original.encode(text)) for text in TEXTS]
        starting.check(run, print)


def test_a_sentencepiece_tokenizer_gives_the_ids_of_sentencepiece(tmp_path):
    import io

    import sentencepiece

    from jaxlm.data import tokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    size = processor.get_piece_size()
    kinds = [
        2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1
        for i in range(size)
    ]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [processor.id_to_piece(i) for i in range(size)],
        "tokenizer.ggml.scores": [processor.get_score(i) for i in range(size)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": processor.bos_id(),
        "tokenizer.ggml.eos_token_id": processor.eos_id(),
        "tokenizer.ggml.unknown_token_id": processor.unk_id(),
    }
    for name, text in gguf_tokenizer.files(metadata, "x.gguf").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    made = tokenizer.load(tmp_path)
    for text in TEXTS[:-1]:
        assert list(made.encode(text)) == processor.encode(text), text
    assert (made.vocabulary.bos, made.vocabulary.eos) == (processor.bos_id(), processor.eos_id())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.tokens": None}, "no list of tokens"),
        ({"tokenizer.ggml.merges": ["a"]}, "no list of merges"),
        ({"tokenizer.ggml.eos_token_id": 9}, "eos_token_id=9: there are 2 tokens"),
        ({"tokenizer.ggml.model": "bert"}, "model='bert': read are gpt2, llama"),
    ],
)
def test_metadata_that_make_no_tokenizer_are_refused(change, message):
    good = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.merges": []}
    gguf_tokenizer.files(good, "x.gguf")
    with pytest.raises(UserError, match=f"x.gguf: .*{message}"):
        gguf_tokenizer.files(good | change, "x.gguf")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", ["llama"], r"general\.architecture=\['llama'\]: read are"),
        ("llama.attention.head_count", [2], r"head_count=\[2\]: must be of type int"),
        ("llama.embedding_length", "x", "embedding_length=x: must be of type int"),
        ("llama.attention.layer_norm_rms_epsilon", "x", "epsilon=x: must be of type float"),
        ("llama.rope.freq_base", True, "freq_base=True: must be of type float"),
    ],
)
def test_metadata_of_another_type_are_refused_by_name(tmp_path, key, value, message):
    write(tmp_path / "a.gguf")
    file = gguf_file.read(tmp_path / "a.gguf")
    with pytest.raises(UserError, match=message):
        gguf_model.config(gguf_file.Gguf(file.metadata | {key: value}, file.tensors, "a.gguf"))


def test_pieces_whose_splits_would_fill_the_memory_are_refused():
    for tokens in (["<unk>", "a", "a" * 60_000], ["a" * n for n in range(1, 500)]):
        metadata = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens}
        metadata |= {"tokenizer.ggml.scores": [0.0] * len(tokens)}
        with pytest.raises(UserError, match="a.gguf: its tokenizer cannot be read: a piece of .* characters"):
            gguf_tokenizer.files(metadata, "a.gguf")
