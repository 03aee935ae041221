"""Claims about generation from text to text: tokenizers, stop texts, streaming, and the command."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxlm.commands import generate as command
from jaxlm.convert import families
from jaxlm.data.tokens import byte_bpe
from jaxlm.errors import UserError
from jaxlm.infer import answers, frame, loaded
from jaxlm.infer.frame import Frame
from jaxlm.infer.sampling import Sampling
from tests.infer.predictors import predictor
from tests.infer.small_models import DECODERS, ENCODER_DECODERS, made

TEXTS = ["The cat sat on the mat, and the dog ran to the door.", "Ein schöner Tag für die Katze — ja!"] * 30
WORDS = byte_bpe.train(TEXTS, 301, 0, "off")
SIZE = WORDS.size
PROMPTS = ["The cat", "the dog ran to the", "Ein"]
PLAIN = Frame(before=(WORDS.special("bos"),), after=(), start=(), stops=(WORDS.special("eos"),))


def ready(kind="GPT-2"):
    config = {**DECODERS, **ENCODER_DECODERS}[kind]
    return made(dataclasses.replace(config, vocab_size=SIZE))


def answer(prompts, around=PLAIN, **changed):
    model, params = ready()
    settings = {"new_tokens": 30, "sampling": Sampling(temperature=1.0), "seed": 2} | changed
    return answers.answer(predictor(model, params, WORDS), around, prompts, **settings)[0]


def test_an_answer_is_what_follows_the_prompt():
    for found in answer(PROMPTS):
        ids = WORDS.encode(found.prompt) + [i for i in found.written.tokens if i not in PLAIN.stops]
        assert found.prompt + found.text == WORDS.decode(ids)


def test_special_tokens_in_a_prompt_count_as_such():
    whole = answer(["<|endoftext|>The cat"], dataclasses.replace(PLAIN, before=()))
    assert whole[0].written == answer(["The cat"])[0].written


def test_sentinels_of_an_answer_are_shown_by_name():
    marked = byte_bpe.train(TEXTS, 301, 3, "off")
    first, second = marked.vocabulary.sentinels[:2]
    ids = [first, *marked.encode(" the cat"), second, *marked.encode(" ran"), marked.special("eos")]
    assert answers._text(marked, ids) == "<extra_id_0> the cat <extra_id_1> ran"
    assert answers._text(marked, ids[1:3]) == marked.decode(ids[1:3])
    around = dataclasses.replace(PLAIN, start=(1,))
    reader = answers.Reader(marked, around, [[5]], ("ran",), None)
    assert reader.text(0, ids) == "<extra_id_0> the cat <extra_id_1> "


def test_a_stop_text_ends_an_answer_and_is_left_out():
    free = answer(PROMPTS)
    stop = free[1].text[8:10]
    found = answer(PROMPTS, stop=(stop, "never said"))
    for before, after in zip(free, found, strict=True):
        assert after.text == before.text.split(stop)[0]
        if stop in before.text:
            assert after.written.reason in ("stop text", before.written.reason)
    with pytest.raises(UserError, match="--stop= is empty"):
        answer(PROMPTS, stop=("",))


@pytest.mark.parametrize("stop", [(), ("the", "zzzzzz")], ids=str)
def test_a_single_answer_is_shown_as_it_grows_and_never_taken_back(stop):
    pieces = []
    found = answer(PROMPTS[:1], show=pieces.append, stop=stop, new_tokens=60)
    assert "".join(pieces) == found[0].text
    assert len(pieces) > 1 or stop


def written_folder(place, kind, **settings):
    """A Hugging Face folder with a tokenizer."""
    model, params = ready(kind)
    contents = families.to_hf_config(model.config) | {"eos_token_id": WORDS.special("eos")} | settings
    place.mkdir()
    (place / "config.json").write_text(json.dumps(contents))
    tensors = families.export_params(jax.tree.map(np.asarray, params), model.config)
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    WORDS.save(place)
    return place


def test_the_command_answers_all_prompts_with_ids_and_reasons(tmp_path, capsys):
    folder = written_folder(tmp_path / "hf", "GPT-2")
    (tmp_path / "more.txt").write_text("the dog ran to the\n\nEin\n")
    arguments = [f"--hf={folder}", "--prompt=The cat", f"--prompts-file={tmp_path / 'more.txt'}", "--json"]
    arguments += ["--mesh.data=1"]  # as `answer`, to the last bit
    assert command.main(["generate", *arguments, "--max-new-tokens=7"]) == 0
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    plain = dataclasses.replace(PLAIN, before=())
    expected = answer(PROMPTS, plain, new_tokens=7, sampling=Sampling())
    assert lines == [json.loads(json.dumps(found.to_json())) for found in expected]
    assert "tokens/s" in output.err and "prefill" in output.err


def test_the_command_writes_one_answer_after_its_prompt(tmp_path, capsys):
    folder = written_folder(tmp_path / "hf", "GPT-2")
    arguments = [f"--hf={folder}", "--prompt=The cat", "--max-new-tokens=9", "--temperature=0.9", "--seed=4"]
    command.main(["generate", *arguments])
    plain = dataclasses.replace(PLAIN, before=())
    expected = answer(["The cat"], plain, new_tokens=9, sampling=Sampling(temperature=0.9), seed=4)
    assert capsys.readouterr().out == "The cat" + expected[0].text + "\n"


def test_the_command_gives_an_encoder_decoder_its_source(tmp_path, capsys):
    folder = written_folder(tmp_path / "hf", "BART", decoder_start_token_id=1)
    command.main(["generate", f"--hf={folder}", "--prompt=The cat", "--prompt=Ein", "--max-new-tokens=5"])
    around = frame.of_loaded(loaded.load_hf(folder))
    assert around == Frame(before=(), after=(WORDS.special("eos"),), start=(1,), stops=PLAIN.stops)
    model, params = ready("BART")
    found, _ = answers.answer(
        predictor(model, params, WORDS), around, ["The cat", "Ein"], new_tokens=5, sampling=Sampling(), seed=0
    )
    shown = [f"[{n}] {a.prompt} => {a.text}" for n, a in enumerate(found, 1)]
    assert capsys.readouterr().out.splitlines() == "\n".join(shown).splitlines()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--temperature=-1", "--temperature"),
        ("--seed=-1", "--seed"),
        ("--prompts-file=/no/file", "--input=/no/file: cannot be read"),
    ],
)
def test_the_command_refuses_what_cannot_work_before_it_loads_anything(argument, message):
    with pytest.raises(UserError, match=message):
        command.main(["generate", "--hf=/nowhere", "--prompt=a", argument])
