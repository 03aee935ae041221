"""Claims about blocks of a cache: they stand for the array that numpy writes to, and attention to them is float64's."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models import masks
from jaxlm.models.attention import attention
from jaxlm.models.blocks import KEYS, VALUES, Blocks, LayerBlocks, ends

ROOM, HEADS, FEATURES = 700, 2, 4  # blocks of 256, 256 and 188 slots


def filled(rows, axis, seed=0, room=ROOM):
    """Blocks, and the array that they stand for."""
    a_BSKH = np.random.default_rng(seed).normal(size=(rows, room, HEADS, FEATURES)).astype(np.float32)
    empty = LayerBlocks.empty(a_BSKH.shape, jnp.float32, axis)
    return empty.written(0, 0, jnp.asarray(a_BSKH)), a_BSKH


def test_blocks_end_where_reading_may_end():
    assert [ends(room) for room in (0, 5, 256, 300, 512, 1056)] == [
        [0], [5], [256], [256, 300], [256, 512], [256, 512, 1024, 1056],
    ]  # fmt: skip
    held, a_BSKH = filled(2, KEYS)
    assert held.sizes == [256, 256, 188] and held.shape == a_BSKH.shape
    np.testing.assert_array_equal(held.first(512).whole(), a_BSKH[:, :512])
    np.testing.assert_array_equal(held.first(511).whole(), a_BSKH[:, :256])
    np.testing.assert_array_equal(held.of_row(1).whole(), a_BSKH[1:])


@pytest.mark.parametrize("axis", [KEYS, VALUES])
@pytest.mark.parametrize(
    ("used", "tokens"), [(0, 1), (255, 1), (256, 1), (250, 20), (200, 500), (0, 700), (511, 2), (699, 1)]
)
def test_what_is_written_lies_where_numpy_puts_it(axis, used, tokens):
    held, a_BSKH = filled(3, axis)
    new = np.random.default_rng(1).normal(size=(2, tokens, HEADS, FEATURES)).astype(np.float32)
    made = held.written(jnp.int32(1), jnp.int32(used), jnp.asarray(new))
    a_BSKH[1:, used : used + tokens] = new
    np.testing.assert_array_equal(made.whole(), a_BSKH)


@pytest.mark.parametrize("axis", [KEYS, VALUES])
def test_every_row_writes_its_own_slots_and_what_is_not_there_is_dropped(axis):
    held, a_BSKH = filled(4, axis)
    new = np.random.default_rng(2).normal(size=(4, 3, HEADS, FEATURES)).astype(np.float32)
    first_B = [0, 254, 698, ROOM]  # the last two run out of the room, one wholly
    made = held.written_each(jnp.asarray(first_B), jnp.asarray(new))
    for row, first in enumerate(first_B):
        for t in range(3):
            if first + t < ROOM:
                a_BSKH[row, first + t] = new[row, t]
    np.testing.assert_array_equal(made.whole(), a_BSKH)


@pytest.mark.parametrize("axis", [KEYS, VALUES])
@pytest.mark.parametrize("slots", [7, 256, 600])
def test_a_row_takes_the_first_slots_of_another(axis, slots):
    held, a_BSKH = filled(3, axis)
    a_BSKH[2, :slots] = a_BSKH[0, :slots]
    np.testing.assert_array_equal(held.with_row(2, held, 0, slots).whole(), a_BSKH)
    short, b_BSKH = filled(1, axis, seed=5, room=slots)  # of a cache with less room
    a_BSKH[1, :slots] = b_BSKH[0]
    whole = Blocks([held.with_row(2, held, 0, slots)]).with_row(1, Blocks([short]), 0, slots)
    np.testing.assert_array_equal(whole.stacked()[0], a_BSKH)


@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_attention_is_that_of_float64(tokens, bias):
    """With two queries to a key head, a row that has written little, one of nothing but padding."""
    rng, heads = np.random.default_rng(3), 2 * HEADS
    k, a_BSKH = filled(3, KEYS)
    v, b_BSKH = filled(3, VALUES, seed=4)
    q_BTNH = rng.normal(size=(3, tokens, heads, FEATURES)).astype(np.float32)
    bias_NTS = rng.normal(size=(heads, tokens, ROOM)).astype(np.float32) if bias else None
    segments_BS = (np.arange(ROOM) < np.array([[700], [90], [0]])).astype(np.int32)
    mask = masks.Mask(segments_BT=jnp.ones((3, tokens), jnp.int32), segments_BS=jnp.asarray(segments_BS))
    found = attention(jnp.asarray(q_BTNH), k, v, mask, bias_NTS=None if bias_NTS is None else bias_NTS)

    keys, values = (np.repeat(x.astype(np.float64), 2, axis=2) for x in (a_BSKH, b_BSKH))
    scores = np.einsum("btnh,bsnh->bnts", q_BTNH.astype(np.float64), keys) / np.sqrt(FEATURES)
    scores = scores + (0 if bias_NTS is None else bias_NTS)
    scores = np.where(segments_BS[:, None, None] == 1, scores, -1e30)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected = np.einsum("bnts,bsnh->btnh", p / p.sum(axis=-1, keepdims=True), values)
    np.testing.assert_allclose(found, expected, atol=2e-6)
