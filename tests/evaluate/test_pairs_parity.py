"""Folders of others judge pairs of texts as transformers and sentence-transformers do, in columns that are named."""

import dataclasses
import json

import numpy as np
import pytest

import jaxlm
from jaxlm.commands import evaluate, predict
from jaxlm.data.corpus.record import Record
from jaxlm.data.tokenizer import Pretrained
from jaxlm.errors import UserError
from jaxlm.tasks import table as table_of
from jaxlm.tasks.scores import Comparing
from tests.objectives import small

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

WORDS = ["the", "cat", "dog", "sat", "on", "mat", "a", "ran", "away", "slept"]
PAIRS = [
    ("the cat sat on the mat", "a dog ran"),
    ("a cat slept", "the cat slept on the mat"),
    ("the dog ran away", "a cat"),
    ("mat", "the dog sat on the dog and the cat sat on the mat and ran away " * 3),
]
SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40)


def bert(path, kind: str, **config):
    """A folder with random weights that are far apart, and its model of transformers."""
    path.mkdir()
    torch.manual_seed(0)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (path / "vocab.txt").write_text("\n".join(names) + "\n")
    words = transformers.BertTokenizerFast(str(path / "vocab.txt"))
    sizes = {**SIZES, "vocab_size": len(names), "max_position_embeddings": 32, "initializer_range": 0.5}
    model = getattr(transformers, kind)(transformers.BertConfig(**sizes, **config)).eval()
    model.save_pretrained(path)
    words.save_pretrained(path)
    return model, words


