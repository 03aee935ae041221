"""Fine-tunes the same model on the same examples with jaxlm and with transformers' Trainer, side by side.

    python tools/benchmark_finetuning.py classification --model=DIR --data=train.csv

A process per contender, alternating blocks of steps: examples per second of whole training loops, input pipelines
included. Ours packs several examples into a row; theirs has one a row, grouped by length and padded to the longest of
its batch (`train_sampling_strategy="group_by_length"`). The examples are the same to the token: theirs are ours, one by
one. Needs the extra `parity`. Prints a Markdown table; `--output` appends it with hardware, date and commit.
"""

import argparse
import dataclasses
import multiprocessing
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import benchmark
import jax
import numpy as np
import peft
import torch
import transformers

from jaxlm.config import Run, flags
from jaxlm.data import draws, pipeline
from jaxlm.exchange import bases
from jaxlm.objectives.question_answering import AnswerTargets
from jaxlm.objectives.tagging import TagTargets
from jaxlm.objectives.targets import ItemTargets
from jaxlm.partition import mesh as meshes
from jaxlm.run import inputs, inventory
from jaxlm.run.program import Program
from jaxlm.runtime import device_memory, memory
from jaxlm.views import LoRA

_QUIET = lambda line: None


@dataclasses.dataclass
class Done:
    """What a contender did in its blocks."""

    name: str
    seconds: float = 0.0
    examples: int = 0
    useful: int = 0  # tokens that are not padding
    tokens: int = 0  # padding included
    losses: list[float] = dataclasses.field(default_factory=list)

    def add(self, block: "Done") -> None:
        """What another block was."""
        for field in ("seconds", "examples", "useful", "tokens"):
            setattr(self, field, getattr(self, field) + getattr(block, field))
        self.losses += block.losses


def of_options(options: argparse.Namespace) -> Run:
    """The run that both sides are about, its labels filled in."""
    words = [
        "benchmark",
        f"--config={options.recipe}",
        f"--config.init_from=hf:{options.model}",
        *options.flags,
    ]
    words += [f"--config.data.corpus={options.data}"] if options.data else []
    return inventory.filled(flags.parse(words).run, _QUIET)


# ------------------------------------------------------------------------------------------------------------- ours


def ours(pipe: Any, options: argparse.Namespace) -> None:
    """Measures blocks of as many steps as asked for, until that is 0."""
    memory.keep_freed_memory()  # as every command of ours does
    run = of_options(options)
    mesh = meshes.make(run.mesh)
    with jax.set_mesh(mesh):
        program, text = Program.of(run, mesh), inputs.text(run, _QUIET)
        state, frozen = program.start(bases.parameters(program, text.tokenizer, _QUIET))
        step, rows = program.train_step(), inputs.rows(run, text, run.stages[0], "train")
        with inputs.train_feed(text, rows, mesh, start=0) as feed:
            while steps := pipe.recv():
                done, counts, begin = Done("jaxlm, packed"), [], time.perf_counter()
                for _ in range(steps):
                    batch = next(feed)
                    state, measures = step(state, frozen, batch)
                    counts.append((batch[""].segments_BT, device_memory.settled(measures)))  # as in training
                counts = jax.device_get(counts)  # waits for the last step
                done.seconds = time.perf_counter() - begin
                for segments_BT, measures in counts:
                    done.examples += int(segments_BT.max(axis=1).sum())
                    done.useful += int((segments_BT > 0).sum())
                    done.tokens += segments_BT.size
                    done.losses.append(float(measures["loss"][0]))
                pipe.send(done)


# ----------------------------------------------------------------------------------------------------------- theirs


