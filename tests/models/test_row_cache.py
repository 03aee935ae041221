"""Claims about caches of rows: each row writes its own slots, in place, and int8 costs little."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.infer import slot_programs
from jaxlm.infer.row_sampling import Asked
from jaxlm.infer.sampling import Sampling
from jaxlm.models import cache_values
from jaxlm.models.apart import apart
from jaxlm.partition import mesh
from tests.infer.copies import copied
from tests.infer.small_models import LLAMA, made


def rows_of(room=700, rows=3, int8=False):
    model, params = made(LLAMA)
    one = np.ones((1, 1), np.int32)
    start = Batch(tokens_BT=one, segments_BT=one, positions_BT=one * 0)
    return slot_programs.empty(model, params, start, rows=rows, room=room, source=0, int8=int8)


def now(used, tokens):
    ask = Asked.of(Sampling(), seed=0)
    asked = jax.tree.map(lambda a: np.repeat(a, len(used), axis=0), ask)
    used_R = np.array(used, np.int32)
    return slot_programs.Rows(
        used_R=used_R, front=np.int32(0), tokens_RT=np.array(tokens, np.int32), asked=asked
    )


def test_each_row_writes_its_own_slots_and_one_that_stands_still_none():
    model, params = made(LLAMA)
    cache = rows_of()
    before = np.asarray(cache.k_LBSKH.stacked())
    cache, _ = slot_programs.step(model, params, cache, now([3, -1, 600], [[7, 8], [7, 8], [7, 8]]))
    changed = (np.asarray(cache.k_LBSKH.stacked()) != before).any(axis=(0, 3, 4))
    assert [np.flatnonzero(row).tolist() for row in changed] == [[3, 4], [], [600, 601]]


@pytest.mark.parametrize("int8", [False, True])
def test_no_step_and_no_piece_copies_the_cache(int8):
    """Of the compiled programs: what is written is written in place."""
    model, _ = made(LLAMA)
    cache = jax.eval_shape(lambda: rows_of(int8=int8))
    piece = slot_programs.Piece(
        row=np.int32(1), used=np.int32(3), tokens_1T=np.ones((1, 16), np.int32), length=np.int32(9)
    )
    programs = [
        slot_programs.step.lower(model, model.shapes, cache, now([3, 5, 9], [[7]] * 3)),
        slot_programs.read.lower(model, model.shapes, cache, piece, np.int32(0), prefix=False, last=False),
    ]
    for program in programs:
        assert copied(program.compile().as_text(), cache.k_LBSKH) == []


def test_int8_holds_each_number_to_half_a_step():
    a_LBSKH = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 2, 16)), jnp.float32)
    a_LBSKH = a_LBSKH.at[0, 0, 0].set(0.0)
    back = cache_values.in_int8(a_LBSKH).full()
    step = np.abs(np.asarray(a_LBSKH)).max(axis=-1, keepdims=True) / 127
    assert (np.abs(np.asarray(back) - np.asarray(a_LBSKH)) <= step * 0.5001).all()
    assert float(jnp.abs(back).max()) == pytest.approx(float(jnp.abs(a_LBSKH).max()), rel=1e-6)


def test_a_batch_in_int8_predicts_nearly_the_same():
    """Through `decode`: logits of what follows a prompt and of 20 more, against float32."""
    model, params = made(LLAMA)
    tokens = np.random.default_rng(3).integers(0, 101, (2, 24)).astype(np.int32)
    ones, places = np.ones_like(tokens), np.arange(24, dtype=np.int32)[None].repeat(2, 0)
    batch = Batch(tokens_BT=tokens, segments_BT=ones, positions_BT=places)

    @jax.jit
    def logits(params):
        module = model.bind(params)
        found = []
        for held in (module.start_cache(batch, 30), module.start_cache(batch, 30).in_int8()):
            x_BTD, cache = module.extend(
                batch.tokens_BT[:, :4], batch.segments_BT[:, :4], places[:, :4], held
            )
            x_BTD, _ = module.extend(batch.tokens_BT[:, 4:], batch.segments_BT[:, 4:], places[:, 4:], cache)
            found.append(module.predict_tokens(x_BTD)[..., :101])
        return found

    exact, near = logits(params)
    error = float(jnp.sqrt(jnp.mean((near - exact) ** 2)) / exact.std())
    print(error)
    assert 0 < error < 0.03  # 0.016; the weights are ten times initial ones


def test_layers_that_stand_apart_are_not_copied_and_give_the_same_bits():
    """Of the compiled step: no weight of a layer is cut out of a stacked one."""
    model, params = made(LLAMA)
    with jax.set_mesh(mesh.make(mesh.Mesh(data=1), jax.devices()[:1])):
        own = apart(params, model.axes, lambda layers: True)
        program = slot_programs.step.lower(model, own, rows_of(), now([3, 5, 9], [[7]] * 3)).compile()
        stacked = slot_programs.step.lower(model, params, rows_of(), now([3, 5, 9], [[7]] * 3)).compile()
    cut = lambda compiled: sum(
        "= f32[1,36,56]" in line and " slice(" in line for line in compiled.as_text().splitlines()
    )
    assert cut(program) == 0 < cut(stacked)
    found = [slot_programs.step(model, p, rows_of(), now([3, 5, 9], [[7]] * 3))[1] for p in (params, own)]
    np.testing.assert_array_equal(*found)
