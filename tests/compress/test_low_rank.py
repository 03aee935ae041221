"""Factors against float64 numpy: the least error of their rank, ranks within a budget, and a folder of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.commands import compress as command
from jaxlm.commands import export
from jaxlm.compress.low_rank import LowRank
from jaxlm.compress.rounding import size_of
from jaxlm.compress.spectrum import Spectrum, ranks
from jaxlm.errors import UserError
from jaxlm.infer import likelihood, loaded
from jaxlm.models.factors import Factors
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import plain
from jaxlm.partition.mesh import Mesh
from jaxlm.views.beside import MATRICES
from jaxlm.views.view import Facts
from tests.compress import models

ONE = Facts(("layers", "heads", "head_dim", "embed"), 2)
HALF = LowRank(weights=MATRICES, share=0.5, activations=True, damping=1e-6)
ROWS = [[5, 9, 30, 7, 8, 40, 11], [6, 20, 7]]


@pytest.fixture(scope="module")
def seen():
    """(weight [L, N, H, D], what comes in of every layer [L, R, I])."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((24, 24)) * np.exp(rng.standard_normal(24))[None]
    x_LRI = np.stack([rng.standard_normal((300, 24)) @ mix for _ in range(2)])
    return rng.standard_normal((2, 3, 8, 20)).astype(np.float32), x_LRI


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return models.decoder(tmp_path_factory.mktemp("low_rank") / "decoder")


@pytest.fixture(scope="module")
def smaller(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("low_rank")
    (root / "text.txt").write_text("\n".join(models.TEXTS * 6))
    words = [f"--run={folder}", f"--output={root / 'small'}", "--config=compress_low_rank"]
    words += [f"--text={root / 'text.txt'}", "--config.calibration.rows=4", "--config.calibration.length=16"]
    assert command.main(["", *words, "--config.steps[0].share=0.7"]) == 0
    return root / "small"


def product(found, layer, rank):
    a_LIK, _, b_LKO = (np.asarray(part, np.float64) for part in found)
    return a_LIK[layer, :, :rank] @ b_LKO[layer, :rank]


@pytest.mark.parametrize("rank", [1, 4, 11])
def test_no_matrix_of_the_rank_has_less_error(seen, rank):
    """The least ||X (W - W')|| of any rank is what the singular values of X W behind it have (Eckart and Young)."""
    weight, x_LRI = seen
    square = jnp.asarray(np.einsum("lri,lrj->lij", x_LRI, x_LRI), jnp.float32)
    found = HALF.thin(ONE, jnp.asarray(weight), square)
    by_itself = HALF.thin(ONE, jnp.asarray(weight), None)
    for layer in range(2):
        w_IO = weight[layer].reshape(24, 20).astype(np.float64)
        u, s, v = np.linalg.svd(x_LRI[layer] @ w_IO, full_matrices=False)
        best = np.linalg.pinv(x_LRI[layer]) @ (u[:, :rank] * s[:rank]) @ v[:rank]
        error = np.linalg.norm(x_LRI[layer] @ (product(found, layer, rank) - w_IO))
        assert error == pytest.approx(np.sqrt(np.square(s[rank:]).sum()), rel=1e-3)
        np.testing.assert_allclose(product(found, layer, rank), best, atol=2e-2)
        np.testing.assert_allclose(found[1][layer], np.square(s) / np.square(s).sum(), rtol=1e-2, atol=1e-5)
        u, s, v = np.linalg.svd(w_IO, full_matrices=False)
        np.testing.assert_allclose(
            product(by_itself, layer, rank), (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-4
        )
        assert error < np.linalg.norm(x_LRI[layer] @ (product(by_itself, layer, rank) - w_IO))


def test_inputs_that_never_come_leave_finite_factors(seen):
    weight, x_LRI = seen
    x_LRI = x_LRI * (np.arange(24) != 7)
    square = jnp.asarray(np.einsum("lri,lrj->lij", x_LRI, x_LRI), jnp.float32)
    for one in (square, 0 * square):
        assert all(np.isfinite(np.asarray(part)).all() for part in HALF.thin(ONE, jnp.asarray(weight), one))


def test_ranks_fill_the_budget_by_what_carries_most():
    flat, steep = np.full(20, 1 / 20), 0.5 ** np.arange(1, 21)
    spectra = {
        "flat": Spectrum(24, 20, flat, 1),
        "steep": Spectrum(24, 20, steep, 1),
        "narrow": Spectrum(24, 1, np.ones(1), 2),
    }
    found = ranks(spectra, 480)
    spent = sum(one.weights(found[path]) for path, one in spectra.items())
    assert spent <= 480 and found["steep"] == 4 and found["flat"] == 5
    # A vector has no factors that are smaller: it stays as it is.
    assert spectra["narrow"].limit == 0 and found["narrow"] > 0
    everything = ranks(spectra, 10**6)
    assert all(everything[path] > one.limit for path, one in spectra.items())
    assert sum(one.lost(everything[path]) for path, one in spectra.items()) == 0


def test_a_folder_holds_factors_and_every_reader_takes_it(folder, smaller, tmp_path):
    before, after = models.opened(folder), models.opened(smaller)
    values = {path: leaf for path, leaf in flatten(after.params).items() if isinstance(leaf, Factors)}
    assert "blocks/attention/wo" in values
    weights = flatten(before.params)
    named = [path for path in weights if "/w" in path]
    size = lambda model: sum(size_of(flatten(model.params)[path]) for path in named)
    assert 0.55 < size(after) / size(before) <= 0.7
    whole = dataclasses.replace(after, params=plain(after.params))
    shared = loaded.load(smaller, mesh=Mesh(data=1, fsdp=2, tensor=2))
    exact, found, again = (
        np.concatenate([one.log_p for one in likelihood.followed(model, ROWS)])
        for model in (whole, after, shared)
    )
    np.testing.assert_allclose(found, exact, atol=1e-3)
    np.testing.assert_allclose(again, exact, atol=1e-3)
    assert export.main(["", str(smaller), str(tmp_path / "hf")]) == 0
    there = flatten(loaded.load(f"hf:{tmp_path / 'hf'}", mesh=models.ONE).params)
    for path, array in flatten(plain(nest(values))).items():
        np.testing.assert_allclose(there[path], array, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"share": 1.0}, "share=1.0: must be above 0"), ({"damping": 0.0}, "damping=0.0: must be above 0")],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(HALF, **change).validate("config.steps[0]")


def test_what_cannot_be_is_named(folder, smaller):
    with pytest.raises(UserError, match="rank 1 alone takes"):
        dataclasses.replace(HALF, share=0.01).check(models.opened(folder))
    with pytest.raises(UserError, match="compressed already"):
        HALF.check(models.opened(smaller))
    with pytest.raises(UserError, match="names no matrix. There are: "):
        dataclasses.replace(HALF, weights="nothing").check(models.opened(folder))