def theirs(pipe: Any, options: argparse.Namespace) -> None:
    """The same, inside of Trainer.train()."""
    run = of_options(options)
    found = examples(run)
    transformers.set_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=options.batch_size,
            learning_rate=5e-5,
            weight_decay=0.01,
            max_steps=10**6,
            train_sampling_strategy="group_by_length",
            length_column_name="length",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=not gpu,
            bf16=gpu and run.precision != "float32",
            dataloader_num_workers=4 * gpu,  # on a CPU they would take from the step what they give
            dataloader_persistent_workers=gpu,
        )
        trainer = Measured(
            model=peer(run, options.model),
            args=settings,
            train_dataset=Examples(found),
            data_collator=collate,
        )
        trainer.add_callback(Blocks(pipe, trainer.taken))
        trainer.train()


def examples(run: Run) -> list[dict[str, Any]]:
    """Every example of the training split alone, as a model of transformers takes it."""
    text = inputs.text(run, _QUIET)
    stream = text.streams[0]
    rows = pipeline.make_rows(
        stream.objective,
        stream.sources[""]["train"],
        text.vocabulary,
        row_length=run.stages[0].length,
        method="none",
        seed=0,
        cache=None,
        train=False,
    )
    found = []
    for at in range(0, len(rows), 1024):
        for number, row in enumerate(rows.read(range(at, min(at + 1024, len(rows)))), at):
            drawn = draws.generator(0, "benchmark", number)
            found.append(example(stream.objective.prepare(row, text.vocabulary, drawn, train=True)))
    return found


def example(batch: Any) -> dict[str, Any]:
    """Of a row that holds one item; what is asked under the names that transformers gives it."""
    used = int((batch.segments_BT > 0).sum())
    made = {"input_ids": batch.tokens_BT[:used], "length": used}
    if batch.types_BT is not None and batch.types_BT.any():
        made["token_type_ids"] = batch.types_BT[:used]
    asked = batch.targets
    if isinstance(asked, ItemTargets):
        return {**made, "labels": np.int64(asked.labels_BC[0])}
    if isinstance(asked, AnswerTargets):
        start, end = asked.places_BC2[0].astype(np.int64)
        return {**made, "start_positions": start, "end_positions": end}
    labels = np.full(used, -100, np.int64)
    if isinstance(asked, TagTargets):
        labels[asked.weights_BT[:used] > 0] = asked.tags_BT[:used][asked.weights_BT[:used] > 0]
    else:  # its models move labels themselves, one place to the left
        real = asked.weights_BM > 0
        labels[asked.places_BM[real] + 1] = asked.ids_BM[real]
    return {**made, "labels": labels}


class Examples(torch.utils.data.Dataset):
    """What a Trainer reads."""

    def __init__(self, found: list[dict[str, Any]]) -> None:
        self.found = found
        self.column_names = ["length"]

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, key: Any) -> Any:
        return [one["length"] for one in self.found] if key == "length" else self.found[key]


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pads a batch to its longest example: tokens, types and labels of them; one number an example as it is."""
    width = max(row["length"] for row in rows)
    empty = {"input_ids": 0, "token_type_ids": 0, "labels": -100}
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name != "length"]
    made = {"attention_mask": np.arange(width) < np.array([[row["length"]] for row in rows])}
    for name in names:
        values = [row.get(name, np.zeros(row["length"], np.int64)) for row in rows]
        if values[0].ndim:
            pad = lambda v, name=name: np.pad(v, (0, width - len(v)), constant_values=empty[name])
            values = [pad(value) for value in values]
        made[name] = np.stack(values)
    return {name: torch.from_numpy(array.astype(np.int64)) for name, array in made.items()}


class Measured(transformers.Trainer):
    """Keeps the mask and the loss of every step where they are, and calls nothing else."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.taken: list[tuple[torch.Tensor, torch.Tensor]] = []

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **settings: Any) -> torch.Tensor:
        """As it is."""
        mask = inputs["attention_mask"]
        self.taken.append((mask, super().training_step(model, inputs, *rest, **settings).detach()))
        return self.taken[-1][1]


