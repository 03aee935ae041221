"""A smaller vocabulary from a Hugging Face folder to one: transformers reads the result, and gets what it got before."""

import dataclasses
import json

import numpy as np
import pytest

from jaxlm.commands import compress as command
from jaxlm.commands import export
from jaxlm.compress.calibration import Calibration, Text
from jaxlm.compress.step import Compress, Step
from jaxlm.compress.vocabulary import Vocabulary, counted
from jaxlm.config import flags
from jaxlm.errors import UserError
from jaxlm.exchange import starting
from jaxlm.infer import frame, generate, loaded
from jaxlm.infer.sampling import Sampling
from jaxlm.models.paths import flatten
from jaxlm.partition.mesh import Mesh
from tests.compress import models
from tests.exchange import transformers_folders
from tests.exchange.transformers_folders import FAMILIES, SENTENCES

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

QUIET = lambda line: None
USED = Vocabulary(minimum=1, size=0)
# Half of what the tokenizers were trained on
LINES = [line for line in SENTENCES[:60] if "cat" not in line]
# Each kind of tokenizer, each kind of model; the others differ in nothing that tokens touch.
TRIED = ["bert", "roberta", "albert", "electra/discriminator", "gpt2", "t5"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "text.txt"
    path.write_text("\n".join(LINES))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory, text):
    """{family: (folder of transformers, model folder, folder of transformers again)}, made when asked for."""
    root, made = tmp_path_factory.mktemp("vocabulary"), {}

    def of(name):
        if name not in made:
            torch.manual_seed(0)
            came = transformers_folders.save(name, root / "came")
            small, back = root / "small" / name, root / "back" / name
            words = [
                f"--run=hf:{came}",
                f"--output={small}",
                "--config=compress_vocabulary",
                f"--text={text}",
            ]
            assert command.main(["", *words]) == 0
            assert export.main(["", str(small), str(back)]) == 0
            made[name] = came, small, back
        return made[name]

    return of


def rows(name, tokenizer, back):
    """(old ids of a line, new ids of the same pieces), special tokens around them."""
    there = transformers.AutoTokenizer.from_pretrained(back)
    for line in LINES[::7]:
        old = tokenizer.encode_batch([line])[0].tolist()
        new = there(line, add_special_tokens=False)["input_ids"]
        assert there.convert_ids_to_tokens(new) == [tokenizer.token(id) for id in old]
        yield old, new


def outputs(name, folder, ids):
    """(states, logits) of transformers."""
    kind = getattr(transformers, FAMILIES[name][1])
    model = kind.from_pretrained(folder).eval()
    given = {"input_ids": torch.tensor([ids])}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = given["input_ids"].flip(1)
    with torch.no_grad():
        found = model(**given, output_hidden_states=True)
    states = getattr(found, "hidden_states", None) or found.decoder_hidden_states
    return states[-1][0].numpy(), found.logits[0].numpy()


@pytest.mark.parametrize("name", TRIED)
def test_transformers_makes_the_same_of_what_is_kept(name, folders):
    came, small, back = folders(name)
    before, after = (loaded.load(place, mesh=models.ONE) for place in (f"hf:{came}", small))
    kept = [before.tokenizer.pieces.index(piece) for piece in after.tokenizer.pieces]
    assert len(kept) == after.model.config.vocab_size < before.tokenizer.size
    assert kept == sorted(kept)
    for old, new in rows(name, before.tokenizer, back):
        assert [kept[id] for id in new] == old
        (x, logits), (y, smaller) = outputs(name, came, old), outputs(name, back, new)
        np.testing.assert_allclose(y, x, atol=1e-5)
        logits = logits if name == "electra/discriminator" else logits[:, kept]
        np.testing.assert_allclose(smaller, logits, atol=1e-5)


@pytest.mark.parametrize("name", TRIED)
def test_special_tokens_have_their_new_numbers_everywhere(name, folders):
    came, small, back = folders(name)
    before, after = (loaded.load(place, mesh=models.ONE) for place in (f"hf:{came}", small))
    for role in ("pad", "unk", "cls", "sep", "mask", "bos", "eos"):
        old, new = (getattr(model.tokenizer.vocabulary, role) for model in (before, after))
        assert (old < 0 and new < 0) or before.tokenizer.token(old) == after.tokenizer.token(new)
    for file in ("config.json", "generation_config.json"):
        if (came / file).is_file():
            was, now, out = (
                json.loads((place / file).read_text()) for place in (came, small / "origin", back)
            )
            for key in (key for key in was if key.endswith("_token_id") and was[key] is not None):
                assert after.tokenizer.token(now[key]) == before.tokenizer.token(was[key]), key
                assert out.get(key, now[key]) == now[key], key


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_it_writes_what_it_wrote(name, folders):
    """Greedily, as far as that is of kept tokens."""
    came, small, _ = folders(name)
    before, after = (loaded.load(place, mesh=models.ONE) for place in (f"hf:{came}", small))
    written = []
    for model in (before, after):
        asked = frame.of_loaded(model)
        ids = model.tokenizer.encode_batch([LINES[0]])[0].tolist()
        (found,), _ = generate.generate(
            model, [ids], asked, new_tokens=5, sampling=Sampling(temperature=0), seed=0
        )
        pieces = model.tokenizer.pieces  # a table may have rows behind them
        written.append([pieces[id] if id < len(pieces) else None for id in found.tokens])
    same = [piece in after.tokenizer.pieces for piece in written[0]]
    until = same.index(False) if False in same else len(same)
    assert written[0][:until] == written[1][:until]


