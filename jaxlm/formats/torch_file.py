"""PyTorch's .bin files without PyTorch and without unpickling. In: a path. Out: its tensors by name, none read yet.

Such a file is a program for pickle's machine, which may call anything. Here its instructions are parsed and a small
machine of our own follows those that build dicts, lists and tensors. Guaranteed: nothing is imported or called; what
the machine does not have is refused by name. Both containers are read: zip (since 1.6) and the older stream.
"""

import dataclasses
import io
import math
import pathlib
import pickletools
import zipfile
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from jaxlm.errors import UserError, reading
from jaxlm.formats.source import Entry, Index

_PICKLE_LIMIT = 64 * 2**20  # bytes before the storages: names and shapes only
_STEPS = 2**22  # instructions of a pickle; a tensor takes about 40
_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "DoubleStorage": np.dtype(np.float64),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(bool),
}
_DICT, _TENSOR, _PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
_KNOWN = {_DICT, _TENSOR, _PARAMETER, *(f"torch {name}" for name in _STORAGES)}


class _Refused(UserError):
    """What the file wanted."""


@dataclasses.dataclass(frozen=True)
class _Global:
    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def entries(path: str | pathlib.Path, shown: str = "") -> dict[str, Entry]:
    """The tensors of a state dict saved by torch.save. UserError that names what else the file wants."""
    path, shown = pathlib.Path(path), shown or str(path)
    try:
        with reading(shown, "not a readable PyTorch file"):
            read = _from_zip if zipfile.is_zipfile(path) else _from_stream
            state, starts = read(path)
            return _entries(path, shown, state, starts)
    except _Refused as refused:
        raise UserError(
            f"{shown}: refused: {str(refused)[:300]}. Only a plain state dict (names and tensors) is taken; nothing "
            "was run. Save it as safetensors where you trust it."
        ) from None


def _entries(
    path: pathlib.Path, shown: str, state: Any, starts: dict[str, tuple[int, int]]
) -> dict[str, Entry]:
    if not isinstance(state, dict):
        raise _Refused(f"it holds a {type(state).__name__}, not named tensors")
    found = {}
    for name, value in state.items():
        if not isinstance(value, _Tensor):
            raise _Refused(f"{name} is a {type(value).__name__}, not a tensor")
        start, size = starts[value.storage.key]
        item = value.storage.dtype.itemsize
        last = value.offset + sum((n - 1) * s for n, s in zip(value.shape, value.strides, strict=True))
        empty = math.prod(value.shape) == 0
        if min((*value.shape, *value.strides, value.offset), default=0) < 0 or (
            not empty and (last + 1) * item > size
        ):
            raise _Refused(f"{name} reaches beyond its storage of {size} bytes")
        if math.prod(value.shape) * item > size:
            raise _Refused(f"{name} has shape {value.shape}, more than its storage of {size} bytes")
        found[name] = _entry(path, value, start, size // item, shown)
    return found


def _entry(path: pathlib.Path, tensor: _Tensor, start: int, count: int, shown: str) -> Entry:
    dtype, shape = tensor.storage.dtype, tensor.shape

    def read(index: Index) -> np.ndarray:
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)[index]
        whole = np.memmap(path, dtype, "r", start, (count,))[tensor.offset :]
        strides = [n * dtype.itemsize for n in tensor.strides]
        return np.array(np.lib.stride_tricks.as_strided(whole, shape, strides, writeable=False)[index])

    return Entry(shape, dtype, read, shown)


def _from_zip(path: pathlib.Path) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The object, and where each storage lies: {key: (offset in the file, bytes)}."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = {info.filename.split("/", 1)[-1]: info for info in archive.infolist()}
        if "data.pkl" not in members:
            raise _Refused("the zip has no data.pkl")
        for name, limit in (("byteorder", 16), ("data.pkl", _PICKLE_LIMIT)):
            if name in members and members[name].file_size > limit:
                raise _Refused(f"{name} has {members[name].file_size} bytes; at most {limit} are read")
        if packed := [info.filename for info in members.values() if info.compress_type != zipfile.ZIP_STORED]:
            raise _Refused(f"{packed[0]} is compressed, which torch.save never does")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise _Refused("its numbers are big-endian")
        with archive.open(members["data.pkl"]) as stream:
            state = _Machine().run(stream)
        starts = {}
        for name, info in members.items():
            if not name.startswith("data/"):
                continue
            file.seek(info.header_offset + 26)
            lengths = file.read(4)  # of name and extra field in the local header
            skip = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            start = info.header_offset + 30 + skip
            if start + info.file_size > path.stat().st_size:
                raise _Refused(f"{name} reaches beyond the end of the file")
            starts[name.removeprefix("data/")] = (start, info.file_size)
    return state, starts


