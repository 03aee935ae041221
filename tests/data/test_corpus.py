"""Corpora: every format gives the same documents; everything a user can get wrong names the place and the fix."""

import bz2
import dataclasses
import gzip
import importlib.util
import json
import lzma

import pytest
import zstandard

from jaxlm.data.corpus import corpus, files, lines, steps
from jaxlm.data.corpus.answers import Answers
from jaxlm.data.corpus.record import Record
from jaxlm.data.shards import trained
from jaxlm.errors import UserError

TEXTS = [
    "The first document.\nIt has two lines.",
    "Ein zweites, mit Umlauten: äöü – und 中文。",
    "Third “quoted” \\ text with a tab\there",
]
COMPRESS = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.compress(data[:40]) + zstandard.compress(data[40:]),  # two frames
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def json_lines(texts, field="text"):
    return "".join(json.dumps({"id": n, field: text}) + "\n" for n, text in enumerate(texts)).encode()


def config(source, **settings):
    return corpus.Corpus(source=str(source), **{"validation_share": 0.0, "test_share": 0.0, **settings})


def documents(source, tmp_path, **settings):
    source = corpus.open_source(config(source, **settings), tmp_path / "cache")
    return texts(source.records())


def texts(records):
    return [text for record in records for text in record.texts]


@pytest.mark.parametrize("compression", COMPRESS)
def test_text_and_json_lines_give_the_same_documents_in_any_compression(tmp_path, compression):
    text, lines = tmp_path / f"a.txt{compression}", tmp_path / f"a.jsonl{compression}"
    text.write_bytes(COMPRESS[compression]("\n\n \n".join(TEXTS).encode()))
    lines.write_bytes(COMPRESS[compression](json_lines(TEXTS)))
    assert documents(text, tmp_path) == documents(lines, tmp_path) == TEXTS


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_parquet_gives_the_same_documents_and_is_not_compressed_again(tmp_path, compression):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"n": [1, 2, 3], "body": TEXTS}), tmp_path / "plain.parquet")
    path = tmp_path / f"a.parquet{compression}"
    path.write_bytes(COMPRESS[compression]((tmp_path / "plain.parquet").read_bytes()))
    if compression:
        with pytest.raises(UserError, match="compressed inside"):
            documents(path, tmp_path, text_field="body")
    else:
        assert documents(path, tmp_path, text_field="body") == TEXTS
    with pytest.raises(UserError, match=r"no field \"bdy\".*Did you mean \"body\".*n, body"):
        documents(tmp_path / "plain.parquet", tmp_path, text_field="bdy")


