"""Claims about attention by offsets of segments: what cuDNN is told gives the reference, computed as it documents.

The arguments are followed to the ones of the custom call (flat offsets, flat lengths) and given to a numpy attention
that reads and writes there and nowhere else. On a GPU the kernel itself is compared, forward and backward.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models import kernels, masks, packed
from jaxlm.models.attention import xla_attention

ROWS = {
    "packed, with padding": [3, 1, 4, 2, -2],
    "packed, full": [5, 7],
    "one item": [12],
    "one item and padding": [4, -8],
    "padding alone": [-12],
}


def segments(*rows):
    """Rows of segments 1, 2, ... of these lengths; a negative length is padding."""
    numbers = [np.where(np.array(row) > 0, np.arange(1, len(row) + 1), 0) for row in rows]
    return jnp.asarray(
        np.stack([np.repeat(n, np.abs(row)) for n, row in zip(numbers, rows, strict=True)]), jnp.int32
    )


def by_offsets(q_BTNH, k_BTKH, v_BTKH, segments_BT, most, causal):
    """What the call is documented to do, in float64; what it does not write is NaN."""
    fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    width = q_BTNH.shape[2:]
    share = q_BTNH.shape[2] // k_BTKH.shape[2]
    k_BTNH, v_BTNH = (np.repeat(x, share, axis=2) for x in (k_BTKH, v_BTKH))
    lengths_BC, starts_BC = packed.runs(segments_BT, most)
    lengths, _, starts, _ = fused._fix_seqlen_offsets(
        lengths_BC, lengths_BC, starts_BC, starts_BC, q_BTNH, jnp.asarray(k_BTNH)
    )
    q, k, v = (np.asarray(x, np.float64).ravel() for x in (q_BTNH, k_BTNH, v_BTNH))
    out = np.full(q.shape, np.nan)
    for length, start in zip(np.ravel(lengths), np.ravel(starts), strict=False):
        place = slice(start, start + length * np.prod(width))
        q_TNH, k_SNH, v_SNH = (x[place].reshape(length, *width) for x in (q, k, v))
        scores_NTS = np.einsum("TNH,SNH->NTS", q_TNH, k_SNH)
        if causal:
            scores_NTS = np.where(np.tri(length, dtype=bool), scores_NTS, -np.inf)
        weights_NTS = np.exp(scores_NTS - scores_NTS.max(-1, keepdims=True, initial=-1e9))
        weights_NTS /= weights_NTS.sum(-1, keepdims=True)
        out[place] = np.einsum("NTS,SNH->TNH", weights_NTS, v_SNH).ravel()
    return out.reshape(q_BTNH.shape)


def inputs(batch, length, heads, kv_heads, width):
    rng = np.random.default_rng(0)
    draw = lambda n: jnp.asarray(rng.normal(size=(batch, length, n, width)), jnp.float32)
    return draw(heads), draw(kv_heads), draw(kv_heads)


@pytest.mark.parametrize("most", [5, 9])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [2, 6])
def test_what_the_call_is_told_gives_the_reference_at_every_token(most, causal, kv_heads):
    rows = segments(*ROWS.values())
    q, k, v = inputs(len(rows), 12, 6, kv_heads, 4)
    mask = masks.within_segments(rows, causal=causal)
    expected = jax.jit(xla_attention)(q, k, v, mask)
    np.testing.assert_allclose(by_offsets(q, k, v, rows, most, causal), expected, atol=1e-5)


def test_runs_are_found_in_every_row():
    lengths_BC, starts_BC = packed.runs(segments(*ROWS.values()), 6)
    for lengths, starts, row in zip(lengths_BC, starts_BC, ROWS.values(), strict=True):
        runs = np.abs(row)
        assert lengths.tolist() == [*runs, *[-1] * (6 - len(runs))]
        assert starts.tolist() == [*np.cumsum(runs) - runs, *[-1] * (7 - len(runs))]


CASE = kernels.Case(
    platform="gpu",
    dtype="bfloat16",
    head_dim=64,
    query_length=512,
    key_length=512,
    dropout=False,
    positions=False,
    window=False,
    most_segments=8,
    numbers=2**20,
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bias": True}, "relative positions"),
        ({"prefix": True}, "prefix LM"),
        ({"window": True}, "window"),
        ({"most_segments": None}, "not known"),
        ({"most_segments": 65}, "65 segments"),
        ({"numbers": 2**31}, "32 bits"),
        ({}, "compute capability 9.0"),
    ],
    ids=str,
)
def test_what_offsets_cannot_say_travels_as_a_bias_and_says_why(change, reason):
    if not change and not packed.missing():
        pytest.skip("this GPU takes offsets")
    for requested in ("auto", "cudnn"):
        choice = kernels.choose(dataclasses.replace(CASE, **change), requested)
        assert choice.name == "cudnn" and reason in choice.reason


def test_only_self_attention_that_knows_its_segments_may_be_told_by_offsets():
    rows, (q, k, _) = segments([3, 1]), inputs(1, 4, 2, 2, 8)
    known = lambda mask: kernels.case(q, k, mask, dropout=False).most_segments
    assert known(masks.within_segments(rows, most_segments=2)) == 2
    assert known(masks.between_segments(rows, rows)) is None
