"""A corpus prepared once, in a bucket, for all hosts."""

import concurrent.futures
import functools
import json
import pathlib
import re
import secrets
import threading
from collections.abc import Iterator

import pytest

from jaxlm.buckets.bucket import Bucket
from jaxlm.commands import data
from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus
from jaxlm.data.shards import handed, prepare
from jaxlm.errors import UserError
from tests.buckets import store


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(8)}/prepared"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """What several hosts read at once: an object of memory:// has one position for all that read it."""
    with store.running() as url:
        yield url


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


def hosts_of(url: str, count: int) -> list[handed.Hosts]:
    """Threads as hosts."""
    said, met = [""] * count, threading.Barrier(count)

    def exchanged(number: int, text: str) -> list[str]:
        said[number] = text
        met.wait(60)
        found = list(said)
        met.wait(60)
        return found

    one = lambda number: functools.partial(exchanged, number)
    return [handed.Hosts(url, number, one(number), lambda why: None) for number in range(count)]


def all_at_once(work: list) -> None:
    with concurrent.futures.ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()


def index(folder: pathlib.Path, content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part").write_text(content)
    (folder / "index.json").write_text(content)


@pytest.mark.parametrize(("having", "giver"), [((), 0), ((1,), 1), ((2, 1), 1), ((0, 1, 2), None)])
def test_one_host_makes_or_has_what_the_others_fetch(tmp_path, bucket, having, giver):
    url = f"{bucket}/{secrets.token_hex(8)}"
    folders = [tmp_path / f"{number}" / "wiki-1" for number in range(3)]
    for number in having:
        index(folders[number], "had")
    making = [functools.partial(index, folder, "had" if having else "made") for folder in folders]
    all_at_once(
        [
            functools.partial(host.hand_out, folder, number in having, make, lambda line: None)
            for number, (host, folder, make) in enumerate(zip(hosts_of(url, 3), folders, making, strict=True))
        ]
    )
    assert {(folder / "part").read_text() for folder in folders} == {"had" if having else "made"}
    assert ("wiki-1/index.json" in Bucket(url).listed()) == (giver is not None)


def test_hosts_with_different_corpora_are_refused(tmp_path, url):
    work = [
        functools.partial(host.hand_out, tmp_path / name, False, lambda: None, print)
        for host, name in zip(hosts_of(url, 2), ("wiki-1", "wiki-2"), strict=True)
    ]
    with pytest.raises(
        UserError, match=r"hosts read different corpora or tokenizers: \['wiki-1', 'wiki-2'\]"
    ):
        all_at_once(work)
