"""Claims about safetensors files: the library's bytes out, any damage in is named, a read is one tensor."""

import errno
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxlm.errors import UserError
from jaxlm.formats import safetensors_file


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "b.weight": rng.normal(size=(3, 5)).astype(np.float32),
        "a": rng.normal(size=7).astype(np.float16),
        "ids": np.arange(6).reshape(2, 3),
        "é": rng.normal(size=(2, 2)).astype(np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.asarray(3.0, np.float32),
        "half": np.ones((3, 3), jnp.bfloat16),
        "mask": np.ones(3, bool),
    }


def test_a_file_has_the_bytes_that_the_library_writes(tmp_path):
    safetensors_file.save(tmp_path / "ours", arrays())
    save_file(arrays(), tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("error", [OSError(errno.EOPNOTSUPP, "not here"), None])
def test_where_no_room_can_be_reserved_the_file_is_written_out(tmp_path, monkeypatch, error):
    def refuses(*_):
        raise error

    monkeypatch.setattr(safetensors_file, "_ZEROS", 7)
    if error:
        monkeypatch.setattr(os, "posix_fallocate", refuses)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
    safetensors_file.save(tmp_path / "ours", arrays())
    save_file(arrays(), tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tensors_may_be_written_in_any_order_and_read_in_parts(tmp_path):
    path = tmp_path / "x"
    places = safetensors_file.create(path, {name: (a.shape, a.dtype) for name, a in arrays().items()})
    for name in reversed(arrays()):
        places.array(name)[...] = arrays()[name]
    loaded, entries = load_file(path), safetensors_file.entries(path)
    for name, array in arrays().items():
        assert np.array_equal(loaded[name], array) and np.array_equal(entries[name].read(()), array)
    part = entries["b.weight"].read((slice(1, 3), slice(2, 4)))
    assert np.array_equal(part, arrays()["b.weight"][1:3, 2:4])


def written(tmp_path, header, data: bytes = b"\0" * 24, length: int | None = None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path = tmp_path / "model.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def entry(first: int, last: int, shape=(3,), dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 12), "b": entry(8, 20)}, r"b overlaps a"),
        ({"a": entry(0, 12), "b": entry(16, 28)}, r"b leaves a gap after a"),
        ({"a": entry(0, 12)}, r"the header wants 12 bytes of data, the file has 24"),
        (
            {"a": entry(0, 12), "b": entry(12, 36, (6,))},
            r"the header wants 36 bytes of data, the file has 24",
        ),
        ({"a": entry(0, 24)}, r"a: F32 of shape \(3,\) does not fill the bytes 0 to 24"),
        ({"a": entry(0, 24, (2**40, 2**40))}, r"does not fill the bytes"),
        ({"a": entry(-4, 20, (6,))}, r"a: the header does not say dtype, shape and offsets"),
        ({"a": {"dtype": "F32"}}, r"a: the header does not say"),
        ({"a": []}, r"a: the header does not say"),
        ({"a": entry(0, 24, (24,), "F8_E4M3")}, r"a is stored as 'F8_E4M3'"),
        ([1], r"holds a list; a JSON object was expected"),
        (b"{not json", r"the header: is not JSON"),
        (b'{"a":' + b"[" * 100_000, r"the header: is not JSON"),
        (
            b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"a":{"dtype":"F32","shape":[3],"data_offsets":[12,24]}}',
            r"'a' stands there twice",
        ),
    ],
)
def test_a_header_that_is_not_right_is_refused_with_what_is_wrong(tmp_path, header, message):
    with pytest.raises(UserError, match=message):
        safetensors_file.entries(written(tmp_path, header))


def test_an_absurd_length_of_the_header_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(
        UserError, match=r"its header would have 1152921504606846976 bytes, of 70 in the file"
    ):
        safetensors_file.entries(written(tmp_path, {"a": entry(0, 24)}, b"", 2**60))


def test_a_file_that_was_cut_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(arrays(), path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"model\.safetensors.*It was cut"):
        safetensors_file.entries(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        safetensors_file.entries(path)


def test_metadata_that_are_no_texts_are_refused(tmp_path):
    path = written(tmp_path, {"__metadata__": [1], "a": entry(0, 12)}, b"\0" * 12)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        safetensors_file.metadata(path)


def test_a_header_of_many_names_is_searched_once_for_one_that_stands_there_twice(tmp_path):
    header = b"{" + b",".join(b'"%06d":0' % i for i in range(300_000)) + b',"299999":0}'
    with pytest.raises(UserError, match="'299999' stands there twice"):
        safetensors_file.entries(written(tmp_path, header))
