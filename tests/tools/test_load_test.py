"""The load test finishes on the smallest model and compares with `jaxlm embed`."""

import re

import pytest

from tests.exchange.folders import hf_folder
from tests.tools.started import started
from tools import load_test


@pytest.mark.slow  # a server is started, and all its programs compiled
def test_a_server_is_loaded_and_compared(tmp_path):
    folder = hf_folder(tmp_path / "hf", heads=("pooler",))
    words = (f"--run=hf:{folder}", "--clients=1,3", "--texts=12")
    said = started("tools/load_test.py", *words, cache=tmp_path)
    assert "jaxlm embed: " in said and re.search(r"^\| 1 \|.*%.*\n\| 3 \|.*%", said, re.M)


def test_texts_are_the_same_at_every_call_and_of_many_lengths():
    lengths = [len(text.split()) for text in load_test.texts(200)]
    assert load_test.texts(200) == load_test.texts(200) and min(lengths) < 8 and max(lengths) > 60
