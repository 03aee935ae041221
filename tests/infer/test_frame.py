"""Claims about what stands around a prompt: as in training, or as the settings beside the weights say."""

import dataclasses
import json
import re

import numpy as np
import pytest
import tokenizers

from jaxlm.batch import Row
from jaxlm.data.rows.documents import FOLLOWING
from jaxlm.data.tokens import byte_bpe
from jaxlm.data.tokens.json_tokenizer import JsonTokenizer
from jaxlm.errors import UserError
from jaxlm.infer import frame, loaded
from jaxlm.infer.frame import Frame
from jaxlm.models.build import build
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.objectives.denoising import Denoising
from jaxlm.objectives.infill import FillInTheMiddle
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.objectives.prefix_lm import PrefixLM
from jaxlm.objectives.span_corruption import SpanCorruption
from jaxlm.objectives.translation import Translation
from jaxlm.objectives.ul2 import Denoiser, MixtureOfDenoisers
from tests.infer import small_models
from tests.infer.predictors import predictor

WORDS = byte_bpe.train(["a text of words"] * 20, 300, 9, "on")
VOCABULARY = dataclasses.replace(WORDS.vocabulary, mask=3, bos=1, eos=0, pad=2)
LOSS = {"z_loss": 0.0, "label_smoothing": 0.0}
CAUSAL = CausalLM(**LOSS)
SPANS = SpanCorruption(**LOSS, density=0.2, mean_span=2.0, decoder_start="pad")
NOISE = Denoising(
    **LOSS, permute=0.0, rotate=0.0, infill=0.0, mean_span=3.0, mask=0.0, delete=0.1, decoder_start="eos"
)
ENDINGS = (Denoiser(mode="S", density=0.3, mean_span=1.0),)
MIXTURE = MixtureOfDenoisers(**LOSS, denoisers=ENDINGS, form="encoder_decoder", decoder_start="pad")


def prepared(objective, text):
    """The rows that training would see for a text that is one whole document."""
    row = Row(
        tokens_T=np.array(text, np.int32),
        segments_T=np.ones(len(text), np.int32),
        positions_T=np.arange(len(text), dtype=np.int32),
        texts_T=np.zeros(len(text), np.int32),
        first_C=np.zeros(1, np.int32),
        columns={FOLLOWING: np.array([VOCABULARY.eos], np.int32)},
    )
    padded = dataclasses.replace(
        row,
        tokens_T=np.append(row.tokens_T, [VOCABULARY.pad] * objective.overhead).astype(np.int32),
        segments_T=np.append(row.segments_T, [0] * objective.overhead).astype(np.int32),
    )
    return objective.prepare(padded, VOCABULARY, np.random.default_rng(0), train=True)


TEXT = list(range(40, 60))


@pytest.mark.parametrize(
    "objective",
    [CAUSAL, FillInTheMiddle(**LOSS, rate=0.0, psm_share=0.5), PrefixLM(**LOSS, shortest=0.5, longest=0.5)],
    ids=lambda o: type(o).__name__,
)
def test_a_decoder_s_prompt_begins_as_its_training_rows(objective):
    found, row = objective.frame(VOCABULARY), prepared(objective, TEXT)
    assert [*found.before, *TEXT] == row.tokens_BT[: len(TEXT) + 1].tolist()
    assert row.targets.ids_BM[row.targets.weights_BM > 0][-1] in found.stops
    assert not found.encoder_decoder and not found.after
    assert found.prefix == (row.prefix_BT is not None)


@pytest.mark.parametrize("objective", [SPANS, NOISE, MIXTURE], ids=lambda o: type(o).__name__)
def test_an_encoder_decoder_s_source_and_start_are_those_of_its_training_rows(objective):
    found, row = objective.frame(VOCABULARY), prepared(objective, TEXT)
    source = row.source_tokens_BS[row.source_segments_BS > 0].tolist()
    assert source[: len(found.before)] == list(found.before)
    assert source[-len(found.after) :] == list(found.after)
    assert source[len(found.before)] == TEXT[0] or objective is SPANS
    assert row.tokens_BT[: len(found.start)].tolist() == list(found.start)
    assert row.targets.ids_BM[row.targets.weights_BM > 0][-1] in found.stops


