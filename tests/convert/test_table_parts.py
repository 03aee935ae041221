"""Claims about fused tensors, layers of other numbers and reading in slices: any part read is that part of the whole."""

import itertools

import jax
import numpy as np
import pytest

from jaxlm.convert import table
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.formats.source import of_arrays, transposed

FUSED = tuple(
    Row(f"blocks/w{name}", "h.{}.c_attn.weight", "D (P N H) -> D N H", part=(i, 3))
    for i, name in enumerate("qkv")
)
SHAPES = {f"blocks/w{name}": jax.ShapeDtypeStruct((2, 5, 3, 4), np.float32) for name in "qkv"}


def fused() -> dict[str, np.ndarray]:
    return {
        f"h.{i}.c_attn.weight": np.random.default_rng(i).normal(size=(5, 36)).astype("f") for i in range(2)
    }


def test_a_fused_tensor_is_split_into_its_parts_and_merged_again_to_the_bit():
    theirs = fused()
    source = of_arrays(theirs)
    ours = {
        f"w{name}": table.read(row, source, (2, 5, 3, 4), {}) for row, name in zip(FUSED, "qkv", strict=True)
    }
    for layer, (part, name) in itertools.product(range(2), enumerate("qkv")):
        columns = theirs[f"h.{layer}.c_attn.weight"][:, part * 12 : part * 12 + 12]
        assert np.array_equal(ours[f"w{name}"][layer].reshape(5, 12), columns)
    back = table.to_theirs(FUSED, {"blocks": ours}, {})
    assert all(np.array_equal(back[name], theirs[name]) for name in theirs) and set(back) == set(theirs)


def test_parts_that_do_not_stand_first_in_their_axis_are_found():
    row = Row("w", "w", "(N P H) D -> D N H", part=(1, 2))
    theirs = np.arange(3 * 2 * 4 * 5).reshape(24, 5)
    ours = table.read(row, of_arrays({"w": theirs}), (5, 3, 4), {})
    assert np.array_equal(ours, theirs.reshape(3, 2, 4, 5)[:, 1].transpose(2, 0, 1))


def test_a_part_that_no_row_names_is_a_bug_of_the_table_and_says_so():
    with pytest.raises(ValueError, match=r"whole of h\.0\.c_attn\.weight once"):
        table.check_cover(FUSED[:2], dict(list(SHAPES.items())[:2]))


def test_our_layers_may_have_other_numbers_on_their_side():
    row = Row("w", "layer.{}.w", "", layers=(1, 4))
    theirs = {f"layer.{i}.w": np.full(3, i) for i in (1, 4)}
    ours = table.read(row, of_arrays(theirs), (2, 3), {})
    assert ours.tolist() == [[1] * 3, [4] * 3]
    assert set(table.to_theirs((row,), {"w": ours}, {})) == set(theirs)


def test_a_name_with_two_numbers_is_of_layers_and_of_experts():
    row = Row("w", "layers.{}.experts.{}.w", "F D -> D F")
    theirs = {
        f"layers.{i}.experts.{e}.w": np.random.default_rng((i, e)).normal(size=(7, 5))
        for i, e in itertools.product(range(2), range(3))
    }
    ours = table.read(row, of_arrays(theirs), (2, 3, 5, 7), {})
    for i, e in itertools.product(range(2), range(3)):
        assert np.array_equal(ours[i, e], theirs[f"layers.{i}.experts.{e}.w"].T)
    back = table.to_theirs((row,), {"w": ours}, {})
    assert back.keys() == theirs.keys() and all(np.array_equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("row", "shape", "their_shape"),
    [
        (Row("w", "l.{}.w", "(N H) D -> D N H"), (3, 5, 4, 6), (24, 5)),
        (Row("w", "l.{}.w", "D (P N H) -> D N H", part=(2, 3)), (3, 5, 4, 6), (5, 72)),
        (Row("w", "l.{}.e.{}.w", "F D -> D F"), (3, 4, 5, 6), (6, 5)),
        (Row("w", "l.{}.w", "(N P H) D -> N H D", part=(0, 2)), (3, 4, 6, 5), (48, 5)),
        (Row("w", "w", "V D -> V D", padded="V"), (16, 7), (11, 7)),
        (Row("w", "w", "", padded="V"), (16,), (11,)),
        (Row("w", "l.{}.w"), (3, 7), (7,)),
    ],
)
def test_any_slice_of_a_parameter_is_that_slice_of_the_whole(row, shape, their_shape):
    rng = np.random.default_rng(0)
    names = row.names(shape)
    source = of_arrays({name: rng.normal(size=their_shape).astype("f") for name in names})
    whole = table.read(row, source, shape, {"V": 11})
    assert whole.shape == shape
    for _ in range(60):
        bounds = [sorted(rng.integers(0, n + 1, 2)) for n in shape]
        index = tuple(slice(int(low), int(high) if high > low else int(low) + 1) for low, high in bounds)
        index = tuple(slice(min(i.start, n - 1), i.stop) for i, n in zip(index, shape, strict=True))
        assert np.array_equal(table.read(row, source, shape, {"V": 11}, index), whole[index]), index


def test_a_slice_reads_no_more_of_the_file_than_the_block_that_holds_it():
    asked = []
    source = of_arrays({"w": np.zeros((24, 5), "f")})
    entry = source.entries["w"]
    watched = type(entry)(entry.shape, entry.dtype, lambda index: asked.append(index) or entry.read(index))
    table.read(
        Row("w", "w", "(N H) D -> D N H"),
        type(source)({"w": watched}),
        (5, 4, 6),
        {},
        (slice(0, 5), slice(1, 3), slice(0, 6)),
    )
    assert asked == [(slice(6, 18), slice(0, 5))]


def test_a_transposed_entry_reads_slices_of_the_transpose():
    array = np.arange(15).reshape(3, 5)
    entry = transposed(of_arrays({"w": array}).entries["w"])
    assert entry.shape == (5, 3) and np.array_equal(entry.read((slice(1, 4), slice(0, 2))), array.T[1:4, 0:2])
    assert np.array_equal(entry.read(()), array.T)


def test_axes_with_a_letter_on_one_side_only_are_a_bug_of_the_table():
    with pytest.raises(ValueError, match="same letters"):
        table.layout(Row("w", "w", "A B -> A C"), (3, 4), {})
    with pytest.raises(ValueError, match="same letters"):
        table.layout(Row("w", "w", "A (P B) -> A B"), (3, 4), {})


def test_a_wrong_shape_names_the_tensor_the_file_and_what_was_expected():
    source = of_arrays({"w": np.zeros((4, 3))}, "a/model.safetensors")
    with pytest.raises(
        UserError, match=r"a/model\.safetensors: w has shape \(4, 3\), the model config says \(3, 4\)"
    ):
        table.check_shapes(Row("w", "w", "A B -> A B"), source, (3, 4), {})
