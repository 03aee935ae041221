"""Corpora of TensorFlow Datasets and the Hugging Face hub. In: 'NAME[:SPLIT]' (tfds), 'NAME[@CONFIG][:SPLIT]' (hf).

Out: a `Source`. Both libraries are optional extras; tfds is read through its `data_source` (ArrayRecord), so TensorFlow
is not needed; Hugging Face datasets are streamed.
"""

from collections.abc import Iterator
from typing import Any

from jaxlm.data.corpus import extras, readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.source import first_bytes
from jaxlm.errors import UserError, reading

READ_AT_ONCE = 256  # records a call: random access has a fixed cost per call


class Tfds:
    """One split (default 'train') of a dataset that tfds has prepared as ArrayRecord."""

    def __init__(self, name: str, wanted: Wanted):
        self.name, _, split = name.partition(":")
        self.split = split or "train"
        self.wanted = wanted
        tfds = extras.require("tensorflow_datasets", "tfds", f'the corpus "tfds:{name}"')
        try:
            self.builder = tfds.builder(self.name, file_format="array_record")
            self.source = tfds.data_source(self.name, split=self.split)
        except Exception as error:
            raise UserError(
                f'corpus "tfds:{name}": tensorflow-datasets cannot open it: {error}\nPrepare it once with '
                f'"tfds build {self.name} --file_format=array_record", or set TFDS_DATA_DIR to where it is.'
            ) from error

    def identity(self) -> Any:
        info = self.builder.info
        return {
            "tfds": info.full_name,
            "split": self.split,
            **self.wanted.describe(),
            "records": len(self.source),
            "bytes": sum(split.num_bytes or 0 for split in info.splits.values()),
        }

    def text_bytes(self) -> int:
        name = self.split.split("[")[0]
        return int(self.builder.info.splits[name].num_bytes or 0) if name in self.builder.info.splits else 0

    def names(self) -> list[str]:
        return [f"tfds:{self.name}:{self.split}"]

    def records(self) -> Iterator[Record]:
        with reading(f'corpus "tfds:{self.name}"', fix=f'Prepare it again: "tfds build {self.name}".'):
            for start in range(0, len(self.source), READ_AT_ONCE):
                keys = list(range(start, min(start + READ_AT_ONCE, len(self.source))))
                for key, record in zip(keys, self.source.__getitems__(keys), strict=True):
                    made = readers.of(record, self.wanted, f"tfds:{self.name} record {key}", key)
                    if made.texts[0]:
                        yield made

    def sample(self, limit: int) -> Iterator[Record]:
        return first_bytes(self.records(), limit)


class HuggingFace:
    """One split (default 'train') of a dataset on the Hugging Face hub or in a local dataset folder, streamed."""

    def __init__(self, name: str, wanted: Wanted):
        rest, _, split = name.partition(":")
        self.name, _, self.config = rest.partition("@")
        self.split = split or "train"
        self.wanted = wanted
        datasets = extras.require("datasets", "hf", f'the corpus "hf:{name}"')
        try:
            self.builder = datasets.load_dataset_builder(self.name, self.config or None)
            self.data = self.builder.as_streaming_dataset(split=self.split)
        except Exception as error:
            raise UserError(
                f'corpus "hf:{name}": the datasets library cannot open it: {error}\n'
                'Write "hf:NAME", "hf:NAME@CONFIG" or "hf:NAME@CONFIG:SPLIT".'
            ) from error

    def identity(self) -> Any:
        # The files with what tells their version: time of change (local) or commit (hub).
        files = self.builder.config.data_files or {}
        versions = {
            str(split): [
                list(map(str, names)),
                [list(map(str, one)) for one in getattr(names, "origin_metadata", [])],
            ]
            for split, names in files.items()
        }
        return {
            "hf": [self.name, self.config, self.split],
            **self.wanted.describe(),
            "builder": [str(self.builder.hash), str(self.builder.info.version)],
            "files": versions,
        }

    def text_bytes(self) -> int:
        splits = self.data.info.splits or {}
        return int(splits[self.split].num_bytes or 0) if self.split in splits else 0

    def names(self) -> list[str]:
        return [f"hf:{self.name}:{self.split}"]

    def records(self) -> Iterator[Record]:
        with reading(f'corpus "hf:{self.name}"', fix="Check the network, or download it and read its files."):
            for number, record in enumerate(self.data):
                made = readers.of(record, self.wanted, f"hf:{self.name} record {number}", number)
                if made.texts[0]:
                    yield made

    def sample(self, limit: int) -> Iterator[Record]:
        return first_bytes(self.records(), limit)
