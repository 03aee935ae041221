"""The published vocabulary of GPT-2, where JAXLM_GPT2_VOCABULARY names a folder with OpenAI's encoder.json and vocab.bpe."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from jaxlm.data import tokenizer

FOLDER = os.environ.get("JAXLM_GPT2_VOCABULARY", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="JAXLM_GPT2_VOCABULARY is not set")


def test_known_ids_and_roles():
    made = tokenizer.load(FOLDER)
    assert made.encode("Hello world") == [15496, 995] and made.size == 50257
    vocabulary = made.vocabulary
    assert vocabulary.bos == vocabulary.eos == vocabulary.pad == 50256 and vocabulary.unk == -1
    assert vocabulary.special_V.nonzero()[0].tolist() == [50256]


def test_ids_equal_gpt2_tokenizer_fast_on_real_text(tmp_path):
    transformers = pytest.importorskip("transformers")
    shutil.copy(Path(FOLDER, "encoder.json"), tmp_path / "vocab.json")
    shutil.copy(Path(FOLDER, "vocab.bpe"), tmp_path / "merges.txt")
    reference = transformers.GPT2TokenizerFast.from_pretrained(str(tmp_path))
    ours = tokenizer.load(FOLDER)
    source = Path(sysconfig.get_paths()["stdlib"], "pydoc_data", "topics.py").read_text(encoding="utf-8")
    for start in range(0, 400_000, 991):
        text = source[start : start + 991]
        assert ours.encode(text) == reference.encode(text, add_special_tokens=False)
