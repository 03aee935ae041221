"""Claims about starting from weights: what fits is taken, what is new begins as the run says, what differs is named."""

import dataclasses
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.config import flags
from jaxlm.convert import families
from jaxlm.data.tokens import wordpiece
from jaxlm.errors import UserError
from jaxlm.exchange import growing, importing, starting, stored, tokenizer_files
from jaxlm.models.build import build
from jaxlm.models.distilbert import DistilBert
from jaxlm.models.paths import flatten
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh
from tests.exchange import transformers_folders
from tests.exchange.folders import CONFIG, HEADS, hf_folder, params, tokenizer


@dataclasses.dataclass
class Run:
    """The part of a Run that counts here."""

    model: object
    init_from: str
    resize_vocabulary: str = "refuse"
    extend_positions: str = "refuse"
    reset_layers: int = 0
    init_layers: str = ""
    heads: tuple[str, ...] = HEADS
    stages: tuple = ()


def start(run: Run, with_tokenizer=None, trained=None) -> tuple[dict, dict, list[str]]:
    """(parameters, fresh ones, lines said), on a mesh of 8 devices."""
    said: list[str] = []
    model, mesh = (
        build(run.model, families.named(CONFIG, run.heads)),
        meshes.make(Mesh(fsdp=2, tensor=2, data=2)),
    )
    with jax.set_mesh(mesh):
        where = partition.shardings(model.shapes, model.axes, mesh)
        like = partition.with_shardings(model.shapes, where)
        # Numbers unlike any stored one, zero where a vocabulary is padded; made without a compilation.
        fresh = jax.tree.map(jax.device_put, params(run.model, seed=9, heads=run.heads), where)
        given = with_tokenizer or tokenizer()
        made = starting.params(run, model, fresh, like, given, said.append, trained)
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(fresh), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
    return flatten(jax.device_get(made)), flatten(jax.device_get(fresh)), said


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    return hf_folder(tmp_path_factory.mktemp("hf"))


def model(**changes):
    return dataclasses.replace(CONFIG, **changes)


def test_every_parameter_lands_sharded_with_the_bits_of_the_file(hf):
    made, _, said = start(Run(model(), f"hf:{hf}"))
    expected = flatten(params())
    assert all(np.array_equal(made[path], expected[path]) for path in expected)
    assert said == [f"weights from {hf}: 30 of 30 parameters"]


def test_a_model_folder_gives_the_same_as_the_folder_that_it_was_made_from(hf, tmp_path):
    importing.from_hf(str(hf), tmp_path / "model", say=lambda line: None)
    made, _, _ = start(Run(model(), str(tmp_path / "model")))
    expected = flatten(params())
    assert all(np.array_equal(made[path], expected[path]) for path in expected)


@pytest.mark.parametrize(("how", "taken"), [("spread", [0, 2]), ("last", [1, 2]), ("0,1", [0, 1])])
def test_a_shallower_model_of_the_family_or_a_distilbert_begins_with_the_layers_that_are_chosen(
    hf, how, taken
):
    whole, _, _ = start(Run(model(), f"hf:{hf}"))
    shared = {field.name: getattr(model(), field.name) for field in dataclasses.fields(DistilBert)}
    for config in (model(layers=2), DistilBert(**shared | {"layers": 2})):
        run = Run(config, f"hf:{hf}", init_layers=how, heads=("tokens",))
        starting.check_model(run, stored.of_hf(hf))
        made, _, said = start(run)
        for path, array in made.items():
            if not path.startswith("heads/"):
                expected = whole[path][np.array(taken)] if path.startswith("blocks/") else whole[path]
                np.testing.assert_array_equal(array, expected, err_msg=path)
        assert any(f"layers {taken[0]}, {taken[1]} of 3" in line for line in said)


def test_heads_that_the_weights_lack_stay_fresh_and_those_of_no_use_are_left_both_listed(tmp_path, hf):
    bare = hf_folder(tmp_path / "bare", heads=("pooler",))
    made, fresh, said = start(Run(model(), f"hf:{bare}", heads=("tokens",)))
    assert np.array_equal(made["heads/tokens/w"], fresh["heads/tokens/w"])
    assert not np.array_equal(made["blocks/mlp/w_in"], fresh["blocks/mlp/w_in"])
    text = "\n".join(said)
    assert "5 fresh, which the weights lack (heads/tokens/b, heads/tokens/b_vocab, " in text
    assert "2 left behind, which this model lacks (heads/pooler/b, heads/pooler/w)" in text


