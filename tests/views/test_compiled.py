"""Claims about the compiled train step under LoRA, read from its HLO: no gradient of a frozen weight is in it, and what
it takes and returns of the optimizer is that of what is trained."""

import dataclasses
import functools
import math
import re

import jax
import pytest

from jaxlm.models.cost import count_parameters
from jaxlm.models.paths import flatten
from jaxlm.run.program import Program
from jaxlm.views import LoRA
from tests.views import programs
from tests.views.programs import LENGTH, MODELS, ROWS, batch

LAYERS, HIDDEN, MLP = 2, 52, 67
# What hands numbers on as they are. A fusion is judged by what stands in its own computation.
MOVES = {"bitcast", "broadcast", "copy", "fusion", "get-tuple-element", "parameter", "reshape", "transpose"}
MOVES |= {"concatenate", "dynamic-slice", "dynamic-update-slice", "slice", "while"}
RESULT = re.compile(r"= \w+\[([\d,]*)\]\S* ([\w-]+)\(")
LORA = LoRA(rank=3, alpha=5.0, scaling="sqrt", targets=".*")


WIDTHS = {"bert": {}, "llama": {"heads": 2, "kv_heads": 2, "head_dim": 26}}


@functools.cache
def compiled(name: str, loop: str, thin: bool):
    """(program, its train step) of a model whose weights have sizes that nothing else has, with LoRA or whole."""
    run = programs.run(name, *[LORA] * thin)
    sizes = {"hidden": HIDDEN, "mlp": MLP, "layer_loop": loop, **WIDTHS[name]}
    made = programs.program(dataclasses.replace(run, model=dataclasses.replace(MODELS[name], **sizes)))
    with jax.set_mesh(made.mesh):
        step = made.train_step().lower(made.state, made.frozen, {"": batch(name)})
        return made, step.compile()


def opcodes(text: str, size: int) -> set[str]:
    """Of all instructions with a result of so many numbers."""
    found = ((math.prod(int(n) for n in dims.split(",") if n), code) for dims, code in RESULT.findall(text))
    return {code for number, code in found if number == size}


def frozen_sizes(made: Program) -> set[int]:
    """Of the matrices of one layer, and of the table of tokens."""
    facts, shapes = made.facts, flatten(made.params)
    named = lambda path: path.rpartition("/")[2].startswith("w") or path.endswith("tokens/table")
    matrices = {path: one.shape for path, one in shapes.items() if named(path)}
    layered = lambda path: facts[path].axes[0] == "layers"
    return {math.prod(shape[1:] if layered(path) else shape) for path, shape in matrices.items()}


KINDS = [
    ("bert", "scan"),
    ("llama", "unrolled"),
    *(pytest.param(*one, marks=pytest.mark.slow) for one in (("bert", "unrolled"), ("llama", "scan"))),
]


@pytest.mark.parametrize(("name", "loop"), KINDS)
def test_the_compiled_step_computes_nothing_in_the_size_of_a_frozen_weight(name, loop):
    """A frozen weight is sliced and copied, of one layer and of all; its gradient would be the result of a product.

    No product over rows or positions has such a size: they are multiples of 11, and no weight here is.
    """
    (full, one), (made, other) = (compiled(name, loop, thin) for thin in (False, True))
    sizes = frozen_sizes(made)
    assert len(sizes) >= 3 and ROWS * LENGTH % 11 == 0 and all(size % 11 for size in sizes)
    for size in sizes:
        assert "dot" in opcodes(one.as_text(), size), "full training forms each of them"
        found = opcodes(other.as_text(), size) | opcodes(other.as_text(), LAYERS * size)
        assert found and found <= MOVES, (size, found - MOVES)
    assert "dot" in opcodes(other.as_text(), HIDDEN * LORA.rank), "and LoRA those of its own matrices"
    assert count_parameters(made.frozen) == count_parameters(full.state.params)


def test_the_compiled_step_gives_back_moments_of_what_is_trained_only():
    """Bytes by XLA's own account: two moments, an average and the parameters, of the thin matrices and of everything."""
    (full, one), (made, other) = (compiled("bert", "scan", thin) for thin in (False, True))
    for program, step in ((full, one), (made, other)):
        trained, given = 4 * count_parameters(program.state.params), step.memory_analysis()
        assert 4 * trained <= given.output_size_in_bytes < 4 * trained + 4096
    assert other.memory_analysis().temp_size_in_bytes < one.memory_analysis().temp_size_in_bytes
