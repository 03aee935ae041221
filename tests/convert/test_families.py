"""Claims about finding a family and about what a config.json may say."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.config import flags
from jaxlm.convert import families, fields
from jaxlm.errors import UserError
from jaxlm.formats.source import of_arrays
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.models.heads import Classify, Pooler
from jaxlm.models.llama import Llama
from jaxlm.models.rope import Rope, Unscaled

HF = {
    "model_type": "bert",
    "architectures": ["BertForPreTraining"],
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 17,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "hidden_act": "gelu",
}


def tensors(config: Bert, heads=("tokens", "pooler", "nsp")) -> dict[str, np.ndarray]:
    import jax

    rng, model = np.random.default_rng(0), build(config, families.named(config, heads))
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f"), model.shapes)
    return families.export_params(params, config)


def test_every_family_here_has_the_model_types_that_the_table_says():
    for name in set(families.FILES.values()):
        try:
            module = importlib.import_module(f"jaxlm.convert.{name}")
        except ModuleNotFoundError:
            continue
        assert {kind for kind, file in families.FILES.items() if file == name} == set(module.MODEL_TYPES), (
            name
        )


def test_a_model_type_that_does_not_exist_here_is_named_with_those_that_do():
    with pytest.raises(UserError, match=r"model_type='bertt' is not a family.*Did you mean \"bert\""):
        families.of_hf({"model_type": "bertt"})
    with pytest.raises(UserError, match="has no model_type"):
        families.of_hf({})
    with pytest.raises(UserError, match="object has no conversion"):
        families.of_config(object())


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "hidden_act"])
def test_a_missing_key_is_named(key):
    with pytest.raises(UserError, match=f"config.json has no '{key}'"):
        families.config_from_hf({k: v for k, v in HF.items() if k != key})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", 10**12, r"hidden_size=1000000000000: at most 16777216"),
        ("num_hidden_layers", 10**9, r"num_hidden_layers=1000000000: at most 4096"),
        ("hidden_size", "24", r"Bert.hidden is '24': must be of type int"),
        ("hidden_size", True, r"Bert.hidden is True: must be of type int"),
        ("vocab_size", -3, r"config.json.vocab_size=-3"),
        ("hidden_dropout_prob", float("nan"), r"config.json.*dropout"),
        ("hidden_act", ["gelu"], r"hidden_act=\['gelu'\]: known are"),
        (
            "position_embedding_type",
            "relative_key",
            r"position_embedding_type='relative_key' is not supported",
        ),
        ("tie_word_embeddings", False, r"tie_word_embeddings=False is not supported; allowed: True"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_key(key, value, message):
    with pytest.raises(UserError, match=message):
        families.config_from_hf(HF | {key: value})


def test_a_whole_number_where_a_float_belongs_is_that_float():
    assert families.config_from_hf(HF).attention_dropout == 0.0
    assert type(families.config_from_hf(HF).attention_dropout) is float


def test_refuse_tells_true_from_one():
    fields.refuse({"a": True}, "a", True)
    with pytest.raises(UserError, match="a=1 "):
        fields.refuse({"a": 1}, "a", True)


def test_half_precision_is_widened_to_the_bit_and_double_is_refused():
    config = families.config_from_hf(HF)
    half = {name: array.astype(jnp.bfloat16) for name, array in tensors(config).items()}
    params = families.import_params(half, config)
    table = half["bert.embeddings.word_embeddings.weight"].astype("f")
    assert np.array_equal(params["embeddings"]["tokens"]["table"][:101], table)
    double = {name: array.astype(np.float64) for name, array in half.items()}
    with pytest.raises(UserError, match="is stored as float64"):
        families.import_params(double, config)


@pytest.mark.parametrize("heads", [("tokens", "pooler", "nsp"), ("tokens",), ("pooler",), ()], ids=str)
def test_the_heads_of_bert_are_read_from_the_tensors_whatever_the_architecture_says(heads):
    config = families.config_from_hf(HF | {"architectures": ["BertForMaskedLM"]})
    held = tensors(config, heads)
    assert families.heads(config, held) == families.named(config, heads)
    assert families.plan(held, config).missing == () == families.plan(held, config).unexpected


def test_a_bare_encoder_has_names_without_prefix_and_both_spellings_come_in():
    config = families.config_from_hf(HF)
    bare = tensors(config, ("pooler",))
    assert "embeddings.word_embeddings.weight" in bare
    assert families.to_hf_config(config, ("pooler",))["architectures"] == ["BertModel"]
    prefixed = {f"bert.{name}": array for name, array in bare.items()}
    ours, theirs = families.import_params(bare, config), families.import_params(prefixed, config)
    assert np.array_equal(ours["heads"]["pooler"]["w"], theirs["heads"]["pooler"]["w"])


def test_a_head_that_their_files_have_no_place_for_is_refused_by_its_name():
    config = families.config_from_hf(HF)
    for heads in (("tokens", "tags"), ("pooler", "nsp", "sop")):
        with pytest.raises(
            UserError, match=f"Bert has no place for the head '{heads[-1]}' beside the others"
        ):
            families.rows(config, heads)
    with pytest.raises(UserError, match="Bert has no place for the head 'nsp'"):
        families.rows(config, {"pooler": Pooler(), "nsp": Classify(classes=3)})
    with pytest.raises(
        UserError, match=r"Gpt2 has no place for the head 'span'.* heads with one: classes, tags"
    ):
        families.rows(flags.load("configs/gpt2_small.py").model, ("span",))


def test_buffers_and_copies_are_told_from_weights_and_an_original_may_be_absent():
    config = families.config_from_hf(HF)
    held = tensors(config)
    held["bert.embeddings.position_ids"] = np.arange(17)[None]
    held["cls.predictions.decoder.bias"] = held["cls.predictions.bias"]
    made = families.plan(held, config)
    assert made.buffers == ("bert.embeddings.position_ids",)
    assert made.copies == {"cls.predictions.decoder.bias": "cls.predictions.bias"}
    held["cls.predictions.decoder.weight"] = held.pop("bert.embeddings.word_embeddings.weight")
    assert families.plan(held, config).missing == ()


def test_two_spellings_of_one_name_are_refused():
    config = families.config_from_hf(HF)
    held = tensors(config)
    held["embeddings.LayerNorm.gamma"] = held["bert.embeddings.LayerNorm.weight"]
    with pytest.raises(UserError, match=r"are both bert\.embeddings\.LayerNorm\.weight"):
        families.plan(of_arrays(held, "x"), config)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": float("nan")}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": -1}},
        {"rope_parameters": {"rope_type": "linear", "factor": 0}},
        {"rope_parameters": ["rope_theta"]},
        {"sliding_window": 0.5},
        {"sliding_window": "x"},
        {"model_type": ["llama"]},
        {"hidden_act": {}},
    ],
)
def test_a_value_of_another_type_inside_a_setting_is_refused(changes):
    model = Llama(
        vocab_size=29, hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, mlp=96, activation="silu", max_positions=77,
        rope=Rope(base=5000.0, scaling=Unscaled()), norm_epsilon=1e-5, embeddings="tied", biases="none", qk_norm="none",
        windows=(7,), init_scale=0.02,
    )  # fmt: skip
    hf = families.to_hf_config(model)
    assert families.config_from_hf(hf) == model and hf["model_type"] == "mistral"
    with pytest.raises(UserError, match="config.json"):
        families.config_from_hf(hf | changes)
