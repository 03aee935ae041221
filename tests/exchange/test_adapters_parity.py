"""Claims about PEFT folders, in PyTorch: `peft` computes with what is written what the merged model does, and what
`peft` writes is read as the model that it computes with; the update that is held is scale * B A; another base is
refused."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.exchange import adapter_writing, stored
from jaxlm.formats import safetensors_file
from jaxlm.models.build import build
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import plain
from jaxlm.views import IA3, AdaLoRA, DoRA, LoRA, Prefix, Prompt
from jaxlm.views.view import Chain, facts
from tests.views.programs import perturbed

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
peft = pytest.importorskip("peft", reason="needs the extra `parity` (peft)")

_WIDTHS = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
_ENCODER = {**_WIDTHS, "vocab_size": 101, "max_position_embeddings": 32}
# Name: class, class of the config, settings; GPT-2's weights lie the other way, and its q, k and v are one.
MODELS = {
    "bert": ("BertForSequenceClassification", "BertConfig", {**_ENCODER, "num_labels": 3}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**_ENCODER, "num_key_value_heads": 2}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 101}),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4, "vocab_size": 101},
    ),
}
MODELS_TASKS = {"bert": "SEQ_CLS", "llama": "CAUSAL_LM"}
IDS = torch.tensor([[5, 17, 42, 99, 3, 64, 8]])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """name -> folder of a model with no zeros in it."""

    @functools.cache
    def save(name: str, seed: int = 0) -> pathlib.Path:
        kind, config, settings = MODELS[name]
        torch.manual_seed(seed)
        model = getattr(transformers, kind)(getattr(transformers, config)(**settings))
        for p in model.parameters():
            p.data += 0.1 * torch.randn_like(p)
        where = tmp_path_factory.mktemp(name)
        model.save_pretrained(where)
        return where

    return save


def torch_model(name: str, where: pathlib.Path, weights: dict | None = None):
    kind = getattr(transformers, MODELS[name][0])
    model = kind.from_pretrained(where).eval()
    if weights is not None:
        tensors = {key: torch.tensor(np.array(value)) for key, value in weights.items()}
        lacks = model.load_state_dict(tensors, strict=False)
        assert not lacks.unexpected_keys
        model.tie_weights()
    return model


def outputs(name: str, model) -> np.ndarray:
    more = {"decoder_input_ids": IDS[:, :4]} if name == "t5" else {}
    with torch.no_grad():
        return model(input_ids=IDS, **more).logits.numpy()


def of_stored(found: stored.Stored) -> dict[str, np.ndarray]:
    """Their tensors of what we read."""
    return families.export_params(nest(dict(found.hosts())), found.config)


VIEWS = {
    "lora": LoRA(rank=3, alpha=6.0, scaling="rank", also="heads/classes/.*"),
    "rslora": LoRA(rank=3, alpha=6.0, scaling="sqrt"),
    "dora": DoRA(rank=3, alpha=6.0, scaling="sqrt"),
    "adalora": AdaLoRA(rank=3, alpha=6.0, target_rank=2),
    "ia3": IA3(),
}
WRITTEN = [(name, kind) for name in MODELS for kind in VIEWS if (name, kind) != ("gpt2", "adalora")]
WRITTEN = [pair for pair in WRITTEN if pair[0] != "t5" or pair[1] in ("rslora", "ia3")]


def trained(name: str, where: pathlib.Path, view):
    """(model, what the view trains, with noise, what is frozen, the merged weights)."""
    found = stored.of_hf(where)
    model = build(found.config, found.heads)
    params = nest(dict(found.hosts()))
    own, frozen = Chain((view,)).split(params, facts(model), jax.random.key(0))
    own = perturbed(perturbed(perturbed(own, 1), 2), 3)
    return model, own, frozen["0"], plain(Chain((view,)).merge(own, frozen))


@pytest.mark.parametrize(("name", "kind"), WRITTEN)
def test_peft_computes_with_what_we_write_what_the_merged_model_does(saved, tmp_path, name, kind):
    where, view = saved(name), VIEWS[kind]
    model, own, frozen, merged = trained(name, where, view)
    adapter_writing.write(tmp_path / "a", view, model, own, frozen, base=f"hf:{where}", steps=10)
    theirs = peft.PeftModel.from_pretrained(torch_model(name, where), tmp_path / "a")
    expected = outputs(name, torch_model(name, where, families.export_params(merged, model.config)))
    np.testing.assert_allclose(outputs(name, theirs), expected, atol=3e-5, rtol=3e-5)
    assert np.abs(expected - outputs(name, torch_model(name, where))).max() > 1e-3, "the noise must be seen"
    back = flatten(nest(dict(stored.of_hf(tmp_path / "a").hosts())))
    for path, array in flatten(merged).items():
        np.testing.assert_allclose(back[path], array, atol=3e-6, rtol=1e-5, err_msg=path)


def their_config(name: str, kind: str):
    targets = {
        "bert": ["query", "value", "dense"],
        "llama": ["q_proj", "v_proj", "down_proj"],
        "gpt2": ["c_attn", "mlp.c_proj"],
        "t5": ["q", "v"],
    }[name]
    fed = {"bert": ["output.dense"], "llama": ["down_proj"], "gpt2": ["mlp.c_proj"], "t5": []}[name]
    task = {"bert": "SEQ_CLS", "t5": "SEQ_2_SEQ_LM"}.get(name, "CAUSAL_LM")
    if kind == "ia3":
        targets = [*({*targets} - {"dense"}), *fed]
        return peft.IA3Config(task_type=task, target_modules=targets, feedforward_modules=fed)
    patterns = {
        "rank_pattern": {"0.*query": 5, "layers.1.*v_proj": 2},
        "alpha_pattern": {"v_proj": 3, "dense": 9},
    }
    more = {"lora": {}, "patterns": patterns, "dora": {"use_dora": True, "use_rslora": True}}[kind]
    return peft.LoraConfig(task_type=task, r=4, lora_alpha=6, target_modules=targets, **more)


READ = [(name, kind) for name in ("bert", "llama", "gpt2") for kind in ("lora", "dora", "ia3")]
READ += [("bert", "patterns"), ("llama", "patterns"), ("t5", "lora")]


@pytest.mark.parametrize(("name", "kind"), READ)
def test_we_read_what_peft_writes_as_the_model_that_it_computes_with(saved, tmp_path, name, kind):
    where = saved(name)
    torch.manual_seed(3)
    model = peft.get_peft_model(torch_model(name, where), their_config(name, kind)).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "a")
    found = stored.of_hf(tmp_path / "a", base=f"hf:{where}")
    ours = torch_model(name, where, of_stored(found))
    np.testing.assert_allclose(outputs(name, ours), outputs(name, model), atol=3e-5, rtol=3e-5)
    assert np.abs(outputs(name, ours) - outputs(name, torch_model(name, where))).max() > 1e-3


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_we_read_what_peft_has_left_of_adalora(saved, tmp_path, name):
    """Ranks that its budget cut are gone from the folder, all of one matrix, too; its scale stays that of `init_r`."""
    where, targets = saved(name), their_config(name, "lora").target_modules
    torch.manual_seed(3)
    settings = {"init_r": 4, "target_r": 2, "lora_alpha": 6, "total_step": 10}
    config = peft.AdaLoraConfig(task_type=MODELS_TASKS[name], target_modules=targets, **settings)
    model = peft.get_peft_model(torch_model(name, where), config).eval()
    ranks = {}
    for number, (key, parameter) in enumerate(model.named_parameters()):
        if parameter.requires_grad:
            parameter.data += 0.5 * torch.randn_like(parameter)
        if "lora_E" in key:
            kept = [(number + k) % 3 != 0 for k in range(4)] if ranks else [False] * 4
            parameter.data[~torch.tensor(kept)] = 0.0
            ranks[key.removeprefix("base_model.model.")] = kept
    model.peft_config["default"].rank_pattern = ranks
    expected = outputs(name, model)
    model.save_pretrained(tmp_path / "a")
    tensors = safetensors_file.load(tmp_path / "a" / "adapter_model.safetensors")
    assert {0, 2, 3} <= {len(array) for key, array in tensors.items() if "lora_A" in key}
    ours = torch_model(name, where, of_stored(stored.of_hf(tmp_path / "a", base=f"hf:{where}")))
    np.testing.assert_allclose(outputs(name, ours), expected, atol=3e-5, rtol=3e-5)
    assert np.abs(expected - outputs(name, torch_model(name, where))).max() > 1e-3


def test_the_update_that_is_held_is_scale_b_a(saved, tmp_path):
    """W' - W of every layer, so that no tensor of the file is left without effect."""
    where, view = saved("llama"), VIEWS["rslora"]
    model, own, frozen, merged = trained("llama", where, view)
    adapter_writing.write(tmp_path / "a", view, model, own, frozen, base=str(where), steps=10)
    tensors = safetensors_file.load(tmp_path / "a" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["use_rslora"] and config["r"] == 3 and config["lora_alpha"] == 6.0
    assert config["task_type"] == "CAUSAL_LM" and config["base_model_name_or_path"] == str(where)
    after = families.export_params(merged, model.config)
    before = safetensors_file.load(where / "model.safetensors")
    names = sorted({name.rpartition(".lora_")[0] for name in tensors})
    assert len(names) == 2 * 7 and len(tensors) == 2 * len(names)
    for name in names:
        a, b = (np.asarray(tensors[f"{name}.lora_{part}.weight"], np.float64) for part in "AB")
        weight = name.removeprefix("base_model.model.") + ".weight"
        np.testing.assert_allclose(after[weight] - before[weight], 6 / 3**0.5 * b @ a, atol=1e-6)


CONTEXTS = [("llama", "prompt"), ("llama", "prefix"), ("gpt2", "prompt")]


@pytest.mark.parametrize(("name", "kind"), CONTEXTS)
def test_prompts_and_prefixes_are_those_of_peft_and_come_back(saved, tmp_path, name, kind):
    where, view = saved(name), {"prompt": Prompt(tokens=3), "prefix": Prefix(tokens=3)}[kind]
    found = stored.of_hf(where)
    model, chain = build(found.config, found.heads), Chain((view,))
    own, frozen = chain.split(nest(dict(found.hosts())), facts(model), jax.random.key(0))
    own = jax.tree.map(lambda x: 10 * x, perturbed(own))
    adapter_writing.write(tmp_path / "a", view, model, own, frozen["0"], base=f"hf:{where}", steps=10)
    expected = outputs(name, peft.PeftModel.from_pretrained(torch_model(name, where), tmp_path / "a"))
    tokens = IDS.numpy().astype("i4")
    row = Batch(
        tokens_BT=tokens, segments_BT=np.ones_like(tokens), positions_BT=np.arange(7, dtype="i4")[None]
    )

    @jax.jit
    def logits(params):
        module = model.bind(params)
        return module.predict_tokens(module.encode(row).x_BTD)[..., :101]

    ours = logits(chain.merge(own, frozen))
    np.testing.assert_allclose(ours, expected[:, -7:], atol=3e-5, rtol=3e-5)
    assert np.abs(ours - outputs(name, torch_model(name, where))).max() > 1e-2, "the noise must be seen"
    back = stored.of_hf(tmp_path / "a")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    np.testing.assert_allclose(logits(nest(back.place(dict.fromkeys(back.shapes, here)))), ours, atol=1e-5)
    with pytest.raises(UserError, match="cannot be merged"):
        dict(back.hosts())


def test_contexts_that_peft_means_otherwise_are_refused(saved, tmp_path):
    adapter = tmp_path / "a"
    adapter.mkdir()
    safetensors_file.save(
        adapter / "adapter_model.safetensors", {"prompt_embeddings": np.zeros((3, 96), "f")}
    )
    kind = lambda kind: (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    kind("PREFIX_TUNING")
    assert "decoders with rotary positions alone, and this is a Gpt2" in refused(adapter, str(saved("gpt2")))
    kind("PROMPT_TUNING")
    assert "decoders alone, and this is a Bert" in refused(adapter, str(saved("bert")))
    said = refused(adapter, str(saved("llama")))
    assert (
        "another base: prompt_embeddings is 96 wide, and this one takes 24" in said and "--base=DIR" in said
    )


def refused(adapter: pathlib.Path, base: str = "") -> str:
    with pytest.raises(UserError) as caught:
        stored.of_hf(adapter, base=base)
    return str(caught.value)


def test_an_adapter_for_another_base_is_refused(saved, tmp_path):
    where, view = saved("llama"), VIEWS["rslora"]
    model, own, frozen, _ = trained("llama", where, view)
    adapter = tmp_path / "a"
    adapter_writing.write(adapter, view, model, own, frozen, base="gone", steps=10)
    assert (
        "is an adapter for gone, which cannot be read" in (said := refused(adapter)) and "--base=DIR" in said
    )
    said = refused(adapter, str(saved("llama", seed=1)))
    assert "is an adapter for another base than" in said and "the same shapes and other numbers" in said
    said = refused(adapter, str(saved("gpt2")))
    assert "another base" in said and "is not there" in said
    assert "which it acts on" in said and "Fix: name the one it was trained on with --base=DIR." in said
    assert "is no adapter, and --base is about one" in refused(where, "x")
    (adapter / "adapter_config.json").write_text('{"peft_type": "VERA"}')
    assert "peft_type='VERA'; taken are LORA, ADALORA, IA3, PROMPT_TUNING, PREFIX_TUNING" in refused(adapter)
