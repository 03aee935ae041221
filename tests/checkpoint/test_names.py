"""States as nested names, and the comparison of two of them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.checkpoint import names
from jaxlm.errors import UserError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    step: Any
    params: Any
    opt_state: Any
    ema: Any


def make_state() -> State:
    params = {"embed": jnp.ones((5, 3)), "layers": [{"w": jnp.zeros((3, 7))}, {"w": jnp.ones((3, 7))}]}
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3), optax.scale_by_schedule(lambda _: 1.0)
    )
    return State(jnp.int32(3), params, optimizer.init(params), None)


def test_nested_and_back_is_the_identity():
    state = make_state()
    back = names.from_nested(names.to_nested(state), state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert all(a is b for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True))


def test_nested_has_only_string_keys_and_no_empty_parts():
    def check(node):
        if isinstance(node, dict):
            assert node and all(isinstance(key, str) for key in node)
            for child in node.values():
                check(child)

    nested = names.to_nested(make_state())
    check(nested)
    assert set(nested) == {"step", "params", "opt_state"}


def test_description_of_shapes_equals_that_of_arrays():
    state = make_state()
    assert names.describe(jax.eval_shape(lambda: state)) == names.describe(state)
    assert names.describe(state)["params/layers/1/w"] == {"shape": [3, 7], "dtype": "float32"}


def test_a_key_that_would_make_names_ambiguous_is_an_error():
    with pytest.raises(ValueError, match="a/b"):
        names.to_nested({"a": {"b": np.ones(2)}, "a/b": np.ones(3)})


def compare(stored: Any, wanted: Any, **options: Any) -> None:
    names.check_same(
        names.describe(stored), names.describe(wanted), where="Checkpoint X", fix="FIX", **options
    )


def test_equal_trees_pass():
    compare({"a": np.ones((2, 3))}, {"a": np.ones((2, 3))})


def test_difference_is_reported_with_both_shapes_and_at_most_five_names():
    stored = {f"w{i}": np.ones((2, 3)) for i in range(9)}
    with pytest.raises(UserError) as caught:
        compare(stored, {f"w{i}": np.ones((2, 4)) for i in range(9)})
    text = str(caught.value)
    assert "w0: float64[2, 3] in the checkpoint, float64[2, 4] in this run" in text
    assert (
        text.count("in this run") == 5 and "and 4 more" in text and "9 of 9" in text and text.endswith("FIX")
    )


@pytest.mark.parametrize(
    ("stored", "wanted", "line"),
    [
        (
            {"a": np.ones(2), "b": np.ones(3)},
            {"a": np.ones(2)},
            "b: float64[3] in the checkpoint, not in this run",
        ),
        (
            {"a": np.ones(2)},
            {"a": np.ones(2), "b": np.ones(3)},
            "b: not in the checkpoint, float64[3] in this run",
        ),
        (
            {"a": np.ones(2)},
            {"a": np.ones(2, np.float32)},
            "float64[2] in the checkpoint, float32[2] in this run",
        ),
    ],
)
def test_every_kind_of_difference_is_named(stored, wanted, line):
    with pytest.raises(UserError) as caught:
        compare(stored, wanted)
    assert line in str(caught.value)


def test_part_allows_more_arrays_and_other_dtypes_but_no_missing_one():
    compare({"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones(2, np.float32)}, part=True)
    with pytest.raises(UserError, match="c: not in the checkpoint"):
        compare({"a": np.ones(2)}, {"c": np.ones(2)}, part=True)
