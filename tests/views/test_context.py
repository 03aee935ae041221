"""Claims about prompts and prefixes: every item of a packed row sees its own as if it were alone, generation sees what
the whole row sees, and both do what attention to more keys does."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models import masks
from jaxlm.models.beside import Ahead
from jaxlm.models.build import build
from jaxlm.models.paths import flatten
from jaxlm.models.values import plain
from jaxlm.views import Prefix, Prompt
from jaxlm.views.view import Chain, facts
from tests.views.programs import MODELS, V, program, run, steps

NUMBER = 3
VIEWS = {"prompt": Prompt(tokens=NUMBER), "prefix": Prefix(tokens=NUMBER)}


@functools.cache
def model(name: str):
    return build(dataclasses.replace(MODELS[name], max_positions=20))


@functools.cache
def parameters(name: str, view: str):
    """What the model reads, with a view whose context has large numbers."""
    chain = Chain((VIEWS[view],))
    params = jax.jit(model(name).init)(jax.random.key(0))
    trained, frozen = chain.split(params, facts(model(name)), jax.random.key(1))
    rng = np.random.default_rng(2)
    noisy = jax.tree.map(lambda x: x + rng.normal(size=x.shape, scale=0.5).astype("f"), trained)
    return chain.merge(noisy, frozen)


def rows(*items: int, most: int | None = None) -> Batch:
    """One row of items of these lengths, each with tokens of its own number."""
    lengths = enumerate(items, 1)
    parts = [
        (np.random.default_rng(n).integers(1, V, size), np.full(size, n), np.arange(size))
        for n, size in lengths
    ]
    tokens, segments, positions = (np.concatenate(x)[None].astype("i4") for x in zip(*parts, strict=True))
    return Batch(
        tokens_BT=tokens,
        segments_BT=segments,
        positions_BT=positions,
        types_BT=np.zeros_like(tokens),
        most_segments=most,
    )


@functools.partial(jax.jit, static_argnames="name")
def encoded(name: str, params, batch: Batch) -> jax.Array:
    return model(name).bind(params).encode(batch).x_BTD


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_items_of_a_packed_row_see_their_context_as_if_alone(name, view):
    params = parameters(name, view)
    packed = encoded(name, params, rows(5, 4, most=2))[0]
    whole = rows(5, 4)
    cut = lambda a, b: dataclasses.replace(
        jax.tree.map(lambda x: x[:, a:b], whole), segments_BT=np.ones((1, b - a), "i4"), most_segments=1
    )
    for a, b in ((0, 5), (5, 9)):
        np.testing.assert_allclose(packed[a:b], encoded(name, params, cut(a, b))[0], atol=2e-5)
    bare = encoded(name, jax.jit(model(name).init)(jax.random.key(0)), rows(5, 4))[0]
    assert np.abs(packed - bare).max() > 0.05, "the context must be seen"


@pytest.mark.parametrize("view", VIEWS)
def test_generation_sees_what_the_row_sees(view):
    params, row = parameters("llama", view), rows(7)
    whole = encoded("llama", params, row)
    module = model("llama").bind(params)
    cache = module.start_cache(row, 7)
    cut = lambda a, b: (x[:, a:b] for x in (row.tokens_BT, row.segments_BT, row.positions_BT))
    first, cache = module.extend(*cut(0, 4), cache)
    second, _ = module.extend(*cut(4, 7), cache)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, atol=2e-5)


def test_a_prompt_is_tokens_of_a_longer_table():
    """The same row with the prompt's tokens written out, on a model whose vocabulary has them."""
    params = parameters("bert", "prompt")
    ours = encoded("bert", params, rows(6))
    table = params["embeddings"]["tokens"]["table"]
    row, ids = rows(6 + NUMBER), np.arange(NUMBER)
    tokens = np.concatenate([127 - ids, rows(6).tokens_BT[0]])[None]  # rows of padding that no token has
    grown = table.base.at[127 - ids].set(table.rows_PD)
    whole = {**params, "embeddings": {**params["embeddings"], "tokens": {"table": grown}}}
    theirs = encoded("bert", whole, dataclasses.replace(row, tokens_BT=tokens))
    np.testing.assert_allclose(ours, theirs[:, NUMBER:], atol=2e-5)


def test_a_prefix_is_attention_to_more_keys():
    params = parameters("bert", "prefix")
    layer = jax.tree.map(lambda x: x[0], params["blocks"]["attention"])
    x_BTD = np.random.default_rng(0).normal(size=(1, 5, 24)).astype("f")
    own = {name: w.base if isinstance(w, Ahead) else w for name, w in layer.items()}
    q, k, v = (np.einsum("btd,dnh->btnh", x_BTD, own[f"w{r}"]) + own[f"b{r}"] for r in "qkv")
    k, v = (np.concatenate([layer[f"w{r}"].rows_PKH[None], x], axis=1) for r, x in (("k", k), ("v", v)))
    scores = np.einsum("btnh,bsnh->bnts", q, k) / 6**0.5
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsnh,nhd->btd", shares, v, own["wo"]) + own["bo"]
    module = model("bert").bind(params)
    first = jax.tree.map(lambda x: x[0], module.blocks)
    mask = masks.within_segments(jnp.ones((1, 5), "i4"))
    np.testing.assert_allclose(first.attention(x_BTD, mask, None), expected, atol=1e-5)


@pytest.mark.parametrize("view", VIEWS)
def test_a_step_moves_the_context_alone(view):
    made = program(dataclasses.replace(run("llama", VIEWS[view]), model=model("llama").config))
    state, _, means = steps(made, jax.device_get(made.parameters()), 2, "llama")
    (path, *_) = moved = sorted(flatten(state.params))
    assert len(moved) == {"prompt": 1, "prefix": 2}[view] and path.endswith(view)
    assert all(np.isfinite(one["loss"]) for one in means)
    assert all(np.abs(x).max() > 0 for x in flatten(state.opt_state[1].mu).values())


def test_what_a_context_cannot_do_is_refused():
    params = parameters("bert", "prompt")
    with pytest.raises(UserError, match="rows of at most 17 tokens"):
        encoded("bert", params, rows(18))
    assert plain(params)["embeddings"]["tokens"]["table"] is params["embeddings"]["tokens"]["table"]
    with pytest.raises(UserError, match="cannot be merged. Fix: use the run itself"):
        np.asarray(params["embeddings"]["tokens"]["table"])
    with pytest.raises(UserError, match=r"config.view\[0\].tokens=0"):
        run("bert", Prompt(tokens=0)).validate()