def test_heads_that_are_fresh_and_that_a_view_leaves_so_are_warned_of(tmp_path, hf):
    bare = Run(model(), f"hf:{hf_folder(tmp_path / 'bare', heads=('pooler',))}", heads=("tokens",))
    warned = lambda trained: [line for line in start(bare, trained=trained)[2] if "WARNING" in line]
    beside = {"blocks": {"mlp": {"w_in": {"lora_a": 0}}}}
    (line,) = warned(beside | {"heads": {"tokens": {"w": {"lora_a": 0}}}})
    assert "4 fresh, and the view does not train them (heads/tokens/b, heads/tokens/b_vocab, " in line
    assert "also='heads/'" in line and "heads/tokens/w" not in line
    assert not warned({"heads": params(bare.model, heads=bare.heads)["heads"]}) and not warned(None)


def test_the_top_layers_and_the_pooler_begin_as_drawn_where_the_run_says_so(hf):
    made, fresh, said = start(Run(CONFIG, f"hf:{hf}", reset_layers=2))
    read, _, _ = start(Run(CONFIG, f"hf:{hf}"))
    for path, value in made.items():
        if path.startswith("blocks/"):
            np.testing.assert_array_equal(value, np.concatenate([read[path][:1], fresh[path][1:]]))
        else:
            np.testing.assert_array_equal(value, (fresh if "pooler" in path else read)[path])
    assert "  as drawn: the top 2 of 3 layers, and the pooler if there is one" in said
    with pytest.raises(UserError, match="config.reset_layers=4: there are 3 layers"):
        start(Run(CONFIG, f"hf:{hf}", reset_layers=4))


@pytest.mark.parametrize("how", ["mean", "normal"])
def test_a_larger_vocabulary_begins_as_the_run_says(hf, how):
    old = CONFIG.vocab_size
    run = Run(dataclasses.replace(CONFIG, vocab_size=old + 13), f"hf:{hf}", resize_vocabulary=how)
    made, fresh, said = start(run)
    for path in ("embeddings/tokens/table", "heads/tokens/b_vocab"):
        stored = flatten(params())[path]
        assert np.array_equal(made[path][:old], stored[:old])
        if how == "mean":
            mean = stored[:old].mean(0)
            assert np.allclose(made[path][old : old + 13], mean, atol=1e-7)
        else:
            assert np.array_equal(made[path][old : old + 13], fresh[path][old : old + 13])
        assert not made[path][old + 13 :].any()
    assert any("embeddings/tokens/table: (256, 24) made into (256, 24)" in line for line in said)


@pytest.mark.parametrize("how", ["repeat", "interpolate", "normal"])
def test_more_positions_begin_as_the_run_says(hf, how):
    made, fresh, _ = start(Run(model(max_positions=77), f"hf:{hf}", extend_positions=how))
    old, new = flatten(params())["embeddings/positions"], made["embeddings/positions"]
    assert new.shape == (77, 24)
    if how == "repeat":
        assert np.array_equal(new, old[np.arange(77) % 32])
    elif how == "interpolate":
        at = np.arange(77) * (31 / 76)
        expected = np.stack([np.interp(at, np.arange(32), old[:, d]) for d in range(24)], 1)
        assert np.allclose(new, expected, atol=1e-6)
    else:
        assert np.array_equal(new[:32], old) and np.array_equal(new[32:], fresh["embeddings/positions"][32:])


def test_positions_that_no_token_has_keep_their_place():
    old, fresh = jnp.arange(12.0).reshape(6, 2), jnp.full((10, 2), -1.0)
    made = np.asarray(growing._positions(old, fresh, 2, "repeat"))
    assert np.array_equal(made[:6], old) and np.array_equal(made[6:10], old[2:6])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (
            {"activation": "relu"},
            {},
            r"config\.model\.activation='relu', but hf:.* has 'gelu'\nFix: --config\.model\.activation=gelu\nOr: ",
        ),
        ({"norm_epsilon": 1e-5}, {}, r"config\.model\.norm_epsilon=1e-05, but .* has 1e-12"),
        (
            {"layers": 2},
            {},
            r"config\.model\.layers=2, but .* has 3, or say which .*--config\.init_layers \(first",
        ),
        ({"heads": 2}, {}, r"config\.model\.heads=2, but .* has 4"),
        ({"hidden": 36}, {}, r"config\.model\.hidden=36, but .* has 24"),
        (
            {"max_positions": 77},
            {},
            r"max_positions=77, but .* has 32, or say how .*--config\.extend_positions \(repeat",
        ),
        (
            {"max_positions": 9},
            {"extend_positions": "repeat"},
            r"max_positions=9, .*positions can only become more",
        ),
    ],
)
def test_a_model_that_differs_is_refused_by_the_name_of_the_field(hf, changes, options, message):
    with pytest.raises(UserError, match=message):
        starting.check_model(Run(model(**changes), f"hf:{hf}", **options), stored.of_hf(hf))


def test_a_larger_vocabulary_without_a_word_about_it_is_refused(hf):
    with pytest.raises(
        UserError,
        match=r"vocab_size=201, but .* has 150, or say how [^\n]*\nFix: --config\.model\.vocab_size=150\n",
    ):
        starting.check_model(Run(model(vocab_size=201), f"hf:{hf}"), stored.of_hf(hf))


