"""Byte-level BPE as in GPT-2 (Radford et al., 2019): training, and reading vocab.json with merges.txt.

In: texts, or the two files of a published vocabulary (RoBERTa's and BART's are of this kind too). Out: a `Tokenizer`.
Every text has ids, there is no unknown token, and decoding gives the text back exactly.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from jaxlm.data.tokens import json_tokenizer, subwords
from jaxlm.data.tokens.settings import TWO_SEPARATORS, Settings
from jaxlm.errors import UserError

END, PAD = "<|endoftext|>", "<pad>"
INFILL = subwords.INFILL_NAMES[0]
LEAST_COUNT = 2


def train(
    texts: Iterable[str], vocab_size: int, sentinels: int, infill: Literal["off", "on"]
) -> json_tokenizer.JsonTokenizer:
    """At most `vocab_size` ids: special tokens, the 256 bytes, then pieces by rank of their merge."""
    specials = [END, PAD, *subwords.sentinel_names(sentinels), *(INFILL if infill == "on" else ())]
    least = len(specials) + 256
    if vocab_size <= least:
        raise UserError(
            f"tokenizer vocab_size={vocab_size}: the special tokens and the 256 bytes alone take {least}. "
            f"Fix: --config.tokenizer.vocab_size=N, with N well above {least}."
        )
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=LEAST_COUNT,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    learned = json.loads(library.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in learned["merges"]]
    vocab = dict(sorted(learned["vocab"].items(), key=lambda item: item[1]))
    return make(vocab, merges, specials, f"ByteBpe(vocab_size={vocab_size})")


def load(vocab: Path, merges: Path, settings: Settings) -> json_tokenizer.JsonTokenizer:
    """A published pair of files, with the special tokens that its vocabulary and the settings beside it name."""
    settings.check_class(vocab.name)
    ids = json.loads(vocab.read_text(encoding="utf-8"))
    if not isinstance(ids, dict) or not all(isinstance(id, int) for id in ids.values()):
        raise UserError(f"tokenizer {vocab}: not a vocabulary: it must map pieces to ids.")
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [
        line for line in (line.rstrip("\r") for line in lines) if line and not line.startswith("#version")
    ]
    if wrong := next((line for line in pairs if len(line.split(" ")) != 2), None):
        raise UserError(f"tokenizer {merges}: the line {wrong[:60]!r} is not a pair of pieces.")
    known = {name for names in subwords.SPECIAL_NAMES.values() for name in names}
    known |= {name for names in subwords.INFILL_NAMES for name in names}
    specials = [piece for piece in ids if piece in known or piece.startswith("<extra_id_")]
    prefix = bool(settings.flag("add_prefix_space", False))
    around = _around_pairs(ids) if settings.kind in TWO_SEPARATORS else None
    made = make(ids, pairs, specials, str(vocab), add_prefix_space=prefix, post_processor=around)
    return json_tokenizer.load(made.text, str(vocab), settings)


def make(
    vocab: Mapping[str, int],
    merges: Sequence[str],
    specials: Sequence[str],
    name: str,
    *,
    add_prefix_space: bool = False,
    post_processor: Mapping[str, Any] | None = None,
) -> json_tokenizer.JsonTokenizer:
    """A byte-level BPE tokenizer from its parts; `specials` are pieces of the vocabulary that no text gives."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": True,
    }
    # Written out rather than asked of the library, so that no version of it can change the fingerprint.
    config = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(mark, vocab[mark]) for mark in sorted(specials, key=lambda mark: vocab[mark])
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": post_processor,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": dict(vocab),
            "merges": list(merges),
        },
    }
    return json_tokenizer.JsonTokenizer(json.dumps(config, ensure_ascii=False, indent=1), name)


def _around_pairs(vocab: Mapping[str, int]) -> dict[str, Any] | None:
    """Special tokens around a text, and two between the texts of a pair."""
    if "<s>" not in vocab or "</s>" not in vocab:
        return None
    ends = {"sep": ["</s>", vocab["</s>"]], "cls": ["<s>", vocab["<s>"]]}
    return {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}


def _added(mark: str, id: int) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": mark, **plain, "special": True}