def roberta(path, kind: str, **config):
    """As `bert`, with two marks between the texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    path.mkdir()
    torch.manual_seed(0)
    names = ["<s>", "<pad>", "</s>", "<unk>", *WORDS, "<mask>"]
    made = Tokenizer(models.WordLevel({name: k for k, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    marks = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", mask_token="<mask>")
    marks |= dict(cls_token="<s>", sep_token="</s>")
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **marks)
    sizes = {**SIZES, "vocab_size": len(names), "max_position_embeddings": 34, "initializer_range": 0.5}
    kinds = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1)
    hf = transformers.RobertaConfig(**sizes, **kinds, **config)
    model = getattr(transformers, kind.replace("Bert", "Roberta"))(hf).eval()
    model.save_pretrained(path)
    words.save_pretrained(path)
    return model, words


def table(path, column: str, values) -> str:
    rows = [{"premise": a, "claim": b, column: v} for (a, b), v in zip(PAIRS, values, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def logits(model, words) -> np.ndarray:
    cut = dict(truncation="longest_first", max_length=32, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**words(*map(list, zip(*PAIRS, strict=True)), **cut)).logits.numpy()


@pytest.mark.parametrize("make", [bert, roberta])
def test_a_cross_encoder_judges_a_pair_in_one_row(tmp_path, make, capsys):
    names = ("entailed", "neutral", "refuted")
    model, words = make(tmp_path / "hf", "BertForSequenceClassification", id2label=dict(enumerate(names)))
    shares = torch.tensor(logits(model, words)).softmax(-1).numpy()
    assert len({int(one.argmax()) for one in shares}) > 1
    data = table(tmp_path / "t.jsonl", "label", [names[k] for k in (0, 1, 2, 1)])
    run = [f"--run=hf:{tmp_path / 'hf'}", "--text-field=premise,claim"]
    assert predict.main(["predict", *run, f"--input={data}", f"--output={tmp_path / 'o.jsonl'}"]) == 0
    found = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([list(one["probabilities"].values()) for one in found], shares, atol=1e-5)
    ready = jaxlm.load(f"hf:{tmp_path / 'hf'}")
    assert ready.predict(PAIRS) == [{name: one[name] for name in ready.predict(PAIRS)[0]} for one in found]
    with pytest.raises(UserError, match=r"'mat'.* is 1 text\(s\), and the model takes 2, text, text_pair"):
        ready.predict([*PAIRS, "mat"])
    capsys.readouterr()
    assert evaluate.main(["evaluate", *run, f"--data={data}", "--folder=", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"]
    assert accuracy == np.mean(shares.argmax(-1) == [0, 1, 2, 1])


@pytest.mark.parametrize("make", [bert, roberta])
def test_a_pair_is_trained_on_as_transformers_lays_it_out(tmp_path, make):
    """Packed, a few to a row; RoBERTa has two separators between the texts."""
    _, words = make(tmp_path / "hf", "BertForSequenceClassification")
    data = tmp_path / "t.jsonl"
    table(data, "label", ["yes", "no"] * 2)
    run = small.recipe("classification", data, tmp_path / "cache", tokens=64, steps=2)
    run.tokenizer = Pretrained(path=str(tmp_path / "hf"))
    run.data.text_fields, run.objective.texts = ("premise", "claim"), 2
    run.objective.max_tokens, run.data.validation_share = 28, 0.0
    (batch,) = jaxlm.batch_at(run).values()
    found = {
        tuple(tokens[segments == k].tolist())
        for tokens, segments in zip(batch.tokens_BT, batch.segments_BT, strict=True)
        for k in range(1, int(segments.max()) + 1)
    }
    cut = dict(truncation="longest_first", max_length=32 if make is roberta else 31)
    assert found == {tuple(words(a, b, **cut).input_ids) for a, b in PAIRS}


def test_a_cross_encoder_scores_a_pair(tmp_path):
    model, words = bert(tmp_path / "hf", "BertForSequenceClassification", num_labels=1)
    data = table(tmp_path / "t.jsonl", "score", [0.0, 1.0, 2.0, 3.0])
    words_ = [f"--run=hf:{tmp_path / 'hf'}", "--text-field=premise,claim", f"--input={data}"]
    assert predict.main(["predict", *words_, f"--output={tmp_path / 'o.jsonl'}"]) == 0
    found = [json.loads(line)["predicted"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(found, logits(model, words)[:, 0], atol=1e-5)


def test_an_encoder_of_sentences_gives_their_cosine(tmp_path, capsys):
    pytest.importorskip("sentence_transformers", reason="needs the extra `parity` (sentence-transformers)")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    bert(tmp_path / "plain", "BertModel")
    steps = [Transformer(str(tmp_path / "plain"), max_seq_length=9), Pooling(24, "mean")]
    theirs = SentenceTransformer(modules=steps, device="cpu")
    theirs.save(str(tmp_path / "hf"))
    sides = [theirs.encode(list(side), normalize_embeddings=True) for side in zip(*PAIRS, strict=True)]
    cosines, right = (sides[0] * sides[1]).sum(axis=1), np.array([0.0, 3.0, 2.0, 5.0])
    data = table(tmp_path / "t.jsonl", "score", right.tolist())
    run = [f"--run=hf:{tmp_path / 'hf'}", "--text-field=premise,claim"]
    assert predict.main(["predict", *run, f"--input={data}", f"--output={tmp_path / 'o.jsonl'}"]) == 0
    found = [json.loads(line)["predicted"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(found, cosines, atol=1e-5)
    capsys.readouterr()
    assert evaluate.main(["evaluate", *run, f"--data={data}", "--folder=", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    # Nobody said how far a cosine is from a score, so there is no error of it.
    assert list(metrics) == ["pearson", "spearman"]
    np.testing.assert_allclose(metrics["pearson"]["value"], np.corrcoef(cosines, right)[0, 1], atol=1e-5)


def test_two_scales_of_one_cosine_are_no_difference():
    """The answers of two models change places in the paired test, which is of one unit."""
    rng = np.random.default_rng(0)
    right_N, cosines_N = rng.uniform(0, 5, 40), rng.uniform(0, 1, 40)
    records = [Record(("a", "b"), values=(float(value),)) for value in right_N]
    recipe, sides = jaxlm.load_recipe("similarity"), []
    for highest in (5.0, 1.0):
        task = Comparing(None, recipe.data, dataclasses.replace(recipe.objective, highest=highest))
        asked = [np.array([cosine + rng.normal(0, 0.02)]) for cosine in cosines_N]
        sides.append(
            table_of.Answered(task=task, records=records, answers=task.answer((), asked), asked=asked)
        )
    one, other = sides
    found = table_of.compared(one, other)["pearson"]
    same = dataclasses.replace(other, answers=one.task.answer((), other.asked), task=one.task)
    assert found == table_of.compared(one, same)["pearson"]


def test_columns_that_a_model_does_not_read_are_refused(tmp_path):
    bert(tmp_path / "hf", "BertForSequenceClassification", id2label={0: "a", 1: "b"})
    data = table(tmp_path / "t.jsonl", "label", list("abab"))
    three = [f"--run=hf:{tmp_path / 'hf'}", "--text-field=premise,claim,label"]
    with pytest.raises(
        UserError, match=r"premise, claim, label: 3 column\(s\) .* takes 1 or 2 \(usually text\)"
    ):
        predict.main(["predict", *three, f"--input={data}"])
    with pytest.raises(UserError, match=r"--text-field is of --data=FILE"):
        evaluate.main(["evaluate", f"--run=hf:{tmp_path / 'hf'}", "--text-field=premise"])
