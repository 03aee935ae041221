"""What a model says of an item that is packed into a row of training with others is what it answers about it alone."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from jaxlm.data.corpus.columns import Answers
from jaxlm.infer import choose, classify, embed, extract, relate, tag
from jaxlm.models.build import build
from jaxlm.objectives.predictions import Logits
from jaxlm.objectives.question_answering import QuestionAnswering
from jaxlm.objectives.tagging import Tagging
from tests.data.test_spans import opened, run
from tests.exchange.folders import CONFIG
from tests.infer.predictors import predictor
from tests.objectives.test_kinds_of_classes import COLUMNS, FIELDS, KINDS, MARKS, RECORDS, batch

CUT: dict[str, Any] = {
    "max_tokens": 40,
    "overlap": 5,
    "question_tokens": 10,
    "items_per_row": 4,
}
EVERY = {name: KINDS[name] for name in KINDS if name not in ("classes of a mean", "label sets")}
EVERY["tags"] = Tagging(column="head", labels=("head",), scheme="bio", max_tokens=14, items_per_row=4)
EVERY["answers"] = QuestionAnswering(column="answers", no_answer=True, **CUT)


def asked(record):
    """A question about the text of a record, whose answer is its head."""
    head = {"text": record["head"]["text"], "answer_start": record["head"]["start"]}
    return {"question": record["other"], "context": record["text"], "answers": [head]}


def prepared(place, kind):
    """(fields of an item, its records, their shards)."""
    if kind == "answers":
        fields, records = ("question", "context"), [asked(one) for one in RECORDS]
        columns = (Answers(field="answers", text="context"),)
        return fields, records, run(place, records, columns, text_fields=fields)
    fields, steps = FIELDS.get(kind, ("text",)), (MARKS,) if kind == "relations" else ()
    several = {"text_fields": fields} if len(fields) > 1 else {}
    columns = COLUMNS[:3] if several else COLUMNS
    return fields, RECORDS, run(place, RECORDS, columns, steps=steps, **several)


def segments(made, group=1):
    """Of every packed row and item: (row, number of the item, tokens of its `group` segments one after another)."""
    for b, (tokens, numbers) in enumerate(zip(made.tokens_BT, made.segments_BT, strict=True)):
        for c in range(numbers.max(initial=0) // group):
            own = [tokens[numbers == c * group + 1 + s].tolist() for s in range(group)]
            yield b, c, tuple(map(tuple, own))


def alone(kind, ready, objective, items):
    """Of every item (its tokens, what is answered about it), by what `jaxlm predict` calls."""
    texts, most = [text for text, *_ in items], objective.max_tokens
    rows = lambda pairs: classify.laid_out(ready, pairs, len(pairs[0]), most)
    key = lambda found: [(tuple(row),) for row in found]
    if kind in ("classes", "numbers of pairs"):
        return zip(key(rows(items)), classify.outputs(ready, objective, items), strict=True)
    if kind == "similarity":
        sides = [[one[side] for one in items] for side in range(2)]
        vectors = [embed.embed(ready, side, pooling="mean", row_length=most + 2) for side in sides]
        first, second = (key(rows([[text] for text in side])) for side in sides)
        keys = [a + b for a, b in zip(first, second, strict=True)]
        return zip(keys, (vectors[0] * vectors[1]).sum(axis=-1), strict=True)
    if kind == "choices":
        pairs = [[(first, other) for other in others] for first, *others in items]
        keys = [tuple(one for (one,) in key(rows(few))) for few in pairs]
        return zip(keys, choose.choose(ready, objective, items), strict=True)
    if kind == "relations":
        told = relate.relate(ready, objective, texts, (MARKS.markers[0], MARKS.markers[2]))
        return zip(key(rows([[text] for text in texts])), told, strict=True)
    if kind == "answers":
        windows = extract.scores(ready, objective, items)
        assert all(len(one) == 1 for one in windows)
        return zip(key(rows(items)), [one[0] for one in windows], strict=True)
    return zip(key(rows([[text] for text in texts])), tag.scores(ready, objective, texts), strict=True)


def said(kind, outputs, made, b, c, sep):
    """Of a packed item, from what the objective predicts of the batch, in the form of `alone`."""
    own = made.segments_BT[b] == c + 1
    if kind == "answers":
        question = made.tokens_BT[b][own].tolist().index(sep)
        scores_T2 = outputs["span"][b][own]
        return np.concatenate([scores_T2[:1], scores_T2[question + 1 : -1]])  # [CLS], and the context
    if "tags" in outputs:
        return outputs["tags"][b][own & (made.targets.weights_BT[b] > 0)]
    (found,) = outputs.values()
    return classify.shares(found[b, c]) if kind in ("choices", "relations") else found[b, c]


@pytest.mark.parametrize("kind", EVERY)
def test_a_packed_item_is_told_what_it_is_told_alone(kind, tmp_path):
    objective, (fields, records, made) = EVERY[kind], prepared(tmp_path, kind)
    config = dataclasses.replace(CONFIG, vocab_size=150, max_positions=200)
    model, rng = build(config, objective.heads(config)), np.random.default_rng(2)
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), model.shapes)
    packed = batch(objective, opened(made), made.tokenizer.vocabulary, "best_fit", 180)

    @jax.jit
    def predict(params):
        found = objective.predict(model.bind(params), packed, None).outputs
        made = {name: one() if isinstance(one, Logits) else one for name, one in found.items()}
        return {name: one for name, one in made.items() if name != "chain"} | (
            {"tags": jax.nn.log_softmax(made["tags"])} if kind == "tags" else {}
        )

    outputs = jax.device_get(predict(params))
    group = {"similarity": 2, "choices": getattr(objective, "choices", 1)}.get(kind, 1)
    sep, found = made.tokenizer.vocabulary.sep, {}
    for b, c, tokens in segments(packed, group):
        found.setdefault(tokens, []).append(said(kind, outputs, packed, b, c, sep))
    assert packed.segments_BT.max() > 2 * group and sum(map(len, found.values())) > 60
    if kind == "relations":
        records = [{"text": marked(one)} for one in records]
    items = [[one[field] for field in fields] for one in records[:24]]
    ready, met = predictor(model, params, made.tokenizer, row_length=64), 0
    for tokens, answer in alone(kind, ready, objective, items):
        for one in found.get(tokens, []):
            np.testing.assert_allclose(one, answer, atol=1e-4)
            met += 1
    assert met > 12, "most of them are in the training split"


def marked(record):
    """The text of a record, as `MARKS` writes it."""
    text = record["text"]
    for side, (before, behind) in (("tail", MARKS.markers[2:]), ("head", MARKS.markers[:2])):
        a, b = record[side]["start"], record[side]["end"]
        text = f"{text[:a]}{before} {text[a:b]} {behind}{text[b:]}"
    return text
