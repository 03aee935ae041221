"""Documents one after another without padding, through FlashAttention of variable lengths: the peer's best masked LM.

For tools/sides.py. Takes torch's own `varlen_attn` (a CUDA GPU, bfloat16, no dropout on the probabilities), so that no
further package is needed; transformers hands the lengths on to the attention of every layer.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import transformers

from jaxlm.errors import UserError


def register() -> str:
    """Makes the attention known to transformers; returns its name. UserError where torch has none."""
    try:
        from torch.nn.attention import varlen  # noqa: F401 - only here: it brings torch's compiler, seconds a process
    except ImportError:
        raise UserError(
            f"torch {torch.__version__} has no torch.nn.attention.varlen. Fix: torch>=2.10."
        ) from None
    transformers.AttentionInterface.register("varlen", _attend)
    transformers.AttentionMaskInterface.register("varlen", lambda *_, **__: None)
    return "varlen"


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    from torch.nn.attention import varlen

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [tokens, heads, width]
    ends, longest = cu_seq_lens_q, max_length_q
    return varlen.varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling)[None], None


def batches(
    documents: list[np.ndarray], rows: int, length: int, collate: Callable[[list], dict]
) -> Iterator[dict]:
    """One row of `rows` x `length` tokens a batch: shuffled documents, none above `length`, the last one cut."""
    drawn = _shuffled(documents)
    while True:
        room, pieces = rows * length, []
        while room:
            pieces.append(next(drawn)[:room])
            room -= len(pieces[-1])
        sizes = [len(piece) for piece in pieces]
        ends = torch.tensor(np.cumsum([0, *sizes]), dtype=torch.int32)
        places = torch.from_numpy(np.concatenate([np.arange(size) for size in sizes]))[None]
        lengths = {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": length,
            "max_length_k": length,
        }
        yield {**collate([np.concatenate(pieces)]), "position_ids": places, "rows": rows, **lengths}


def _shuffled(documents: list[np.ndarray]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        for i in rng.permutation(len(documents)):
            yield documents[i]
