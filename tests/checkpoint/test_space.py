"""Sizes and room on the disk."""

import jax
import jax.numpy as jnp
import pytest

from jaxlm.checkpoint import space
from jaxlm.checkpoint.policy import Keep
from jaxlm.errors import UserError


def test_state_bytes_counts_every_array_by_its_dtype():
    tree = {
        "a": jax.ShapeDtypeStruct((3, 5), jnp.float32),
        "b": [jax.ShapeDtypeStruct((7,), jnp.bfloat16), None],
    }
    assert space.state_bytes(tree) == 3 * 5 * 4 + 7 * 2


def test_enough_room_passes_for_a_folder_that_does_not_exist_yet(tmp_path):
    space.check_space(tmp_path / "not" / "yet", 1000, Keep())


def test_too_little_room_names_folder_need_and_keys(tmp_path):
    with pytest.raises(UserError) as caught:
        space.check_space(tmp_path / "run", 2**60, Keep(latest=2, best=1))
    text = str(caught.value)
    assert str(tmp_path / "run") in text and "4 checkpoints" in text
    assert "checkpoint.keep.latest=2" in text and "workdir" in text


def test_checkpoints_already_there_need_no_more_room(tmp_path):
    free = space.free_bytes(tmp_path)
    space.check_space(tmp_path, free // 2, Keep(latest=2, best=0), present=2)
    with pytest.raises(UserError):
        space.check_space(tmp_path, free // 2, Keep(latest=2, best=0), present=0)
