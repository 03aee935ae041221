"""How a parameter is made: shape, logical axes, initialiser in one line.

In: the module's `nnx.Rngs` (used in `__init__` only). Out: an `nnx.Param` whose metadata says how many dimensions are
`inputs` (0: it is no matrix) and whose `axes` names every dimension ('vocab', 'embed', 'heads', 'kv_heads', 'head_dim',
'mlp', 'positions', 'types', 'buckets', 'layers', 'experts' or None: not split). Guaranteed: float32 master values,
whatever the compute dtype.
"""

import jax
import jax.numpy as jnp
from flax import nnx

Axes = tuple[str | None, ...]
STACKS = ("layers", "experts")  # in front: several parameters in one array, each on its own
_CUT = 0.87962566103423978  # standard deviation of a unit normal cut at two


def weight(rngs: nnx.Rngs, shape: tuple[int, ...], axes: Axes, scale: float, *, inputs: int = 1) -> nnx.Param:
    """A normal of standard deviation `scale` cut at two of them (BERT, section 3; TensorFlow's
    truncated_normal).

    As published the cut is not corrected for: the standard deviation of what is drawn is 0.88 x `scale`. The first
    `inputs` dimensions behind `STACKS` are contracted with what comes in (or looked up), the others come out.
    """
    initialise = jax.nn.initializers.truncated_normal(scale, jnp.float32)
    return nnx.Param(initialise(rngs.params(), shape), axes=axes, inputs=inputs)


def scale_for(deviation: float) -> float:
    """The `scale` of `weight` whose draws have this standard deviation (variance scaling of TensorFlow, Flax)."""
    return deviation / _CUT


def sinusoids(rngs: nnx.Rngs, shape: tuple[int, int], axes: Axes, scale: float) -> nnx.Param:
    """Sines and cosines of the position (Vaswani et al., 2017, section 3.5) with the RMS `scale`; no draw.

    Neighbouring positions start out alike, so that attention to a neighbour is found early.
    """
    positions, width = shape
    angles = jnp.arange(positions)[:, None] * 10000.0 ** (-jnp.arange(0, width, 2) / width)
    waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(positions, -1)[:, :width]
    return nnx.Param((scale * 2**0.5 * waves).astype(jnp.float32), axes=axes, inputs=1)


def zeros(shape: tuple[int, ...], axes: Axes) -> nnx.Param:
    """A bias."""
    return nnx.Param(jnp.zeros(shape, jnp.float32), axes=axes, inputs=0)


def ones(shape: tuple[int, ...], axes: Axes) -> nnx.Param:
    """The scale of a norm."""
    return nnx.Param(jnp.ones(shape, jnp.float32), axes=axes, inputs=0)