def test_its_folder_is_trained_as_any_other(folders):
    _, small, _ = folders("bert")
    run = flags.load(f"continue_mlm:{small}")
    assert run.model.vocab_size == loaded.load(small, mesh=models.ONE).tokenizer.size
    starting.check(run, print)


def test_rows_for_what_comes_behind_are_read_with_the_new_tokenizer(folders, text):
    model = loaded.load(f"hf:{folders('bert')[0]}", mesh=models.ONE)
    seen = []

    @dataclasses.dataclass(kw_only=True)
    class Seen(Step):
        calibrated = True

        def apply(self, model, text, say):
            seen.append((model.tokenizer, text.tokens_RT))
            return model

    recipe = Compress(steps=(USED, Seen()), calibration=Text(file=str(text), rows=3, length=16))
    recipe.apply(model, recipe.calibration.read(model), QUIET)
    ((tokenizer, tokens_RT),) = seen
    assert tokens_RT.max() < tokenizer.size < model.tokenizer.size
    assert tokenizer.decode(tokens_RT[0]).startswith(LINES[0].split(".")[0])


def test_the_most_frequent_stay_and_the_mesh_makes_the_same(folders, text):
    model = loaded.load(f"hf:{folders('llama')[0]}", mesh=models.ONE)
    shared = loaded.load(f"hf:{folders('llama')[0]}", mesh=Mesh(data=1, fsdp=2, tensor=2))
    counts_V, rule = counted(model, str(text)), dataclasses.replace(USED, size=12)
    said: list[str] = []
    made, other = (
        rule.apply(one, Calibration(np.zeros((0, 1)), str(text)), said.append) for one in (model, shared)
    )
    for id in np.argsort(-counts_V, kind="stable")[:5]:
        assert model.tokenizer.token(id) in made.tokenizer.pieces
    gone = [id for id, piece in enumerate(model.tokenizer.pieces) if piece not in made.tokenizer.pieces]
    assert f"{counts_V[gone].sum() / counts_V.sum():.2%} of its {counts_V.sum():,} tokens go" in said[0]
    assert made.tokenizer.decode(made.tokenizer.encode("Ein Satz – 中文")) == "Ein Satz – 中文"
    for path, array in flatten(made.params).items():
        np.testing.assert_array_equal(flatten(other.params)[path], array)
    assert not flatten(made.params)["tokens/table"][made.tokenizer.size :].any()


def test_what_cannot_be_is_said(folders, text, tmp_path):
    model = loaded.load(f"hf:{folders('bert')[0]}", mesh=models.ONE)
    read = lambda path: Calibration(np.zeros((0, 1)), str(path))
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"empty.txt has no text.*Fix: "):
        USED.apply(model, read(tmp_path / "empty.txt"), QUIET)
    with pytest.raises(UserError, match=r"no text|none is named.*Fix: --text=FILE"):
        Text(file="", rows=0, length=512).read(model)
    (tmp_path / "all.txt").write_text("\n".join([*SENTENCES, " ".join(model.tokenizer.pieces)]))
    small = USED.apply(model, read(text), QUIET)
    with pytest.raises(UserError, match=r"All .* tokens would stay. Fix: "):
        USED.apply(small, read(text), QUIET)
    rounding = Compress(steps=(USED,), calibration=Text(file=str(text), rows=0, length=8)).calibration.read(
        model
    )
    with pytest.raises(UserError, match=r"calibration.rows=0.*Fix: --config.calibration.rows"):
        rounding.inputs(model, ["blocks/mlp/w_in"])
    bare = dataclasses.replace(model.stored, tokenizer={})
    with pytest.raises(UserError, match="has no tokenizer"):
        loaded.of_stored(bare, mesh=models.ONE)
    for change in ({"minimum": 0}, {"size": -1}):
        with pytest.raises(UserError, match=r"config.steps\[0\]"):
            dataclasses.replace(USED, **change).validate("config.steps[0]")
