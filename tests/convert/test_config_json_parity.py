"""config.json means to us what it means to transformers: absent keys, null, and every key of its config classes."""

import dataclasses
import json

import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import transformers

from jaxlm.convert import families
from jaxlm.errors import UserError
from tools.parity.collection import cases

# Keys of transformers' config classes that neither the weights' function nor the vectors and ids depend on.
HARMLESS = {
    "use_cache",
    "classifier_dropout",
    "classifier_dropout_prob",
    "classifier_pooling",
    "qa_dropout",
    "seq_classif_dropout",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_last_dropout",
    "summary_proj_to_labels",
    "summary_first_dropout",
    "reorder_and_upcast_attn",  # where float16 is rounded
    "deterministic_flash_attn",
    "sparse_prediction",
    "sparse_pred_ignore_index",
    "initializer_cutoff_factor",
    "init_std",  # of Marian
    "output_router_logits",  # of Mixtral: whether transformers adds the balance to its loss
    # Ids, which generation reads.
    *(f"{role}_token_id" for role in ("pad", "bos", "eos", "cls", "sep", "decoder_start", "forced_eos")),
}


class Read(dict):
    """A config.json that remembers which of its keys were asked for."""

    def __init__(self, *given):
        super().__init__(*given)
        self.keys_read = set()

    def get(self, key, default=None):
        self.keys_read.add(key)
        return super().get(key, default)

    def __contains__(self, key):
        self.keys_read.add(key)
        return super().__contains__(key)

    def __getitem__(self, key):
        self.keys_read.add(key)
        return super().__getitem__(key)


def contents() -> list:
    found = {}
    for case in cases():
        if not hasattr(case.config, "generator_hidden"):
            hf = json.loads(json.dumps(case.contents()))
            found[case.name] = hf
    return [pytest.param(hf, id=name) for name, hf in found.items()]


def ours(hf):
    try:
        return families.config_from_hf(hf)
    except UserError:
        return None


def theirs(hf):
    """What we make of the config that transformers makes of it, every key written out; "refused" where it refuses."""
    kind = transformers.CONFIG_MAPPING[hf["model_type"]]
    try:
        made = kind(**{key: value for key, value in hf.items() if key != "model_type"}).to_dict()
    except Exception:  # its checks raise many kinds
        return "refused"
    return ours(made)


@pytest.mark.parametrize("hf", contents())
def test_an_absent_key_and_null_mean_what_transformers_takes_them_for(hf):
    read = Read(hf)
    families.config_from_hf(read)
    wrong = {}
    for key in sorted(read.keys_read - {"model_type", "architectures"}):
        absent = {name: value for name, value in hf.items() if name != key}
        for label, changed in (("absent", absent), ("null", absent | {key: None})):
            found = ours(changed)
            if found is not None and (reference := theirs(changed)) not in ("refused", found):
                wrong[f"{key} {label}"] = (found, reference)
    assert not wrong


@pytest.mark.parametrize("kind", sorted(families.FILES))
def test_every_key_of_transformers_config_class_is_read_or_known_to_be_harmless(kind):
    of_kind = {param.values[0]["model_type"]: param.values[0] for param in contents()}
    windowed = {"use_sliding_window": True, "sliding_window": 4}
    read = Read((of_kind.get(kind) or of_kind["roberta"]) | {"model_type": kind} | windowed)
    families.config_from_hf(read)
    common = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    keys = {field.name for field in dataclasses.fields(transformers.CONFIG_MAPPING[kind])}
    assert keys - common - read.keys_read - HARMLESS == set()


BASE = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10}
LINEAR = {"type": "linear", "factor": 4.0}


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "keys",
    [
        {"rope_parameters": BASE, "rope_scaling": YARN},
        {"rope_parameters": BASE, "rope_scaling": LINEAR},
        {"rope_parameters": YARN | {"rope_theta": 5000.0}, "rope_scaling": None},
        {"rope_parameters": YARN | {"rope_theta": 5000.0}, "rope_scaling": {}},
        {"rope_parameters": YARN | {"rope_theta": 5000.0}, "rope_scaling": YARN | {"rope_theta": 5000.0}},
        {"rope_theta": 5000.0, "rope_scaling": LINEAR},
        {"rope_theta": 5000.0, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 7000.0, "rope_parameters": LINEAR | {"rope_theta": 5000.0}},
        {"rope_parameters": None},
        {},
    ],
    ids=repr,
)
def test_the_two_spellings_of_scaled_rope_mean_what_transformers_takes_them_for(kind, keys):
    hf = next(param.values[0] for param in contents() if param.values[0]["model_type"] == kind)
    hf = {key: value for key, value in hf.items() if not key.startswith("rope_")} | keys
    found = ours(hf)
    assert found is not None
    assert found == theirs(hf)


def test_a_base_that_rope_scaling_hides_and_rope_of_some_layers_are_refused():
    hf = next(param.values[0] for param in contents() if param.values[0]["model_type"] == "qwen2")
    hf = {key: value for key, value in hf.items() if not key.startswith("rope_")}
    with pytest.raises(UserError, match="rope_theta=5000.0 stands in rope_parameters alone"):
        families.config_from_hf(
            hf | {"rope_parameters": BASE | {"rope_theta": 5000.0}, "rope_scaling": LINEAR}
        )
    with pytest.raises(UserError, match="RoPE of full_attention alone"):
        families.config_from_hf(hf | {"rope_parameters": {"full_attention": BASE}})
    with pytest.raises(UserError, match="partial_rotary_factor=0.5"):
        families.config_from_hf(hf | {"partial_rotary_factor": 0.5})
    with pytest.raises(UserError, match="original_max_position_embeddings=99"):
        families.config_from_hf(hf | {"rope_scaling": YARN, "original_max_position_embeddings": 99})
