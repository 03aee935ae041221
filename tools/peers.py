"""The peer of tools/benchmark.py: PyTorch + transformers on the same weights and rows; and what any contender is."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from jaxlm.batch import Batch
from jaxlm.config import Run
from jaxlm.convert import families
from jaxlm.objectives.targets import TokenTargets

RATE = 1e-4  # constant, AdamW with weight decay 0.01, no clipping: the same on both sides


class Step(NamedTuple):
    """What one optimizer step was: its work is the same for all contenders that are compared."""

    loss: float  # nats
    useful: float  # tokens that are not padding
    rows: int
    length: int  # tokens of a row, padding included; of an encoder-decoder both rows


class Side:
    """One contender."""

    def step(self) -> Step:
        """One optimizer step."""
        raise NotImplementedError


class Theirs(Side):
    """transformers' model of the same family with SDPA attention and fused AdamW."""

    def __init__(
        self,
        run: Run,
        batches: Iterator[dict],
        params: Any,
        *,
        bf16: bool,
        compile_model: bool,
        attention: str = "sdpa",
    ) -> None:
        torch.manual_seed(0)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = peer(run, params, attention).train().to(self._device)
        self._autocast = bf16
        self._optimizer = torch.optim.AdamW(
            _decayed(self._model), RATE, betas=(0.9, 0.999), eps=1e-8, fused=True
        )
        self._forward = torch.compile(self._model) if compile_model else self._model
        self._batches = batches

    def step(self) -> Step:
        """Forward, backward, update; the loss is read, as in every logging loop."""
        move = lambda v: v.to(self._device) if isinstance(v, torch.Tensor) else v
        batch = {k: move(v) for k, v in next(self._batches).items()}
        useful, rows = batch.pop("useful"), batch.pop("rows", None)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
            loss = self._forward(**batch).loss
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        length = sum(batch[name].shape[1] for name in ("input_ids", "decoder_input_ids") if name in batch)
        rows = int(rows or len(batch["input_ids"]))  # those of documents one after another are as many tokens
        return Step(float(loss.detach()), float(useful), rows, length * len(batch["input_ids"]) // rows)


def peer(run: Run, params: Any, attention: str = "sdpa") -> Any:
    """transformers' model of the same family with the same weights."""
    contents = families.to_hf_config(run.model, run.heads)
    kind = getattr(transformers, contents.pop("architectures")[0])
    # Positions of RoBERTa begin behind the padding's id; other models give the token of that id no gradient.
    config = kind.config_class(**{"pad_token_id": None, **contents, "use_cache": False})
    config._attn_implementation = attention
    model = kind(config)
    exported = families.export_params(params, run.model)
    missing, unexpected = model.load_state_dict(
        {k: torch.from_numpy(np.array(v)) for k, v in exported.items()}, strict=False
    )
    tied = families.of_config(run.model).TIED
    assert not unexpected and set(missing) <= set(tied), (missing, unexpected)
    model.tie_weights()
    return model


def _decayed(model: torch.nn.Module) -> list[dict]:
    named = list(model.named_parameters())
    return [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]


def rows_of(batch: Batch) -> dict[str, torch.Tensor]:
    """The same rows as its models take them; full rows of one document need no attention mask."""
    tokens = {"input_ids": torch.from_numpy(batch.tokens_BT.astype(np.int64))}
    asked: TokenTargets = batch.targets
    if asked.places_BM is not None:
        labels = np.full(batch.tokens_BT.shape, -100, np.int64)
        for b in range(len(labels)):
            real = asked.weights_BM[b] > 0
            labels[b, asked.places_BM[b][real]] = asked.ids_BM[b][real]
    else:
        labels = np.where(asked.weights_BM > 0, asked.ids_BM, -100).astype(np.int64)
    if batch.source_tokens_BS is not None:
        tokens = {
            "input_ids": torch.from_numpy(batch.source_tokens_BS.astype(np.int64)),
            "decoder_input_ids": tokens["input_ids"],
        }
        real_BS = np.asarray(batch.source_segments_BS) > 0
        if not real_BS.all():
            tokens["attention_mask"] = torch.from_numpy(real_BS)
    elif asked.places_BM is None:
        # Causal models shift labels themselves, one place to the left.
        labels = np.concatenate([np.full_like(labels[:, :1], -100), labels[:, :-1]], axis=1)
    useful = sum((x > 0).sum() for x in (batch.segments_BT, batch.source_segments_BS) if x is not None)
    return {**tokens, "labels": torch.from_numpy(labels), "useful": torch.tensor(float(useful))}
