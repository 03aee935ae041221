"""A tokenizer.json with fewer tokens. In: its contents, and which ids stay. Out: contents that number these from 0.

Guaranteed: a text whose tokens all stay gets the same pieces as before (of WordPiece, words that were unknown may get
pieces), and every other text can still be written: in characters, in bytes, or as unknown where it was.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jaxlm.errors import UserError

KINDS = ("WordPiece", "BPE", "Unigram", "WordLevel")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_NEVER = 2**62  # a rank behind that of every merge

Contents = Mapping[str, Any]  # of a tokenizer.json


def check(config: Contents, where: str) -> None:
    """UserError for a kind of which nothing is said here."""
    model = config["model"]
    if model.get("type") not in KINDS:
        raise UserError(
            f"{where}: its tokenizer is of the kind {model.get('type')!r}, and fewer tokens are made of "
            f"{', '.join(KINDS)}. Fix: a recipe that keeps the vocabulary, such as compress_int8."
        )
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model["type"] == "BPE" and model.get(name):
            raise UserError(
                f"{where}: its BPE marks pieces by {name}={model[name]!r}, whose merges are not followed here. Fix: a "
                "recipe that keeps the vocabulary, such as compress_int8."
            )


def needed(config: Contents) -> set[int]:
    """Ids that stay whatever a text uses: added tokens, characters, bytes, the unknown token, those of the template."""
    model, pieces = config["model"], _pieces(config)
    mark = model.get("continuing_subword_prefix") if model["type"] == "WordPiece" else None
    bare = {piece: piece.removeprefix(mark) if mark else piece for piece in pieces}
    found = {id for piece, id in pieces.items() if len(bare[piece]) == 1 or len(piece) == 1}
    found |= {id for piece, id in pieces.items() if _BYTE.fullmatch(piece)}
    found |= {token["id"] for token in config.get("added_tokens") or ()}
    found |= {pieces[name] for name in (model.get("unk_token"),) if name in pieces}
    found |= {model["unk_id"]} if model.get("unk_id") is not None else set()
    if model["type"] == "Unigram":  # what an unknown character costs is counted from the least score
        found.add(min(range(len(model["vocab"])), key=lambda id: model["vocab"][id][1]))
    return found | set(_of_template(config.get("post_processor")))


def closed(config: Contents, ids: Iterable[int]) -> set[int]:
    """These, and of BPE what they are merged from, step by step."""
    found, model = set(ids), config["model"]
    if model["type"] != "BPE":
        return found
    ranks = {pair: rank for rank, pair in reversed([*enumerate(_pairs(model))])}
    whole = needed(config)
    for piece, id in model["vocab"].items():
        if id in found and id not in whole:
            found |= {model["vocab"][part] for part in _made(piece, ranks) if part in model["vocab"]}
    return found


def trimmed(config: Contents, ids: Mapping[int, int]) -> dict[str, Any]:
    """The contents with the tokens of `ids` alone, old id -> new id; in order, as the old ones are."""
    model, vocab = dict(config["model"]), config["model"]["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {piece: ids[id] for piece, id in vocab.items() if id in ids}
    else:
        model["vocab"] = [entry for id, entry in enumerate(vocab) if id in ids]
    if model.get("unk_id") is not None:
        model["unk_id"] = ids[model["unk_id"]]
    if model["type"] == "BPE":
        kept, pairs = model["vocab"], zip(model["merges"], _pairs(model), strict=True)
        model["merges"] = [said for said, (a, b) in pairs if a in kept and b in kept and a + b in kept]
    added = [token | {"id": ids[token["id"]]} for token in config.get("added_tokens") or ()]
    made = {**config, "model": model, "added_tokens": added}
    if made.get("padding"):
        made["padding"] = made["padding"] | {"pad_id": ids.get(made["padding"]["pad_id"], 0)}
    made["post_processor"] = _template(config.get("post_processor"), ids)
    return made


def _pieces(config: Contents) -> dict[str, int]:
    """Id of every piece of the model."""
    vocab = config["model"]["vocab"]
    return vocab if isinstance(vocab, dict) else {piece: id for id, (piece, _) in enumerate(vocab)}


def _pairs(model: Contents) -> Iterator[tuple[str, str]]:
    """The two sides of every merge, which files write as a text or as a list."""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _made(piece: str, ranks: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """What merging makes of the characters of a piece, one after the other, the piece itself last."""
    parts = list(piece)
    while len(parts) > 1:
        each = [ranks.get(pair, _NEVER) for pair in itertools.pairwise(parts)]
        if (least := min(each)) == _NEVER:
            return
        at = each.index(least)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        yield parts[at]


def _of_template(step: Any) -> Iterator[int]:
    """Ids that a post-processor names."""
    if not isinstance(step, dict):
        return
    for inner in step.get("processors") or ():
        yield from _of_template(inner)
    if step.get("type") == "TemplateProcessing":
        for token in step["special_tokens"].values():
            yield from token["ids"]
    elif step.get("type") in ("BertProcessing", "RobertaProcessing"):
        yield from (step["sep"][1], step["cls"][1])


def _template(step: Any, ids: Mapping[int, int]) -> Any:
    """A post-processor with the new ids."""
    if not isinstance(step, dict):
        return step
    made = dict(step)
    if "processors" in step:
        made["processors"] = [_template(inner, ids) for inner in step["processors"]]
    if step.get("type") == "TemplateProcessing":
        tokens = step["special_tokens"].items()
        made["special_tokens"] = {
            name: token | {"ids": [ids[id] for id in token["ids"]]} for name, token in tokens
        }
    elif step.get("type") in ("BertProcessing", "RobertaProcessing"):
        made |= {name: [step[name][0], ids[step[name][1]]] for name in ("sep", "cls")}
    return made
