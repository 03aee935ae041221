"""The contenders of tools/benchmark.py: jaxlm's step, and PyTorch + transformers on the same weights and text.

Every side has `step() -> Step`, which returns when the step is finished on the device.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from jaxlm import assemble
from jaxlm.batch import Batch, Batches, stacked
from jaxlm.config import Run, Stage
from jaxlm.convert import families
from jaxlm.data import draws, pipeline
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.objectives.targets import TokenTargets
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import Constant
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.program import Program

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


class Ours(Side):
    """The step that train.py jits."""

    def __init__(self, run: Run, precision: Any, batches: Iterator[Batches], params: Any) -> None:
        schedule = Constant(peak=RATE, warmup="0")
        adamw = AdamW(schedule=schedule, weight_decay=0.01, clip_norm=0.0, b1=0.9, b2=0.999, epsilon=1e-8)
        own = {"optimizer": adamw, "precision": precision, "seed": 0, "accumulate": 1, "ema_decay": 0.0}
        program = Program.of(dataclasses.replace(run, **own), meshes.make(Mesh(), jax.devices()[:1]))
        self._step, self._frozen = program.train_step(), {}
        self._state, _ = program.start(jax.tree.map(jnp.array, params))
        self._batches = batches

    def step(self) -> Step:
        """Waits for the loss, as the peer's does."""
        batches = next(self._batches)
        self._state, measures = self._step(self._state, self._frozen, batches)
        (batch,) = batches.values()
        got = jax.device_get((measures, self._state.step))[0]
        (rows, length), source = batch.tokens_BT.shape, batch.source_tokens_BS
        length += 0 if source is None else source.shape[1]
        return Step(float(got["loss"][0]), float(got["useful_tokens"][0]), rows, length)


class Theirs(Side):
    """transformers' model of the same family with SDPA attention and fused AdamW."""

    def __init__(
        self, run: Run, batches: Iterator[dict], params: Any, *, bf16: bool, compile_model: bool
    ) -> None:
        torch.manual_seed(0)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        contents = families.to_hf_config(run.model, run.heads)
        kind = getattr(transformers, contents.pop("architectures")[0])
        config = kind.config_class(**{**contents, "pad_token_id": 0, "use_cache": False})
        config._attn_implementation = "sdpa"
        model = kind(config)
        exported = families.export_params(params, run.model)
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in exported.items()}
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        tied = families.of_config(run.model).TIED
        assert not unexpected and set(missing) <= set(tied), (missing, unexpected)
        model.tie_weights()
        model.train().to(self._device)
        self._model = model
        self._autocast = bf16
        self._optimizer = torch.optim.AdamW(
            _decayed(self._model), RATE, betas=(0.9, 0.999), eps=1e-8, fused=True
        )
        self._forward = torch.compile(self._model) if compile_model else self._model
        self._batches = batches

    def step(self) -> Step:
        """Forward, backward, update; the loss is read, as in every logging loop."""
        batch = {k: v.to(self._device) for k, v in next(self._batches).items()}
        useful = batch.pop("useful")
        with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
            loss = self._forward(**batch).loss
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        length = sum(batch[name].shape[1] for name in ("input_ids", "decoder_input_ids") if name in batch)
        return Step(float(loss.detach()), float(useful), len(batch["input_ids"]), length)


def _decayed(model: torch.nn.Module) -> list[dict]:
    named = list(model.named_parameters())
    return [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]


def raw_names() -> list[str]:
    """Contenders of the raw step, ours first. XLA gains nothing from bfloat16 on CPUs."""
    ours = ["jaxlm float32"] if jax.default_backend() == "cpu" else ["jaxlm bfloat16", "jaxlm float32"]
    return [*ours, "transformers float32", "transformers bfloat16 autocast"]


def pipeline_names() -> list[str]:
    """Contenders of the whole pipeline, ours first, all at one precision."""
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return [
        f"jaxlm {dtype}, packed",
        f"transformers {dtype}, concatenated",
        f"transformers {dtype}, one document a row",
    ]


