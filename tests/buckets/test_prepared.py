"""A corpus prepared once, in a bucket, for all hosts."""

import json
import re
import secrets

import pytest

from jaxlm.buckets.bucket import Bucket
from jaxlm.commands import data
from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus
from jaxlm.data.shards import prepare
from jaxlm.errors import UserError


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(8)}/prepared"


def command(tmp_path, url: str, *, documents: int = 60) -> list[str]:
    lines = [json.dumps({"text": f"number {n} is red and green and blue"}) + "\n" for n in range(documents)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(lines))
    shares = ("--validation-share=0.2", "--test-share=0.2", "--processes=1")
    return ["data", f"--source={path}", "--tokenizer=wordpiece:100:lowercase", f"--output={url}", *shares]


def test_what_one_machine_prepared_another_reads(tmp_path, url, monkeypatch, capsys):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "one"))
    assert data.main(command(tmp_path, url)) == 0
    assert f"--config.data.corpus={url} --config.data.validation_share=0.2" in capsys.readouterr().out
    (tmp_path / "corpus.jsonl").unlink()
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "another"))
    text = corpus.Corpus(source=url, validation_share=0.2, test_share=0.2)
    config = tokenizer.WordPiece(vocab_size=100, lowercase=True)
    made = prepare.prepare(text, config, sentences=False)
    assert made.directory.is_relative_to(tmp_path / "another")
    (first,) = (tmp_path / "one").rglob("made/index.json")
    assert json.loads(first.read_text())["fingerprint"] == made.fingerprint
    files = lambda folder: {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name: content for name, content in files(first.parent).items() if name[0] != "."} == files(
        made.directory
    )


def test_the_index_is_put_last_and_what_lacks_it_is_no_preparation(tmp_path, url, monkeypatch):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "one"))
    done, upload = [], Bucket.upload
    monkeypatch.setattr(
        Bucket, "upload", lambda self, path, name: done.append(name) or upload(self, path, name)
    )
    assert data.main(command(tmp_path, url)) == 0
    assert done[-1] == "index.json" and len(done) == len(set(done)) > 3
    assert corpus.is_prepared(url) and not corpus.is_prepared(f"{url}-other")
    done.clear()
    assert data.main(command(tmp_path, url)) == 0
    assert not done, "it is there already"


def test_another_preparation_is_not_replaced(tmp_path, url, monkeypatch):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "one"))
    data.main(command(tmp_path, url))
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "another"))
    with pytest.raises(
        UserError, match=f"{re.escape(url)} holds something else already. Fix: choose another"
    ):
        data.main(command(tmp_path, url, documents=70))
