"""Llama, Mistral, Qwen2, Qwen3, and the scalings of RoPE."""

import dataclasses

from jaxlm.models.llama import Llama
from jaxlm.models.rope import Linear, Llama3, Rope, Unscaled, Yarn
from tools.parity.case import Case
from tools.parity.kinds import Causal

LLAMA = Llama(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=6,
    kv_heads=2,
    head_dim=10,
    mlp=56,
    activation="silu",
    max_positions=40,
    rope=Rope(base=10000.0, scaling=Unscaled()),
    norm_epsilon=1e-5,
    embeddings="untied",
    biases="none",
    qk_norm="none",
    windows=(0,),
    init_scale=0.02,
)
YARN = Yarn(factor=4.0, original=10, beta_fast=32.0, beta_slow=1.0, attention_factor=1.1386294361119891)
# The key's bias shifts all scores of a query alike, but not under RoPE: no exception is needed.
_SCALED = {
    "linear": Linear(factor=4.0),
    "Llama 3.1": Llama3(factor=8.0, low_frequency=1.0, high_frequency=4.0, original=16),
    "YaRN": YARN,
}


def _case(name: str, **changes: object) -> Case:
    return Case(
        name=name,
        config=dataclasses.replace(LLAMA, **changes),  # type: ignore[arg-type]
        kind=Causal(),
        extra={"bos_token_id": 1, "eos_token_id": 2},
    )


CASES = [
    _case("Llama"),
    _case("Llama, tied, biases", embeddings="tied", biases="all"),
    _case("Mistral (window)", windows=(4,)),
    _case("Qwen2", biases="qkv", embeddings="tied"),
    _case("Qwen2, windowed layers", biases="qkv", windows=(0, 0, 5)),
    _case("Qwen3", qk_norm="head", embeddings="tied"),
    *(
        _case(f"Llama, RoPE {name}", rope=Rope(base=500000.0, scaling=scaling), embeddings="tied")
        for name, scaling in _SCALED.items()
    ),
]
