"""ELECTRA between our parameters and transformers' ElectraForPreTraining and ElectraForMaskedLM (the generator).

transformers has the two as models of their own, in folders of their own: an `ElectraEncoder` is one of them. A pair
(`Electra`) is converted as its `parts`, each with the embeddings that the two share, and put `together` again.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.electra import Electra, ElectraEncoder
from jaxlm.models.heads import Choose, ClassifyText, Detect, Span, Tag, Tokens
from jaxlm.models.paths import flatten, nest

MODEL_TYPES = ("electra",)
TIED = {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}
IGNORED = (r"electra\.embeddings\.(position_ids|token_type_ids)",)

_ENCODER = tuple(
    dataclasses.replace(row, theirs=row.theirs.replace("bert.", "electra.", 1)) for row in bert.ENCODER
)
_PROJECT = (
    Row("project/w", "electra.embeddings_project.weight", "D E -> E D"),
    Row("project/b", "electra.embeddings_project.bias"),
)
_TOKENS = (
    Row("heads/tokens/w", "generator_predictions.dense.weight", "E D -> D E"),
    Row("heads/tokens/b", "generator_predictions.dense.bias"),
    Row("heads/tokens/norm/scale", "generator_predictions.LayerNorm.weight"),
    Row("heads/tokens/norm/bias", "generator_predictions.LayerNorm.bias"),
    Row("heads/tokens/b_vocab", "generator_lm_head.bias", padded="V"),
)
_DETECT = (
    Row("heads/replaced/transform/w", "discriminator_predictions.dense.weight", "E D -> D E"),
    Row("heads/replaced/transform/b", "discriminator_predictions.dense.bias"),
    Row("heads/replaced/w", "discriminator_predictions.dense_prediction.weight", "C D -> D C"),
    Row("heads/replaced/b", "discriminator_predictions.dense_prediction.bias"),
)
_FIELDS = bert.FIELDS | {"embedding": "embedding_size"}
# What transformers assumes of files older than the key.
_DEFAULTS = {"layer_norm_eps": 1e-12, "initializer_range": 0.02}
HEADS = {
    "replaced": (Detect(), _DETECT),
    "tokens": (Tokens(), _TOKENS),
    "classes": (ClassifyText, bert.deep_classes("classifier.dense", "classifier.out_proj")),
    "tags": (Tag, bert.classes("tags")),
    "span": (Span(), bert.classes("span", "qa_outputs")),
    "choices": (Choose(), bert.deep_classes("sequence_summary.summary", "classifier", "choices")),
}
PREFIX = "electra."
_ARCHITECTURES = {"replaced": "ElectraForPreTraining", "tokens": "ElectraForMaskedLM"}
PARTS = {
    "discriminator": "replaced",
    "generator": "tokens",
}  # of a pair: names of their folders, and their heads


def rows(config: ElectraEncoder) -> tuple[Row, ...]:
    """The table for this config."""
    _check_single(config)
    return _ENCODER + (_PROJECT if config.embedding != config.hidden else ())


def from_hf_config(hf: Mapping[str, Any]) -> ElectraEncoder:
    """An `ElectraEncoder` from a config.json. Raises UserError for what our ELECTRA does not have."""
    fields.refuse(hf, "position_embedding_type", "absolute")
    for key in ("is_decoder", "add_cross_attention"):
        fields.refuse(hf, key, False, why="Only encoders exist here.")
    fields.refuse(hf, "tie_word_embeddings", True)
    architecture = (hf.get("architectures") or ["ElectraForPreTraining"])[0]
    if architecture == _ARCHITECTURES["tokens"]:
        fields.refuse(hf, "hidden_act", "gelu", "gelu_python", why="The token head always uses it.")
    return ElectraEncoder(
        **fields.read(hf, _FIELDS, _DEFAULTS),
        activation=fields.activation(hf, "hidden_act", "gelu"),
    )


def to_hf_config(config: ElectraEncoder, heads: Collection[str]) -> dict[str, Any]:
    """The contents of config.json. Raises UserError for what transformers would compute otherwise, and for a pair."""
    _check_single(config)
    if "tokens" in heads and config.activation != "gelu":
        raise UserError(
            f"activation={config.activation!r}: the token head of transformers' ELECTRA always uses 'gelu', so "
            "the file would compute something else there."
        )
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "electra",
        "architectures": [
            next((name for head, name in _ARCHITECTURES.items() if head in heads), "ElectraModel")
        ],
        "hidden_act": fields.activation_name(config.activation),
        "tie_word_embeddings": True,
    }


def current_name(name: str) -> str:
    """Older files say gamma and beta; those of a bare ElectraModel have no prefix."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    # Files of the first conversion hold the bias of the token head beside it.
    name = "generator_lm_head.bias" if name == "generator_predictions.bias" else name
    bare = ("embeddings.", "embeddings_project.", "encoder.")
    return f"electra.{name}" if name.startswith(bare) else name


def parts(config: Electra, params: Mapping[str, Any]) -> dict[str, tuple[ElectraEncoder, dict[str, Any]]]:
    """Config and parameters of the discriminator and of the generator, each complete; for a folder of each name."""
    flat, found = flatten(params), {}
    for name, head in PARTS.items():
        shapes = flatten(build(getattr(config, name), {head: HEADS[head][0]}).shapes)
        found[name] = (
            getattr(config, name),
            nest({path: flat[pair_path(name, path)] for path in shapes}),
        )
    return found


def pair_path(part: str, path: str) -> str:
    """Where the pair has the parameter that one of its parts has at `path`: embeddings are the discriminator's."""
    if path.startswith("heads/"):
        return path
    return f"{'discriminator' if path.startswith('embeddings/') else part}/{path}"


def together(
    discriminator: tuple[ElectraEncoder, Mapping[str, Any]],
    generator: tuple[ElectraEncoder, Mapping[str, Any]],
) -> tuple[Electra, dict[str, Any]]:
    """The pair of two encoders with their heads. UserError unless they agree in what a pair shares."""
    (config, params), (small, small_params) = discriminator, generator
    own = {f"generator_{name}": getattr(small, name) for name in ("hidden", "layers", "heads", "mlp")}
    sizes = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    pair = Electra(**sizes, **own)
    for name, found in (("discriminator", config), ("generator", small)):
        if found != (wanted := getattr(pair, name)):
            off = [
                f.name for f in dataclasses.fields(found) if getattr(found, f.name) != getattr(wanted, f.name)
            ]
            raise UserError(f"The {name} does not fit into the pair: {', '.join(off)} differ.")
    for name, found in (("discriminator", params), ("generator", small_params)):
        if PARTS[name] not in found.get("heads", {}):
            raise UserError(f"The {name} does not fit into the pair: its head is another.")
    theirs, ours = (flatten(p["embeddings"]) for p in (small_params, params))
    if not all(np.array_equal(ours[path], theirs[path]) for path in ours):
        raise UserError(
            "The embeddings of generator and discriminator differ: a pair shares them, so these two were not trained "
            "together, or not to the same step."
        )
    body = lambda tree, *without: {name: tree[name] for name in tree if name not in ("heads", *without)}
    heads = {"replaced": params["heads"]["replaced"], "tokens": small_params["heads"]["tokens"]}
    return pair, {
        "discriminator": body(params),
        "generator": body(small_params, "embeddings"),
        "heads": heads,
    }


def _check_single(config: Any) -> None:
    if isinstance(config, Electra):
        raise UserError(
            "transformers has no model of generator and discriminator together: convert the two apart, "
            "convert.electra.parts gives them."
        )
