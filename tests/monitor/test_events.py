"""What TensorBoard is given, read with the messages and the checksum of tensorboardX."""

import math
import pathlib
import re
import struct

import numpy as np
from tensorboardX import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jaxlm.monitor.events import Events
from jaxlm.monitor.meanings import MEANINGS, meaning
from jaxlm.monitor.metrics import Writer


def read(folder: pathlib.Path) -> list:
    """The events of the only file; every checksum is looked at."""
    (path,) = folder.iterdir()
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        record = data[at + 12 : at + 12 + length]
        for part, where in ((data[at : at + 8], at + 8), (record, at + 12 + length)):
            crc = crc32c.crc32c(part)
            masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack_from("<I", data, where) == (masked,)
        found.append(Event.FromString(record))
        at += 16 + length
    return found


def test_numbers_texts_and_restarts_arrive_and_a_description_stands_beside_the_first_of_its_numbers(tmp_path):
    events = Events(tmp_path, {"a/b": "what it is", "c": ""}.get)
    events.restart(2**40)
    for step, value in ((0, 0.1), (3, -2.5e30), (2**40, math.inf)):
        events.scalar(step, "a/b", value)
    events.scalar(4, "c", 1.0)
    events.text(5, "samples", "ü " * 200)
    events.close()
    version, restart, *numbers, other, text = read(tmp_path)
    assert version.file_version == "brain.Event:2" and version.wall_time > 1.7e9
    assert (restart.step, restart.session_log.status) == (2**40 + 1, SessionLog.START)
    values = [event.summary.value[0] for event in numbers]
    assert [(e.step, v.tag) for e, v in zip(numbers, values, strict=True)] == [
        (0, "a/b"),
        (3, "a/b"),
        (2**40, "a/b"),
    ]
    assert [v.simple_value for v in values] == [np.float32(0.1), np.float32(-2.5e30), math.inf]
    assert [v.metadata.summary_description for v in values] == ["what it is", "", ""]
    assert not other.summary.value[0].HasField("metadata")
    (shown,) = text.summary.value
    assert shown.tag == "samples/text_summary" and shown.metadata.plugin_data.plugin_name == "text"
    assert [s.decode() for s in shown.tensor.string_val] == ["ü " * 200]
    assert [d.size for d in shown.tensor.tensor_shape.dim] == [1] and shown.tensor.dtype == 7


def test_a_run_shows_its_config_and_its_texts_as_they_stand(tmp_path):
    with Writer(tmp_path, config={"steps": 9}) as writer:
        writer.resume(0)
        writer.write(1, {"train/loss": 7.0})
        writer.text(1, "samples", "one\n# two")
    values = [event.summary.value[0] for event in read(tmp_path / "tensorboard") if event.HasField("summary")]
    assert [v.tag for v in values] == ["config/text_summary", "train/loss", "samples/text_summary"]
    assert values[0].tensor.string_val[0] == b'    {\n      "steps": 9\n    }\n'
    assert values[1].metadata.summary_description == meaning("train/loss") != ""
    assert values[2].tensor.string_val[0] == b"    one\n    # two\n"


def test_every_metric_that_is_documented_has_a_meaning_and_the_other_way_round():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    table = page[page.index("| name |") : page.index("## Several tasks")]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_/]+)`", row)}
    assert not [name for name in named if not meaning(name)]
    known = {
        name.split("/", 1)[1] if name.startswith(("train/", "eval/")) else name for name in named
    } | named
    assert not MEANINGS.keys() - known
    assert meaning("train/words/mlm_loss") == meaning("train/mlm_loss") and meaning("a/recipes_own") == ""
