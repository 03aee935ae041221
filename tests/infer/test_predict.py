"""Claims about predictors on a mesh: the answers of one device, weights in pieces, in the dtype that was asked for."""

import json

import numpy as np
import pytest

from jaxlm.commands import embed as embed_command
from jaxlm.commands import fill_mask as fill_command
from jaxlm.commands import generate as generate_command
from jaxlm.errors import UserError
from jaxlm.exchange import importing
from jaxlm.infer import answers, embed, fill_mask, frame, loaded
from jaxlm.infer.sampling import Sampling
from jaxlm.models.paths import flatten
from jaxlm.partition.mesh import SPLIT, Mesh
from tests.exchange.folders import TEXTS, hf_folder
from tests.infer.predictors import ONE
from tests.infer.test_answers import PROMPTS, written_folder

MESHES = [SPLIT, Mesh(data=2, fsdp=2, tensor=2), Mesh(data=3), Mesh(data=1, tensor=4)]
SENTENCES = ["the cat sat on the [MASK]", "[MASK] dog and a [MASK]", "the [MASK]", "a [MASK] door", "[MASK]"]
named = pytest.mark.parametrize(
    "mesh", MESHES, ids=lambda m: f"data {m.data} fsdp {m.fsdp} tensor {m.tensor}"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An encoder, a decoder and an encoder-decoder as Hugging Face folders."""
    place = tmp_path_factory.mktemp("folders")
    return {
        "encoder": hf_folder(place / "bert"),
        "decoder": written_folder(place / "llama", "Llama"),
        "encoder_decoder": written_folder(place / "t5", "T5", decoder_start_token_id=0),
    }


@named
def test_masks_and_vectors_on_a_mesh_are_those_of_one_device(folders, mesh):
    one, many = (loaded.load_hf(folders["encoder"], mesh=m) for m in (ONE, mesh))
    filled = [fill_mask.fill(ready, SENTENCES, top=7) for ready in (one, many)]
    for a, b in zip(*filled, strict=True):
        assert [token for token, _ in a.candidates] == [token for token, _ in b.candidates]
        np.testing.assert_allclose([p for _, p in a.candidates], [p for _, p in b.candidates], rtol=1e-4)
    vectors = [embed.embed(ready, TEXTS[:5], pooling="mean", batch_size=3) for ready in (one, many)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


@named
@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_greedy_text_on_a_mesh_is_that_of_one_device(folders, kind, mesh):
    found = []
    for ready in (loaded.load_hf(folders[kind], mesh=m) for m in (ONE, mesh)):
        how = {"new_tokens": 20, "sampling": Sampling(), "seed": 0, "stop": ("never said",)}
        found.append(answers.answer(ready, frame.of_loaded(ready), PROMPTS, **how)[0])
    assert [a.written.tokens for a in found[0]] == [a.written.tokens for a in found[1]]
    assert [a.text for a in found[0]] == [a.text for a in found[1]]


def test_draws_on_a_mesh_are_those_of_one_device(folders):
    how = {
        "new_tokens": 12,
        "sampling": Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.3),
        "seed": 3,
    }
    one, many = (loaded.load_hf(folders["decoder"], mesh=m) for m in (ONE, SPLIT))
    texts = [answers.answer(r, frame.of_loaded(r), PROMPTS, **how)[0] for r in (one, many)]
    assert [a.text for a in texts[0]] == [a.text for a in texts[1]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("source", ["Hugging Face folder", "model folder"])
def test_every_device_reads_its_share_of_the_weights(folders, source, dtype, tmp_path):
    """By default an eighth of all but small biases; in the dtype that was asked for, rounded as one cast of all would."""
    path, load = folders["encoder"], loaded.load_hf
    if source == "model folder":
        importing.from_hf(str(path), path := tmp_path / "model", say=lambda line: None)
        load = loaded.load
    elsewhere = flatten(loaded.load_hf(folders["encoder"], mesh=ONE).params)
    ready = load(path, dtype=dtype)
    axes = flatten(ready.model.axes)
    for name, array in flatten(ready.params).items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(np.asarray(array), np.asarray(elsewhere[name].astype(dtype)))
        parts = 8 if "embed" in axes[name] else 1
        assert array.addressable_shards[0].data.size == array.size // parts, name
    assert [name for name, names in axes.items() if "embed" not in names and len(names) > 2] == [
        f"blocks/attention/b{which}" for which in "kqv"
    ]


def test_commands_take_a_precision_and_a_mesh(folders, capsys, tmp_path):
    bert, vectors = f"--hf={folders['encoder']}", tmp_path / "vectors.npy"
    for more in ((), ("--precision=bfloat16",), ("--mesh.data=1",), ("--mesh.tensor=2", "--mesh.fsdp=2")):
        embed_command.main(["embed", bert, *TEXTS[:2], f"--output={vectors}", *more])
        assert np.load(vectors).dtype == np.float32
        fill_command.main(["fill_mask", bert, SENTENCES[0], *more])
        generate_command.main(
            [
                "generate",
                f"--hf={folders['decoder']}",
                "--prompt=The cat",
                "--json",
                "--max-new-tokens=3",
                *more,
            ]
        )
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["prompt"] == "The cat"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--mesh.data=9", "--mesh: data=9 needs 9 devices, there are 8"),
        ("--mesh.fsdp=3", "--mesh: fsdp=3 .* does not divide the 8 devices"),
        ("--mesh.tensor=0", r"--mesh.tensor=0: must be a whole number of at least 1, or -1"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(folders, option, message):
    with pytest.raises(UserError, match=message):
        fill_command.main(["fill_mask", f"--hf={folders['encoder']}", SENTENCES[0], option])


def test_batches_on_a_cpu_hold_as_many_tokens_as_stay_in_the_cache(folders):
    ready = loaded.load_hf(folders["encoder"], mesh=ONE)
    shapes, longest = [], ready.row_length

    def program(module, batch):
        shapes.append(batch.tokens_BT.shape)
        return batch.tokens_BT[:, :1], batch.segments_BT.sum(axis=1)

    rows = [[k % 7] * (1 + k % longest) for k in range(300)]
    found = ready.by_row(program, rows, batch_size=64)
    assert [(int(first[0]), int(length)) for first, length in found] == [(row[0], len(row)) for row in rows]
    assert all(height * width <= 1024 and height <= 64 for height, width in shapes)
    assert max(height for height, _ in shapes) == 64 and len({width for _, width in shapes}) > 1