def test_a_translation_s_source_and_start_are_those_of_its_training_rows():
    objective = Translation(z_loss=0.0, label_smoothing=0.1, decoder_start="pad", pairs_per_row=1)
    pair = Row(
        tokens_T=np.array([40, 41, 42, 50, 51, VOCABULARY.pad, VOCABULARY.pad, VOCABULARY.pad], np.int32),
        segments_T=np.array([1, 1, 1, 1, 1, 0, 0, 0], np.int32),
        positions_T=np.array([0, 1, 2, 3, 4, 0, 0, 0], np.int32),
        texts_T=np.array([0, 0, 0, 1, 1, 0, 0, 0], np.int32),
        first_C=np.zeros(1, np.int32),
    )
    found = objective.frame(VOCABULARY)
    row = objective.prepare(pair, VOCABULARY, np.random.default_rng(0), train=True)
    source = row.source_tokens_BS[row.source_segments_BS > 0].tolist()
    assert source == [*found.before, 40, 41, 42, *found.after]
    assert row.tokens_BT[row.segments_BT > 0].tolist() == [*found.start, 50, 51]
    assert row.targets.ids_BM[2] in found.stops


def test_ul2_as_a_decoder_answers_behind_its_source():
    objective = dataclasses.replace(MIXTURE, form="decoder")
    found, row = objective.frame(VOCABULARY), prepared(objective, TEXT)
    prompt = row.tokens_BT[row.prefix_BT > 0].tolist()
    assert prompt[0] == found.before[0] and prompt[-2:] == list(found.after) and found.prefix


def test_of_several_tasks_the_first_that_generates_counts():
    masked = MaskedLM(rate=0.2, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
    task = lambda name, objective: Task(name=name, objective=objective, weight=1.0, rows=2)
    both = MultiTask(tasks=(task("masked", masked), task("causal", CAUSAL)))
    assert both.frame(VOCABULARY) == CAUSAL.frame(VOCABULARY)
    with pytest.raises(UserError, match="MaskedLM does not generate text.*fill_mask"):
        masked.frame(VOCABULARY)


def test_generation_config_wins_and_lists_of_ends_are_honoured():
    config = {"eos_token_id": 5, "bos_token_id": 4}
    of = lambda **more: frame.of_settings(config, more, ((4,), (5,)), VOCABULARY)
    assert of() == Frame(before=(4,), after=(), start=(), stops=(5,))
    assert of(eos_token_id=[5, 6]).stops == (5, 6)
    assert frame.of_settings({}, {}, None, VOCABULARY) == Frame(before=(), after=(), start=(), stops=(0,))
    with pytest.raises(UserError, match="eos_token_id='x'"):
        of(eos_token_id="x")


def test_every_key_of_generation_config_is_read_or_known_and_what_is_not_used_is_said(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    read = {"eos_token_id", "decoder_start_token_id", "forced_bos_token_id"}
    # How it is computed, reported or sped up, other models beside it, and ids that no token is chosen by.
    harmless = (
        r"use_|cache_|max_cache|output_|return_|_from|transformers_version|compile|disable_compile|continuous"
    )
    harmless += r"|is_assistant|num_assistant|assistant_|prompt_lookup|max_matching|target_look|speculation|low_memory"
    harmless += r"|prefill|num_return_sequences|pad_token_id|bos_token_id"
    keys = {key for key in transformers.GenerationConfig().to_dict() if not re.match(harmless, key)}
    assert keys - read - set(frame.UNUSED) == set()

    stored = dataclasses.make_dataclass(
        "Stored", ["settings", ("where", str, "a folder"), ("run", object, None)]
    )
    files = {
        "config.json": {},
        "generation_config.json": {"num_beams": 4, "min_length": 0, "eos_token_id": 5},
    }
    decoder = predictor(build(small_models.LLAMA), {}, WORDS)
    decoder = loaded.Loaded(**vars(decoder), stored=stored(files.get))
    assert frame.of_loaded(decoder).stops == (5,)
    assert "num_beams=4 not used: what the command says counts" in capsys.readouterr().err


def test_an_encoder_decoder_s_settings_say_what_its_decoder_begins_with():
    config = {
        "is_encoder_decoder": True,
        "decoder_start_token_id": 2,
        "forced_bos_token_id": 1,
        "eos_token_id": 2,
    }
    found = frame.of_settings(config, {}, ((1,), (2,)), VOCABULARY)
    assert found == Frame(before=(1,), after=(2,), start=(2, 1), stops=(2,))
    with pytest.raises(UserError, match="decoder_start_token_id"):
        frame.of_settings({"is_encoder_decoder": True}, {}, None, VOCABULARY)


def test_the_template_of_a_tokenizer_json_is_read():
    contents = json.loads(WORDS.text)
    library = tokenizers.Tokenizer.from_str(WORDS.text)
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A <pad> <|endoftext|>",
        special_tokens=[("<|endoftext|>", 0), ("<pad>", 1)],
    )
    assert contents.get("post_processor") is None and frame.template(WORDS) is None
    assert frame.template(JsonTokenizer(library.to_str(), "it")) == ((0,), (1, 0))
