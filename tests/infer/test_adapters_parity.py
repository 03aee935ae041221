"""Claims about several adapters in one batch: every row is what `peft` in PyTorch makes of it with its adapter alone,
one program serves every mix, and what cannot stand in a batch is refused."""

import functools
import json

import numpy as np
import pytest

import jaxlm
from jaxlm.commands import predict
from jaxlm.errors import UserError
from jaxlm.infer import beam, decode
from jaxlm.views import LoRA
from tests.exchange import transformers_folders

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
peft = pytest.importorskip("peft", reason="needs the extra `parity` (peft)")

TEXTS = ["the cat sat", "a dog and a cat play in", "the garden has a red", "the cat", "a dog"]
MIX = ["a", "b", None, "a", "b"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("adapters")


def scaled_up(model):
    """Weights that make a tiny model's answers differ."""
    torch.manual_seed(7)
    for p in model.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return model


# Ranks, scales and layers differ: adapters are padded to one rank, and lack layers.
DECODERS = {
    "llama": (
        {"r": 3, "lora_alpha": 9, "target_modules": ["q_proj", "v_proj", "down_proj"]},
        {"r": 5, "lora_alpha": 8, "target_modules": ["o_proj", "v_proj"], "layers_to_transform": [1]},
    ),
    "gpt2": (
        {"r": 3, "lora_alpha": 9, "target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True},
        {"r": 2, "lora_alpha": 8, "target_modules": ["c_attn"], "use_rslora": True, "fan_in_fan_out": True},
    ),
}


@pytest.fixture(scope="module")
def decoder(root):
    """name -> (folder of the base, {adapter: folder}, {adapter: PyTorch's model with it})."""

    @functools.cache
    def make(name: str):
        where = transformers_folders.save(name, root)
        scaled_up(transformers.AutoModelForCausalLM.from_pretrained(where)).save_pretrained(where)
        load = lambda: transformers.AutoModelForCausalLM.from_pretrained(where).eval()
        folders, models = {}, {None: load()}
        for seed, (adapter, settings) in enumerate(zip("ab", DECODERS[name], strict=True)):
            torch.manual_seed(seed)
            model = peft.get_peft_model(load(), peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
            for p in model.parameters():
                if p.requires_grad:
                    p.data = 0.4 * torch.randn_like(p)
            model.save_pretrained(folders.setdefault(adapter, root / name / f"adapter_{adapter}"))
            models[adapter] = model
        return where, folders, models

    return make


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", DECODERS)
def test_each_row_is_written_as_by_its_adapter_alone(decoder, name, beams):
    where, folders, models = decoder(name)
    model = jaxlm.load(f"hf:{where}", adapters=folders)
    found = model.generate(TEXTS, max_new_tokens=7, beams=beams, adapters=MIX)
    differ = set()
    for text, adapter, one in zip(TEXTS, MIX, found, strict=True):
        ids = torch.tensor([model.tokenizer.encode_marked(text)])
        how = {"max_new_tokens": 7, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
        expected = models[adapter].generate(input_ids=ids, attention_mask=ids * 0 + 1, **how)
        assert list(one.written.tokens) == expected[0, ids.shape[1] :].tolist(), (text, adapter)
        base = models[None].generate(input_ids=ids, attention_mask=ids * 0 + 1, **how)
        differ.add(adapter is not None and not torch.equal(base, expected))
    assert True in differ, "the adapters must be seen"


def test_one_program_serves_every_mix(decoder):
    where, folders, _ = decoder("llama")
    model = jaxlm.load(f"hf:{where}", adapters=folders)
    sizes = lambda: [one._cache_size() for one in (decode.prefill, decode.decode, beam.prefill, beam.decode)]
    model.generate(TEXTS, max_new_tokens=7, adapters=MIX)
    before = sizes()
    model.generate(TEXTS, max_new_tokens=7, adapters=["b", "b", "a", None, "b"])
    assert sizes() == before


@pytest.fixture(scope="module")
def encoder(root):
    """(folder of the base, {adapter: folder}, {adapter: PyTorch's model}): heads of 3 and of 2 classes."""
    where = transformers_folders.save("bert", root)
    scaled_up(transformers.BertModel.from_pretrained(where)).save_pretrained(where)
    folders, models = {}, {}
    for number, adapter in enumerate("ab"):
        torch.manual_seed(number)
        base = transformers.BertForSequenceClassification.from_pretrained(where, num_labels=3 - number)
        settings = {"r": 2 + number, "lora_alpha": 9, "target_modules": ["query", "dense"]}
        settings["exclude_modules"] = ".*pooler.*"
        config = peft.LoraConfig(task_type="SEQ_CLS", modules_to_save=["classifier", "pooler"], **settings)
        model = peft.get_peft_model(base, config).eval()
        for p in model.parameters():
            if p.requires_grad:
                p.data = p.data + 0.2 * torch.randn_like(p)
        model.save_pretrained(folders.setdefault(adapter, root / "bert" / f"adapter_{adapter}"))
        models[adapter] = model
    return where, folders, models


CHOSEN = ["b", "a", "a", "b", "a"]


def test_each_text_is_classified_by_its_adapter_among_its_labels(encoder, tmp_path, capsys):
    where, folders, models = encoder
    rows = [{"text": text, "adapter": name} for text, name in zip(TEXTS, CHOSEN, strict=True)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"--adapter={name}={folder}" for name, folder in folders.items()]
    assert predict.main(["predict", f"--run=hf:{where}", *words, f"--input={tmp_path / 'in.jsonl'}"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    model = jaxlm.load(f"hf:{where}", adapters=folders)
    assert model.predict(TEXTS, adapters=CHOSEN)[1]["predicted"] == found[1]["predicted"]
    for row, text, name in zip(found, TEXTS, CHOSEN, strict=True):
        vocabulary, ids = model.tokenizer.vocabulary, model.tokenizer.encode_marked(text)
        ids = torch.tensor([[vocabulary.cls, *ids, vocabulary.sep]])
        with torch.no_grad():
            expected = torch.softmax(models[name](input_ids=ids).logits[0], -1).numpy()
        assert row["adapter"] == name and len(row["probabilities"]) == len(expected)
        np.testing.assert_allclose(list(row["probabilities"].values()), expected, atol=2e-6)


def test_a_run_with_lora_is_an_adapter_too(encoder, corpus, tmp_path, monkeypatch, capsys):
    """On a base that it gave more positions, too, where all adapters got the same."""
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "cache"))
    base = f"hf:{transformers_folders.save('bert', tmp_path)}"
    run = jaxlm.load_recipe(f"continue_mlm:{base}")
    run.data.corpus, run.steps, run.batch_size, run.check_isolation = corpus, 3, 8, False
    run.view, run.optimizer.schedule.peak = (LoRA(rank=3, alpha=200.0, scaling="rank"),), 0.03
    run.model.max_positions, run.extend_positions = run.model.max_positions + 8, "normal"
    place = jaxlm.fit(run, workdir=tmp_path / "run").workdir
    run.seed, run.steps = run.seed + 1, 1
    other = jaxlm.fit(run, workdir=tmp_path / "other").workdir
    capsys.readouterr()
    masked = ["the [MASK] sat", "a [MASK] and a cat"]
    shares = lambda model, **more: [
        [share for _, share in one.candidates] for one in model.fill_mask(masked, **more)
    ]
    found = shares(jaxlm.load(base, adapters={"b": place, "a": place}), adapters=["a", "b"])
    assert capsys.readouterr() == ("", ""), "what training says of its base is not said again"
    np.testing.assert_allclose(found, shares(jaxlm.load(place)), rtol=2e-5)
    assert np.abs(np.subtract(found, shares(jaxlm.load(base)))).max() > 1e-5
    with pytest.raises(UserError, match="was trained on top of .* is another base"):
        jaxlm.load(f"hf:{encoder[0]}", adapters={"a": place})
    assert "adapters a and b were trained with embeddings/positions each of its own" in refused(
        base, adapters={"a": place, "b": other}
    )


def refused(*arguments, **more) -> str:
    with pytest.raises(UserError) as caught:
        jaxlm.load(*arguments, **more)
    return str(caught.value)


def test_what_cannot_stand_in_one_batch_is_refused(decoder, encoder, root, tmp_path):
    where, folders, _ = decoder("llama")
    model = jaxlm.load(f"hf:{where}", adapters=folders)
    with pytest.raises(UserError, match=r"has the adapters a, b. Fix: adapters=\[name of each text\]"):
        model.generate("the cat", max_new_tokens=1)
    with pytest.raises(UserError, match="adapter 'c': there are a, b, None"):
        model.generate("the cat", max_new_tokens=1, adapters="c")
    with pytest.raises(UserError, match="1 names of adapters for 2 texts"):
        model.generate(["the", "cat"], max_new_tokens=1, adapters=["a"])
    with pytest.raises(UserError, match="has the adapters a, b"):
        model.export(tmp_path / "hf")
    assert "no adapter: a run with a view, or a folder with adapter_config.json" in refused(
        f"hf:{where}", adapters={"a": where}
    )
    assert "is an adapter for another base" in refused(f"hf:{encoder[0]}", adapters=folders)
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(where)
    config = peft.IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[])
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "ia3")
    assert "cannot stand beside other adapters: it acts on" in refused(
        f"hf:{where}", adapters={"a": tmp_path / "ia3"}
    )
    table = tmp_path / "in.jsonl"
    table.write_text('{"text": "the cat", "adapter": "x"}\n')
    words = [f"--adapter={name}={folder}" for name, folder in folders.items()]
    with pytest.raises(UserError, match=r'in.jsonl.*field "adapter" names the adapter of a row and is \'x\''):
        predict.main(["predict", f"--run=hf:{where}", *words, f"--input={table}"])
    with pytest.raises(UserError, match="the base of all: leave --task out"):
        predict.main(["predict", f"--run=hf:{where}", *words, "--task=perplexity", f"--input={table}"])
