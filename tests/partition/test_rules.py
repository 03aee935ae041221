"""Claims: a spec follows the table; unknown and colliding axes raise; what does not divide is listed, not hidden."""

import jax
import pytest
from jax.sharding import PartitionSpec as P

from jaxlm.errors import UserError
from jaxlm.partition import mesh, rules
from jaxlm.partition.mesh import Mesh


@pytest.fixture(scope="module")
def fsdp_tensor():
    return mesh.make(Mesh(data=1, fsdp=4, tensor=2))


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        (("vocab", "embed"), (128, 12), P("tensor", "fsdp")),
        (("layers", "embed", "heads", "head_dim"), (3, 12, 6, 5), P("stage", "fsdp", "tensor", None)),
        (("layers", "heads", "head_dim", "embed"), (3, 6, 5, 12), P("stage", "tensor", None, "fsdp")),
        (("embed", "kv_heads", "head_dim"), (12, 2, 5), P("fsdp", "tensor", None)),
        (("embed", "mlp"), (12, 20), P("fsdp", "tensor")),
        (("positions", "embed"), (17, 12), P(None, "fsdp")),
        (("types", "embed"), (2, 12), P(None, "fsdp")),
        (("embed", None), (12, 2), P("fsdp", None)),
        (("experts", "embed", "mlp"), (3, 12, 20), P("expert", "fsdp", "tensor")),
        ((), (), P()),
    ],
)
def test_spec_follows_the_table(fsdp_tensor, axes, shape, expected):
    placement = rules.place(axes, shape, fsdp_tensor)
    assert placement.spec == rules.spec(axes, shape, fsdp_tensor) == expected
    assert placement.whole == ()
    # A spec that jax accepts for the shape.
    jax.sharding.NamedSharding(fsdp_tensor, placement.spec).shard_shape(shape)


def test_dimension_that_does_not_divide_stays_whole_and_is_listed(fsdp_tensor):
    placement = rules.place(("vocab", "embed"), (131, 12), fsdp_tensor)
    assert placement.spec == P(None, "fsdp")
    assert [str(w) for w in placement.whole] == ["vocab 131 is not divisible by tensor 2"]


def test_averaged_dimension_is_whole_without_a_complaint(fsdp_tensor):
    placement = rules.place(("embed", "mlp"), (1, 20), fsdp_tensor)
    assert placement == rules.Placement(P(None, "tensor"), ())


def test_unknown_axis_raises_with_a_suggestion(fsdp_tensor):
    with pytest.raises(UserError, match=r'"embd" has no rule\. Did you mean "embed"\? Known: vocab, '):
        rules.spec(("vocab", "embd"), (8, 8), fsdp_tensor)


@pytest.mark.parametrize("config", [Mesh(), Mesh(data=1, fsdp=-1)])
def test_collision_raises_on_every_mesh_and_prints_both(config):
    with pytest.raises(UserError, match=r'"heads" and "mlp" both lie on the mesh axis "tensor"'):
        rules.spec(("heads", "embed", "mlp"), (4, 8, 8), mesh.make(config))


def test_axis_on_two_mesh_axes():
    both = mesh.make(Mesh(data=2, fsdp=4))
    table = {**rules.RULES, "embed": ("data", "fsdp")}
    assert rules.spec(("embed", "mlp"), (16, 3), both, table) == P(("data", "fsdp"), "tensor")
    assert (
        str(rules.place(("embed",), (12,), both, table).whole[0])
        == "embed 12 is not divisible by data*fsdp 8"
    )


def test_mesh_without_the_axis_leaves_it_whole():
    small = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    assert rules.place(("embed", "mlp"), (16, 8), small) == rules.Placement(P(None, None), ())


def test_axes_must_name_every_dimension(fsdp_tensor):
    with pytest.raises(ValueError, match="one name per dimension"):
        rules.spec(("embed",), (3, 4), fsdp_tensor)
