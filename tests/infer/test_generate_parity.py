"""Claim: greedy tokens are those of transformers' `generate`, prompts one by one and in one left-padded batch."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import jax
import torch

from jaxlm.infer import generate as generating
from jaxlm.infer.frame import Frame
from jaxlm.infer.sampling import Sampling
from jaxlm.models.build import build
from tests.infer.predictors import predictor
from tools.parity.collection import cases

PROMPTS = [[5, 17, 80, 3], [70], [12, 92, 9, 4, 23, 8, 41]]
NEW, STOP = 9, 2
NAMES = ("Llama", "Mistral (window)", "Qwen2", "Qwen3", "Llama, RoPE Llama 3.1", "GPT-2")
# transformers' balance does not know a cache: with output_router_logits its generation ends with an error.
NAMES += ("Mixtral, three of four, no balance",)
SOURCED = ("T5", "T5 1.1", "BART", "Transformer (Marian)")
CASES = {case.name: case for case in cases()}


def theirs(hf, rows, **more):
    width = max(map(len, rows))
    padded = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    out = hf.generate(
        padded,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=STOP,
        pad_token_id=0,
        **more,
    )
    begun = 1 if more else width
    cut = lambda row: row[: row.index(STOP) + 1] if STOP in row else row
    return [cut(row[begun:]) for row in out.tolist()]


def ours(case, hf, frame):
    params = jax.tree.map(np.asarray, case.params(hf))
    settings = {"new_tokens": NEW, "sampling": Sampling(), "seed": 0}
    written, _ = generating.generate(predictor(build(case.config), params), PROMPTS, frame, **settings)
    return [list(w.tokens) for w in written]


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_goes_on_as_in_transformers(name):
    case = CASES[name]
    hf = case.reference(seed=6).eval()
    expected = [theirs(hf, [prompt])[0] for prompt in PROMPTS]
    assert theirs(hf, PROMPTS) == expected
    assert ours(case, hf, Frame(before=(), after=(), start=(), stops=(STOP,))) == expected


@pytest.mark.parametrize("name", [name for name in SOURCED if name in CASES])
def test_an_encoder_decoder_answers_as_in_transformers(name):
    case = CASES[name]
    hf = case.reference(seed=6).eval()
    hf.generation_config.forced_bos_token_id = hf.generation_config.forced_eos_token_id = None
    expected = [theirs(hf, [prompt], decoder_start_token_id=0)[0] for prompt in PROMPTS]
    assert ours(case, hf, Frame(before=(), after=(), start=(0,), stops=(STOP,))) == expected
