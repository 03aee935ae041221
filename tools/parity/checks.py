"""The comparisons. In: a Case. Out: the largest difference of each check, relative to the largest entry it is among.

Every check is a function of a case; `LIMITS` has what each may reach. A check that must be exact returns 0 or 1.
"""

import functools
import json
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch
import transformers
from safetensors.numpy import load_file, save_file

from jaxlm.convert import families
from jaxlm.models.paths import flatten
from tools.parity.case import Case, jit, parameters, present
from tools.parity.kinds import packed

LOGITS, GRADIENTS = 1e-4, 1e-3
RATE, DECAY, EPSILON = (
    1e-3,
    0.01,
    1e-3,
)  # epsilon: entries without a gradient but rounding must not follow its sign


@functools.lru_cache(maxsize=2)
def program(case: Case) -> Callable[[Any], tuple[tuple[Any, dict], Any]]:
    """Parameters -> ((loss, outputs), gradients) on the case's batch: compiled once for all checks."""
    model, batch = case.model(), case.kind.batch(case.config.vocab_size)
    return jit(jax.value_and_grad(lambda p: case.kind.ours(model.bind(p), batch), has_aux=True))


def forward(case: Case) -> dict[str, float]:
    """Outputs, loss and every gradient against transformers."""
    hf, batch = case.reference(), case.kind.batch(case.config.vocab_size)
    (loss, outputs), grads = program(case)(case.params(hf))
    their_loss, their_outputs = case.kind.theirs(hf, batch)
    their_loss.backward()
    real = np.asarray(batch.segments_BT) > 0
    logits = {"logits": (outputs["logits"][real], their_outputs["logits"].detach().numpy()[real])}
    pairs = logits | {k: (v, their_outputs[k].detach().numpy()) for k, v in outputs.items() if k != "logits"}
    return {
        "logits": max(difference(ours[..., : theirs.shape[-1]], theirs) for ours, theirs in pairs.values()),
        "loss": difference(loss, their_loss.detach().numpy()),
        "gradients": _gradients(case, hf, grads),
    }


def _gradients(case: Case, hf: Any, grads: Any) -> float:
    ours = present(case, families.export_params(grads, case.config))
    theirs = present(case, parameters(hf))
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    worst = 0.0
    for name, parameter in theirs.items():
        grad = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        if re.search(case.rounding, name) or parameter.grad is None:
            assert np.abs(ours[name] - grad).max() < 1e-5, name
        else:
            worst = max(worst, difference(ours[name], grad))
    return worst


def five_steps(case: Case) -> dict[str, float]:
    """The weights after five steps of AdamW, relative to how far they moved."""
    hf = case.reference(seed=2)
    batch, params = case.kind.batch(case.config.vocab_size), case.params(hf)
    before = families.export_params(params, case.config)
    optimizer = optax.adamw(RATE, b1=0.9, b2=0.999, eps=EPSILON, weight_decay=DECAY)
    theirs = torch.optim.AdamW(hf.parameters(), lr=RATE, betas=(0.9, 0.999), eps=EPSILON, weight_decay=DECAY)

    @jit
    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jit(optimizer.init)(params)
    for _ in range(5):
        params, state = update(params, state, program(case)(params)[1])
        theirs.zero_grad()
        case.kind.theirs(hf, batch)[0].backward()
        theirs.step()
    after, worst = families.export_params(params, case.config), 0.0
    for name, parameter in present(case, parameters(hf)).items():
        moved = np.abs(parameter.detach().numpy() - before[name]).max()
        if parameter.grad is None:
            continue  # torch leaves it alone; weight decay of ours does not
        away = np.abs(after[name] - parameter.detach().numpy()).max()
        if re.search(case.rounding, name):
            assert away < 1e-6, name  # moved by weight decay alone
        else:
            worst = max(worst, away / moved)
    return {"five AdamW steps": worst}


def variants(case: Case) -> dict[str, float]:
    """A scan over the layers against unrolled ones, and all items packed into one row against separate rows."""
    batch, params = case.kind.batch(case.config.vocab_size), case.params(case.reference())
    # Padding is -1e9: no scale to measure by.
    known = lambda outputs: outputs["logits"][..., : case.config.vocab_size]

    def run(model: Any, batch: Any) -> tuple[Any, Any]:
        loss, outputs = jit(lambda p: case.kind.ours(model.bind(p), batch))(params)
        return loss, known(outputs)

    (loss, outputs), _ = program(case)(params)
    logits = known(outputs)
    one_loss, one = run(case.model(layer_loop="scan"), batch)  # on a CPU few layers stand one by one
    packed_loss, in_one_row = run(case.model(), packed(batch))
    real = np.asarray(batch.segments_BT) > 0
    return {
        "unrolled": max(difference(one, logits), difference(one_loss, loss)),
        "packed": max(difference(in_one_row[0], logits[real]), difference(packed_loss, loss)),
    }


def files(case: Case) -> dict[str, float]:
    """Export and from_pretrained; import of an export; the round trip of a file; config.json both ways."""
    batch = case.kind.batch(case.config.vocab_size)
    params = jax.tree.map(np.asarray, case.params(case.reference(seed=3)))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, case.model().shapes)
    contents = case.contents()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        save_file(
            families.export_params(params, case.config),
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
        (folder / "config.json").write_text(json.dumps(contents))
        kind = getattr(transformers, contents["architectures"][0])
        hf, report = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
        assert not report["missing_keys"] and not report["unexpected_keys"], report
        assert not report["mismatched_keys"], report
        loaded = load_file(folder / "model.safetensors")
        again = families.import_params(loaded, families.config_from_hf(contents, list(loaded)))
    ours, _ = program(case)(params)
    theirs = case.kind.theirs(hf.eval(), batch)
    return {
        "export, from_pretrained": difference(ours[0], theirs[0].detach().numpy()),
        "import(export)": float(not _identical(again, params)),
        "round trip of a file": float(not _round_trip(case)),
        "config.json": float(families.config_from_hf(hf.config.to_dict()) != case.config),
    }


def _identical(a: Any, b: Any) -> bool:
    a, b = flatten(a), flatten(b)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def _round_trip(case: Case) -> bool:
    """What transformers saved, imported and exported, is the same file."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        case.reference(seed=4).save_pretrained(folder)
        original = folder / "model.safetensors"
        exported = families.export_params(
            families.import_params(load_file(original), case.config), case.config
        )
        save_file(exported, folder / "again.safetensors", metadata={"format": "pt"})
        return (folder / "again.safetensors").read_bytes() == original.read_bytes()


def difference(ours: Any, theirs: Any) -> float:
    """Largest difference over the largest entry."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-8))


CHECKS: dict[str, Callable[[Case], dict[str, float]]] = {
    "forward": forward,
    "five_steps": five_steps,
    "variants": variants,
    "files": files,
}
LIMITS = {
    "logits": LOGITS,
    "loss": LOGITS,
    "gradients": GRADIENTS,
    "five AdamW steps": GRADIENTS,
    "unrolled": LOGITS,
    "packed": LOGITS,
    "export, from_pretrained": LOGITS,
    "import(export)": 0.0,
    "round trip of a file": 0.0,
    "config.json": 0.0,
}
