"""Save and restore: exact bits, any mesh, the policy on disk, errors that a user can read."""

import functools
import logging
import resource
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm.checkpoint import storage
from jaxlm.checkpoint.opened import find_run, open_run
from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.errors import UserError

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
SPECS = {"w": PartitionSpec("fsdp", "tensor"), "embed": PartitionSpec(None, "fsdp"), "scale": PartitionSpec()}


def make_state(seed: int = 0) -> dict:
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "w": jax.random.normal(keys[0], (16, 24)),
        "embed": jax.random.normal(keys[1], (7, 8)).astype(jnp.bfloat16),
        "scale": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-42, 3.0]),
    }
    state = OPTIMIZER.init(params)
    return {"step": jnp.int32(seed), "params": params, "opt_state": state, "ema": None}


def like_on(shape: tuple[int, int], state: dict) -> dict:
    devices = np.array(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
    mesh = jax.sharding.Mesh(devices, ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)

    def leaf(path, x):
        spec = SPECS.get(str(getattr(path[-1], "key", "")), PartitionSpec())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(leaf, state)


def put(state: dict, like: dict) -> dict:
    return jax.tree.map(lambda x, a: jax.device_put(x, a.sharding), state, like)


def assert_same_bits(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path, lines):
    opened = Checkpoints(tmp_path / "run" / "checkpoints", Keep(latest=2, best=1), say=lines.append)
    yield opened
    opened.close()


def test_round_trip_onto_other_meshes_is_bitwise(checkpoints):
    state = make_state(3)
    meta = {"rows": 12345678901, "sums": {"loss": [0.1 + 0.2, 3.0]}, "name": "ü"}
    checkpoints.save(3, put(state, like_on((8, 1), state)), meta, {"eval/loss": 2.5})
    checkpoints.wait()
    for shape in ((8, 1), (2, 4), (1, 1)):
        like = like_on(shape, state)
        restored, got = checkpoints.restore(3, like)
        assert_same_bits(restored, state)
        assert got == meta
        assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, like)


def test_like_without_shardings_restores_on_one_device(checkpoints):
    state = make_state(1)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    assert_same_bits(checkpoints.restore(1, jax.eval_shape(lambda: state))[0], state)


def test_devices_that_hold_the_same_cut_only_large_arrays_among_them(tmp_path, caplog):
    """A program for every shape would be compiled: `log_compiles` tells."""
    everywhere = NamedSharding(jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)), PartitionSpec())
    for rows, programs in ((160, 0), (8 << 18, 1)):
        array = jax.device_put(np.arange(rows, dtype=np.float32), everywhere)
        caplog.clear()
        with jax.log_compiles():
            storage.start(tmp_path / str(rows), {"a": array}).result()
        assert min(1, caplog.text.count("Finished XLA compilation")) == programs
        found = storage.load(tmp_path / str(rows), {"a": jax.ShapeDtypeStruct(array.shape, array.dtype)})
        np.testing.assert_array_equal(found["a"], np.arange(rows, dtype=np.float32))


@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_that_donates_the_state_does_not_disturb_its_save(checkpoints, devices):
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    state = {"params": {f"w{i}": jnp.full((512, 515), float(i)) for i in range(6)}}
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    before = jax.tree.map(np.array, state)
    step = jax.jit(lambda s: jax.tree.map(lambda x: x * -7.0 + 1.0, s), donate_argnums=0)
    checkpoints.save(1, state, {})
    for _ in range(3):
        state = step(state)
    jax.block_until_ready(state)
    checkpoints.wait()
    assert_same_bits(checkpoints.restore(1, jax.eval_shape(lambda: before))[0], before)


def test_no_save_is_skipped_and_the_policy_decides_what_stays(checkpoints):
    for step, loss in ((1, 5.0), (2, 1.0), (3, 4.0), (4, None), (5, 3.0)):
        checkpoints.save(step, make_state(step), {"step": step}, {"eval/loss": loss} if loss else None)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.latest() == 5
    assert [checkpoints.meta(s)["step"] for s in checkpoints.steps()] == [2, 4, 5]
    assert checkpoints.metrics(2) == {"eval/loss": 1.0}


def test_saving_a_step_again_says_so_and_keeps_the_first(checkpoints, lines):
    checkpoints.save(4, make_state(4), {"first": True})
    checkpoints.save(4, make_state(5), {"first": False})
    checkpoints.wait()
    assert checkpoints.meta(4) == {"first": True}
    assert lines == ["checkpoint: step 4 is already saved"]


def test_steps_that_diverged_are_set_aside_and_older_ones_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, Keep(latest=9, best=0))
    for step in (1, 2, 30):
        checkpoints.save(step, {"x": jnp.ones(3)}, {})
    assert checkpoints.set_aside_from(2) == [2, 30]
    assert checkpoints.steps() == [1] and checkpoints.newest_intact() == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2.diverged", "30.diverged"]


def test_discard_after_removes_only_newer_steps(tmp_path):
    checkpoints = Checkpoints(tmp_path, Keep(latest=9, best=0))
    for step in (1, 2, 30):
        checkpoints.save(step, {"x": jnp.ones(3)}, {})
    checkpoints.discard_after(2)
    assert checkpoints.steps() == [1, 2]


