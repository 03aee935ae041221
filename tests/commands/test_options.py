"""Claims about the options that all commands share: their spellings, texts, answers, and what is said of mistakes."""

import io
import json
import sys

import numpy as np
import pytest

from jaxlm.commands import compare, embed, evaluate, export, fill_mask, generate, import_, options
from jaxlm.errors import UserError
from tests.exchange.folders import hf_folder
from tests.infer.test_answers import written_folder


def read(*words: str, command=generate):
    return command._parser().options(["", *words])


@pytest.mark.parametrize(
    ("before", "today"),
    [
        (["--hf=DIR", "--prompt=a b"], ["--run=hf:DIR", "a b"]),
        (["--hf", "DIR", "--prompt", "-a"], ["--run", "hf:DIR", "--", "-a"]),
        (["--hf=hf:DIR", "--prompt=a", "--prompt=b"], ["--run=hf:DIR", "a", "b"]),
        (["--run=R", "--prompts-file=x.txt"], ["--run=R", "--input=x.txt"]),
        (["--run=R", "--config=mine.py", "a"], ["--run=R", "--recipe=mine.py", "a"]),
        (["--run=R", "--config", "mine.py", "a"], ["--run=R", "--recipe=mine.py", "a"]),
        (["--run=R", "--max_new_tokens=3", "a"], ["--run=R", "--max-new-tokens=3", "a"]),
        (["a", "--run", "R", "b", "--top_k", "3", "c"], ["--run=R", "--top-k=3", "a", "b", "c"]),
    ],
)
def test_former_spellings_mean_what_is_written_today(before, today):
    assert read(*before) == read(*today)


def test_a_text_with_dashes_and_underscores_stays_as_it_is():
    found = read("--run=R", "--stop=a_b", "x_y", "--", "--run=no_option", "-z")
    assert found.texts == ["x_y", "--run=no_option", "-z"] and found.stop == ["a_b"] and found.run == "R"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], r"required: --run\n  --run: .*hf:DIR or a \.gguf file\nFor example: jaxlm generate --run="),
        (
            ["--run=R", "--temprature=1", "a"],
            r"unknown option --temprature=1\. Did you mean \"--temperature\"\?",
        ),
        (["--run=R", "--step=x", "a"], r"--step: invalid int value: 'x'"),
        (["--run=R", "--precision=float3", "a"], r"Did you mean \"float32\"\?"),
        (["--run=R", "--hf=D", "a"], "given twice"),
        (["--run=R", "a", "--prompt"], "--prompt: there is no value behind it"),
        (["--run=R", "--output=/no/where/x", "a"], "--output: /no/where/x cannot be written"),
    ],
)
def test_what_is_mistyped_is_one_message(words, message):
    with pytest.raises(UserError, match=message):
        read(*words)


def test_an_argument_too_many_or_too_few_is_named():
    with pytest.raises(UserError, match=r"unknown argument more"):
        export.main(["", "runs/x", "out", "more"])
    with pytest.raises(UserError, match=r"required: DIR\n  DIR: .*\nFor example: jaxlm export"):
        export.main(["", "runs/x"])


def test_texts_come_from_the_line_a_file_and_stdin(tmp_path, monkeypatch):
    (tmp_path / "more.txt").write_text("b\n\nÄ\n")
    assert options.texts(read("--run=R", "a", f"--input={tmp_path}/more.txt")) == ["a", "b", "Ä"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"c\nd")))
    assert options.texts(read("--run=R", "--input", "-")) == ["c", "d"]
    with pytest.raises(UserError, match=r"There is no text: .*--input=FILE"):
        options.texts(read("--run=R"))
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"bad\.txt: cannot be read as UTF-8"):
        options.texts(read("--run=R", f"--input={tmp_path}/bad.txt"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return f"--run=hf:{hf_folder(tmp_path_factory.mktemp('bert') / 'hf')}"


def test_masks_as_json_and_in_a_file(bert, tmp_path, capsys):
    fill_mask.main(["", bert, "--top=2", "the [MASK]"])
    shown = capsys.readouterr().out
    fill_mask.main(["", bert, "--top=2", "the [MASK]", f"--output={tmp_path}/shown.txt"])
    assert (tmp_path / "shown.txt").read_text() == shown and capsys.readouterr().out == ""
    fill_mask.main(["", bert, "--top=2", "the [MASK]", "a [MASK]", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == ["the [MASK]", "a [MASK]"]
    best = lines[0]["candidates"]
    assert len(best) == 2 and f"{best[0]['token']} {best[0]['probability']:.1%}" in shown


def test_vectors_as_json_are_those_of_the_array(bert, tmp_path, capsys):
    embed.main(["", bert, "the cat", "a dog", f"--output={tmp_path}/v.npy"])
    capsys.readouterr()
    embed.main(["", bert, "the cat", "a dog", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == ["the cat", "a dog"]
    vectors = np.array([line["vector"] for line in lines], np.float32)
    np.testing.assert_array_equal(vectors, np.load(tmp_path / "v.npy"))


def test_answers_go_into_a_file(tmp_path, capsys):
    where = f"--run=hf:{written_folder(tmp_path / 'hf', 'GPT-2')}"
    generate.main(["", where, "--max-new-tokens=3", "The cat", "--json", f"--output={tmp_path}/a.jsonl"])
    assert json.loads((tmp_path / "a.jsonl").read_text())["prompt"] == "The cat"
    assert capsys.readouterr().out == ""


def test_what_is_no_run_is_refused_by_name_with_the_fix(bert, tmp_path, capsys):
    where = bert.removeprefix("--run=")
    with pytest.raises(UserError, match="is no run, and --step is about one. Fix: leave --step out"):
        fill_mask.main(["", bert, "--step=3", "a [MASK]"])
    with pytest.raises(UserError, match="is a model without a run.*Name a run folder"):
        evaluate.main(["", bert])
    for command in (evaluate, fill_mask):
        with pytest.raises(UserError, match=f"If it is a Hugging Face folder, write {where}"):
            command.main(
                ["", f"--run={where.removeprefix('hf:')}", *(["a [MASK]"] if command is fill_mask else [])]
            )
    import_.main(["", where, str(tmp_path / "model")])
    with pytest.raises(UserError, match="is a model without a run"):
        evaluate.main(["", f"--run={tmp_path}/model"])
    assert compare.main(["", where, str(tmp_path / "model")]) == 0
    assert "the same model" in capsys.readouterr().out
