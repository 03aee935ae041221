"""The attested stream of a whole run: replayed on any number of processes; a changed document is noticed and named;
excluded steps are not read. Kills are in test_resume.py, two hosts in test_two_hosts.py (every comparison of runs
compares their streams)."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from array_record.python import array_record_module

from jaxlm import train
from jaxlm.commands import stream
from jaxlm.data.corpus import files
from jaxlm.data.shards import index as indices
from jaxlm.errors import UserError
from jaxlm.run import seen
from tests import runs

ROOT = pathlib.Path(__file__).parents[1]
OVERRIDES = (
    "--config.steps=20",
    "--config.checkpoint.every_steps=6",
    "--config.checkpoint.keep.latest=4",
    "--config.evaluation.every_steps=100",
    "--config.evaluation.rows=8",
    "--config.model.layers=1",
    "--config.stages[1].length=32",
)


def trained(place: pathlib.Path, *more: str) -> None:
    """Trains, or continues, the run in `place`, which has its own corpus and cache."""
    flags = (
        f"--config={ROOT}/tests/recipes/tiny.py",
        f"--workdir={place}/run",
        f"--config.data.corpus={place}/docs.jsonl",
        f"--config.data.cache={place}/cache",
    )
    assert train.main(["train", *flags, *OVERRIDES, *more]) == 0


@pytest.fixture(scope="module")
def original(corpus, tmp_path_factory):
    place = tmp_path_factory.mktemp("stream") / "place"
    place.mkdir()
    shutil.copy(corpus, place / "docs.jsonl")
    trained(place)
    return place


@pytest.fixture
def place(original):
    """The run with its corpus and shards, to change; where it was, since a run knows its corpus by path."""
    kept = original.with_name("kept")
    shutil.copytree(original, kept)
    yield original
    shutil.rmtree(original)
    kept.rename(original)


def asked(capsys, place, *words) -> tuple[int, str]:
    """Exit code and output of the command."""
    capsys.readouterr()
    code = stream.main(["stream", f"--run={place}/run", *words])
    return code, capsys.readouterr().out


def test_a_step_shows_its_documents_as_they_stand_in_the_file(original, capsys):
    lines = [json.loads(line)["text"] for line in (original / "docs.jsonl").read_text().splitlines()]
    _, said = asked(capsys, original, "--step=3", "--json")
    rows = json.loads(said)["rows"]
    assert [row["row"] for row in rows] == list(range(16, 24))  # of 8 rows a step, from step 1 on
    saved = seen.saved(str(original / "run"), None)
    tokenizer = saved.run.tokenizer.make(())
    for part in [part for row in rows for part in row["parts"]]:
        file, _, line = part["where"].rpartition(":")
        assert file == f"{original}/docs.jsonl"
        ids = tokenizer.encode(lines[int(line) - 1])
        assert len(ids) == part["of"]
        assert tokenizer.decode(ids[slice(*part["tokens"])]) == part["text"]
    _, said = asked(capsys, original, "--step=17", "--rows=2:4")
    assert said.startswith("step 17, stage 2 of 2\n\nrow 18: ") and "\nrow 19: " in said
    assert "row 17: " not in said and "row 20: " not in said


@pytest.mark.parametrize("processes", [1, 2])
def test_the_hash_of_every_checkpoint_is_replayed_on_any_number_of_processes(original, capsys, processes):
    steps = (20,) if processes > 1 else (12, 18, 20)  # within a stage, and over its end
    for step in steps:
        code, said = asked(
            capsys, original, "--verify", f"--step={step}", f"--processes={processes}", "--json"
        )
        found = json.loads(said)
        assert code == 0 and found["same"] and found["rows"] == 8 * step and found["since"] == 0


def test_a_replay_asks_for_no_device(original):
    program = (
        "import sys; from jaxlm.commands import stream; from jax._src import xla_bridge; "
        "code = stream.main(['stream', sys.argv[1], '--verify']); print(xla_bridge.backends_are_initialized(), code)"
    )
    command = [sys.executable, "-c", program, f"--run={original}/run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse 0\n") and "the same rows as were trained on (160 rows" in done.stdout


def _first_seen(capsys, place) -> tuple[int, int]:
    """(document, line) of the first document of the run's first row."""
    part = json.loads(asked(capsys, place, "--step=1", "--json")[1])["rows"][0]["parts"][0]
    return part["document"], int(part["where"].rpartition(":")[2])


