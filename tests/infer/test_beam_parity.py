"""Claim: texts and scores of a beam search are those of transformers' `generate`, whatever else is in the batch."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import jax
import torch

from jaxlm.infer import generate as generating
from jaxlm.infer.frame import Frame
from jaxlm.models.build import build
from jaxlm.objectives.search import Search
from tests.infer.predictors import predictor
from tools.parity.collection import cases

PROMPTS = [[5, 17, 80, 3], [70], [12, 92, 9, 4, 23, 8, 41]]
NEW, STOPS = 9, tuple(range(2, 99, 5))
CASES = {case.name: case for case in cases()}
STOPPING = {"no": False, "yes": True, "never": "never"}
SEARCHES = [
    Search(beams=4, length_penalty=0.6, n_best=4),
    Search(beams=3, length_penalty=2.0, early_stopping="never", n_best=2),
    Search(beams=2, length_penalty=-0.5, early_stopping="yes", no_repeat_ngram=2, min_new_tokens=4, n_best=2),
    Search(beams=1, early_stopping="yes", no_repeat_ngram=1),
]


def theirs(hf, prompt, search, **more):
    out = hf.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=int),
        do_sample=False,
        num_beams=search.beams,
        num_return_sequences=search.n_best,
        length_penalty=search.length_penalty,
        early_stopping=STOPPING[search.early_stopping] if search.beams > 1 else False,
        no_repeat_ngram_size=search.no_repeat_ngram,
        min_new_tokens=search.min_new_tokens or None,
        max_new_tokens=NEW,
        eos_token_id=list(STOPS),
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        **more,
    )
    begun = 1 if more else len(prompt)
    cut = lambda row: row[: next((i + 1 for i, id in enumerate(row) if id in STOPS), len(row))]
    scores = out.sequences_scores.tolist() if search.beams > 1 else [None]
    return [(cut(row[begun:]), score) for row, score in zip(out.sequences.tolist(), scores, strict=True)]


def same(found, expected, search):
    for several, others in zip(found, expected, strict=True):
        for one, (tokens, score) in zip(several, others, strict=True):
            assert list(one.tokens) == tokens
            assert one.reason == ("stop token" if tokens[-1] in STOPS else "length")
            ours = sum(one.log_probabilities) / len(tokens) ** search.length_penalty
            np.testing.assert_allclose(one.score, ours if score is None else score, rtol=2e-4)
            np.testing.assert_allclose(one.score, ours, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "search"),
    [*(("T5", search) for search in SEARCHES), ("GPT-2", SEARCHES[2]), ("BART", SEARCHES[0])],
)
def test_texts_and_scores_are_those_of_transformers(name, search):
    case = CASES[name]
    hf = case.reference(seed=6).eval()
    hf.generation_config.forced_bos_token_id = hf.generation_config.forced_eos_token_id = None
    start = {} if name == "GPT-2" else {"decoder_start_token_id": 0}
    params = jax.tree.map(np.asarray, case.params(hf))
    frame = Frame(before=(), after=(), start=(0,) if start else (), stops=STOPS)
    model = predictor(build(case.config), params)
    found, speed = generating.search(model, PROMPTS, frame, new_tokens=NEW, how=search)
    same(found, [theirs(hf, prompt, search, **start) for prompt in PROMPTS], search)
    assert speed.prefill_tokens == 12
    assert "stop token" in {one.reason for several in found for one in several}
