"""Claims about hostile .bin files: nothing is executed, and the message says what the file wanted. No torch needed."""

import collections
import os
import pickle
import zipfile

import pytest

from jaxlm.errors import UserError
from jaxlm.formats import torch_file


class Calls:
    """What unpickling would call."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def zipped(path, content, name="archive/data.pkl", **extra):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content if isinstance(content, bytes) else pickle.dumps(content, 2))
        for member, data in extra.items():
            archive.writestr(member, data)
    return path


@pytest.mark.parametrize("container", ["zip", "stream"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_calls_something_is_refused_by_the_name_of_it_and_nothing_runs(
    tmp_path, container, nested
):
    target, path = tmp_path / "written", tmp_path / "pytorch_model.bin"
    evil = Calls(os.system, f"touch {target}")
    content = {"bert.weight": evil} if nested else evil
    if container == "zip":
        zipped(path, content)
    else:
        path.write_bytes(pickle.dumps(content, 2))
    with pytest.raises(
        UserError, match=r"pytorch_model\.bin: refused: it calls for (posix|nt)\.system.*nothing was run"
    ):
        torch_file.entries(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": [1, 2]}, "a is a list, not a tensor"),
        ([1, 2], "it holds a list, not named tensors"),
        ({"a": Calls(eval, "1")}, r"it calls for __builtin__\.eval"),
        ({"a": Calls(compile, "1", "x", "eval")}, r"it calls for __builtin__\.compile"),
        (collections.OrderedDict(a=3), "a is a int, not a tensor"),
    ],
)
def test_anything_but_named_tensors_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        torch_file.entries(zipped(tmp_path / "x.bin", content))


def storage(key="0", size=6, shape=(2, 3), strides=(3, 1), offset=0, kind="FloatStorage") -> bytes:
    """The program of a state dict {"w": tensor}, as torch.save writes it."""

    def number(n: int) -> bytes:
        return b"J" + n.to_bytes(4, "little", signed=True)

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def numbers(values) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    identity = (
        b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(size) + b"tQ"
    )
    arguments = b"(" + identity + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + b"Nt"
    return b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def test_a_tensor_is_read_as_its_strides_say(tmp_path):
    import numpy as np

    data = np.arange(6, dtype=np.float32)
    path = zipped(
        tmp_path / "x.bin", storage(shape=(3, 2), strides=(1, 3)), **{"archive/data/0": data.tobytes()}
    )
    assert np.array_equal(torch_file.entries(path)["w"].read(()), data.reshape(2, 3).T)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (storage(shape=(3, 3)), "w reaches beyond its storage of 24 bytes"),
        (storage(offset=1), "w reaches beyond its storage"),
        (storage(strides=(-3, 1)), "w reaches beyond its storage"),
        (storage(shape=(2**30, 2**30), strides=(0, 0)), r"w has shape .*more than its storage"),
        (storage(shape=(2,)), "with arguments that make no tensor"),
        (storage(key="7"), "not a readable PyTorch file"),
        (storage(kind="QInt8Storage"), r"it calls for torch\.QInt8Storage"),
        (b"\x80\x02}X\x01\x00\x00\x00wc__main__\nX\n.", r"it calls for __main__\.X"),
        (b"\x80\x02(i__builtin__\neval\n.", "it has the instruction INST"),
        (b"\x80\x02\x82\x01.", "it has the instruction EXT1"),
        (b"\x80\x02}", "not a readable PyTorch file"),
        (b"garbage", "not a readable PyTorch file"),
    ],
)
def test_a_crafted_tensor_is_refused(tmp_path, program, message):
    with pytest.raises(UserError, match=message):
        torch_file.entries(zipped(tmp_path / "x.bin", program, **{"archive/data/0": b"\0" * 24}))


def test_a_zip_bomb_is_refused_before_it_is_opened(tmp_path):
    path = tmp_path / "x.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (65 * 2**20))
    with pytest.raises(UserError, match=r"data\.pkl has 68157440 bytes; at most 67108864 are read"):
        torch_file.entries(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", storage())
        archive.writestr("archive/data/0", b"\0" * 24)
    with pytest.raises(UserError, match=r"data\.pkl is compressed"):
        torch_file.entries(path)


# Tuples of tuples: to hash or to print the outermost takes 2^40 steps.
NESTED = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(40))
BOMBS = {
    "a name that takes for ever to hash": (b"}" + NESTED + b"Ns", "a name in a dict is no text"),
    "a function that takes for ever to print": (NESTED + b")R", "it calls a tuple with arguments"),
    "a mark for every tuple": (b")" * 60_000 + b"(t" * 60_000, "it holds a tuple, not named tensors"),
    "a text of 2^62 bytes": (b"\x8d" + (2**62).to_bytes(8, "little"), "not a readable PyTorch file"),
}


@pytest.mark.parametrize("container", ["zip", "stream"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_program_that_would_run_for_ever_is_refused(tmp_path, container, name):
    program, message = BOMBS[name]
    program, path = b"\x80\x04" + program + b".", tmp_path / "x.bin"
    if container == "zip":
        zipped(path, program)
    else:
        head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
        path.write_bytes(head + program + pickle.dumps([], 2))
    with pytest.raises(UserError, match=message):
        torch_file.entries(path)


def test_a_program_of_more_instructions_than_a_state_dict_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "_STEPS", 50)
    torch_file.entries(zipped(tmp_path / "x.bin", storage(), **{"archive/data/0": b"\0" * 24}))
    with pytest.raises(UserError, match="it has more than 50 instructions"):
        torch_file.entries(zipped(tmp_path / "x.bin", b"\x80\x02" + b"]" * 60 + b"."))


def test_a_storage_whose_name_is_no_text_is_refused(tmp_path):
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, {}))
    (tmp_path / "x.bin").write_bytes(head + b"\x80\x02]" + NESTED + b"a.")
    with pytest.raises(UserError, match="the name of a storage is no text"):
        torch_file.entries(tmp_path / "x.bin")


def test_no_member_of_the_zip_is_unpacked_without_a_limit(tmp_path):
    path = zipped(tmp_path / "x.bin", {}, **{"archive/byteorder": b"little" * 1000})
    with pytest.raises(UserError, match="byteorder has 6000 bytes; at most 16 are read"):
        torch_file.entries(path)
