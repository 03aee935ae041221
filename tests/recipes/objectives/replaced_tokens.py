"""Replaced-token detection with a tiny ELECTRA: the size of masked_lm.py, a generator of half of it."""

from masked_lm import get_config as base

from jaxlm.config import Run
from jaxlm.models.electra import Electra
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.replaced_tokens import ReplacedTokens


def get_config() -> Run:
    """The base recipe with another model and objective."""
    run = base()
    run.model = Electra(
        vocab_size=4096,
        embedding=96,
        hidden=96,
        layers=4,
        heads=4,
        mlp=384,
        generator_hidden=48,
        generator_layers=4,
        generator_heads=2,
        generator_mlp=192,
        max_positions=64,
        types=2,
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu_tanh",
        init_scale=0.02,
        layer_loop="unrolled",
    )
    run.objective = ReplacedTokens(
        masked_lm=MaskedLM(rate=0.15, evaluation_rate=0.15, mask_share=0.85, random_share=0.0, unit=Tokens()),
        discriminator_weight=50.0,
        temperature=1.0,
    )
    return run