def test_all_differences_come_at_once_and_the_fix_works_as_typed(hf):
    words = [f"--config.init_from=hf:{hf}", "--config.steps=99"]
    with pytest.raises(UserError) as refused:
        starting.check(flags.parse(["train", "quickstart", *words]).run, print)
    lines = str(refused.value).splitlines()
    named = [line.split("=")[0].strip().removeprefix("config.model.") for line in lines[1:-2]]
    assert named == ["vocab_size", "hidden", "layers", "mlp", "max_positions", "activation"]
    fix = shlex.split(lines[-2].removeprefix("Fix: "))
    starting.check(flags.parse(["train", "quickstart", *words, *fix]).run, print)
    *_, recipe = lines[-1].partition(",")[0].split()
    assert recipe == f"continue_mlm:hf:{hf}"


@pytest.mark.parametrize("name", transformers_folders.FAMILIES)
def test_a_folder_alone_gives_model_and_tokenizer_in_every_family(name, tmp_path):
    if name == "electra/generator":
        transformers_folders.save("electra/discriminator", tmp_path)
    place = transformers_folders.save(name, tmp_path)
    run = flags.load(f"{transformers_folders.FAMILIES[name][0]}:hf:{place}")
    found = stored.of_hf(place)
    assert run.model == found.config and run.init_from == f"hf:{place}"
    assert run.tokenizer.make(()).fingerprint == tokenizer_files.open_files(found.tokenizer, name).fingerprint
    starting.check(run, print)
    if name == "electra/generator":
        pair = flags.load(f"continue_mlm:hf:{place.parent}")
        assert pair.model.kind == "pair" and type(pair.objective).__name__ == "ReplacedTokens"
    other = {"continue_mlm": "continue_causal"}.get(transformers_folders.FAMILIES[name][0], "continue_mlm")
    with pytest.raises(UserError, match=rf"Fix: jaxlm train {transformers_folders.FAMILIES[name][0]}:hf:"):
        flags.load(f"{other}:hf:{place}")


def test_a_tokenizer_that_only_config_json_explains_is_imported_first(tmp_path):
    """T5's released folder: a SentencePiece model, to which its class adds 100 sentinels."""
    place = transformers_folders.save("t5", tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (place / file).unlink()
    with pytest.raises(UserError, match=rf"Fix: jaxlm import hf:{place} models/it, then .*continue_seq2seq:"):
        flags.load(f"continue_seq2seq:hf:{place}")
    importing.from_hf(str(place), tmp_path / "it", say=lambda line: None)
    run = flags.load(f"continue_seq2seq:{tmp_path}/it")
    starting.check(run, print)
    assert len(run.tokenizer.make(()).vocabulary.sentinels) >= 100


def test_another_family_of_the_same_kind_is_typed_as_a_whole(tmp_path):
    place = transformers_folders.save("distilbert", tmp_path)
    words = ["train", "quickstart", f"--config.init_from=hf:{place}"]
    with pytest.raises(UserError, match="is a DistilBert, config.model is a Bert") as refused:
        starting.check(flags.parse(words).run, print)
    flag = shlex.split(str(refused.value).partition("Fix: ")[2].partition(", or jaxlm train")[0])
    starting.check(flags.parse([*words, *flag]).run, print)


def test_what_may_differ_may_differ(hf):
    other = model(
        dropout=0.2, attention_dropout=0.1, init_scale=0.5, layer_loop="unrolled", position_init="sinusoidal"
    )
    starting.check_model(Run(other, f"hf:{hf}"), stored.of_hf(hf))


def test_another_tokenizer_is_refused_with_the_id_that_differs(hf):
    with pytest.raises(
        UserError, match=r"trained with another tokenizer \(id \d+ is .* there\)\. Fix: .*Pretrained\(path="
    ):
        start(Run(model(), f"hf:{hf}"), wordpiece.train(["entirely other words"] * 30, 150, True))


def test_a_folder_without_a_tokenizer_is_taken_with_a_warning(hf, tmp_path):
    bare = hf_folder(tmp_path / "bare")
    for file in ("tokenizer.json",):
        (bare / file).unlink()
    _, _, said = start(Run(model(), f"hf:{bare}"))
    assert said[0].startswith(f"WARNING: hf:{bare} has no tokenizer")


def test_another_family_and_a_folder_without_prefix_are_told_apart(hf):
    from jaxlm.models.llama import Llama

    with pytest.raises(
        UserError, match=r"is not a run folder \(no checkpoints\)\. If it is a Hugging Face folder, write hf:"
    ):
        start(Run(model(), str(hf)))
    other = Run.__new__(Run)
    other.init_from, other.model = f"hf:{hf}", Llama.__new__(Llama)
    with pytest.raises(
        UserError, match="is a Bert, config.model is a Llama. Fix: jaxlm train continue_mlm:hf:"
    ):
        starting.check_model(other, stored.of_hf(hf))
