"""Every recipe with a published parameter count has exactly that many.

PUBLISHED: recipe -> (count, source). Counted are real tokens (the table inside is padded to a multiple of 128) and, where a
paper counts the bare encoder, all heads that pre-training needs: the source says which.
"""

import pathlib

import pytest

from jaxlm.config import flags
from jaxlm.models import cost
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
    # GPT-2's paper says 117M, 345M, 762M, 1542M; its released weights are these.
    "gpt2_small": (124_439_808, "GPT2LMHeadModel, meta; released: 124M"),
    "gpt2_medium": (354_823_168, "GPT2LMHeadModel, meta; released: 355M"),
    "gpt2_large": (774_030_080, "GPT2LMHeadModel, meta; released: 774M"),
    "gpt2_xl": (1_557_611_200, "GPT2LMHeadModel, meta; released: 1.5B"),
    "llama_7b": (6_738_415_616, "LlamaForCausalLM, meta; paper: 6.7B"),
    "llama_13b": (13_015_864_320, "LlamaForCausalLM, meta; paper: 13.0B"),
    "llama_30b": (32_528_943_616, "LlamaForCausalLM, meta; paper: 32.5B"),
    "llama_65b": (65_285_660_672, "LlamaForCausalLM, meta; paper: 65.2B"),
    "llama2_7b": (6_738_415_616, "LlamaForCausalLM, meta; paper: 7B"),
    "llama2_13b": (13_015_864_320, "LlamaForCausalLM, meta; paper: 13B"),
    "llama2_70b": (68_976_648_192, "LlamaForCausalLM, meta; paper: 70B"),
    "llama3_8b": (8_030_261_248, "LlamaForCausalLM, meta; paper: 8B"),
    "llama3_70b": (70_553_706_496, "LlamaForCausalLM, meta; paper: 70B"),
    "llama3_2_1b": (1_235_814_400, "LlamaForCausalLM, meta; model card: 1.23B"),
    "llama3_2_3b": (3_212_749_824, "LlamaForCausalLM, meta; model card: 3.21B"),
    "smollm2_135m": (134_515_008, "LlamaForCausalLM, meta; paper: 135M"),
    "smollm2_360m": (361_821_120, "LlamaForCausalLM, meta; paper: 360M"),
    "smollm2_1_7b": (1_711_376_384, "LlamaForCausalLM, meta; paper: 1.7B"),
    "mistral_7b": (7_241_732_096, "MistralForCausalLM, meta; paper: 7B"),
    "mixtral_8x7b": (46_702_792_704, "MixtralForCausalLM, meta; paper: 47B"),
    "qwen2_5_0_5b": (494_032_768, "Qwen2ForCausalLM, meta; model card: 0.49B"),
    "qwen2_5_1_5b": (1_543_714_304, "Qwen2ForCausalLM, meta; model card: 1.54B"),
    "qwen2_5_7b": (7_615_616_512, "Qwen2ForCausalLM, meta; model card: 7.61B"),
    "qwen3_0_6b": (596_049_920, "Qwen3ForCausalLM, meta; model card: 0.6B"),
    "qwen3_1_7b": (1_720_574_976, "Qwen3ForCausalLM, meta; model card: 1.7B"),
    "qwen3_4b": (4_022_468_096, "Qwen3ForCausalLM, meta; model card: 4.0B"),
    "qwen3_8b": (8_190_735_360, "Qwen3ForCausalLM, meta; model card: 8.2B"),
}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_recipe_has_the_published_number_of_parameters(recipe):
    count, source = PUBLISHED[recipe]
    run = flags.load(CONFIGS / f"{recipe}.py")
    model, heads = getattr(run.model, "discriminator", run.model), dict(run.heads)
    if model is not run.model:
        del heads["tokens"]  # the generator's
    assert cost.count_real_parameters(build(model, heads)) == count, source
