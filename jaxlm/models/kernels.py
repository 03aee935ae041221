"""Which implementation of attention fits: the capability table.

In: what is known when tracing (platform, dtype, head width, lengths, dropout, mask). Out: a `Choice`, a
name and the reason, which a run logs once. Guaranteed: 'auto' never picks something that cannot run; a
request by name that cannot run is a `UserError` that says why.

    xla     everywhere: any shape, dtype, mask and dropout; O(T*S) memory
    splash  TPU: segment ids stay ids, causal, window; lengths in 128s; no dropout; jax.experimental.pallas
    biased  TPU: the same with a bias that all rows share, without window; a row's keys in VMEM; biased.py
    cudnn   NVIDIA: bfloat16 or float16, no dropout; the mask becomes a bias of T*S; jax.nn.dot_product_attention
    cudnn packed  the same, self-attention on Hopper: segments become offsets, nothing is T*S; packed.py
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError
from jaxlm.models import activations, biased, packed, traced
from jaxlm.models.masks import Mask

Implementation = Literal["auto", "xla", "splash", "cudnn"]

# Below this many keys plain XLA attention is a few percent of an encoder's work, and a kernel has little to
# save. An estimate: not yet measured on accelerators.
_KERNEL_FROM = 256

# For every segment that a row may hold, cuDNN keeps softmax statistics of whole rows and starts work in its backward
# pass, used or not: 65 of them, 3 used, take 1.7 times as long as its two kernels (docs/benchmarks.md).
_MOST_SEGMENTS = 64

Name = Literal["xla", "splash", "biased", "cudnn", "cudnn packed"]
_NATIVE: dict[str, Name] = {"tpu": "splash", "gpu": "cudnn", "cuda": "cudnn"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What runs, and why."""

    name: Name
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What a choice depends on."""

    platform: str  # 'cpu', 'gpu', 'cuda', 'rocm', 'tpu'
    dtype: str
    head_dim: int
    query_length: int
    key_length: int
    dropout: bool  # on the probabilities, in this call
    positions: bool  # distances are not places in the row
    window: bool
    prefix: bool = False  # some keys are seen from before them
    bias: Literal["", "shared", "of rows"] = (
        ""  # what is added to the scores: nothing, the same in all rows, or not
    )
    most_segments: int | None = None  # of a row that attends to itself, see `Mask`
    numbers: int = 0  # of a device's share of the queries
    grouped: bool = False  # fewer key heads than heads
    device_kind: str = ""
    devices: int = 1  # that share a row


def platform() -> str:
    """Of the mesh that is set (it may be a described one), else of the default backend."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def case(
    q_BTNH: jax.Array, k_BSKH: jax.Array, mask: Mask, *, dropout: bool, bias: jax.Array | None = None
) -> Case:
    """The case of this call."""
    mesh, share = jax.sharding.get_abstract_mesh(), q_BTNH.shape
    if not mesh.empty:
        spec = activations.spec(mesh, k_BSKH.shape, ("batch", None, "heads", None))
        share = activations.local(mesh, spec, share)
    return Case(
        platform=platform(),
        dtype=jnp.dtype(q_BTNH.dtype).name,
        head_dim=q_BTNH.shape[-1],
        query_length=q_BTNH.shape[1],
        key_length=k_BSKH.shape[1],
        dropout=dropout,
        positions=mask.positions_BT is not None or mask.positions_BS is not None,
        window=mask.window is not None,
        prefix=mask.prefix_BS is not None,
        bias="" if bias is None else "shared" if bias.ndim == 3 else "of rows",
        most_segments=mask.most_segments,
        numbers=math.prod(share),
        grouped=k_BSKH.shape[2] < q_BTNH.shape[2],
        device_kind=activations.device_kind(),
        devices=activations.devices("length"),
    )


# On a CPU a loop over rows, whose scores stay in the cache, takes as long as one pass over all of them where these are
# 6 million, 0.7 of it where they are 25 million. Of long rows three heads of twelve are better than all.
_SCORES_AT_ONCE = 1 << 23
_SCORES_IN_CACHE = 1 << 20

_whole = contextvars.ContextVar("whole", default=False)


@contextlib.contextmanager
def whole_scores() -> Iterator[None]:
    """Within it plain attention computes every score, as FLOPs are counted, whatever it leaves out otherwise."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def counted() -> bool:
    """Whether what is traced is never run: its FLOPs are counted."""
    return _whole.get()


def one_cpu() -> bool:
    """Whether what is traced runs on one CPU, as one program's."""
    mesh = jax.sharding.get_abstract_mesh()
    return platform() == "cpu" and not counted() and (mesh.empty or mesh.size == 1)


def in_parts(length: int) -> bool:
    """Whether plain attention over a row leaves out what no query of a part of it can see."""
    here = platform() == "cpu" and traced.known(length)
    return here and not counted() and activations.devices("length") == 1


def heads_together(rows: int, heads: int, queries: int, keys: int) -> int:
    """How many heads of one row plain attention computes at a time; 0: all of all rows, as one array."""
    sizes = (rows, heads, queries, keys)
    if not one_cpu() or not all(map(traced.known, sizes)) or math.prod(sizes) <= _SCORES_AT_ONCE:
        return 0
    fit = [n for n in range(1, heads + 1) if heads % n == 0 and n * queries * keys <= _SCORES_IN_CACHE]
    return max(fit, default=1)


_choices = traced.Recorder[Choice]()
recorded = _choices.recorded  # of what `pick` chooses, for the log


def pick(case: Case, requested: Implementation) -> Choice:
    """`choose`, on record."""
    choice = choose(case, requested)
    _choices.add(choice)
    return choice


