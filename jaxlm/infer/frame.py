"""The frame of prompts and answers for weights that were loaded.

In: a run, whose objective knows it, or the settings beside weights that came from elsewhere. Out: a `Frame`.
Guaranteed: nothing is guessed from a model's name.
"""

import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.batch import Vocabulary
from jaxlm.data.tokens import chat_template
from jaxlm.data.tokens.json_tokenizer import JsonTokenizer
from jaxlm.data.tokens.subwords import Tokenizer
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives.frame import Frame, Ids

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


def of_loaded(loaded: Loaded) -> Frame:
    """Of a run by its objective; of others by config.json, generation_config.json and the tokenizer's template.

    UserError for a model that does not generate.
    """
    loaded.require("generating text", ("decoder", "encoder_decoder"))
    if loaded.stored.run is not None:
        return of_objective(loaded.stored.run.objective, loaded.tokenizer)
    config, generation = (loaded.stored.settings(f"{name}.json") for name in ("config", "generation_config"))
    if ignored := [f"{key}={generation[key]}" for key in UNUSED if generation.get(key) not in _NEUTRAL]:
        note = f"generation_config.json: {', '.join(ignored)} not used: what the command says counts"
        print(note, file=sys.stderr)
    config = {**config, "is_encoder_decoder": loaded.model.config.kind == "encoder_decoder"}
    return of_settings(config, generation, template(loaded.tokenizer), loaded.tokenizer.vocabulary)


def of_objective(objective: Any, tokenizer: Tokenizer) -> Frame:
    """Of what a run trains; a conversation's answer ends where the chat template closes the turn, too."""
    made = objective.frame(tokenizer.vocabulary)
    if not made.chat:
        return made
    if tokenizer.chat is None:
        tokenizer.chat = chat_template.built_in(tokenizer)
    return dataclasses.replace(
        made, stops=tuple(dict.fromkeys((*made.stops, *chat_template.end_ids(tokenizer))))
    )


def asking(tokenizer: Tokenizer, frame: Frame, prompt: str) -> list[int]:
    """Ids of a prompt, special tokens in it as such; of a conversation, in the chat template."""
    if not frame.chat:
        return tokenizer.encode_marked(prompt)
    assert tokenizer.chat is not None, "see of_objective"
    return tokenizer.encode_marked(tokenizer.chat.prompt(prompt))


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
    found = tokenizer.encode_framed("a")
    marked = list(zip(found.ids, found.special_tokens_mask, strict=True))
    head = tuple(id for id, _ in itertools.takewhile(lambda pair: pair[1], marked))
    tail = tuple(id for id, _ in itertools.takewhile(lambda pair: pair[1], reversed(marked)))
    return head, tail[::-1]


def _ids(value: Any, name: str) -> Ids:
    found: Sequence[Any] = () if value is None else value if isinstance(value, list) else [value]
    if not all(type(id) is int and id >= 0 for id in found):
        raise UserError(f"config.json: {name}={value!r}: must be an id or a list of ids.")
    return tuple(found)