def test_params_only_in_another_dtype_and_only_some_of_them(checkpoints):
    state = make_state(2)
    checkpoints.save(2, state, {})
    checkpoints.wait()
    like = {"w": jax.ShapeDtypeStruct((16, 24), jnp.bfloat16)}
    params = checkpoints.restore_params(2, like)
    assert params.keys() == {"w"}
    np.testing.assert_array_equal(params["w"], state["params"]["w"].astype(jnp.bfloat16))


def test_another_part_of_the_state_can_be_read(checkpoints):
    state = {**make_state(2), "ema": {"w": jnp.arange(5.0)}}
    checkpoints.save(2, state, {})
    checkpoints.wait()
    ema = checkpoints.restore_params(2, {"w": jax.ShapeDtypeStruct((5,), jnp.float32)}, part="ema")
    assert_same_bits(ema, state["ema"])


def test_another_model_is_refused_by_name_without_a_page_of_noise(checkpoints, capfd):
    state = make_state(2)
    checkpoints.save(2, state, {})
    checkpoints.wait()
    other = {**state, "params": {**state["params"], "w": jnp.ones((16, 25)), "new": jnp.ones(3)}}
    with pytest.raises(UserError) as caught:
        checkpoints.restore(2, jax.eval_shape(lambda: other))
    text = str(caught.value)
    assert "params/w: float32[16, 24] in the checkpoint, float32[16, 25] in this run" in text
    assert "params/new: not in the checkpoint" in text
    assert len(text.splitlines()) <= 8
    assert capfd.readouterr() == ("", "")


def test_a_missing_step_names_those_there_are(checkpoints):
    checkpoints.save(2, {"x": jnp.ones(2)}, {})
    checkpoints.wait()
    with pytest.raises(UserError, match=r"no checkpoint of step 7 .*there are: 2"):
        checkpoints.meta(7)


def test_saving_is_silent(checkpoints, capfd):
    logging.getLogger().setLevel(logging.INFO)
    try:
        checkpoints.save(1, make_state(1), {})
        checkpoints.wait()
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def no_room():
    """Files cannot grow beyond 1000 bytes: writes fail in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(on: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if on else soft, hard))

    yield limit
    limit(False)


def test_a_full_disk_warns_in_one_line_and_the_next_save_works(checkpoints, lines, no_room):
    big = {"x": jax.random.normal(jax.random.key(0), (100, 77))}
    checkpoints.save(1, big, {})
    checkpoints.wait()
    no_room(True)
    checkpoints.save(2, big, {})
    assert checkpoints.wait()
    no_room(False)
    assert len(lines) == 1 and "\n" not in lines[0]
    assert "step 2 could NOT be saved" in lines[0] and "newest good one is step 1" in lines[0]
    assert [p.name for p in checkpoints.directory.iterdir()] == ["1"]
    checkpoints.save(2, big, {})
    assert checkpoints.wait() == ""
    assert checkpoints.steps() == [1, 2]
    assert_same_bits(checkpoints.restore(2, jax.eval_shape(lambda: big))[0], big)


def test_a_final_save_that_fails_is_a_user_error(checkpoints, lines, no_room):
    big = {"x": jax.random.normal(jax.random.key(0), (100, 77))}
    checkpoints.save(1, big, {}, final=True)
    no_room(True)
    try:
        with pytest.raises(UserError, match=r"could not be saved.*resumes from step 1"):
            checkpoints.save(2, big, {}, final=True)
        checkpoints.discard_after(0)
        with pytest.raises(UserError, match=r"could not be saved.*it starts anew\."):
            checkpoints.save(2, big, {}, final=True)
    finally:
        no_room(False)
    assert lines == [], "one message says it"


def test_a_save_that_cannot_start_is_reported_like_one_that_breaks(tmp_path, lines):
    checkpoints = Checkpoints(tmp_path / "c", Keep(), say=lines.append)
    (tmp_path / "c").rmdir()
    (tmp_path / "c").write_text("a file where the folder was")
    checkpoints.save(1, {"x": jnp.ones(3)}, {})
    assert checkpoints.wait()
    assert len(lines) == 1 and "could NOT be saved" in lines[0]


def test_phases_are_called_in_order_and_saving_does_not_wait(tmp_path):
    phases, go = [], threading.Event()

    def hook(phase: str, step: int) -> None:
        phases.append((phase, step))
        if phase == "save_written":
            assert go.wait(60)

    checkpoints = Checkpoints(tmp_path, Keep(), hook=hook)
    checkpoints.save(6, {"x": jnp.ones(3)}, {})  # returns although the save is held up
    assert checkpoints.steps() == []
    go.set()
    checkpoints.close()
    order = ["save_started", "save_written", "save_committed", "save_pruned"]
    assert phases == [(phase, 6) for phase in order]


def test_a_run_opens_by_any_of_its_folders_and_reading_changes_nothing(tmp_path, checkpoints):
    state = make_state(8)
    checkpoints.save(8, state, {"x": 1})
    checkpoints.close()
    leftover = tmp_path / "run" / "checkpoints" / "9.orbax-checkpoint-tmp"
    leftover.mkdir()
    for path in (tmp_path / "run", tmp_path / "run" / "checkpoints", tmp_path / "run" / "checkpoints" / "8"):
        for open_it in (open_run, functools.partial(find_run, say=print)):
            opened, step = open_it(path)
            assert step == 8 and opened.meta(8) == {"x": 1}
    assert leftover.exists()


def test_a_folder_without_checkpoints_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        open_run(tmp_path)
    assert list(tmp_path.iterdir()) == []