def choose(case: Case, requested: Implementation = "auto") -> Choice:
    """The implementation for a case. `requested` other than 'auto' is obeyed or refused, never replaced."""
    if requested == "xla":
        return Choice("xla", "asked for")
    obstacles = {"splash": _splash_obstacle(case), "cudnn": _cudnn_obstacle(case)}
    if requested != "auto":
        if obstacles[requested] is not None:
            raise UserError(
                f"model.attention={requested!r} cannot run here: {obstacles[requested]}. "
                "Fix: --config.model.attention=auto, which takes a kernel where one fits, or xla."
            )
        return _form_of_mask(case, Choice(requested, "asked for"))
    native = _NATIVE.get(case.platform)
    if native is None:
        return Choice("xla", f"no kernel for platform {case.platform!r}")
    if native == "splash" and case.bias:
        native, obstacles["biased"] = "biased", _biased_obstacle(case)
    if obstacles[native] is not None:
        return Choice("xla", f"{native} cannot: {obstacles[native]}")
    if case.key_length < _KERNEL_FROM:
        return Choice("xla", f"{case.key_length} keys are too few for {native} to pay (from {_KERNEL_FROM})")
    reason = f"platform {case.platform}, {case.dtype}, head width {case.head_dim}"
    return _form_of_mask(case, Choice(native, reason))


def _form_of_mask(case: Case, choice: Choice) -> Choice:
    """Of cuDNN: as offsets, or why as a bias."""
    if choice.name != "cudnn":
        return choice
    obstacle = _packed_obstacle(case)
    if obstacle is None:
        return Choice("cudnn packed", choice.reason)
    return Choice(
        "cudnn", f"{choice.reason}; the mask is a bias of T x S, not offsets of segments: {obstacle}"
    )


def _splash_obstacle(case: Case) -> str | None:
    if case.platform != "tpu":
        return f"splash needs a TPU, this is {case.platform!r}"
    if case.dropout:
        return "splash has no dropout on the probabilities (model.attention_dropout)"
    if (obstacle := _along_the_row("splash", case)) is not None:
        return obstacle
    if case.bias:
        return "splash adds no bias to the scores (relative positions)"
    if (devices := case.devices) > 1 and (
        case.query_length % (256 * devices) or case.key_length % (256 * devices)
    ):
        return (
            f"splash needs 256s of a row on each of its {devices} devices (mesh.context), found rows of "
            f"{case.query_length} and {case.key_length}"
        )
    return _in_128s("splash", case)


def _biased_obstacle(case: Case) -> str | None:
    """Of a TPU."""
    if case.dropout:
        return "biased has no dropout on the probabilities (model.dropout)"
    if (obstacle := _along_the_row("biased", case)) is not None:
        return obstacle
    if case.bias != "shared":
        return "biased adds one bias to the scores of all rows, each of these has its own"
    if case.window:
        return "biased knows no window"
    if case.grouped:
        return "biased needs a key head for every head"
    if case.devices > 1:
        return "biased needs whole rows on a device (mesh.context)"
    if case.head_dim % 16:
        return f"biased needs a head width in 16s, found {case.head_dim}"
    if (obstacle := _in_128s("biased", case)) is not None:
        return obstacle
    lengths, most = (case.query_length, case.key_length), biased.most(case.device_kind)
    room = biased.room(case.head_dim, *lengths, jnp.dtype(case.dtype).itemsize)
    if room > most:
        return (
            f"biased has all keys of a row in VMEM: {lengths[0]} queries and {lengths[1]} keys take {room >> 20} MiB, "
            f"a program may have {most >> 20}"
        )
    return None


def _along_the_row(name: Name, case: Case) -> str | None:
    """Of the TPU's kernels, as the two below."""
    if case.positions:
        return f"{name} measures distances along the row, this mask brings its own positions"
    if case.prefix:
        return f"{name} knows no prefix that is seen from before it (prefix LM)"
    return None


def _in_128s(name: Name, case: Case) -> str | None:
    if case.query_length % 128 or case.key_length % 128:
        return f"{name} needs lengths in 128s, found {case.query_length} and {case.key_length}"
    return None


def _cudnn_obstacle(case: Case) -> str | None:
    if case.platform not in ("gpu", "cuda"):
        return f"cuDNN needs an NVIDIA GPU, this is {case.platform!r}"
    if case.dropout:
        return "cuDNN through jax.nn has no dropout on the probabilities (model.attention_dropout)"
    if case.devices > 1:
        return "cuDNN through jax.nn needs whole rows on a device (mesh.context)"
    if case.dtype not in ("bfloat16", "float16"):
        return f"cuDNN needs bfloat16 or float16, found {case.dtype}"
    if case.head_dim % 8 or case.head_dim > 128:
        return f"cuDNN needs a head width up to 128 in 8s, found {case.head_dim}"
    if case.query_length % 2 or case.key_length % 2:
        return f"cuDNN needs even lengths, found {case.query_length} and {case.key_length}"
    return None


def _packed_obstacle(case: Case) -> str | None:
    if case.bias:
        return "they know no bias on the scores (relative positions)"
    if case.prefix:
        return "they know no prefix that is seen from before it (prefix LM)"
    if case.window:
        return "they know no window"
    if case.most_segments is None:
        return "how many segments a row holds at most is not known, or it attends to another row"
    if case.most_segments > _MOST_SEGMENTS:
        return f"a row may hold {case.most_segments} segments, each takes memory (at most {_MOST_SEGMENTS})"
    if case.numbers >= 2**31:
        return f"they have 32 bits, a device's queries are {case.numbers:,} numbers (fewer rows per device)"
    return packed.missing()
