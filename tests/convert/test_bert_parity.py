"""BERT against transformers' BertForPreTraining: the same weights give the same numbers, forward and backward."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.batch import Batch
from jaxlm.convert import bert as convert
from jaxlm.convert import families
from jaxlm.convert.table import flatten
from jaxlm.models.bert import Bert
from jaxlm.models.build import build

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

LOGITS = 1e-4
GRADIENTS = 1e-3  # of the largest entry of the tensor
ROWS, LENGTH = 3, 13
# Unoptimised code compiles three times faster; the programs here run for milliseconds.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

CONFIG = Bert(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
    position_init="normal",
    next_sentence="pooled",
)


def reference(config: Bert, seed: int = 0):
    """transformers' model with weights far from their initial ones: zero biases and unit scales hide mistakes."""
    torch.manual_seed(seed)
    hf = transformers.BertConfig(**convert.to_hf_config(config))
    hf._attn_implementation = "eager"
    kind = (
        transformers.BertForPreTraining if config.next_sentence == "pooled" else transformers.BertForMaskedLM
    )
    model = kind(hf).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def tensors(model) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


@functools.cache
def batch() -> Batch:
    """Rows of one item with padding behind; each row predicts what stands at three positions."""
    rng = np.random.default_rng(1)
    lengths = np.array([LENGTH, 7, 10])
    real = np.arange(LENGTH)[None] < lengths[:, None]
    return Batch(
        tokens_BT=np.where(real, rng.integers(1, 101, (ROWS, LENGTH)), 0).astype(np.int32),
        segments_BT=real.astype(np.int32),
        positions_BT=np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)),
        types_BT=(real & (np.arange(LENGTH) > 4)).astype(np.int32),
        predict_BM=np.array([[1, 5, 11], [2, 3, 6], [4, 8, 9]], np.int32),
        targets_BM=rng.integers(1, 101, (ROWS, 3)).astype(np.int32),
        weights_BM=np.ones((ROWS, 3), np.float32),
        first_BC=np.zeros((ROWS, 1), np.int32),
        labels_BC=np.array([[0], [1], [1]], np.int32),
        label_weights_BC=np.ones((ROWS, 1), np.float32),
    )


def ours(model, params, batch: Batch):
    """Masked-LM loss, next-sentence loss, logits of every position, next-sentence logits."""
    module = model.bind(params)
    x_BTD = module.encode(batch, None)
    logits_BTV = module.predict_tokens(x_BTD)
    logits_BMV = module.predict_tokens(jnp.take_along_axis(x_BTD, batch.predict_BM[..., None], 1))
    mlm = optax.softmax_cross_entropy_with_integer_labels(logits_BMV, batch.targets_BM).mean()
    if model.config.next_sentence == "none":
        return mlm, (mlm, logits_BTV, None)
    logits_B2 = module.classify_pair(x_BTD[:, :1])[:, 0]
    nsp = optax.softmax_cross_entropy_with_integer_labels(logits_B2, batch.labels_BC[:, 0]).mean()
    return mlm + nsp, (mlm, logits_BTV, logits_B2)


def theirs(model, batch: Batch):
    labels = np.full((ROWS, LENGTH), -100)
    np.put_along_axis(labels, batch.predict_BM, batch.targets_BM, 1)
    arguments = {
        "input_ids": torch.tensor(batch.tokens_BT).long(),
        "attention_mask": torch.tensor(batch.segments_BT),
        "token_type_ids": torch.tensor(batch.types_BT).long(),
        "labels": torch.tensor(labels),
    }
    if isinstance(model, transformers.BertForPreTraining):
        arguments["next_sentence_label"] = torch.tensor(batch.labels_BC[:, 0]).long()
    return model(**arguments)


def close(a, b, tolerance, what=""):
    a, b = np.asarray(a), np.asarray(b)
    scale = max(np.abs(b).max(), 1e-8)
    assert a.shape == b.shape, what
    assert np.abs(a - b).max() <= tolerance * scale, f"{what}: {np.abs(a - b).max()} of {scale}"


