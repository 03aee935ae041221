"""What stands around a prompt, and what ends an answer: ids that a model was trained with.

In: a run's objective, or the settings beside weights that came from elsewhere. Out: a `Frame`. Guaranteed: nothing is
guessed from a model's name; an objective that trains no generation is refused with what to use instead.
"""

import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from jaxlm.batch import Vocabulary
from jaxlm.data.json_tokenizer import JsonTokenizer
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives import generative
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.objectives.denoising import Denoising
from jaxlm.objectives.infill import FillInTheMiddle
from jaxlm.objectives.multi_task import MultiTask
from jaxlm.objectives.prefix_lm import PrefixLM
from jaxlm.objectives.span_corruption import SpanCorruption
from jaxlm.objectives.translation import Translation
from jaxlm.objectives.ul2 import MODES, MixtureOfDenoisers

Ids = tuple[int, ...]
# Keys of generation_config.json that choose tokens and that count for transformers only: the command has options.
UNUSED = (
    *(
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "top_h",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
    ),
    *(
        "repetition_penalty",
        "encoder_repetition_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
    ),
    *("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping", "constraints"),
    *("force_words_ids", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"),
    *("forced_eos_token_id", "forced_decoder_ids", "exponential_decay_length_penalty", "guidance_scale"),
    *(
        "min_length",
        "min_new_tokens",
        "max_length",
        "max_new_tokens",
        "max_time",
        "stop_strings",
        "token_healing",
    ),
    *("watermarking_config", "penalty_alpha", "dola_layers", "renormalize_logits", "remove_invalid_values"),
)
_NEUTRAL = (None, False, 0, 1, [], "")  # says nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Ids. `start` is what the decoder of an encoder-decoder begins with; () is a decoder, which continues prompts."""

    before: Ids  # a prompt
    after: Ids
    start: Ids
    stops: Ids  # each of them ends an answer
    prefix: bool = False  # whether a prompt's tokens see those behind them too (prefix LM)

    @property
    def encoder_decoder(self) -> bool:
        """Whether the prompt is the source of an encoder-decoder."""
        return bool(self.start)


def of_loaded(loaded: Loaded) -> Frame:
    """Of a run by its objective; of others by config.json, generation_config.json and the tokenizer's template.

    UserError for a model that does not generate.
    """
    loaded.require("generating text", ("decoder", "encoder_decoder"))
    if loaded.run is not None:
        return of_objective(loaded.run.objective, loaded.tokenizer.vocabulary)
    config, generation = (loaded.stored.settings(f"{name}.json") for name in ("config", "generation_config"))
    if ignored := [f"{key}={generation[key]}" for key in UNUSED if generation.get(key) not in _NEUTRAL]:
        note = f"generation_config.json: {', '.join(ignored)} not used: what the command says counts"
        print(note, file=sys.stderr)
    config = {**config, "is_encoder_decoder": loaded.model_config.kind == "encoder_decoder"}
    return of_settings(config, generation, template(loaded.tokenizer), loaded.tokenizer.vocabulary)


def of_objective(objective: Any, vocabulary: Vocabulary) -> Frame:
    """As the objective's `prepare` lays out its rows; of several tasks, the first that generates."""
    bos, eos = (vocabulary.bos,), (vocabulary.eos,)
    match objective:
        case CausalLM() | FillInTheMiddle():
            return Frame(before=bos, after=(), start=(), stops=eos)
        case PrefixLM():
            return Frame(before=bos, after=(), start=(), stops=eos, prefix=True)
        case SpanCorruption() | Translation():
            start = (generative.start_token(objective.decoder_start, vocabulary),)
            return Frame(before=(), after=eos, start=start, stops=eos)
        case Denoising():
            # The target begins with bos, which is no answer yet.
            start = (generative.start_token(objective.decoder_start, vocabulary), *bos)
            return Frame(before=bos, after=eos, start=start, stops=eos)
        case MixtureOfDenoisers():
            return _of_mixture(objective, vocabulary)
        case MultiTask():
            for task in objective.tasks:
                if isinstance(task.objective, generative.Generative):
                    return of_objective(task.objective, vocabulary)
    raise UserError(
        f"A model trained with {type(objective).__name__} does not generate text: that takes a decoder or an encoder-"
        "decoder (CausalLM, SpanCorruption, ...). A masked language model fills gaps: python -m jaxlm.fill_mask."
    )


def _of_mixture(objective: MixtureOfDenoisers, vocabulary: Vocabulary) -> Frame:
    """The prompt as an "S" denoiser's source: its mode, the text, the sentinel that stands for the rest."""
    mode = vocabulary.sentinels[MODES.index("S") - len(MODES)]
    rest, eos = vocabulary.sentinels[0], vocabulary.eos
    decoder = objective.form == "decoder"
    start = () if decoder else (generative.start_token(objective.decoder_start, vocabulary),)
    return Frame(before=(mode,), after=(rest, eos), start=start, stops=(eos,), prefix=decoder)


def of_settings(
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    around: tuple[Ids, Ids] | None,
    vocabulary: Vocabulary,
) -> Frame:
    """From config.json and generation_config.json, which wins; {} where there is none.

    `around`: what the tokenizer's own template puts before and after a text; None: it has no template.
    """
    setting = lambda name: _ids(generation.get(name, config.get(name)), name)
    role = lambda name: tuple(id for id in (getattr(vocabulary, name),) if id >= 0)
    stops = setting("eos_token_id") or role("eos")
    if not config.get("is_encoder_decoder"):
        # Whatever a template puts behind a text, a text that is to go on has not ended.
        return Frame(before=around[0] if around else (), after=(), start=(), stops=stops)
    # Without a template: <s> and </s> around a source as in BART, </s> behind it as in T5, which has no <s>.
    before, after = around or (role("cls"), role("eos"))
    start = setting("decoder_start_token_id")
    if len(start) != 1:
        raise UserError(
            "config.json has no decoder_start_token_id, so nothing says what the decoder begins with. Add it (T5: the "
            "pad token, BART: the end token)."
        )
    return Frame(before=before, after=after, start=start + setting("forced_bos_token_id"), stops=stops)


def template(tokenizer: Any) -> tuple[Ids, Ids] | None:
    """The special tokens that a tokenizer.json, or add_bos_token of the settings beside another vocabulary, puts before
    and after a text; None if nothing is said of it."""
    if tokenizer.starts_with_bos and tokenizer.vocabulary.bos >= 0:
        return (tokenizer.vocabulary.bos,), ()
    if not isinstance(tokenizer, JsonTokenizer) or not tokenizer.config.get("post_processor"):
        return None
    found = tokenizers.Tokenizer.from_str(tokenizer.text).encode("a")
    marked = list(zip(found.ids, found.special_tokens_mask, strict=True))
    head = tuple(id for id, _ in itertools.takewhile(lambda pair: pair[1], marked))
    tail = tuple(id for id, _ in itertools.takewhile(lambda pair: pair[1], reversed(marked)))
    return head, tail[::-1]


def _ids(value: Any, name: str) -> Ids:
    found: Sequence[Any] = () if value is None else value if isinstance(value, list) else [value]
    if not all(type(id) is int and id >= 0 for id in found):
        raise UserError(f"config.json: {name}={value!r}: must be an id or a list of ids.")
    return tuple(found)
