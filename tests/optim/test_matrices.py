"""Claims: the rule for matrices is right for every kind of parameter, and for the models there are."""

import jax
import pytest

from jaxlm.models import build
from jaxlm.models.bert import Bert
from jaxlm.optim import matrices

TABLE = [
    # axes, stack, feature groups, decayed, hidden
    (("embed", "heads", "head_dim"), 0, [1, 2], True, True),
    (("layers", "embed", "heads", "head_dim"), 1, [1, 2], True, True),
    (("layers", "embed", "kv_heads", "head_dim"), 1, [1, 2], True, True),
    (("layers", "heads", "head_dim", "embed"), 1, [2, 1], True, True),
    (("layers", None, "embed", "heads", "head_dim"), 1, [1, 1, 2], True, False),
    (("layers", "embed", "mlp"), 1, [1, 1], True, True),
    (("layers", "mlp", "embed"), 1, [1, 1], True, True),
    (("layers", "experts", "embed", "mlp"), 2, [1, 1], True, True),
    (("layers", "embed", "experts"), 1, [1, 1], True, False),
    (("vocab", "embed"), 0, [1, 1], True, False),
    (("positions", "embed"), 0, [1, 1], True, False),
    (("types", "embed"), 0, [1, 1], True, False),
    (("embed", None), 0, [1, 1], True, False),
    ((None, "heads"), 0, [1, 1], True, False),
    (("buckets", "heads"), 0, [1, 1], True, False),
    (("heads", "head_dim"), 0, [2], False, True),
    (("layers", "heads", "head_dim"), 1, [2], False, True),
    (("layers", None, "heads", "head_dim"), 1, [1, 2], True, False),
    (("layers", "embed"), 1, [1], False, True),
    (("layers", "mlp"), 1, [1], False, True),
    (("layers", "experts", "mlp"), 2, [1], False, True),
    (("layers", "head_dim"), 1, [1], False, True),
    (("embed",), 0, [1], False, True),
    (("vocab",), 0, [1], False, False),
    ((None,), 0, [1], False, False),
    ((), 0, [], False, True),
]


@pytest.mark.parametrize(("axes", "stack", "groups", "decayed", "hidden"), TABLE)
def test_rule(axes, stack, groups, decayed, hidden):
    layout = matrices.layout(axes)
    assert layout.stack == tuple(range(stack))
    assert [len(group) for group in layout.groups] == groups
    assert layout.stack + layout.features == tuple(range(len(axes)))
    assert matrices.decayed({"x": axes}) == {"x": decayed}
    assert layout.hidden == hidden


def test_vectors_of_bert_are_its_biases_and_norms():
    config = Bert(
        vocab_size=131,
        hidden=12,
        layers=2,
        heads=3,
        mlp=20,
        max_positions=17,
        types=2,
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.02,
        position_init="normal",
    )
    decayed = matrices.decayed(build.build(config).axes)
    for path, is_decayed in jax.tree_util.tree_flatten_with_path(decayed)[0]:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        assert is_decayed != name.startswith(("b", "scale")), jax.tree_util.keystr(path)
