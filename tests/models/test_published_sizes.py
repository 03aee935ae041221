"""Every recipe with a published parameter count has exactly that many.

PUBLISHED: recipe -> (count, source). Counted are real tokens (the table inside is padded to a multiple of 128) and, where a
paper counts the bare encoder, all heads that pre-training needs: the source says which.
"""

import pathlib

import jax
import pytest

from jaxlm.config import flags
from jaxlm.models import embed
from jaxlm.models.build import build

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
# "meta": the parameters of that class of transformers at the published config.json, built on torch's meta device.
PUBLISHED = {
    "roberta_base": (124_697_433, "RobertaForMaskedLM, meta; paper: 125M"),
    "roberta_large": (355_412_057, "RobertaForMaskedLM, meta; paper: 355M"),
    "modernbert_base": (149_655_232, "ModernBertForMaskedLM, meta; paper: 149M"),
    "modernbert_large": (395_881_664, "ModernBertForMaskedLM, meta; paper: 395M"),
    # ALBERT's papers count without heads: 12M, 18M, 60M; xxlarge, 235M there, is 223M as released.
    "albert_base": (11_813_810, "AlbertForPreTraining, meta; paper: 12M"),
    "albert_large": (17_847_474, "AlbertForPreTraining, meta; paper: 18M"),
    "albert_xlarge": (59_021_490, "AlbertForPreTraining, meta; paper: 60M"),
    "albert_xxlarge": (223_158_450, "AlbertForPreTraining, meta; released: 223M"),
    # Of a pair the discriminator is published.
    "electra_small": (13_549_057, "ElectraForPreTraining, meta; paper: 14M"),
    "electra_base": (109_483_009, "ElectraForPreTraining, meta; paper: 110M"),
    "electra_large": (335_142_913, "ElectraForPreTraining, meta; paper: 335M"),
    "t5_small": (60_506_624, "T5ForConditionalGeneration, meta; paper: 60M"),
    "t5_base": (222_903_552, "T5ForConditionalGeneration, meta; paper: 220M"),
    "t5_large": (737_668_096, "T5ForConditionalGeneration, meta; paper: 770M"),
    "t5_3b": (2_851_598_336, "T5ForConditionalGeneration, meta; paper: 2.8B"),
    "t5_11b": (11_307_321_344, "T5ForConditionalGeneration, meta; paper: 11B"),
    # Meta, and the head, which transformers ties while no weights are loaded.
    "t5_v1_1_small": (76_961_152, "T5ForConditionalGeneration, meta"),
    "t5_v1_1_base": (247_577_856, "T5ForConditionalGeneration, meta"),
    "t5_v1_1_large": (783_150_080, "T5ForConditionalGeneration, meta"),
    "t5_v1_1_xl": (2_849_757_184, "T5ForConditionalGeneration, meta"),
    "t5_v1_1_xxl": (11_135_332_352, "T5ForConditionalGeneration, meta"),
    "bart_base": (139_420_416, "BartForConditionalGeneration, meta; released: 139M"),
    "bart_large": (406_291_456, "BartForConditionalGeneration, meta; released: 406M"),
    # The paper's 65M and 213M do not come out of its own sizes and 37,000 tokens.
    "transformer_base": (63_082_496, "MarianMTModel, meta; paper: 65M"),
    "transformer_big": (214_245_376, "MarianMTModel, meta; paper: 213M"),
    "distilbert_base": (66_985_530, "DistilBertForMaskedLM, meta; paper: 66M, which is without the head"),
}


def real_parameters(config) -> int:
    """Parameters without the padding of the vocabulary."""
    model, padding = build(config), embed.padded(config.vocab_size) - config.vocab_size
    total = 0
    axes = jax.tree.leaves(model.axes, is_leaf=lambda x: isinstance(x, tuple))
    for leaf, names in zip(jax.tree.leaves(model.shapes), axes, strict=True):
        vocabulary = leaf.shape[names.index("vocab")] if "vocab" in names else 0
        total += leaf.size - (leaf.size // vocabulary * padding if vocabulary else 0)
    return total


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_recipe_has_the_published_number_of_parameters(recipe):
    count, source = PUBLISHED[recipe]
    model = flags.load(CONFIGS / f"{recipe}.py").model
    assert real_parameters(getattr(model, "discriminator", model)) == count, source