def test_globs_and_folders_are_read_in_order_of_path(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, text in (("b.txt", "two"), ("a.jsonl", "one"), ("sub/c.txt", "three"), ("README.md", "no")):
        data = json_lines([text]) if name.endswith("jsonl") else text.encode()
        (tmp_path / "in" / name).write_bytes(data)
    assert documents(tmp_path / "in", tmp_path) == ["one", "two", "three"]
    assert documents(tmp_path / "in" / "*.txt", tmp_path) == ["two"]
    assert documents(tmp_path / "in" / "**" / "*.txt", tmp_path) == ["two", "three"]


def test_fsspec_urls_read_like_local_files(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus-a/x.jsonl.gz", gzip.compress(json_lines(TEXTS[:2])))
    memory.pipe("/corpus-a/y.txt", TEXTS[2].encode())
    for source in ("memory://corpus-a", "memory://corpus-a/*"):
        assert documents(source, tmp_path) == TEXTS
    assert documents("memory://corpus-a/y.txt", tmp_path) == TEXTS[2:]
    before = corpus.open_source(config("memory://corpus-a"), tmp_path).identity()
    memory.pipe("/corpus-a/y.txt", TEXTS[1].encode())
    assert corpus.open_source(config("memory://corpus-a"), tmp_path).identity() != before
    with pytest.raises(UserError, match="no such file"):
        documents("memory://corpus-a/none*.txt", tmp_path)


def test_buckets_without_their_package_name_the_extra(tmp_path):
    for scheme, package, extra in (("gs", "gcsfs", "gcs"), ("s3", "s3fs", "s3")):
        if importlib.util.find_spec(package) is None:
            with pytest.raises(UserError, match=rf"jaxlm\[{extra}\]"):
                documents(f"{scheme}://bucket/a.txt", tmp_path)


def test_hugging_face_without_its_package_names_the_extra(tmp_path):
    if importlib.util.find_spec("datasets") is not None:
        pytest.skip("the datasets package is installed")
    with pytest.raises(UserError, match=r"jaxlm\[hf\]"):
        documents("hf:some/dataset", tmp_path)


def test_hugging_face_streams_a_dataset_and_notices_a_change(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(json_lines(TEXTS))
    source = corpus.open_source(config(f"hf:{folder}"), tmp_path)
    assert texts(source.records()) == texts(source.sample(10**6)) == TEXTS
    before = json.dumps(source.identity())
    (folder / "train.jsonl").write_bytes(json_lines(TEXTS[:2]))
    assert json.dumps(corpus.open_source(config(f"hf:{folder}"), tmp_path).identity()) != before
    for name, message in (
        (f"{folder}:none", "cannot open it.*split"),
        (str(tmp_path / "no"), "cannot open it"),
    ):
        with pytest.raises(UserError, match=message):
            documents(f"hf:{name}", tmp_path)


def test_tfds_reads_a_prepared_dataset_without_tensorflow(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("importlib_resources")  # tensorflow_datasets needs it to build a dataset

    class TinyTexts(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()})
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from ((n, {"text": text}) for n, text in enumerate(TEXTS))

    TinyTexts(data_dir=str(tmp_path / "tfds"), file_format="array_record").download_and_prepare()
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    assert sorted(documents("tfds:tiny_texts", tmp_path)) == sorted(TEXTS)
    assert len(documents("tfds:tiny_texts:train[:2]", tmp_path)) == 2
    with pytest.raises(UserError, match=r"no field \"body\".*text"):
        documents("tfds:tiny_texts", tmp_path, text_field="body")
    with pytest.raises(UserError, match="tfds build no_such_dataset_here"):
        documents("tfds:no_such_dataset_here", tmp_path)


def test_bad_records_name_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    cases = [
        (b'{"text": "ok"}\n\n{"text": "cut\n', r"a\.jsonl:3: not valid JSON"),
        (
            b'{"text": "ok"}\n{"txt": "x", "id": 1}\n',
            r'a\.jsonl:2: no field "text".*Did you mean "txt".*txt, id.*--config.data.text_field=txt',
        ),
        (b'{"text": null}\n', r"a\.jsonl:1: field \"text\" is NoneType"),
        (b'["text"]\n', r"a\.jsonl:1: a JSON list"),
        (b'{"text": "ok"}\n{"text": "\xff"}\n', r"a\.jsonl:2: not UTF-8"),
        (b'{"text": "ok", "n": ' + b"9" * 5000 + b"}\n", r"a\.jsonl:1: not valid JSON \(Exceeds the limit"),
        (
            b'\n{"text": "ok", "n": ' + b"[" * 100_000 + b"\n",
            r"a\.jsonl:2: not valid JSON \(maximum recursion",
        ),
    ]
    for data, message in cases:
        path.write_bytes(data)
        with pytest.raises(UserError, match=message):
            documents(path, tmp_path)


@pytest.mark.parametrize("compression", [".gz", ".zst", ".bz2", ".xz"])
def test_a_cut_or_damaged_file_is_an_error_and_never_a_shorter_corpus(tmp_path, compression):
    whole = COMPRESS[compression](json_lines(f"document {n} {hash(n)}" for n in range(999)))
    path = tmp_path / f"a.jsonl{compression}"
    for data in (whole[: len(whole) * 2 // 3], b"not compressed at all"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"a.jsonl{compression}.*(cannot be read|damaged)"):
            documents(path, tmp_path)


def test_missing_unknown_and_unreadable_sources_say_what_is_allowed(tmp_path):
    for source, message in (
        (tmp_path / "none.txt", "no such file.*builtin:pydocs"),
        (tmp_path / "*.jsonl", "no file matches"),
        ("builtin:pydoc", 'Did you mean "pydocs"'),
        ("nosuch://a.txt", "not a known kind of path"),
        ("zip://*.txt::/some/folder", "zip:// paths cannot be read .*Unpack"),
    ):
        with pytest.raises(UserError, match=message):
            documents(source, tmp_path)
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"a\.xlsx: unknown kind.*\.jsonl.*of a spreadsheet: \.csv"):
        documents(tmp_path / "a.xlsx", tmp_path)


def test_a_text_file_without_blank_lines_is_refused_beyond_the_longest_document(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_DOCUMENT", 1000)
    (tmp_path / "a.txt").write_text("a line of words\n" * 99)
    with pytest.raises(UserError, match="Separate the documents"):
        documents(tmp_path / "a.txt", tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.tsv", "a.jsonl.gz", "a.jsonl.zst", "a.txt.xz"])
def test_a_line_without_an_end_is_refused_before_it_is_read_to_the_end(tmp_path, monkeypatch, name):
    monkeypatch.setattr(lines, "LONGEST_DOCUMENT", 1000)
    data = COMPRESS[files.suffixes(name)[1]](b'{"text": "' + b"a" * 10**6)
    (tmp_path / name).write_bytes(data[:-1])  # that the end is missing is not seen
    with pytest.raises(UserError, match=rf"{name}:1: one line or document of more than"):
        documents(tmp_path / name, tmp_path)


def test_half_a_surrogate_pair_does_not_survive_reading(tmp_path):
    (tmp_path / "a.jsonl").write_text(r'{"text": "a\ud83d b \ud83d\ude00"}')
    assert documents(tmp_path / "a.jsonl", tmp_path) == ["a\ufffd b \U0001f600"]


def test_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello\n\n\xef\xbb\xbfworld")  # two files in one
    assert documents(tmp_path / "a.txt", tmp_path) == ["hello", "world"]


def test_a_bare_carriage_return_ends_a_line_of_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\rline\r\rsecond\r\n \r\nthird\r\r\nfourth\r")
    assert documents(tmp_path / "a.txt", tmp_path) == ["one\rline", "second", "third", "fourth"]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_hidden_files_are_no_part_of_a_folder_and_are_read_when_they_are_named(tmp_path, monkeypatch, scheme):
    place = tmp_path / ".corpus"
    for name in ("a.txt", "._a.txt", ".ipynb_checkpoints/a-checkpoint.txt"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    monkeypatch.chdir(place)
    for source in (place, place / "*.txt", *(() if scheme else (".", "./../.corpus", f"{place}/"))):
        assert documents(f"{scheme}{source}", tmp_path) == ["a.txt"]
    assert documents(f"{scheme}{place}/._a.txt", tmp_path) == ["._a.txt"]
    assert documents(f"{scheme}{place}/.ipynb_checkpoints/*.txt", tmp_path) == [
        ".ipynb_checkpoints/a-checkpoint.txt"
    ]


def test_a_window_as_of_zstd_long_is_read(tmp_path):
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.jsonl.zst").write_bytes(stream.compress(json_lines(["hello"])) + stream.flush())
    assert documents(tmp_path / "a.jsonl.zst", tmp_path) == ["hello"]


def test_brackets_in_the_name_of_a_folder_are_explained(tmp_path):
    (tmp_path / "data [v2]").mkdir()
    (tmp_path / "data [v2]" / "a.txt").write_text("hello")
    with pytest.raises(UserError, match=r"write \[\[\] for a bracket"):
        documents(tmp_path / "data [v2]" / "*.txt", tmp_path)
    assert documents(tmp_path / "data [[]v2]" / "*.txt", tmp_path) == ["hello"]
    assert documents(tmp_path / "data [v2]", tmp_path) == ["hello"]


def test_identity_follows_content_not_time_or_place(tmp_path):
    def identity(folder, text):
        folder.mkdir(exist_ok=True)
        (folder / "a.txt").write_text(text)
        return corpus.open_source(config(folder / "a.txt"), tmp_path).identity()

    first = identity(tmp_path / "x", "one")
    assert identity(tmp_path / "y", "one") == first
    assert identity(tmp_path / "x", "eno") != first


def test_big_corpora_are_known_by_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "HASHED_BYTES", 2)
    (tmp_path / "a.txt").write_text("one")
    found = files.find(str(tmp_path / "a.txt"))
    assert files.identity(found) == [[found[0].path, 3, found[0].stamp]]


def test_splits_depend_on_text_alone_and_have_their_shares(tmp_path):
    settings = config("x", validation_share=0.1, test_share=0.05)
    split = [settings.split(Record((f"document {n}",))) for n in range(20011)]
    assert [settings.split(Record((f"document {n}",))) for n in range(20011)] == split
    assert abs(split.count("validation") / 20011 - 0.1) < 0.01
    assert abs(split.count("test") / 20011 - 0.05) < 0.01
    assert {config("x").split(Record((f"document {n}",))) for n in range(999)} == {"train"}


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (1.0, 0.0), (0.5, 0.5), (0.0, 7.0)])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(UserError, match="share"):
        config("x", validation_share=shares[0], test_share=shares[1]).validate("data.corpus")


def test_a_sample_takes_from_every_file(tmp_path):
    for n, count in enumerate((3, 500, 500)):
        (tmp_path / f"{n}.txt").write_text("\n\n".join(f"file {n} document {k:04d}" for k in range(count)))
    sample = texts(corpus.open_source(config(tmp_path / "*.txt"), tmp_path).sample(2000))
    counts = [sum(text.startswith(f"file {n}") for text in sample) for n in range(3)]
    assert counts[0] == 3 and counts[1] > 40 and abs(counts[1] - counts[2]) < 3
    assert 1950 <= sum(map(len, sample)) <= 2100


def test_splits_may_have_files_of_their_own(tmp_path):
    for name, number in (("train", 40), ("dev", 3), ("eval", 2)):
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([f"{name} {i}" for i in range(number)]))
    of = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "eval")}
    text = config(of["train"], validation=of["dev"], validation_share=0.3, test_share=0.2)
    source = corpus.open_source(text, tmp_path / "cache")
    found = {split: [] for split in corpus.SPLITS}
    for record in source.records():
        found[text.split(record)].append(record.texts[0])
    assert found["validation"] == ["dev 0", "dev 1", "dev 2"]  # the share is not taken as well
    assert 0 < len(found["test"]) < 20 and len(found["train"]) + len(found["test"]) == 40
    assert source.names() == [of["train"], of["dev"]]
    assert [record.origin for record in source.records()][-1] == (1, 3)
    assert all("train" in one.texts[0] for one in source.sample(10**6))
    both = config(of["train"], validation=of["dev"], test=of["eval"])
    assert texts(r for r in corpus.open_source(both, tmp_path).records() if both.split(r) == "test") == [
        "eval 0",
        "eval 1",
    ]
    assert corpus.open_source(both, tmp_path).identity() != source.identity()
    assert both.holds_out("test") and not config(of["train"]).holds_out("validation")


@pytest.mark.parametrize("form", ["qa.jsonl", "qa.json"])
def test_no_text_that_questions_are_about_is_in_two_splits(form, tmp_path):
    qas = lambda c: [{"id": f"{c} {i}", "question": f"Number {i}?", "answers": []} for i in range(9)]
    if form == "qa.json":
        made = [{"context": f"A text {c}.", "qas": qas(c)} for c in range(12)]
        (tmp_path / form).write_text(json.dumps({"data": [{"title": "t", "paragraphs": made}]}))
    else:
        rows = [one | {"context": f"A text {c}."} for c in range(12) for one in qas(c)]
        (tmp_path / form).write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    asked = {"text_fields": ("question", "context"), "columns": (Answers(field="answers", text="context"),)}
    shares = {"validation_share": 0.3, "test_share": 0.3}
    text = config(tmp_path / form, **shares, **asked)
    source, found = corpus.open_source(text, tmp_path), {}
    for record in source.records():
        found.setdefault(record.texts[1], []).append(text.split(record))
    assert len(found) == 12 and all(len(splits) == 9 for splits in found.values())
    assert all(len(set(splits)) == 1 for splits in found.values())
    assert {splits[0] for splits in found.values()} == set(corpus.SPLITS)
    apart = dataclasses.replace(text, columns=())  # as any two texts: each pair by itself
    assert max(len({apart.split(r) for r in source.records() if r.texts[1] == one}) for one in found) > 1
    assert trained.identity(source, apart) != trained.identity(source, text), "shards are made anew"


def test_a_step_cannot_move_a_document_to_another_split(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([f"of {name}"]))
    text = config(tmp_path / "train.jsonl", validation=str(tmp_path / "dev.jsonl"))
    records = steps.Steps((Fresh(),)).run(corpus.open_source(text, tmp_path).records())
    assert [text.split(record) for record in records] == ["train", "validation"]


@dataclasses.dataclass(kw_only=True)
class Fresh(steps.Step):
    def apply(self, record):
        return Record(record.texts)