def _from_stream(path: pathlib.Path) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The container of torch before 1.6: four pickles, the keys, then per key its length and its numbers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = io.BytesIO(file.read(_PICKLE_LIMIT))  # in which no text can claim to be longer
        if _Machine().run(head) != _MAGIC:
            raise _Refused("it is neither a zip nor the older kind of PyTorch file")
        for _ in range(2):  # protocol version, sizes of C types
            _Machine().run(head)
        machine = _Machine()
        state, keys, starts = machine.run(head), _Machine().run(head), {}
        file.seek(head.tell())
        if not isinstance(keys, list):
            raise _Refused("it has no list of storages")
        for key in keys:
            if not isinstance(key, str):
                raise _Refused("the name of a storage is no text")
            count, start = int.from_bytes(file.read(8), "little"), file.tell()
            storage = machine.storages.get(key)
            length = count * (storage.dtype.itemsize if storage else 1)
            if storage is None or start + length > size:
                raise _Refused(f"storage {key!r} is unknown, or reaches beyond the end of the file")
            starts[key] = (start, length)
            file.seek(start + length)
    return state, starts


class _Machine:
    """Follows the instructions of a pickle that build data. Every other instruction and every other name is refused."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, stream: IO[bytes]) -> Any:
        """The object."""
        for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if number > _STEPS:
                raise _Refused(f"it has more than {_STEPS} instructions")
            if code.name == "STOP":
                return self.stack.pop()
            self.step(code.name, argument)
        raise _Refused("it ends in the middle")

    def step(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in ("PROTO", "FRAME"):
            return
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name.startswith(("BININT", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT", "BINSTRING")):
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.stack.append(self.named(argument if name == "GLOBAL" else " ".join(reversed(self.take(2)))))
        elif name == "REDUCE":
            arguments, function = self.take(2)
            self.stack.append(self.call(function, arguments))
        elif name == "BINPERSID":
            self.stack.append(self.storage(self.stack.pop()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(reversed(self.take(int(name[-1])))))
        elif name == "TUPLE":
            self.stack.append(tuple(self.marked()))
        elif name in ("SETITEM", "SETITEMS"):
            values = list(reversed(self.take(2))) if name == "SETITEM" else self.marked()
            # Nothing else is hashed or printed: a tuple of tuples of tuples can take for ever.
            if not all(isinstance(key, str) for key in values[::2]):
                raise _Refused("a name in a dict is no text")
            self.stack[-1].update(zip(values[::2], values[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            values = self.take(1) if name == "APPEND" else self.marked()
            self.stack[-1].extend(values)
        elif name == "BUILD":
            self.attributes(self.stack.pop())
        else:
            raise _Refused(f"it has the instruction {name}")

    def take(self, count: int) -> list[Any]:
        """The last entries, the topmost first."""
        return [self.stack.pop() for _ in range(count)]

    def marked(self) -> list[Any]:
        """What was put after the last mark."""
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def named(self, name: str) -> _Global:
        """A name that the file imports."""
        if name not in _KNOWN:
            raise _Refused(f"it calls for {name.replace(' ', '.')}")
        return _Global(name)

    def call(self, function: Any, arguments: Any) -> Any:
        """What stands for a call, without a call."""
        match function, arguments:
            case _Global(name="collections OrderedDict"), ():
                return {}
            case _Global(name="torch._utils _rebuild_tensor_v2"), (
                _Storage() as storage,
                offset,
                shape,
                strides,
                *_,
            ):
                whole = (
                    isinstance(shape, tuple)
                    and isinstance(strides, tuple)
                    and len(shape) == len(strides) <= 8
                )
                if whole and all(type(n) is int for n in (offset, *shape, *strides)):
                    return _Tensor(storage, offset, shape, strides)
            case _Global(name="torch._utils _rebuild_parameter"), (_Tensor() as tensor, *_):
                return tensor
        called = function.name if isinstance(function, _Global) else f"a {type(function).__name__}"
        raise _Refused(f"it calls {called} with arguments that make no tensor")

    def storage(self, identity: Any) -> _Storage:
        """('storage', type, key, device, number of elements)."""
        match identity:
            case ("storage", _Global(name=name), str() as key, _, int() as size, *_) if name.startswith(
                "torch "
            ):
                storage = _Storage(key, _STORAGES[name.removeprefix("torch ")], size)
                return self.storages.setdefault(key, storage)
        raise _Refused("it has a reference that is not a storage of numbers")

    def attributes(self, state: Any) -> None:
        """Attributes of an OrderedDict are its versions of modules (_metadata): of no use, dropped."""
        if not isinstance(self.stack[-1], dict) or not isinstance(state, dict):
            raise _Refused("it sets attributes of something that is not a dict")


_CONSTANTS = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