class Bench:
    """Makes contenders on one tokenised corpus, all from the same initial weights."""

    def __init__(self, run: Run, options: Any) -> None:
        # The streams of the text carry the batch size and the row length of the run.
        self.stage = Stage(length=options.pipeline_row_length, share=1.0)
        self.run = dataclasses.replace(
            run,
            objective=_of_tokens(run.objective),
            batch_size=options.pipeline_batch_size,
            stages=(self.stage,),
        )
        if jax.default_backend() == "cpu":
            self.run.model.layer_loop = "unrolled"  # about 5 % faster on CPUs
        self.options = options
        self.text = assemble.text(self.run, lambda line: None)

    def make(self, name: str) -> Side:
        """The contender of that name."""
        ours, dtype = name.startswith("jaxlm"), "bfloat16" if "bfloat16" in name else "float32"
        model = build(self.run.model, self.run.heads)
        params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
        batches = self._batches(name)
        if ours:
            return Ours(self.run, dtype, batches, params)
        fixed = "one document" not in name  # torch.compile would compile for every other length
        compiled = self.options.compile == "on" and fixed
        return Theirs(self.run, batches, params, bf16=dtype == "bfloat16", compile_model=compiled)

    def _batches(self, name: str) -> Iterator[Any]:
        o = self.options
        if "packed" in name:
            return self._packed()
        if "concatenated" in name:
            return self._concatenated(o.pipeline_batch_size, o.pipeline_row_length)
        if "one document" in name:
            return self._one_each(o.pipeline_batch_size, o.pipeline_row_length)
        rows = self._full_rows(o.batch_size, o.row_length, 64)
        ours = name.startswith("jaxlm")
        return _cycle([{"": batch} if ours else _for_transformers(batch) for batch in rows])

    def describe_text(self) -> str:
        """Documents and their median length."""
        lengths = self.text.streams[0].sources[""]["train"].lengths
        return f"{len(lengths):,} documents of {int(np.median(lengths))} tokens (median)"

    def _packed(self) -> Iterator[Batches]:
        rows = assemble.rows(self.run, self.text, self.stage, "train")
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
        yield from assemble.train_feed(self.run, self.text, rows, mesh, start=0)

    def _full_rows(self, batch_size: int, row_length: int, number: int) -> list[Batch]:
        """Batches of rows that one document fills to the last token."""
        objective, stream = self.run.objective, self.text.streams[0]
        rows = pipeline.make_rows(
            objective,
            stream.sources[""]["train"],
            self.text.vocabulary,
            row_length=row_length,
            method="none",
            seed=0,
            cache=None,
            train=False,
        )
        filled = rows.plan.row_length - rows.items.overhead
        wanted = number * batch_size
        full = [i for i in range(len(rows)) if rows.plan.pieces(i)[0][2] == filled][:wanted]
        made = [
            objective.prepare(row, self.text.vocabulary, draws.generator(0, "benchmark", i), train=True)
            for i, row in enumerate(rows.read(full))
        ]
        whole = len(made) // batch_size
        if not whole:
            raise UserError(
                f"{len(made)} documents fill a row of {row_length} tokens, {batch_size} are needed. "
                "Fix: a smaller --row_length or --batch_size, or a larger --corpus."
            )
        groups = [made[b * batch_size : (b + 1) * batch_size] for b in range(whole)]
        return [stacked(group) for group in groups]

    def _collator(self) -> Callable[[list], dict]:
        """What run_mlm.py uses, at the recipe's masking rate, over the ids of our tokenizer."""
        vocabulary = self.text.vocabulary
        names = {"pad": vocabulary.pad, "unk": vocabulary.unk, "cls": vocabulary.cls, "sep": vocabulary.sep}
        tokens = {f"{role}_token": self.text.tokenizer.token(id) for role, id in names.items()}
        tokens["mask_token"] = self.text.tokenizer.token(vocabulary.mask)
        folder = self.text.directory
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), **tokens
        )
        collate = transformers.DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=self.run.objective.rate
        )

        def call(rows: list[np.ndarray]) -> dict:
            batch = dict(collate([{"input_ids": row.tolist()} for row in rows]))
            batch["useful"] = batch["attention_mask"].sum()
            if bool(batch["attention_mask"].all()):
                batch.pop("attention_mask")  # the fastest path of SDPA
            return batch

        return call

    def _loader(self, rows: Any, batch_size: int) -> Iterator[dict]:
        loader = torch.utils.data.DataLoader(
            rows, batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=self._collator()
        )
        while True:
            yield from loader

    def _ids(self) -> Iterator[np.ndarray]:
        train, vocabulary = self.text.streams[0].sources[""]["train"], self.text.vocabulary
        for k in range(len(train)):
            yield np.concatenate([[vocabulary.cls], train[k], [vocabulary.sep]])

    def _concatenated(self, batch_size: int, row_length: int) -> Iterator[dict]:
        stream = np.concatenate(list(self._ids()))
        rows = list(stream[: len(stream) // row_length * row_length].reshape(-1, row_length))
        return self._loader(rows, batch_size)

    def _one_each(self, batch_size: int, row_length: int) -> Iterator[dict]:
        return self._loader([ids[:row_length] for ids in self._ids()], batch_size)


def _of_tokens(objective: Any) -> Any:
    """The part of an objective that predicts tokens."""
    return getattr(objective, "masked_lm", objective)


def _cycle(batches: list[dict]) -> Iterator[dict]:
    while True:
        yield from map(dict, batches)


def _for_transformers(batch: Batch) -> dict[str, torch.Tensor]:
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
    elif asked.places_BM is None:
        # Causal models shift labels themselves, one place to the left: the target of the last token is lost.
        labels = np.concatenate([np.full_like(labels[:, :1], -100), labels[:, :-1]], axis=1)
    return {**tokens, "labels": torch.from_numpy(labels), "useful": torch.tensor(float(batch.tokens_BT.size))}
