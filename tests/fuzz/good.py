"""Good files of every format that is read, small, one folder each: what the fuzz test damages."""

import base64
import bz2
import gzip
import json
import lzma
import pathlib
import pickle
import random
import shutil
import struct
import zipfile
from typing import Any

import numpy as np
import zstandard
from flax import serialization

from jaxlm.config import flags
from jaxlm.convert import families
from jaxlm.data import tokenizer
from jaxlm.data.tokens import spiece_json
from jaxlm.formats import safetensors_file

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = [
    "albert_base",
    "bart_base",
    "bert_base",
    "distilbert_base",
    "electra_small",
    "gpt2_small",
    "llama3_2_1b",
    "mistral_7b",
    "mixtral_8x7b",
    "modernbert_base",
    "qwen2_5_0_5b",
    "qwen3_0_6b",
    "roberta_base",
    "t5_small",
    "transformer_base",
]
_RNG = random.Random(0)
WORDS = [
    "".join(_RNG.choice("abcdefghijklmnoprstuvwyz") for _ in range(_RNG.randint(1, 9))) for _ in range(300)
]
TEXTS = [" ".join(_RNG.choices(WORDS, k=20)) + f" {i}. Naïve café ﬁve" for i in range(60)]


def make(folder: pathlib.Path, kind: str) -> pathlib.Path:
    """The file to damage; what has to stand beside it stands in the folder, which is made."""
    name, write = MAKERS[kind]
    folder.mkdir(parents=True)
    write(folder / name)
    return folder / name


def config_jsons() -> dict[str, dict[str, Any]]:
    """The config.json of a published model of every model_type."""
    found = []
    for run in (flags.load(ROOT / "configs" / f"{name}.py") for name in RECIPES):
        pair = hasattr(run.model, "discriminator")
        model, heads = (run.model.discriminator, ("replaced",)) if pair else (run.model, run.heads)
        found.append(families.to_hf_config(model, heads))
    return {hf["model_type"]: hf for hf in found}


def pickled() -> bytes:
    """The program of a state dict with one tensor, in storage "0"."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89"
    return b"\x80\x02}q\x00(" + text("a.weight") + tensor + b"ccollections\nOrderedDict\n)RtRq\x01u."


def zipped(path: pathlib.Path, program: bytes) -> None:
    """The container of torch.save."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("data.pkl", program), ("byteorder", b"little"), ("data/0", bytes(24))):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)  # of 1980, always


