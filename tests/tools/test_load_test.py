"""The load test finishes on the smallest model and compares with `jaxlm embed`."""

import re

import pytest

from tests.exchange.folders import hf_folder
from tests.infer.test_answers import written_folder
from tests.tools.started import started
from tools import load_test


@pytest.mark.slow  # a server is started, and all its programs compiled
def test_a_server_is_loaded_and_compared(tmp_path):
    folder = hf_folder(tmp_path / "hf", heads=("pooler",))
    words = (f"--run=hf:{folder}", "--clients=1,3", "--texts=12")
    said = started("tools/load_test.py", *words, cache=tmp_path)
    assert "jaxlm embed: " in said and re.search(r"^\| 1 \|.*%.*\n\| 3 \|.*%", said, re.M)


@pytest.mark.slow  # the same
def test_a_server_of_two_models_is_loaded_for_seconds(tmp_path):
    encoder, decoder = (
        hf_folder(tmp_path / "encoder", heads=("pooler",)),
        written_folder(tmp_path / "decoder", "GPT-2"),
    )
    words = (f"--encoder=hf:{encoder}", f"--decoder=hf:{decoder}", "--clients=1,3", "--minutes=0.05")
    said = started("tools/load_mixed.py", *words, "--connections=50", cache=tmp_path)
    assert "50 connections at once: {'200': 50}" in said
    rows = re.findall(r"^\| (1|3) \| (\d+) \| (\d+) \| (\d+) \| 0 \|", said, re.M)
    assert [row[0] for row in rows] == ["1", "3"] and all(int(n) for row in rows for n in row[1:])


def test_texts_are_the_same_at_every_call_and_of_many_lengths():
    lengths = [len(text.split()) for text in load_test.texts(200)]
    assert load_test.texts(200) == load_test.texts(200) and min(lengths) < 8 and max(lengths) > 60
