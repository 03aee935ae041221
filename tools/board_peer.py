"""The peer of tools/board.py: transformers' Trainer, dynamic padding, batches grouped by length. In: a cell as JSON.

    python tools/board_peer.py cell.json

AdamW in float32, linear with 10 % warm-up; the model is saved as transformers saves it, and trained.json beside it.
"""

import json
import pathlib
import sys
import time

import torch
import transformers


class Rows(torch.utils.data.Dataset):
    """Encoded rows."""

    def __init__(self, rows):
        self._rows = rows

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, place):
        return self._rows[place]


def main(argv: list[str]) -> int:
    """Trains the cell."""
    cell = json.loads(pathlib.Path(argv[1]).read_text())
    with open(cell["train"]) as stream:
        rows = [json.loads(line) for line in stream]
    tokenizer = transformers.AutoTokenizer.from_pretrained(cell["model"])
    tagging = cell["kind"] == "tagging"
    labels = tag_names(rows) if tagging else sorted({row[cell["label"]] for row in rows})
    kind = "TokenClassification" if tagging else "SequenceClassification"
    transformers.set_seed(cell["seed"])
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
        cell["model"], id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)}
    )
    encode = tagged if tagging else classified
    found = Rows([encode(row, cell, tokenizer, labels) for row in rows])
    collator = "DataCollatorForTokenClassification" if tagging else "DataCollatorWithPadding"
    trainer = transformers.Trainer(
        model=model,
        args=arguments(cell),
        train_dataset=found,
        data_collator=getattr(transformers, collator)(tokenizer),
        processing_class=tokenizer,
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.save_model(cell["folder"])
    about = {"seconds": seconds, "examples": len(rows) * cell["epochs"]}
    (pathlib.Path(cell["folder"]) / "trained.json").write_text(json.dumps(about))
    return 0


def arguments(cell: dict) -> transformers.TrainingArguments:
    """As the protocol has them."""
    return transformers.TrainingArguments(
        output_dir=cell["folder"] + "/trainer",
        num_train_epochs=cell["epochs"],
        per_device_train_batch_size=cell["batch"],
        learning_rate=cell["rate"],
        lr_scheduler_type="linear",
        warmup_steps=max(1, int(0.1 * cell["epochs"] * cell["examples"] / cell["batch"])),
        weight_decay=0.01,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length",
        seed=cell["seed"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def tag_names(rows: list[dict]) -> list[str]:
    """O, then B- and I- of every label."""
    names = sorted({tag[2:] for row in rows for tag in row["tags"] if tag != "O"})
    return ["O", *(f"{begin}-{name}" for name in names for begin in "BI")]


def classified(row: dict, cell: dict, tokenizer, labels: list[str]) -> dict:
    """A text and the number of its label."""
    made = tokenizer(row["text"], truncation=True, max_length=cell["tokens"])
    return {**made, "labels": labels.index(row[cell["label"]])}


def tagged(row: dict, cell: dict, tokenizer, labels: list[str]) -> dict:
    """Words with their tag at the first token of each."""
    made = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, max_length=cell["tokens"])
    words = made.word_ids()
    first = [k for k, word in enumerate(words) if word is not None and word != words[k - 1]]
    marks = [-100] * len(words)
    for k in first:
        marks[k] = labels.index(row["tags"][words[k]])
    return {**made, "labels": marks}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
