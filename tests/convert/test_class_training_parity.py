"""Texts packed into one row, with classes, tags or the ends of answers: loss, gradients and three AdamW steps of
transformers' one text a row."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import torch

from jaxlm.batch import Batch
from jaxlm.exchange import stored
from jaxlm.models.build import build
from jaxlm.models.paths import nest
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.question_answering import AnswerTargets, QuestionAnswering
from jaxlm.objectives.tagging import Tagging, TagTargets
from jaxlm.objectives.targets import ItemTargets
from tests.convert import training
from tests.convert.test_class_heads_parity import EOS, LABELS, PAD, every, reference

LENGTHS = (11, 6, 9)
NAMES = tuple(sorted(LABELS.values()))
CUT = {"max_tokens": 20, "items_per_row": 3}
OBJECTIVES = {
    "classes": Classification(column="label", labels=NAMES, texts=1, pooling="own", **CUT),
    "tags": Tagging(column="tags", labels=NAMES, scheme="words", **CUT),
    "span": QuestionAnswering(column="answers", no_answer=True, overlap=1, question_tokens=2, **CUT),
}
# Biases that shift all tokens of a window alike, which the choice of an end does not see.
ALIKE = (
    "classifier.bias",
    "qa_outputs.bias",
    "layer.2.output.LayerNorm.bias",
    "layer.2.output_layer_norm.bias",
    "decoder.layers.1.final_layer_norm.bias",
)
RIGHT = (2, 0, 1)  # classes of the texts
ENDS = np.array([[2, 5], [0, 0], [8, 8]])  # of answers within their texts; the second has none


def texts():
    rng = np.random.default_rng(4)
    return [np.append(rng.integers(5, 90, n - 1), EOS) for n in LENGTHS]


def tags():
    """Of every token; -100, as torch has it, where none is asked."""
    rng = np.random.default_rng(5)
    return [np.where(rng.random(n) < 0.3, -100, rng.integers(0, 3, n)) for n in LENGTHS]


def packed(name, head):
    """All texts in one row, and padding behind."""
    made = {key: np.zeros((1, 30), np.int32) for key in ("tokens", "segments", "positions", "types")}
    first, at, asked = np.zeros((1, 3), np.int32), 0, np.full((1, 30), -100)
    for c, (text, own) in enumerate(zip(texts(), tags(), strict=True)):
        span = slice(at, at + len(text))
        made["tokens"][0, span], made["segments"][0, span], asked[0, span] = text, c + 1, own
        made["positions"][0, span], first[0, c] = np.arange(len(text)), at
        at = span.stop
    ones, start = np.ones((1, 3), np.float32), PAD if name == "T5" else EOS
    right = np.array([RIGHT], np.int32)
    targets = {
        "classes": lambda: ItemTargets(
            first_BC=first, labels_BC=right, weights_BC=ones, start_B=np.array([start], np.int32)
        ),
        "tags": lambda: TagTargets(
            tags_BT=np.maximum(asked, 0).astype(np.int32), weights_BT=(asked >= 0).astype(np.float32)
        ),
        "span": lambda: AnswerTargets(
            places_BC2=first[..., None] + ENDS[None], weights_BC=ones, start_B=np.array([start], np.int32)
        ),
    }
    return Batch(**{f"{key}_BT": array for key, array in made.items()}, targets=targets[head]())


def theirs(hf, head):
    """Of the texts; those with answers one by one, as padding takes part in the choice of an end there."""
    if head == "span":
        each = zip(texts(), torch.from_numpy(ENDS), strict=True)
        one = lambda text, ends: hf(
            torch.from_numpy(text)[None], start_positions=ends[:1], end_positions=ends[1:]
        )
        return sum(one(text, ends).loss for text, ends in each) / len(ENDS)
    ids, mask = torch.full((3, max(LENGTHS)), PAD), torch.zeros((3, max(LENGTHS)), dtype=torch.long)
    each = torch.full((3, max(LENGTHS)), -100)
    for row, (text, own) in enumerate(zip(texts(), tags(), strict=True)):
        ids[row, : len(text)], mask[row, : len(text)] = torch.from_numpy(text), 1
        each[row, : len(text)] = torch.from_numpy(own)
    labels = torch.tensor(RIGHT) if head == "classes" else each
    return hf(input_ids=ids, attention_mask=mask, labels=labels).loss


@every
def test_loss_gradients_and_three_steps_of_a_packed_row_are_those_of_one_text_a_row(name, head, tmp_path):
    hf = reference(name, head)
    hf.save_pretrained(tmp_path)
    found = stored.of_hf(tmp_path)
    none = {f.name: 0.0 for f in dataclasses.fields(found.config) if "dropout" in f.name}
    config = dataclasses.replace(found.config, **none)
    model, batch = build(config, found.heads), packed(name, head)

    def ours(params):
        ((total, weight),) = OBJECTIVES[head].loss(model.bind(params), batch, None).terms.values()
        return total / weight, ()

    params = nest(dict(found.hosts()))
    training.compare(hf, config, params, ours, lambda: theirs(hf, head), ALIKE if head == "span" else ())
