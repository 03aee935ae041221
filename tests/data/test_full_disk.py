"""A cache on a disk that is full: a message that names the file, and with room again the same shards."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from jaxlm.data import tokenizer
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.shards import prepare
from jaxlm.errors import UserError

SIZES_KB = (40, 120, 260, 400)


@pytest.fixture
def mounted(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")

    yield disk, mount
    subprocess.run(["umount", str(disk)], capture_output=True)


@pytest.mark.parametrize("size", SIZES_KB)
def test_a_full_cache_is_a_message_and_goes_on_with_room(mounted, corpus, tmp_path, size):
    disk, mount = mounted
    mount(f"size={size}k")
    texts = [json.loads(line)["text"] for line in Path(corpus).read_text().splitlines()]
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": f"{text} {k}"}) + "\n" for k in range(4) for text in texts))
    source = Corpus(source=str(path), validation_share=0.1, test_share=0.05)
    config = tokenizer.WordPiece(vocab_size=300, lowercase=True)

    def prepared(cache):
        return prepare.prepare(source, config, sentences=True, cache=cache, log=lambda line: None)

    with pytest.raises(
        UserError, match=rf"{disk}.* cannot be used: .*JAXLM_CACHE=DIR; finished parts are kept"
    ):
        prepared(disk)
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    assert prepared(disk).fingerprint == prepared(tmp_path / "cache").fingerprint
