"""Masked LM with a tiny BERT on real text; the other encoder recipes here change its objective."""

from causal_lm import get_config as base

from jaxlm.config import Run, Stage
from jaxlm.data.tokenizer import WordPiece
from jaxlm.models.bert import Bert
from jaxlm.objectives.masked_lm import MaskedLM, Tokens


def get_config() -> Run:
    """Data and optimizer of causal_lm.py; 4 layers of width 96, positions that start as sinusoids."""
    run = base()
    run.model = Bert(
        vocab_size=4096,
        hidden=96,
        layers=4,
        heads=4,
        mlp=384,
        max_positions=64,
        types=2,
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu_tanh",
        init_scale=0.02,
        position_init="sinusoidal",
        layer_loop="unrolled",
    )
    run.objective = MaskedLM(rate=0.3, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
    run.tokenizer = WordPiece(vocab_size=4096, lowercase=True)
    run.stages = (Stage(length=64, share=1.0),)
    run.batch_size = 32
    run.steps = 600
    return run
