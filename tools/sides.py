"""The contenders of tools/benchmark.py: jaxlm's step, and PyTorch + transformers on the same weights and text.

Every side has `step() -> Step`, which returns when the step is finished on the device.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import flattened
import jax
import jax.numpy as jnp
import numpy as np
import peers
import torch
import transformers
from peers import RATE, Side, Step

from jaxlm.batch import Batch, Batches, stacked
from jaxlm.config import Run, Stage
from jaxlm.data import draws, pipeline
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import Constant
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.run import inputs
from jaxlm.run.program import Program


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


def raw_names(precision: str = "") -> list[str]:
    """Contenders of the raw step, ours first, of all precisions or one. XLA gains nothing from bfloat16 on CPUs."""
    ours = ["jaxlm float32"] if jax.default_backend() == "cpu" else ["jaxlm bfloat16", "jaxlm float32"]
    names = [*ours, "transformers float32", "transformers bfloat16 autocast"]
    return [name for name in names if precision in name]


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
        self.text = inputs.text(self.run, lambda line: None)

    def has_pipelines(self) -> bool:
        """Of masked LM alone."""
        return hasattr(self.run.objective, "rate")

    def pipeline_names(self) -> list[str]:
        """Contenders of the whole pipeline, ours first, all at one precision."""
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
        names = [f"jaxlm {dtype}, packed"]
        names += [f"transformers {dtype}, {kind}" for kind in ("concatenated", "one document a row")]
        if jax.default_backend() != "gpu":
            return names
        if self.run.model.attention_dropout:
            print(
                "  no contender with documents one after another: torch's attention over them has no dropout"
            )
            return names
        return [*names, f"transformers {dtype}, flattened"]

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
        attention = flattened.register() if "flattened" in name else "sdpa"
        return peers.Theirs(
            self.run, batches, params, bf16=dtype == "bfloat16", compile_model=compiled, attention=attention
        )

    def _batches(self, name: str) -> Iterator[Any]:
        o = self.options
        if "packed" in name:
            return self._packed()
        if "concatenated" in name:
            return self._concatenated(o.pipeline_batch_size, o.pipeline_row_length)
        if "flattened" in name:
            rows, length = o.pipeline_batch_size, o.pipeline_row_length
            return flattened.batches([ids[:length] for ids in self._ids()], rows, length, self._collator())
        if "one document" in name:
            return self._one_each(o.pipeline_batch_size, o.pipeline_row_length)
        rows = self._full_rows(o.batch_size, o.row_length, 64)
        ours = name.startswith("jaxlm")
        return _cycle([{"": batch} if ours else peers.rows_of(batch) for batch in rows])

    def describe_text(self) -> str:
        """Documents and their median length."""
        lengths = self.text.streams[0].sources[""]["train"].lengths
        return f"{len(lengths):,} documents of {int(np.median(lengths))} tokens (median)"

    def _packed(self) -> Iterator[Batches]:
        rows = inputs.rows(self.run, self.text, self.stage, "train")
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
        yield from inputs.train_feed(self.text, rows, mesh, start=0)

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
            _alone(
                objective.prepare(row, self.text.vocabulary, draws.generator(0, "benchmark", i), train=True)
            )
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
    """The part of an objective that predicts tokens, by cross-entropy alone."""
    tokens = getattr(objective, "masked_lm", objective)
    plain = {name: 0.0 for name in ("z_loss", "label_smoothing") if hasattr(tokens, name)}
    return dataclasses.replace(tokens, **plain)


def _alone(row: Batch) -> Batch:
    """A row of one document, of which both sides are asked the same."""
    # Causal models of transformers shift labels themselves and lose what follows the last token.
    if row.source_tokens_BS is None and row.targets.places_BM is None:
        row.targets.weights_BM[-1] = 0.0
    return dataclasses.replace(row, most_segments=1)


def _cycle(batches: list[dict]) -> Iterator[dict]:
    while True:
        yield from map(dict, batches)
