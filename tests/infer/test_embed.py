import jax
import numpy as np
import pytest

from jaxlm.commands import embed as command
from jaxlm.data import tokenizer
from jaxlm.errors import UserError
from jaxlm.infer import embed
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.models.heads import Pooler
from tests.infer.predictors import predictor

TEXTS = [
    "one two three",
    "a",
    "four five six seven eight nine ten eleven twelve thirteen",
    "two two",
    "b c d",
]


def bert(vocab_size) -> Bert:
    return Bert(
        vocab_size=vocab_size,
        hidden=24,
        layers=2,
        heads=4,
        mlp=40,
        max_positions=40,
        types=2,
        dropout=0.1,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.3,
        position_init="normal",
    )


POOLER = {"pooler": Pooler()}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return tokenizer.train(tokenizer.WordPiece(vocab_size=120, lowercase=True), TEXTS * 9)


@pytest.fixture(scope="module")
def ready(words):
    model = build(bert(words.size), POOLER)
    return predictor(model, jax.jit(model.init)(jax.random.key(3)), words)


def vectors(ready, texts, **settings):
    return embed.embed(ready, texts, **{"pooling": "mean", **settings})


@pytest.mark.parametrize("pooling", ["mean", "cls", "cls_mlp"])
def test_neighbours_in_a_batch_change_nothing_and_vectors_keep_their_order(ready, pooling):
    together = vectors(ready, TEXTS, pooling=pooling, batch_size=3)
    for text, vector in zip(TEXTS, together, strict=True):
        alone = vectors(ready, [text], pooling=pooling, batch_size=1)[0]
        np.testing.assert_allclose(vector, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)


def test_a_text_longer_than_a_row_is_cut_off(ready, words):
    long = " ".join(["seven"] * 60)
    cut = vectors(ready, [long], row_length=17)
    ids = [words.vocabulary.cls, *words.encode(long)[:15], words.vocabulary.sep]
    assert len(ids) == 17 and cut.shape == (1, 24)
    again = vectors(ready, [long + " one"], row_length=17)
    np.testing.assert_array_equal(cut, again)


def test_mean_pooling_equals_transformers_on_equal_weights(words, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from jaxlm.convert import families

    config = bert(words.size)
    params = jax.jit(build(config, POOLER).init)(jax.random.key(3))
    theirs = transformers.BertModel(transformers.BertConfig(**_hf(families, config))).eval()
    tensors = {
        name.removeprefix("bert."): torch.from_numpy(np.array(value))
        for name, value in families.export_params(params, config).items()
    }
    missing, _ = theirs.load_state_dict(tensors, strict=False)
    assert not missing
    ours = vectors(predictor(build(config, POOLER), params, words), TEXTS)
    for text, vector in zip(TEXTS, ours, strict=True):
        ids = torch.tensor([[words.vocabulary.cls, *words.encode(text), words.vocabulary.sep]])
        with torch.no_grad():
            mean = theirs(ids).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(mean, dim=0).numpy(), atol=1e-5)


def _hf(families, config):
    made = families.to_hf_config(config, POOLER)
    return {name: value for name, value in made.items() if name not in ("model_type", "architectures")}


def test_the_table_holds_the_cosines(ready, words):
    found = vectors(ready, TEXTS[:3])
    shown = embed.table(TEXTS[:3], found).splitlines()
    assert len(shown) == 3 and all("1.0000" in line for line in shown)
    assert f"{float(found[0] @ found[1]):.4f}" in shown[0] and f"{float(found[0] @ found[1]):.4f}" in shown[1]


def test_nothing_to_embed_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="There is no text"):
        command.main(["embed", f"--run={tmp_path}"])
    with pytest.raises(UserError, match=r"--input=.*missing.txt"):
        command.main(["embed", f"--run={tmp_path}", f"--input={tmp_path / 'missing.txt'}"])
