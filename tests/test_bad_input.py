"""What a user can get wrong ends with exit code 78 and one message that says what, where and how to fix it."""

import contextlib
import json
import os
import pathlib
import re
import subprocess

import pytest

from tests.runs import FEW, finish


def refused(process: subprocess.Popen) -> str:
    """The message of a command that must end with 78 and without a stack trace."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 78, output
    assert "Traceback" not in output, output
    return output


def test_unknown_config_key(train_command, tmp_path):
    message = refused(train_command(tmp_path / "run", "--config.model.layer=3"))
    assert "Unknown config key --config.model.layer" in message and 'Did you mean "model.layers"' in message
    assert not (tmp_path / "run").exists(), "a mistyped command must not leave a folder behind"


def test_unreadable_corpus(train_command, tmp_path):
    missing = refused(train_command(tmp_path / "run", "--config.data.corpus=/nowhere/*.txt"))
    assert "/nowhere/*.txt" in missing
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "one"}\n{"text": \n')
    assert re.search(r"bad\.jsonl:2", refused(train_command(tmp_path / "run", f"--config.data.corpus={bad}")))
    (tmp_path / "other.jsonl").write_text('{"body": "one"}\n')
    message = refused(train_command(tmp_path / "run", f"--config.data.corpus={tmp_path}/other.jsonl"))
    assert "text_field" in message and "body" in message


def test_empty_corpus(train_command, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    message = refused(train_command(tmp_path / "run", f"--config.data.corpus={tmp_path}/empty.txt"))
    assert "empty.txt" in message and "no " in message


def test_a_first_start_that_failed_does_not_claim_the_workdir(train_command, tmp_path, corpus):
    refused(train_command(tmp_path / "run", "--config.data.corpus=/nowhere/*.txt"))
    process = train_command(tmp_path / "run", f"--config.data.corpus={corpus}", *FEW)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_batch_that_the_mesh_does_not_divide(train_command, tmp_path):
    process = train_command(tmp_path / "run", "--config.batch_size=12", devices=8)
    message = refused(process)
    assert "config.batch_size=12" in message and "data=8" in message and "Nearest: 8 or 16" in message


def test_mesh_that_does_not_fit_the_devices(train_command, tmp_path):
    assert "config.mesh: fsdp=3" in refused(
        train_command(tmp_path / "run", "--config.mesh.fsdp=3", devices=8)
    )


@pytest.fixture(scope="module")
def finished(train_command, tmp_path_factory):
    """A finished run of a few steps, and its shards."""
    workdir, cache = tmp_path_factory.mktemp("finished") / "run", tmp_path_factory.mktemp("own-cache")
    process = train_command(workdir, *FEW, JAXLM_CACHE=str(cache))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    (index,) = cache.glob("shards/*/index.json")
    return workdir, index.parent, cache


def test_workdir_of_another_run(train_command, finished):
    workdir, _, cache = finished
    message = refused(train_command(workdir, *FEW, "--config.model.layers=3", JAXLM_CACHE=str(cache)))
    assert "holds another run" in message and "model.layers: 2 in the run folder, 3 now" in message
    message = refused(train_command(workdir, *FEW, "--config.steps=19", JAXLM_CACHE=str(cache)))
    assert "--allow_config_change" in message


def test_wrong_tokenizer(train_command, finished, tmp_path):
    _, shards, cache = finished
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    recipe = tmp_path / "recipe.py"
    tiny = pathlib.Path(__file__).parent / "recipes" / "tiny.py"
    recipe.write_text(
        tiny.read_text()
        .replace(
            "tokenizer=WordPiece(vocab_size=500, lowercase=True)",
            f"tokenizer=Pretrained(path={str(tmp_path)!r})",
        )
        .replace("import WordPiece", "import Pretrained")
    )
    message = refused(
        train_command(
            tmp_path / "run", f"--config.data.corpus={shards}", recipe=str(recipe), JAXLM_CACHE=str(cache)
        )
    )
    assert "tokenizer" in message and str(shards) in message


def test_damaged_shard(train_command, finished, tmp_path):
    _, shards, cache = finished
    shard = next(shards.glob("train-*.arrayrecord"))
    whole = shard.read_bytes()
    prepared = f"--config.data.corpus={shards}"
    try:
        shard.write_bytes(whole[: len(whole) // 2])
        message = refused(train_command(tmp_path / "a", prepared, *FEW, JAXLM_CACHE=str(cache)))
        assert shard.name in message and "bytes" in message
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        shard.write_bytes(flipped)
        message = refused(train_command(tmp_path / "b", prepared, *FEW, JAXLM_CACHE=str(cache)))
        assert shard.name in message and "SHA-256" in message
        shard.unlink()
        assert shard.name in refused(train_command(tmp_path / "c", prepared, *FEW, JAXLM_CACHE=str(cache)))
    finally:
        shard.write_bytes(whole)


def test_a_damaged_shard_of_the_cache_is_made_again_and_says_so(train_command, finished, tmp_path):
    _, shards, cache = finished
    shard = next(shards.glob("train-*.arrayrecord"))
    shard.write_bytes(shard.read_bytes()[:100])
    process = train_command(tmp_path / "a", *FEW, JAXLM_CACHE=str(cache))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and f"{shard.name}: missing or damaged, is made again" in output, output


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str):
    """A file system of its own; skips where it cannot be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_no_disk_space_for_a_checkpoint(train_command, tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        message = refused(train_command(disk / "run"))
        assert "free" in message and "checkpoint.keep.latest" in message and str(disk) in message


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_fills_up_while_training_is_a_message_and_the_run_goes_on_with_room(
    train_command, tmp_path
):
    slow_steps = ("--config.batch_size=64", "--config.steps=28")  # as in test_resume.py
    slow_steps += (
        "--config.logging.every_steps=1",
    )  # more lines than the last page of the file has room for
    with small_disk(tmp_path / "disk", "6m") as disk:
        process = train_command(disk / "run", *slow_steps)
        for line in process.stdout:
            if line.startswith("step "):
                break
        with contextlib.suppress(OSError):
            (disk / "fill").write_bytes(bytes(20_000_000))
        message = refused(process)
        assert (
            "cannot be written (No space left on device)" in message
            and "run the same command again" in message
        )
        (disk / "fill").unlink()
        assert "done: 28 steps" in finish(train_command(disk / "run", *slow_steps))


def test_config_json_of_a_newer_version_is_refused(train_command, finished, tmp_path):
    workdir, _, cache = finished
    config = workdir / "config.json"
    text = config.read_text()
    try:
        config.write_text(json.dumps({"format": 99, "config": {}}))
        message = refused(train_command(workdir, *FEW, JAXLM_CACHE=str(cache)))
        assert "format 99" in message
    finally:
        config.write_text(text)


def test_tokenizer_without_the_special_tokens_of_the_objective(train_command, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz"]) + "\n")
    recipe = tmp_path / "recipe.py"
    tiny = (pathlib.Path(__file__).parent / "recipes" / "tiny.py").read_text()
    recipe.write_text(
        tiny.replace(
            "tokenizer=WordPiece(vocab_size=500, lowercase=True)",
            f"tokenizer=Pretrained(path={str(tmp_path)!r})",
        ).replace("import WordPiece", "import Pretrained")
    )
    message = refused(train_command(tmp_path / "run", recipe=str(recipe)))
    assert "masked language modelling needs the special tokens mask, cls, sep" in message
    assert "has no mask, no cls, no sep" in message


def test_rows_with_more_spans_than_sentinels_are_refused_before_the_first_step(train_command, tmp_path):
    # Documents that fill such rows are rare: without the check the run would end at one of them.
    message = refused(
        train_command(
            tmp_path / "run",
            "--config.stages[0].length=1024",
            recipe="tests/recipes/objectives/span_corruption.py",
        )
    )
    assert "config.stages[0].length=1024: a text that fills a row" in message and "there are 48" in message
