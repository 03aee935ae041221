"""A damaged cache costs time, never tokens: whatever bit is flipped, a start reads the rows of the undamaged one."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from jaxlm.cached import Cache
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.rows import documents, packing, pairs, texts, translations
from jaxlm.data.rows.rows import Rows
from jaxlm.data.shards import prepare, shards
from jaxlm.data.tokenizer import WordPiece
from jaxlm.errors import UserError
from jaxlm.objectives import phrases

TOKENIZER = WordPiece(vocab_size=120, lowercase=True)
KINDS = ["documents-plan", "pairs-plan", "pairs", "texts", "translations", "lexicon", "tokenizer"]


def start(root, said):
    """What a run reads, as one hash; and the folder of each kind of entry."""
    settings = Corpus(
        source=str(root.parent / "corpus.jsonl"), text_fields=("a", "b"), validation_share=0.2, test_share=0
    )
    made = prepare.prepare(settings, TOKENIZER, sentences=True, cache=root, log=said.append, processes=1)
    train = shards.open_shards(made.directory, "train", tokenizer_fingerprint=made.tokenizer.fingerprint)
    vocabulary, cache = made.tokenizer.vocabulary, Cache(root, said.append)
    made_of = {
        "documents": documents.Documents(train, vocabulary),
        "pairs": pairs.make_pairs(
            train, vocabulary, row_length=40, short_share=0.1, negatives="random", negative_share=0.5,
            duplicates=2, seed=3, cache=cache,
        ),
        "texts": texts.make_texts(train, vocabulary, unit="fields", texts=2, max_tokens=12, cache=cache),
        "translations": translations.make_translations(train, vocabulary, max_tokens=30, cache=cache),
    }  # fmt: skip
    state, folders = hashlib.sha256(made.tokenizer.fingerprint.encode()), {}
    for name, items in made_of.items():
        plan = packing.plan(items, row_length=64, method="best_fit", max_items=9, seed=1, cache=cache)
        for row in Rows(items, plan, vocabulary, seed=1, shuffle=True).read(range(plan.rows)):
            state.update(b"".join(array.tobytes() for array in jax.tree.leaves(vars(row))))
        folders[f"{name}-plan"] = root / "plans" / f"plan-{plan.fingerprint[:24]}"
        folders[name] = root / "plans" / f"{name}-{items.fingerprint[:24]}"
    unit = phrases.Phrases(token_share=0.1, word_share=0.1, sizes=(20, 5)).fit(train, vocabulary, cache)
    with np.load(unit.file) as lexicon:
        state.update(b"".join(lexicon[name].tobytes() for name in lexicon.files))
    folders |= {"lexicon": root / "phrases", "tokenizer": root / "tokenizers", "shards": made.directory}
    return state.hexdigest(), folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The undamaged cache, its hash, and a folder for copies of it."""
    place = tmp_path_factory.mktemp("caches")
    rng = np.random.default_rng(0)
    with open(place / "corpus.jsonl", "w") as stream:
        for _ in range(150):
            record = {name: " ".join(map(str, rng.integers(0, 60, rng.integers(2, 9)))) for name in "ab"}
            stream.write(json.dumps(record) + "\n")
    first, _ = start(place / "whole", [])
    said: list[str] = []
    assert start(place / "whole", said)[0] == first and not said
    return place, first


def flipped(content, rng):
    place = rng.integers(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.integers(8))]) + content[place + 1 :]


@pytest.fixture
def copy(whole):
    place, first = whole
    shutil.rmtree(place / "copy", ignore_errors=True)
    shutil.copytree(place / "whole", place / "copy")
    return place / "copy", first


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_anywhere_gives_the_same_rows_and_is_said_once(copy, kind):
    root, first = copy
    folder = start(root, [])[1][kind]
    rng = np.random.default_rng(len(kind))
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(paths) >= 2
    for path in paths:
        path.write_bytes(flipped(path.read_bytes(), rng))
        said = []
        assert start(root, said)[0] == first, path
        assert sum("is made anew" in line for line in said) == 1 and str(folder) in said[0], said
        said.clear()
        assert start(root, said)[0] == first and not said


def test_a_flipped_bit_in_a_folder_of_shards_never_gives_other_rows(copy):
    root, first = copy
    folder = start(root, [])[1]["shards"]
    rng = np.random.default_rng(5)
    repaired = refused = 0
    paths = [path for path in folder.glob("*") if path.is_file() and path.stat().st_size]
    for path in (*paths, *[folder / "index.json"] * 9):
        before = path.read_bytes()
        path.write_bytes(flipped(before, rng))
        said = []
        try:
            assert start(root, said)[0] == first, path
            repaired += len(said) > 0
        except UserError as error:
            assert path.name in str(error) or path.name == "index.json"
            refused += 1
        path.write_bytes(before)
    assert repaired >= 10 and refused == len(list(folder.glob("train*")))
    (folder / "tokenizer.json").write_text("")
    said = []
    assert start(root, said)[0] == first and "the tokenizer beside the shards" in said[0]


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_damaged_part_of_an_unfinished_preparation_is_made_again(copy, suffix):
    root, first = copy
    folder = start(root, [])[1]["shards"]
    rng = np.random.default_rng(6)
    index = (folder / "index.json").read_bytes()
    for path in list((folder / "parts").glob(f"*{suffix}")) * 4:
        (folder / "index.json").unlink()
        path.write_bytes(flipped(path.read_bytes(), rng))
        said = []
        assert start(root, said)[0] == first and (folder / "index.json").read_bytes() == index
        assert sum(f"part {path.stem} is damaged" in line for line in said) == 1, said
