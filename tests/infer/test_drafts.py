"""Claims about speculative decoding: a draft saves steps, whatever it guesses, and changes no answer."""

import dataclasses
import json

import numpy as np
import pytest

from jaxlm.commands import generate as command
from jaxlm.errors import UserError
from jaxlm.infer.slots import Request, Slots
from tests.infer.predictors import predictor
from tests.infer.small_models import DECODERS, ENCODER_DECODERS, LLAMA, made
from tests.infer.test_answers import written_folder
from tests.infer.test_slots import ANSWERING, DRAWN, PLAIN, PROMPTS, Sampling, slots

SMALL = dataclasses.replace(LLAMA, layers=1)


def steps_and_answers(engine, requests):
    for request in requests:
        engine.submit(request)
    found, steps = {}, 0
    while not engine.idle:
        steps += 1
        for event in engine.step():
            ids, log_p = found.get(event.ticket, ((), ()))
            found[event.ticket] = ids + event.ids, log_p + event.log_probabilities
    return steps, found


def asked(**source):
    hows = [Sampling(), DRAWN, Sampling(temperature=0.8, top_p=0.9)]
    name = "source_ids" if source else "ids"
    return [
        Request(**{name: prompt}, max_new_tokens=19, sampling=how, seed=k)
        for k, (prompt, how) in enumerate(zip(PROMPTS, hows, strict=False))
    ]


@pytest.mark.parametrize("draft", ["another", "itself"])
def test_a_draft_changes_no_answer_greedy_or_drawn(draft):
    """A small model with weights of its own, which is nearly always wrong, and the model itself, which never is."""
    steps, expected = steps_and_answers(slots(LLAMA), asked())
    small = predictor(*made(SMALL if draft == "another" else LLAMA))
    fewer, found = steps_and_answers(slots(LLAMA, draft=small, guesses=3), asked())
    assert {k: ids for k, (ids, _) in found.items()} == {k: ids for k, (ids, _) in expected.items()}
    for ticket, (_, log_p) in found.items():
        # A step of four places is another product than a step of one: equal to rounding.
        np.testing.assert_allclose(log_p, expected[ticket][1], atol=2e-5)
    assert fewer < steps / 2 if draft == "itself" else fewer <= steps


def test_an_encoder_decoder_takes_a_draft_of_its_kind():
    config = ENCODER_DECODERS["T5"]
    _, expected = steps_and_answers(slots(config, ANSWERING), asked(source=True))
    small = predictor(*made(dataclasses.replace(config, decoder_layers=1, encoder_layers=1)))
    _, found = steps_and_answers(slots(config, ANSWERING, draft=small, guesses=2), asked(source=True))
    assert {k: ids for k, (ids, _) in found.items()} == {k: ids for k, (ids, _) in expected.items()}


def test_a_draft_of_other_tokens_or_another_kind_is_refused():
    model = predictor(*made(LLAMA))
    take = lambda config, **how: Slots(model, frame=PLAIN, draft=predictor(*made(config)), **how)
    with pytest.raises(UserError, match="another tokenizer"):
        take(dataclasses.replace(SMALL, vocab_size=99))
    with pytest.raises(UserError, match="the draft is of the kind encoder_decoder"):
        take(ENCODER_DECODERS["T5"])
    with pytest.raises(UserError, match="guesses=0"):
        take(SMALL, guesses=0)


def test_an_answer_ends_where_the_draft_has_positions_no_more():
    small = predictor(*made(dataclasses.replace(DECODERS["GPT-2"], layers=1, max_positions=20)))
    engine = slots(DECODERS["GPT-2"], draft=small)
    with pytest.raises(UserError, match="20"):
        engine.submit(Request(ids=[5] * 21, max_new_tokens=4))


def test_the_command_writes_with_a_draft_what_it_writes_without(tmp_path, capsys):
    folder = written_folder(tmp_path / "hf", "GPT-2")
    common = [
        "generate",
        f"--run={folder_name(folder)}",
        "The cat",
        "Ein",
        "the dog ran to the",
        "--mesh.data=1",
    ]
    common += ["--json", "--max-new-tokens=7", "--temperature=0.9", "--seed=4"]
    said = []
    for more in ([], [f"--draft={folder_name(folder)}", "--guesses=2"]):
        assert command.main([*common, *more]) == 0
        output = capsys.readouterr()
        said.append([json.loads(line) for line in output.out.splitlines()])
    assert "tokens a step of each answer" in output.err
    for alone, drafted in zip(*said, strict=True):
        log_p = [one.pop("log_probabilities") for one in (alone, drafted)]
        assert alone == drafted
        np.testing.assert_allclose(*log_p, atol=2e-5)
    with pytest.raises(UserError, match="--draft beside a search"):
        command.main([*common[:2], "a", "--draft=x", "--beams=2"])


def folder_name(folder):
    return f"hf:{folder}"
