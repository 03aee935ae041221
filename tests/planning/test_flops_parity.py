"""FLOPs of a step against PyTorch's counter, on the same small Llama."""

import dataclasses

import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from jaxlm.config import Stage, flags
from jaxlm.planning import quick, targets

ROWS, LENGTH, VOCABULARY = 8, 96, 640


def test_a_step_takes_the_flops_that_pytorch_counts():
    """Forward and backward, scores counted at T x T by both."""
    run = flags.parse(["plan", "quickstart_llama"]).run
    model = dataclasses.replace(run.model, vocab_size=VOCABULARY, remat="none")
    run = dataclasses.replace(run, model=model, batch_size=ROWS)
    ours = quick.of(run, targets.parse("v5e-1"), Stage(length=LENGTH, share=1.0)).model_flops
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=model.hidden,
        intermediate_size=model.mlp,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        head_dim=model.head_dim,
        attn_implementation="eager",
    )
    theirs = transformers.LlamaForCausalLM(config)
    ids = torch.zeros((ROWS, LENGTH), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        theirs(input_ids=ids, labels=ids).loss.backward()
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.02)
