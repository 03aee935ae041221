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
    transformers.set_seed(cell["seed"])
    kinds = {
        "similarity": alike, "translation": translated, "question_answering": answered, "relations": related,
    }  # fmt: skip
    trainer = kinds.get(cell["kind"], labelled)(cell, rows)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.save_model(cell["folder"])
    about = {"seconds": seconds, "examples": len(rows) * cell["epochs"]}
    if cell["kind"] == "relations":  # no class of transformers that could be opened again
        say(cell, trainer)
    (pathlib.Path(cell["folder"]) / "trained.json").write_text(json.dumps(about))
    return 0


def labelled(cell: dict, rows: list[dict]):
    """Classes of texts, of pairs, or of words."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(cell["model"])
    tagging, several = cell["kind"] == "tagging", cell["kind"] == "multi_label"
    listed = (row[cell["label"]] if several else [row[cell["label"]]] for row in rows)
    labels = tag_names(rows) if tagging else sorted({name for names in listed for name in names})
    kind = "TokenClassification" if tagging else "SequenceClassification"
    problem = {"problem_type": "multi_label_classification"} if several else {}
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(cell["model"], **names, **problem)
    if "marked" in cell["fields"]:
        tokenizer.add_special_tokens({"additional_special_tokens": cell["markers"]})
        model.resize_token_embeddings(len(tokenizer))
    encode = tagged if tagging else classified
    collator = "DataCollatorForTokenClassification" if tagging else "DataCollatorWithPadding"
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**arguments(cell)),
        train_dataset=Rows([encode(row, cell, tokenizer, labels) for row in rows]),
        data_collator=getattr(transformers, collator)(tokenizer),
        processing_class=tokenizer,
    )


class Starts(torch.nn.Module):
    """Classes of the features of both first markers, one behind the other (Baldini Soares et al., 1906.03158)."""

    def __init__(self, encoder, classes: int):
        super().__init__()
        self.encoder, self.dropout = encoder, torch.nn.Dropout(encoder.config.hidden_dropout_prob)
        self.classes = torch.nn.Linear(2 * encoder.config.hidden_size, classes)

    def forward(self, input_ids, attention_mask, token_type_ids=None, places=None, labels=None):
        """As a Trainer calls it."""
        features = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        starts = features[torch.arange(len(places))[:, None], places].flatten(1)
        logits = self.classes(self.dropout(starts))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def related(cell: dict, rows: list[dict]):
    """Marked texts: the markers are tokens of their own."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(cell["model"])
    tokenizer.add_special_tokens({"additional_special_tokens": cell["markers"]})
    labels = sorted({row[cell["label"]] for row in rows})
    encoder = transformers.AutoModel.from_pretrained(cell["model"], add_pooling_layer=False)
    encoder.resize_token_embeddings(len(tokenizer))
    trainer = transformers.Trainer(
        model=Starts(encoder, len(labels)),
        args=transformers.TrainingArguments(**arguments(cell)),
        train_dataset=Rows([started(row, cell, tokenizer, labels) for row in rows]),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    trainer.names = labels
    return trainer


def started(row: dict, cell: dict, tokenizer, labels: list[str]) -> dict:
    """A marked text, and where its first markers stand."""
    made = dict(tokenizer(row["marked"], truncation=True, max_length=cell["tokens"]))
    head, tail = (tokenizer.convert_tokens_to_ids(cell["markers"][k]) for k in (0, 2))
    ids = made["input_ids"]
    right = {"labels": labels.index(row[cell["label"]])} if row[cell["label"]] in labels else {"labels": -100}
    return {**made, **right, "places": [ids.index(one) if one in ids else 0 for one in (head, tail)]}


def say(cell: dict, trainer) -> None:
    """Labels of the other tables, as NAME.said.json."""
    for name in ("dev", "test"):
        with open(pathlib.Path(cell["train"]).with_name(f"{name}.jsonl")) as stream:
            rows = [json.loads(line) for line in stream]
        encoded = [started(row, cell, trainer.processing_class, trainer.names) for row in rows]
        said = []  # not by trainer.predict, whose rows come back in the order of their lengths
        for at in range(0, len(encoded), 32):
            with torch.no_grad():
                batch = trainer.data_collator(encoded[at : at + 32])
                said += [trainer.names[k] for k in trainer.model.eval()(**batch)["logits"].argmax(-1)]
        (pathlib.Path(cell["folder"]) / f"{name}.said.json").write_text(json.dumps(said))


def alike(cell: dict, rows: list[dict]):
    """The cosine of two vectors, of sentence-transformers; half of the tokens for each text."""
    import datasets
    import sentence_transformers
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    model = sentence_transformers.SentenceTransformer(cell["model"], device="cpu")
    model.max_seq_length = cell["tokens"] // 2
    texts = {name: [row[name] for row in rows] for name in cell["fields"]}
    scores = {"label": [float(row[cell["label"]]) / 5 for row in rows]}
    how = {name: value for name, value in arguments(cell).items() if name != "train_sampling_strategy"}
    return sentence_transformers.SentenceTransformerTrainer(
        model=model,
        args=sentence_transformers.SentenceTransformerTrainingArguments(**how),
        train_dataset=datasets.Dataset.from_dict({**texts, **scores}),
        loss=CosineSimilarityLoss(model),
    )


def translated(cell: dict, rows: list[dict]):
    """A text from a text, its loss smoothed as that of ours is."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(cell["model"])
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(cell["model"])
    cut = {"truncation": True, "max_length": cell["tokens"]}
    source, target = cell["fields"]
    return transformers.Seq2SeqTrainer(
        model=model,
        args=transformers.Seq2SeqTrainingArguments(**arguments(cell), label_smoothing_factor=0.1),
        train_dataset=Rows([dict(tokenizer(row[source], text_target=row[target], **cut)) for row in rows]),
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, model),
        processing_class=tokenizer,
    )


def answered(cell: dict, rows: list[dict]):
    """Windows of a question and a part of its context, whose answer is a part of that, else [CLS]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(cell["model"])
    found = [window for row in rows for window in windows(row, cell, tokenizer)]
    return transformers.Trainer(
        model=transformers.AutoModelForQuestionAnswering.from_pretrained(cell["model"]),
        args=transformers.TrainingArguments(**arguments(cell)),
        train_dataset=Rows(found),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )


def windows(row: dict, cell: dict, tokenizer) -> list[dict]:
    """As transformers' own example has it: overlapping by a quarter, the answer's first and last token."""
    made = tokenizer(
        row["question"],
        row["context"],
        truncation="only_second",
        max_length=cell["tokens"],
        stride=cell["tokens"] // 4,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    right, found = row["answers"][0], []
    begin, end = right["answer_start"], right["answer_start"] + len(right["text"])
    for k, offsets in enumerate(made["offset_mapping"]):
        inside = [i for i, part in enumerate(made.sequence_ids(k)) if part == 1]
        first = [i for i in inside if offsets[i][0] <= begin < offsets[i][1]]
        last = [i for i in inside if offsets[i][0] < end <= offsets[i][1]]
        start, stop = (first[0], last[0]) if first and last else (0, 0)
        names = ("input_ids", "attention_mask", "token_type_ids")
        window = {name: made[name][k] for name in names if name in made}
        found.append({**window, "start_positions": start, "end_positions": stop})
    return found


def arguments(cell: dict) -> dict:
    """As the protocol has them."""
    return dict(
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
    """A text, or a pair, and the number of its label; of several labels 1 for each that it has."""
    made = tokenizer(*(row[name] for name in cell["fields"]), truncation=True, max_length=cell["tokens"])
    right = row[cell["label"]]
    several = isinstance(right, list)
    return {**made, "labels": [float(name in right) for name in labels] if several else labels.index(right)}


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