@pytest.mark.parametrize(
    ("next_sentence", "activation"), [("pooled", "gelu"), ("none", "gelu_tanh"), ("pooled", "relu")]
)
def test_logits_losses_and_every_gradient_equal_transformers(next_sentence, activation):
    config = dataclasses.replace(CONFIG, next_sentence=next_sentence, activation=activation)
    hf, model = reference(config), build(config)
    params = families.import_params(tensors(hf), config)
    (loss, (_, logits_BTV, logits_B2)), grads = jit(
        jax.value_and_grad(lambda p: ours(model, p, batch()), has_aux=True)
    )(params)
    out = theirs(hf, batch())
    out.loss.backward()

    real = batch().segments_BT > 0
    their_logits = out.prediction_logits if next_sentence == "pooled" else out.logits
    close(
        np.asarray(logits_BTV)[real][:, : config.vocab_size],
        their_logits.detach()[torch.tensor(real)],
        LOGITS,
    )
    if next_sentence == "pooled":
        close(logits_B2, out.seq_relationship_logits.detach(), LOGITS)
    close(loss, out.loss.detach(), LOGITS)
    our_grads = families.export_params(grads, config)
    their_grads = {name: p.grad for name, p in hf.named_parameters()}
    assert set(our_grads) == set(their_grads)
    for name, grad in their_grads.items():
        # The key's bias shifts all scores of a query alike: its gradient is 0 but for rounding.
        if not name.endswith("key.bias"):
            close(our_grads[name], grad, GRADIENTS, name)
        assert np.abs(our_grads[name] - grad.numpy()).max() < 1e-5 * max(1, grad.abs().max())


def test_five_steps_of_adamw_equal_torch():
    # The 1e-3 keeps entries with no gradient but rounding (the key's bias) from being steered by their sign.
    rate, decay, epsilon = 1e-3, 0.01, 1e-3
    hf, model = reference(CONFIG, seed=2), build(CONFIG)
    params = jax.tree.map(jnp.asarray, families.import_params(tensors(hf), CONFIG))
    before = families.export_params(params, CONFIG)
    optimizer = optax.adamw(rate, b1=0.9, b2=0.999, eps=epsilon, weight_decay=decay)
    their_optimizer = torch.optim.AdamW(
        hf.parameters(), lr=rate, betas=(0.9, 0.999), eps=epsilon, weight_decay=decay
    )

    @jit
    def step(params, state):
        grads = jax.grad(lambda p: ours(model, p, batch())[0])(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(5):
        params, state = step(params, state)
        their_optimizer.zero_grad()
        theirs(hf, batch()).loss.backward()
        their_optimizer.step()
    after = families.export_params(params, CONFIG)
    for name, parameter in hf.named_parameters():
        move = np.abs(parameter.detach().numpy() - before[name]).max()
        # The second term is the rounding of the five sums themselves.
        allowed = GRADIENTS * move + 5 * np.finfo(np.float32).eps * np.abs(before[name]).max()
        assert move > 0 and np.abs(after[name] - parameter.detach().numpy()).max() <= allowed, name


@pytest.mark.parametrize("next_sentence", ["pooled", "none"])
def test_transformers_loads_an_export_and_nothing_is_missing(tmp_path, next_sentence):
    import json

    from jaxlm.convert import safetensors_file

    config = dataclasses.replace(CONFIG, next_sentence=next_sentence)
    model = build(config)
    params = jit(model.init)(jax.random.key(3))
    safetensors_file.save(tmp_path / "model.safetensors", families.export_params(params, config))
    (tmp_path / "config.json").write_text(json.dumps(convert.to_hf_config(config)))
    kind = getattr(transformers, convert.to_hf_config(config)["architectures"][0])
    hf, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    out = theirs(hf.eval(), batch())
    close(jit(lambda p: ours(model, p, batch())[0])(params), out.loss.detach(), LOGITS)


def test_a_checkpoint_that_transformers_saved_comes_back_bit_identical(tmp_path):
    from jaxlm.convert import safetensors_file

    hf = reference(CONFIG, seed=4)
    hf.save_pretrained(tmp_path)
    loaded = safetensors_file.load(tmp_path / "model.safetensors")
    config = convert.from_hf_config(hf.config.to_dict())
    exported = families.export_params(families.import_params(loaded, config), config)
    assert set(exported) == {name for name, _ in hf.named_parameters()}
    for name, parameter in hf.named_parameters():
        assert np.array_equal(exported[name], parameter.detach().numpy()), name


def test_config_json_survives_both_ways():
    hf = transformers.BertConfig(**convert.to_hf_config(CONFIG))
    assert convert.from_hf_config(hf.to_dict()) == CONFIG


def test_parameters_are_the_same_number_as_in_torch():
    hf = reference(CONFIG)
    exported = families.export_params(jax.tree.map(lambda x: np.zeros(x.shape), build(CONFIG).shapes), CONFIG)
    assert sum(x.size for x in exported.values()) == sum(p.numel() for p in hf.parameters())
    assert len(flatten(build(CONFIG).shapes)) == len(convert.rows(CONFIG))
