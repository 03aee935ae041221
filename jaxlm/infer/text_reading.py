"""How a folder makes a vector of a text. In: weights with the files beside them. Out: a `Reading`.

The files are those of sentence-transformers and tokenizer_config.json. Guaranteed: every key that sentence-transformers
knows is in a table here: read, refused by name where it says what is not done here, or known to change no vector.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import normalizers

from jaxlm.config import Run
from jaxlm.data.tokens import settings
from jaxlm.errors import UserError
from jaxlm.exchange import sentence_transformers
from jaxlm.exchange.sentence_transformers import TRANSFORMER_FILES, Pooling
from jaxlm.exchange.stored import Stored
from jaxlm.formats import safetensors_file
from jaxlm.formats.folder import parse
from jaxlm.infer import embed, frame
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives.contrastive import DropoutContrastive

_FIX = "Give --pooling=mean, cls or cls_mlp to embed with the transformer alone."
_ORDERS = (
    ("Transformer", "Pooling"),
    ("Transformer", "Pooling", "Normalize"),
    ("Transformer", "Pooling", "Dense"),
    ("Transformer", "Pooling", "Dense", "Normalize"),
)
# file -> keys that are read, that change no vector, and those with the values that say what is done here anyway.
READ = {
    "modules.json": ("path", "type"),
    "Transformer": ("max_seq_length", "do_lower_case"),
    "Pooling": (
        "include_prompt",
        "pooling_mode",
        *(f"pooling_mode_{mode}" for mode in sentence_transformers.MODES),
    ),
    "Dense": (),
    "Normalize": (),
    "config_sentence_transformers.json": ("prompts", "default_prompt_name"),
}
HARMLESS = {
    "modules.json": ("idx", "name", "kwargs"),
    "Transformer": ("unpad_inputs", "backend"),
    "Pooling": ("word_embedding_dimension", "embedding_dimension"),
    "Dense": ("in_features", "out_features"),
    "Normalize": (),
    "config_sentence_transformers.json": ("__version__", "similarity_fn_name"),
}
_FEATURES = {"method": "forward", "method_output_name": "last_hidden_state"}
REFUSED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "modules.json": {},
    "Transformer": {
        "transformer_task": ("feature-extraction",),
        "modality_config": ({"text": _FEATURES},),
        "module_output_name": ("token_embeddings",),
        "tokenizer_name_or_path": (),
        **dict.fromkeys(("processing_kwargs", "model_args", "tokenizer_args", "config_args"), ({},)),
        **dict.fromkeys(("model_kwargs", "processor_kwargs", "config_kwargs"), ({},)),
        **dict.fromkeys(("query_length", "document_length", "query_expansion"), ()),
    },
    "Pooling": {},
    "Dense": {
        "bias": (True,),
        "activation_function": ("torch.nn.modules.activation.Tanh",),
        "use_residual": (False,),
        **dict.fromkeys(("module_input_name", "module_output_name"), ("sentence_embedding",)),
    },
    "Normalize": dict.fromkeys(("module_input_name", "module_output_name"), ("sentence_embedding",)),
    "config_sentence_transformers.json": {"model_type": ("SentenceTransformer",), "truncate_dim": ()},
}


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is done with a text; vectors are scaled to length 1 in any case."""

    pooling: Pooling
    length: int  # tokens of a text at most, special ones included
    prompt: str = ""  # stands before every text
    lowercase: bool = False
    scaled: bool = True  # whether the folder scales to length 1 as well

    def text(self, text: str) -> str:
        """The text as the tokenizer gets it."""
        text = self.prompt + text
        return normalizers.Lowercase().normalize_str(text) if self.lowercase else text


def vectors(
    ready: Loaded, texts: Sequence[str], pooling: Pooling | None = None
) -> tuple[np.ndarray, Reading]:
    """[texts, D], float32, of length 1, and how they were read. `pooling` counts instead of the run's or folder's."""
    how = chosen(ready, pooling)
    read = list(map(how.text, texts))
    return embed.embed(ready, read, pooling=how.pooling, row_length=how.length), how


def chosen(ready: Loaded, pooling: Pooling | None = None) -> Reading:
    """How its texts are read; `pooling` counts instead of the run's or folder's. UserError for a model that embeds
    nothing."""
    how = reading(ready, pooling or _trained(ready.stored.run))
    ready.require("embedding texts", ("encoder", "pair"), ("pooler",) if how.pooling == "cls_mlp" else ())
    return how


def _trained(run: Run | None) -> Pooling | None:
    """SimCSE's MLP is a part of training only, unless the run had pairs to learn from (Gao et al., 2104.08821)."""
    if run is None:
        return None
    objective = getattr(run.objective, "inner", run.objective)  # several tasks have none
    how = getattr(objective, "vectors", None) or "mean"
    return "cls" if isinstance(objective, DropoutContrastive) and how == "cls_mlp" else how


