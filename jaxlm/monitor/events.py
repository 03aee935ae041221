"""Files that TensorBoard reads. In: numbers and texts by step. Out: one events file.

A record is an `Event` of tensorboard/compat/proto/event.proto, framed as in a TFRecord: length, checksum of it, bytes,
their checksum. Written here because the package that does it (tensorboardX) imports PyTorch where that is installed: a
second of every start. Raises OSError when the disk is full.
"""

import os
import pathlib
import socket
import struct
import time
from collections.abc import Callable

_STRING, _START = 7, 1  # DataType.DT_STRING, SessionLog.START


class Events:
    """A new events file in `folder`. `meaning`: name -> what TensorBoard shows beside the curve, or ''."""

    def __init__(self, folder: pathlib.Path, meaning: Callable[[str], str]) -> None:
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "ab")  # noqa: SIM115
        self._meaning, self._described = meaning, set[str]()
        self._event(0, _text(3, "brain.Event:2"))

    def restart(self, step: int) -> None:
        """Hides what an interrupted run wrote for steps after this one."""
        self._event(step + 1, _bytes(7, _number(1, _START)))

    def scalar(self, step: int, name: str, value: float) -> None:
        """A number; its description stands beside its first one."""
        described = "" if name in self._described else self._meaning(name)
        self._described.add(name)
        metadata = _bytes(9, _text(3, described)) if described else b""
        self._value(step, _text(1, name) + struct.pack("<Bf", 2 << 3 | 5, value) + metadata)

    def text(self, step: int, name: str, text: str) -> None:
        """A text in Markdown."""
        one = _bytes(2, _bytes(2, _number(1, 1)))  # of shape [1]
        tensor = _number(1, _STRING) + one + _text(8, text)
        plugin = _bytes(9, _bytes(1, _text(1, "text")))
        self._value(step, _text(1, f"{name}/text_summary") + _bytes(8, tensor) + plugin)

    def flush(self) -> None:
        """To the file."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self._file.close()

    def _value(self, step: int, value: bytes) -> None:
        self._event(step, _bytes(5, _bytes(1, value)))

    def _event(self, step: int, what: bytes) -> None:
        record = struct.pack("<Bd", 1 << 3 | 1, time.time()) + _number(2, step) + what
        length = struct.pack("<Q", len(record))
        self._file.write(length + _checksum(length) + record + _checksum(record))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode("utf-8", errors="replace"))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _table() -> list[int]:
    """CRC-32C (Castagnoli), reflected."""
    rows = []
    for row in range(256):
        for _ in range(8):
            row = row >> 1 ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return rows


_CRC = _table()


def _checksum(data: bytes) -> bytes:
    """Masked as in a TFRecord."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