def test_an_edited_document_is_noticed_and_named(place, capsys):
    _, line = _first_seen(capsys, place)
    path = place / "docs.jsonl"
    lines = path.read_text().splitlines()
    for attempt in range(20):  # until the new text is held out neither
        text = json.loads(lines[line - 1])["text"] + f" and more of it {attempt}"
        path.write_text("\n".join([*lines[: line - 1], json.dumps({"text": text}), *lines[line:]]) + "\n")
        code, said = asked(capsys, place, "--verify")
        assert code == 78 and "NOT the rows that were trained on" in said
        *_, named = said.splitlines()
        assert named.startswith(f"{path}:{line}: ")
        if "changed; it says now" in named:
            break
        assert "gone from the training documents" in named
    else:
        pytest.fail("every text is held out")
    stream.main(["stream", f"--run={place}/run", "--step=1"])
    assert "WARNING: stage 0 rows changed since" in capsys.readouterr().err


def test_a_document_altered_in_its_shard_and_index_is_noticed_and_named(place, capsys):
    document, line = _first_seen(capsys, place)
    (index,) = place.glob("cache/shards/*/index.json")
    _alter(index.parent, document)
    code, said = asked(capsys, place, "--verify")
    assert code == 78
    assert said.splitlines()[3].startswith(f"{place}/docs.jsonl:{line}: changed; it says now ")
    assert len(said.splitlines()) == 4


def _alter(folder: pathlib.Path, document: int) -> None:
    """Another first token, with an index that agrees."""
    index = json.loads((folder / "index.json").read_text())
    (entry,) = index["splits"]["train"]["shards"]
    path = folder / entry["file"]
    reader = array_record_module.ArrayRecordReader(str(path))
    records = reader.read(list(range(entry["documents"])))
    reader.close()
    records[document] = bytes([records[document][0] ^ 1]) + records[document][1:]
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    entry["bytes"], entry["sha256"] = path.stat().st_size, files.sha256(path)
    index.pop("seal")
    (folder / "index.json").write_text(json.dumps(indices.sealed(index)))


def test_excluded_steps_are_not_read_and_the_run_goes_on_from_before_them(place, capsys):
    def row(step):
        return json.loads(asked(capsys, place, f"--step={step}", "--rows=0:1", "--json")[1])["rows"][0]["row"]

    before = runs.metrics(place / "run")
    with pytest.raises(
        UserError, match=r"exclude: \[\] in the run folder, \[\[14, 15\]\] now.*\n.*allow_config"
    ):
        trained(place, "--config.exclude=((14,15),)")
    with pytest.raises(
        UserError, match=r"no checkpoint is from before these steps; there are \[6, 12, 18, 20\]"
    ):
        trained(place, "--config.exclude=((6,15),)", "--allow_config_change")
    trained(place, "--config.exclude=((10,11),)", "--allow_config_change")
    said = capsys.readouterr().out
    assert "what read them is now 12.excluded, 18.excluded, 20.excluded" in said
    assert "resumed from the checkpoint of step 6" in said
    assert json.loads((place / "run/config.json").read_text())["config"]["exclude"] == [[10, 11]]
    assert [row(step) // 8 for step in (9, 10, 14, 15)] == [
        8,
        11,
        15,
        0,
    ]  # the second stage begins its own rows
    assert asked(capsys, place, "--verify")[0] == 0
    after = runs.metrics(place / "run")
    assert before[0] == after[0] and before[-1] != after[-1]
    assert [line["step"] for line in before] == [line["step"] for line in after]
    assert {"12.excluded", "20.excluded", "20"} <= {
        path.name for path in (place / "run/checkpoints").iterdir()
    }
    trained(place, "--config.exclude=((10,11),)")  # nothing is to be allowed again
    assert "the run is complete at step 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), r"--step=N: name the step to show, or ask for --verify"),
        (("--step=21",), r"--step=21: the run has steps 1 to 20\."),
        (("--step=3", "--rows=two"), r"--rows=two: allowed is FIRST:END"),
        (("--verify", "--step=7"), r"There is no checkpoint of step 7 .*there are: 6, 12, 18, 20"),
    ],
)
def test_what_cannot_be_shown_is_refused(original, words, message):
    with pytest.raises(UserError, match=message):
        stream.main(["stream", f"--run={original}/run", *words])
