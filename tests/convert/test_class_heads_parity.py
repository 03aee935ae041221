"""Classes of texts and of tokens, and ends of answers: transformers' folders give its logits here, and ours give ours
there."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import jax
import torch
import transformers
from safetensors.numpy import load_file

from jaxlm.batch import Batch
from jaxlm.convert import families, heads
from jaxlm.errors import UserError
from jaxlm.exchange import exporting, importing, stored
from jaxlm.formats import safetensors_file
from jaxlm.models.build import build
from jaxlm.models.heads import ClassifyText, Span, Tag, of_texts
from jaxlm.models.paths import nest
from jaxlm.objectives import labelled, reading
from jaxlm.objectives.targets import ItemTargets
from tools.parity.collection import cases

CASES = {case.name: case for case in cases()}
FAMILIES = {  # transformers' name -> a case with its sizes
    name: next(case for case in CASES.values() if type(case.config).__name__ == ours)
    for name, ours in {
        "Bert": "Bert",
        "Roberta": "Roberta",
        "DistilBert": "DistilBert",
        "Albert": "Albert",
        "Electra": "ElectraEncoder",
        "ModernBert": "ModernBert",
        "GPT2": "Gpt2",
        "Llama": "Llama",
        "T5": "T5",
        "Bart": "Bart",
    }.items()
}
LABELS = {0: "person", 1: "place", 2: "else"}
PAD, EOS = 0, 91
TOKENS = np.random.default_rng(5).integers(5, 90, (3, 11))
TOKENS[:, -1] = EOS  # where encoder-decoders look
# A bias of the logits of tokens, that stands in all files of ours, is in none of theirs with classes.
WITHOUT = {"Bart": ("final_logits_bias",)}


def sizes(name, head):
    """The config of a model with that head: tags of T5 are those of its encoder."""
    config = FAMILIES[name].config
    return config.part("encoder") if (name, head) == ("T5", "tags") else config


every = pytest.mark.parametrize(
    ("name", "head"),
    [(n, h) for n in FAMILIES for h in heads.CLASSES if h in families.of_config(sizes(n, h)).HEADS],
)


def contents(name):
    """Of config.json, with larger weights than a new model has."""
    found = FAMILIES[name].contents() | {"pad_token_id": PAD, "eos_token_id": EOS}
    found |= {"initializer_range": 0.3, "init_std": 0.3}
    return found | (
        {"decoder_start_token_id": EOS if name == "Bart" else PAD} if name in ("T5", "Bart") else {}
    )


def reference(name, head):
    """transformers' model with random weights, far from its initial ones."""
    kind = getattr(transformers, name + heads.CLASSES[head])
    labels = {} if head == "span" else {"id2label": LABELS}
    config = kind.config_class(**contents(name) | labels | {"attn_implementation": "eager"})
    torch.manual_seed(3)
    hf = kind(config).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return hf


def theirs(hf):
    with torch.no_grad():
        said = hf(torch.from_numpy(TOKENS))
    return (said.logits if hasattr(said, "logits") else torch.stack([*said.values()][:2], -1)).numpy()


def ours(config, found, params, head):
    ones = np.ones_like(TOKENS, np.int32)
    places = np.broadcast_to(np.arange(TOKENS.shape[1], dtype=np.int32), ones.shape)
    first = np.zeros((len(TOKENS), 1), np.int32)
    start = np.full(len(TOKENS), PAD if type(config).__name__ == "T5" else EOS, np.int32)
    asked = ItemTargets(first_BC=first, labels_BC=first, weights_BC=first, start_B=start)
    batch = Batch(tokens_BT=TOKENS, segments_BT=ones, positions_BT=places, types_BT=0 * ones, targets=asked)

    def logits(module):
        if head == "classes":
            return labelled.judge(module, batch, None, "own")["classes"]()[:, 0]
        return module.heads[head](reading.encode(module, batch, None, start).x_BTD)

    return np.asarray(jax.jit(logits)(build(config, found).bind(params)))


@every
def test_logits_of_a_folder_of_transformers_and_its_way_back(name, head, tmp_path):
    hf = reference(name, head)
    hf.save_pretrained(tmp_path / "hf")
    found = stored.of_hf(tmp_path / "hf")
    assert not found.missing and not found.unexpected
    expected = {"classes": ClassifyText(classes=3), "tags": Tag(classes=3), "span": Span()}
    assert found.heads[head] == expected[head] and set(found.heads) - {head} <= {"pooler"}
    if head == "classes":
        assert found.heads == of_texts(found.config, 3)
    params = nest(dict(found.hosts()))
    np.testing.assert_allclose(ours(found.config, found.heads, params, head), theirs(hf), atol=2e-5)
    importing.from_hf(str(tmp_path / "hf"), tmp_path / "model", say=lambda line: None)
    exporting.to_hf(tmp_path / "model", tmp_path / "out", say=lambda line: None)
    assert (tmp_path / "out/config.json").read_bytes() == (tmp_path / "hf/config.json").read_bytes()
    again, before = (load_file(tmp_path / place / "model.safetensors") for place in ("out", "hf"))
    assert set(again) == set(before)
    assert all(np.array_equal(again[key], before[key]) for key in before)
    assert head == "span" or "person" in (tmp_path / "model" / "origin" / "config.json").read_text()


@every
def test_transformers_gives_the_logits_of_a_folder_of_ours(name, head, tmp_path):
    config = sizes(name, head)
    others = {"tags": Tag(classes=4), "span": Span()}
    if name == "Llama":
        config = dataclasses.replace(config, embeddings="tied")
    found = of_texts(config, 4) if head == "classes" else {head: others[head]}
    rng = np.random.default_rng(7)
    drawn = jax.tree.map(
        lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), build(config, found).shapes
    )
    tensors = families.export_params(drawn, config)
    described = families.to_hf_config(config, found)
    params = families.import_params(tensors, config, found)
    safetensors_file.save(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps(contents(name) | described))
    kind = getattr(transformers, described["architectures"][0])
    assert kind.__name__ == name + heads.CLASSES[head]
    hf, report = kind.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    assert not report["missing_keys"] and not report["mismatched_keys"]
    assert set(report["unexpected_keys"]) == set(WITHOUT.get(name, ()))
    expected = theirs(hf.eval())
    np.testing.assert_allclose(
        ours(config, found, params, head), expected, atol=2e-5 * max(1.0, np.abs(expected).max())
    )


def test_an_older_tagger_with_a_pooler_is_a_tagger(tmp_path):
    """transformers left the pooler in files of BertForTokenClassification until version 4."""
    reference("Bert", "classes").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForTokenClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert list(stored.of_hf(tmp_path).heads) == ["pooler", "tags"]


@pytest.mark.parametrize("labels", [{"id2label": ["a", "b"]}, {"id2label": {}}, {"num_labels": "3"}], ids=str)
def test_labels_that_are_none_are_refused(labels):
    with pytest.raises(UserError, match="id2label must name the classes"):
        heads.sized(Tag, labels)


def test_classes_of_a_mean_are_refused_and_the_encoder_alone_is_not():
    """Published ModernBERTs say "mean" whatever their head is."""
    hf = FAMILIES["ModernBert"].contents() | {"classifier_pooling": "mean"}
    assert families.config_from_hf(hf) == FAMILIES["ModernBert"].config
    with pytest.raises(UserError, match="classifier_pooling"):
        families.config_from_hf(hf | {"architectures": ["ModernBertForSequenceClassification"]})