def reading(ready: Loaded, pooling: Pooling | None) -> Reading:
    """As the folder says; without a word of it, the mean of a whole row. `pooling` counts instead of the folder's.

    UserError for what the folder says and is not done here.
    """
    found, longest = ready.stored, ready.row_length
    if found.run is not None:
        return Reading(pooling or "mean", longest)
    _check_tokenizer(ready)
    length = min(longest, _length(found, settings.CONFIG, "model_max_length", longest))
    if (text := found.beside("modules.json")) is None:
        return Reading(pooling or "mean", length)
    modules = sentence_transformers.modules(text, f"{found.where}/modules.json")
    kinds = tuple(kind for kind, _ in modules)
    if pooling is None and (kinds not in _ORDERS or modules[0][1]):
        raise UserError(f"{found.where}/modules.json: steps {', '.join(kinds)}: not done here. {_FIX}")
    first = next((name for name in TRANSFORMER_FILES if found.beside(name) is not None), TRANSFORMER_FILES[0])
    transformer = _object(found, first, "Transformer")
    # In place of the tokenizer's, as sentence-transformers.
    length = min(longest, _length(found, first, "max_seq_length", length))
    whole = _object(found, "config_sentence_transformers.json", "config_sentence_transformers.json")
    prompt = _prompt(whole, found.where)
    return Reading(
        pooling or _pooling(found, dict(modules), prompt),
        length,
        prompt,
        lowercase=bool(transformer.get("do_lower_case")),
        scaled="Normalize" in kinds,
    )


def _pooling(found: Stored, paths: Mapping[str, str], prompt: str) -> Pooling:
    """Of the steps behind the transformer."""
    where = f"{paths['Pooling']}/config.json"
    config = _object(found, where, "Pooling")
    flags = {mode: config.get(f"pooling_mode_{mode}") for mode in sentence_transformers.MODES}
    legacy = [mode.removesuffix("s").removesuffix("_token") for mode, on in flags.items() if on]
    given = config.get("pooling_mode") or legacy or "mean"
    mode = given[0] if isinstance(given, list) and len(given) == 1 else given
    if mode not in ("cls", "mean"):
        raise UserError(f"{found.where}/{where}: pooling_mode={mode!r}: here are cls and mean. {_FIX}")
    if prompt and not config.get("include_prompt", True):
        raise UserError(f"{found.where}/{where}: include_prompt=false with a prompt is not done here. {_FIX}")
    if "Normalize" in paths:
        _object(found, f"{paths['Normalize']}/config.json", "Normalize")
    if "Dense" not in paths:
        return mode
    _object(found, f"{paths['Dense']}/config.json", "Dense")
    if mode != "cls" or not _is_pooler(found, paths["Dense"]):
        raise UserError(
            f"{found.where}/{paths['Dense']}: a dense step that is not the model's pooler. {_FIX}"
        )
    return "cls_mlp"


def _is_pooler(found: Stored, path: str) -> bool:
    """Whether the weights of the dense step are those of the model's pooler."""
    if found.hf is None or not found.hf.folder.has(f"{path}/model.safetensors"):
        return False
    source, dense = found.hf.source, safetensors_file.load(found.hf.folder.file(f"{path}/model.safetensors"))
    try:
        names = sentence_transformers.dense_names(dict.fromkeys(source))
    except UserError:
        return False
    return dense.keys() == names.keys() and all(
        np.array_equal(dense[n], source.read(t)) for n, t in names.items()
    )


def _check_tokenizer(ready: Loaded) -> None:
    """UserError where transformers cuts texts at their beginning, or puts other tokens around them."""
    where, vocabulary = ready.stored.where, ready.tokenizer.vocabulary
    if ready.stored.settings(settings.CONFIG).get("truncation_side", "right") != "right":
        raise UserError(f"{where}/{settings.CONFIG}: truncation_side: texts are cut off at their end here.")
    around = frame.template(ready.tokenizer)
    if around is not None and around != vocabulary.marks:
        raise UserError(
            f"{where}: the template of its tokenizer.json puts the ids {around[0]} before and {around[1]} behind a "
            f"text; texts are embedded between {vocabulary.marks[0]} and {vocabulary.marks[1]} here."
        )


def _prompt(config: Mapping[str, Any], where: str) -> str:
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise UserError(f"{where}: default_prompt_name={name!r} names no prompt. {_FIX}")
    return prompts[name]


def _length(found: Stored, file: str, key: str, default: int) -> int:
    text = found.beside(file)
    value = None if text is None else parse(text, f"{found.where}/{file}").get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 2:
        raise UserError(f"{found.where}/{file}: {key}={value!r}: a number of tokens above 2 is allowed.")
    return int(min(value, default if key == "model_max_length" else 2**31))


def _object(found: Stored, file: str, kind: str) -> dict[str, Any]:
    """The object in a file, {} without one. UserError for a key that says what is not done here, or is unknown."""
    text = found.beside(file)
    config = {} if text is None else parse(text, f"{found.where}/{file}")
    known: Iterable[str] = (*READ[kind], *HARMLESS[kind])
    for key, value in config.items():
        allowed = REFUSED[kind].get(key, ())
        if key not in known and value is not None and value not in allowed:
            raise UserError(f"{found.where}/{file}: {key}={json.dumps(value)[:60]} is not done here. {_FIX}")
    return config
