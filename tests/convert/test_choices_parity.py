"""One number a choice: transformers' ...ForMultipleChoice gives its logits here, and ours give ours there."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import torch
import transformers

from jaxlm.batch import Batch
from jaxlm.exchange import exporting, importing, stored
from jaxlm.models.build import build
from jaxlm.models.heads import of_choices
from jaxlm.models.paths import nest
from jaxlm.objectives import multiple_choice
from jaxlm.objectives.multiple_choice import MultipleChoice
from jaxlm.objectives.targets import ItemTargets
from tests.convert import training
from tests.convert.test_class_heads_parity import FAMILIES, contents
from tools.parity import checks

ENCODERS = [name for name in FAMILIES if name not in ("GPT2", "Llama", "T5", "Bart")]
ITEMS, CHOICES, LENGTH = 2, 3, 9
TOKENS = np.random.default_rng(6).integers(5, 90, (ITEMS * CHOICES, LENGTH))
RIGHT = (2, 0)


def reference(name):
    kind = getattr(transformers, f"{name}ForMultipleChoice")
    torch.manual_seed(3)
    hf = kind(kind.config_class(**contents(name) | {"attn_implementation": "eager"})).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return hf


def packed():
    """All choices of all items in one row."""
    row = lambda values: np.asarray(values, np.int32).reshape(1, -1)
    targets = ItemTargets(
        first_BC=row(np.arange(ITEMS * CHOICES) * LENGTH),
        labels_BC=row(RIGHT),
        weights_BC=np.ones((1, ITEMS), np.float32),
        start_B=np.zeros(1, np.int32),
    )
    places = np.tile(np.arange(LENGTH), ITEMS * CHOICES)
    segments = np.repeat(np.arange(ITEMS * CHOICES) + 1, LENGTH)
    return Batch(
        tokens_BT=row(TOKENS),
        segments_BT=row(segments),
        positions_BT=row(places),
        types_BT=row(0 * places),
        targets=targets,
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_logits_loss_gradients_and_three_steps_of_packed_choices_are_those_of_transformers(name, tmp_path):
    hf = reference(name)
    hf.save_pretrained(tmp_path / "hf")
    ids = torch.from_numpy(TOKENS.reshape(ITEMS, CHOICES, LENGTH))
    said = lambda: hf(input_ids=ids, labels=torch.tensor(RIGHT))
    out = said()
    found = stored.of_hf(tmp_path / "hf")
    assert not found.missing and not found.unexpected and found.heads == of_choices(found.config)
    model, batch = build(found.config, found.heads), packed()
    objective = MultipleChoice(
        column="label", labels=("a", "b", "c"), choices=3, max_tokens=9, items_per_row=2
    )

    def ours(params):
        judged = multiple_choice.judge(model.bind(params), batch, None, CHOICES)
        total, weight = objective.score(judged, batch).terms["choice"]
        return total / weight, judged["choice"]()

    params = nest(dict(found.hosts()))
    # The head's bias shifts all choices of an item alike. RoBERTa has an entry whose gradient nearly cancels, and Adam
    # divides by its size: that one moves by more of its rounding.
    moved = checks.GRADIENTS * (3 if name == "Roberta" else 1)
    bias = ("classifier.bias",)
    logits = training.compare(hf, found.config, params, ours, lambda: said().loss, bias, moved)
    assert checks.difference(logits[0], out.logits.detach().numpy()) < checks.LOGITS
    importing.from_hf(str(tmp_path / "hf"), tmp_path / "model", say=lambda line: None)
    exporting.to_hf(tmp_path / "model", tmp_path / "out", say=lambda line: None)
    kind = type(hf)
    again, report = kind.from_pretrained(
        tmp_path / "out", output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.no_grad():
        np.testing.assert_allclose(again.eval()(input_ids=ids).logits, out.logits.detach(), atol=1e-6)