class Blocks(transformers.TrainerCallback):
    """Waits at the end of every block for the next one."""

    def __init__(self, pipe: Any, taken: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.pipe, self.taken, self.left = pipe, taken, 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """The first of a block begins when it was asked for."""
        if not self.left:
            self.left = self.pipe.recv()
            self.begin = time.perf_counter()
            self.taken.clear()
            if not self.left:
                raise SystemExit

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """The last of a block."""
        self.left -= 1
        if not self.left:
            losses = torch.stack([loss for _, loss in self.taken]).tolist()  # waits for the last step
            seconds = time.perf_counter() - self.begin
            masks = [mask for mask, _ in self.taken]
            sizes = ((len(mask), int(mask.sum()), mask.numel()) for mask in masks)
            number, useful, tokens = map(sum, zip(*sizes, strict=True))
            name = "transformers Trainer, grouped by length"
            self.pipe.send(Done(name, seconds, number, useful, tokens, losses))


_HEADS = {"classes": "SequenceClassification", "tags": "TokenClassification", "span": "QuestionAnswering"}


def peer(run: Run, folder: str) -> Any:
    """The model of the folder with a new head, or LoRA where the run has it, as its users would have it."""
    head = next((name for name in run.heads if name != "pooler"), "")
    auto = getattr(transformers, f"AutoModelFor{_HEADS.get(head, 'CausalLM')}")
    labels = run.objective.class_names.get(head, ())
    model = auto.from_pretrained(folder, **({"num_labels": len(labels)} if labels else {}))
    for view in run.view:
        assert isinstance(view, LoRA), "only LoRA has a peer here"
        rank = {"r": view.rank, "lora_alpha": view.alpha, "use_rslora": view.scaling == "sqrt"}
        model = peft.get_peft_model(model, peft.LoraConfig(**rank, target_modules="all-linear"))
    return model


# ------------------------------------------------------------------------------------------------------------- both


def race(options: argparse.Namespace) -> list[Done]:
    """Alternating blocks; the first of each compiles and warms up, and is not counted."""
    context, started = multiprocessing.get_context("spawn"), []
    for serve in (ours, theirs):
        pipe, other = context.Pipe()
        process = context.Process(target=serve, args=(other, options))  # with workers of its own
        process.start()
        other.close()
        pipe.send(2)
        started.append((pipe, Done(pipe.recv().name)))
    for _ in range(options.rounds):
        for pipe, done in started:
            pipe.send(options.block)
            done.add(pipe.recv())
            print(f"  {done.name}: {done.examples / done.seconds:.1f} examples/s", flush=True)
    for pipe, _ in started:
        pipe.send(0)  # the end
    return [done for _, done in started]


def table(results: list[Done]) -> Iterator[str]:
    """One line per contender."""
    yield "| fine-tuning | examples/s | useful tokens/s | padding | ours is | mean loss |"
    yield "|---|---|---|---|---|---|"
    rate = results[0].examples / results[0].seconds
    for r in results:
        padding, own = 1 - r.useful / r.tokens, r.examples / r.seconds
        loss = float(np.mean(r.losses))
        yield f"| {r.name} | {own:.1f} | {r.useful / r.seconds:,.0f} | {padding:.1%} | {rate / own:.2f}× | {loss:.3f} |"


def main() -> None:
    """Measures and prints; what begins with --config goes to the recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="classification, tagging, question_answering, chat, or a path")
    parser.add_argument("--model", required=True, help="a Hugging Face folder to start from")
    parser.add_argument("--data", default="", help="default: the recipe's")
    parser.add_argument("--batch_size", type=int, default=32, help="examples of a step of the peer")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--block", type=int, default=10, help="steps of a contender before the other's turn")
    parser.add_argument("--output", type=pathlib.Path, default=None, help="append the table to this file")
    options, options.flags = parser.parse_known_args()
    if not options.recipe.endswith(".py"):
        options.recipe = f"{benchmark.ROOT}/configs/{options.recipe}.py"
    inputs.text(of_options(options), print)  # tokenises here: contenders may not start processes
    lines = [f"### {pathlib.Path(options.recipe).stem}, {benchmark.hardware()}", ""]
    lines += [f"`python {' '.join(sys.argv)}`", "", *table(race(options)), ""]
    print("\n".join(lines))
    if options.output:
        with options.output.open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