def streamed(path: pathlib.Path) -> None:
    """The container of torch.save before 1.6."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(head + pickled() + pickle.dumps(["0"], 2) + struct.pack("<Q", 6) + bytes(24))


def gguf(path: pathlib.Path) -> None:
    """A Llama without layers, with the tokenizer of SentencePiece."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    for add in ("block_count", "context_length", "embedding_length", "feed_forward_length", "head_count"):
        getattr(writer, f"add_{add}")(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab"]
    writer.add_token_list(tokens)
    writer.add_token_scores([float(-i) for i in range(len(tokens))])
    writer.add_token_types([2, 3, 3, 1, 1, 1, 1, 1])
    writer.add_bos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_tensor("token_embd.weight", np.ones((8, 32), "f"))
    writer.add_tensor("blk.0.attn_q.weight", np.ones((64, 32), "f"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensorflow(path: pathlib.Path) -> None:
    """The checkpoint of the test of its reader."""
    for file in (pathlib.Path(__file__).parents[1] / "convert" / "bert_tf").iterdir():
        shutil.copy(file, path.parent)


def trained(config: tokenizer.TokenizerConfig, path: pathlib.Path) -> None:
    """The file of a tokenizer of our own."""
    tokenizer.train(config, TEXTS).save(path.parent)


def byte_pairs(path: pathlib.Path) -> None:
    """GPT-2's pair of files."""
    made = tokenizer.train(tokenizer.ByteBpe(vocab_size=300, sentinels=0, infill="off"), TEXTS)
    made.save(path.parent)
    model = json.loads((path.parent / "tokenizer.json").read_text())["model"]
    (path.parent / "tokenizer.json").unlink()
    path.write_text(json.dumps(model["vocab"]))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    path.with_name("merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n")


def merges(path: pathlib.Path) -> None:
    """The other file of the pair."""
    byte_pairs(path.with_name("vocab.json"))


def unigram(path: pathlib.Path) -> None:
    """A tokenizer.json with a compiled table of normalisation."""
    model = path.with_name("tokenizer.model")
    trained(tokenizer.Unigram(vocab_size=110, sentinels=0), model)
    path.write_text(json.dumps(spiece_json.convert(model.read_bytes(), "a model")))
    model.unlink()


def table(path: pathlib.Path) -> None:
    """The compiled table of normalisation of the tokenizer.json beside it."""
    unigram(path.with_name("tokenizer.json"))
    rules = json.loads(path.with_name("tokenizer.json").read_text())["normalizer"]["normalizers"]
    path.write_bytes(base64.b64decode(rules[0]["precompiled_charsmap"]))


def vocabulary(path: pathlib.Path) -> None:
    """BERT's."""
    path.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*WORDS, *"abcd", "##a"})]) + "\n"
    )
    path.with_name("tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))


def settings(path: pathlib.Path) -> None:
    """What stands beside a vocabulary."""
    vocabulary(path.with_name("vocab.txt"))


def json_lines() -> bytes:
    """A corpus."""
    return "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS)).encode()


def questions() -> dict[str, Any]:
    """In SQuAD's form."""
    answer = lambda text: [{"text": text.split()[1], "answer_start": len(text.split()[0]) + 1}]
    asked = lambda i, text: {
        "id": str(i),
        "question": "Which?",
        "answers": answer(text),
        "is_impossible": False,
    }
    paragraphs = [{"context": text, "qas": [asked(i, text)]} for i, text in enumerate(TEXTS)]
    return {"version": "v2.0", "data": [{"title": "a", "paragraphs": paragraphs}]}


def parquet(path: pathlib.Path) -> None:
    """A corpus."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path)


def numbers(path: pathlib.Path) -> None:
    """Two tensors."""
    safetensors_file.save(path, {"a": np.ones((2, 3), "f"), "b": np.ones(3, np.int64)})


def flax(path: pathlib.Path) -> None:
    """Two tensors."""
    tree = {"params": {"a": {"kernel": np.ones((2, 3), "f"), "bias": np.ones(3, "f")}}}
    path.write_bytes(serialization.to_bytes(tree))


MAKERS = {
    "safetensors": ("model.safetensors", numbers),
    "torch": ("pytorch_model.bin", lambda path: zipped(path, pickled())),
    "torch_program": ("program.pkl", lambda path: path.write_bytes(pickled())),
    "torch_stream": ("pytorch_model.bin", streamed),
    "flax": ("flax_model.msgpack", flax),
    "gguf": ("model.gguf", gguf),
    "tensorflow": ("bert_model.ckpt.index", tensorflow),
    "wordpiece": ("tokenizer.json", lambda path: trained(tokenizer.WordPiece(vocab_size=120, lowercase=True), path)),
    "unigram": ("tokenizer.json", unigram),
    "table": ("table", table),
    "byte_bpe": ("tokenizer.json", lambda path: trained(tokenizer.ByteBpe(vocab_size=300, sentinels=0, infill="off"), path)),
    "vocab_json": ("vocab.json", byte_pairs),
    "merges_txt": ("merges.txt", merges),
    "vocab_txt": ("vocab.txt", vocabulary),
    "settings": ("tokenizer_config.json", settings),
    "sentencepiece": ("tokenizer.model", lambda path: trained(tokenizer.Unigram(vocab_size=110, sentinels=0), path)),
    "jsonl": ("a.jsonl", lambda path: path.write_bytes(json_lines())),
    "jsonl_gz": ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(json_lines(), mtime=0))),
    "jsonl_zst": ("a.jsonl.zst", lambda path: path.write_bytes(zstandard.compress(json_lines()))),
    "jsonl_xz": ("a.jsonl.xz", lambda path: path.write_bytes(lzma.compress(json_lines()))),
    "jsonl_bz2": ("a.jsonl.bz2", lambda path: path.write_bytes(bz2.compress(json_lines()))),
    "text": ("a.txt", lambda path: path.write_text("\n\n".join(TEXTS))),
    "csv": ("a.csv", lambda path: path.write_text("".join(f'1,"{text}"\n' for text in ("text", *TEXTS)))),
    "tsv": ("a.tsv", lambda path: path.write_text("".join(text + "\n" for text in TEXTS))),
    "parquet": ("a.parquet", parquet),
    "squad": ("a.json", lambda path: path.write_text(json.dumps(questions(), indent=1))),
    "conll": ("a.conll", lambda path: path.write_text("\n\n".join(text.replace(" ", " O\n") + " O" for text in TEXTS))),
}  # fmt: skip
