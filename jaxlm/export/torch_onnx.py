"""A program, never imported: a Hugging Face folder to ONNX with PyTorch's exporter, in a process of its own.

    python -P torch_onnx.py REQUEST.json

Request: {folder, task, pooling, output}; the output is a folder, whose files are called as in transformers.js. The
batch and the lengths of rows are free. It is traced with a mask that has zeros: with one of ones alone the exporter
leaves the mask out, and padded rows are wrong without a word.
"""

import inspect
import json
import sys
from typing import Any

import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

_CLASSES = {
    "feature-extraction": transformers.AutoModel,
    "fill-mask": transformers.AutoModelForMaskedLM,
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
    "question-answering": transformers.AutoModelForQuestionAnswering,
    "text-generation": transformers.AutoModelForCausalLM,
    "text2text-generation": transformers.AutoModelForSeq2SeqLM,
}
_BATCH, _LENGTH, _PAST = 2, 7, 5  # of what is traced


class Encoder(torch.nn.Module):
    """Features with a vector of every text, or what a head says."""

    def __init__(self, model: Any, names: list[str], outputs: list[str], pooling: str | None):
        super().__init__()
        self.model, self.names, self.outputs, self.pooling = model, names, outputs, pooling

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(self.names, inputs, strict=True))
        said = self.model(**given, return_dict=True)
        found = [said[name] for name in self.outputs]
        if self.pooling is not None:
            mask = given["attention_mask"].unsqueeze(-1).to(found[0].dtype)
            mean = (found[0] * mask).sum(1) / mask.sum(1).clamp(min=1.0)
            vector = mean if self.pooling == "mean" else found[0][:, 0]
            found.append(torch.nn.functional.normalize(vector, dim=-1))
        return tuple(found)


class Decoder(torch.nn.Module):
    """Logits, and keys and values of all tokens so far."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        cache = _cache(past)
        said = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        return (said.logits, *_held(cache))


class CrossDecoder(torch.nn.Module):
    """The decoder behind an encoder, whose keys and values are made anew for every call."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        own = _cache(past)
        said = self.model(
            encoder_outputs=BaseModelOutput(encoder_hidden_states),
            attention_mask=encoder_attention_mask,
            decoder_input_ids=input_ids,
            past_key_values=transformers.EncoderDecoderCache(own, transformers.DynamicCache()),
            use_cache=True,
        )
        return (said.logits, *_held(own))


def _cache(past: list[torch.Tensor]) -> Any:
    cache = transformers.DynamicCache()
    for layer, (keys, values) in enumerate(zip(past[::2], past[1::2], strict=True)):
        cache.update(keys, values, layer)
    return cache


def _held(cache: Any) -> list[torch.Tensor]:
    return [one for layer in cache.layers for one in (layer.keys, layer.values)]


def main(request: dict[str, Any]) -> None:
    """Writes the files."""
    torch.manual_seed(0)
    model = _CLASSES[request["task"]].from_pretrained(request["folder"], dtype=torch.float32).eval()
    if request["task"] == "text-generation":
        files = {"model": _decoder(model)}
    elif request["task"] == "text2text-generation":
        encoder = _encoder(model.get_encoder(), request | {"task": "feature-extraction"})
        files = {"encoder_model": encoder, "decoder_model_merged": _cross_decoder(model)}
    else:
        files = {"model": _encoder(model, request)}
    for name, how in files.items():
        path = f"{request['output']}/{name}.onnx"
        how["model"].eval()
        with torch.no_grad():
            torch.onnx.export(f=path, dynamo=True, external_data=False, verbose=False, optimize=True, **how)


def _encoder(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    names = ["input_ids", "attention_mask"]
    typed = getattr(model.config, "type_vocab_size", 0) > 1
    names += ["token_type_ids"] * (typed and "token_type_ids" in inspect.signature(model.forward).parameters)
    outputs = {
        "feature-extraction": ["last_hidden_state"],
        "question-answering": ["start_logits", "end_logits"],
    }
    wanted = outputs.get(request["task"], ["logits"])
    mask = torch.ones(_BATCH, _LENGTH, dtype=torch.int64)
    mask[1, 4:] = 0
    given = {"input_ids": mask + 4, "attention_mask": mask, "token_type_ids": torch.zeros_like(mask)}
    return {
        "model": Encoder(model, names, wanted, request["pooling"]),
        "args": tuple(given[name] for name in names),
        "input_names": names,
        "output_names": [*wanted, *["sentence_embedding"] * (request["pooling"] is not None)],
        "dynamic_shapes": (tuple({0: "batch_size", 1: "sequence_length"} for _ in names),),
    }


def _decoder(model: Any) -> dict[str, Any]:
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    past = [torch.randn(_BATCH, heads, _PAST, width) for _ in range(2 * config.num_hidden_layers)]
    ids = torch.full((_BATCH, _LENGTH), 5, dtype=torch.int64)
    mask = torch.ones(_BATCH, _PAST + _LENGTH, dtype=torch.int64)
    mask[1, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, _PAST:]
    names = [f"{layer}.{one}" for layer in range(config.num_hidden_layers) for one in ("key", "value")]
    row = {0: "batch_size", 1: "sequence_length"}
    return {
        "model": Decoder(model),
        "args": (ids, mask, positions, past),
        "input_names": [
            *("input_ids", "attention_mask", "position_ids"),
            *(f"past_key_values.{n}" for n in names),
        ],
        "output_names": ["logits", *(f"present.{n}" for n in names)],
        "dynamic_shapes": (
            row,
            {0: "batch_size", 1: "total_sequence_length"},
            row,
            [{0: "batch_size", 2: "past_sequence_length"} for _ in past],
        ),
    }


def _cross_decoder(model: Any) -> dict[str, Any]:
    config = model.config
    either = lambda *names: next(value for name in names if (value := getattr(config, name, None)))
    layers, heads = (
        either("num_decoder_layers", "decoder_layers"),
        either("decoder_attention_heads", "num_heads"),
    )
    width = getattr(config, "d_kv", None) or config.d_model // heads
    past = [torch.randn(_BATCH, heads, _PAST, width) for _ in range(2 * layers)]
    mask = torch.ones(_BATCH, _LENGTH, dtype=torch.int64)
    mask[1, 4:] = 0
    names = [f"{layer}.decoder.{one}" for layer in range(layers) for one in ("key", "value")]
    return {
        "model": CrossDecoder(model),
        "args": (mask[:, :3] + 4, torch.randn(_BATCH, _LENGTH, config.d_model), mask, past),
        "input_names": [
            *("input_ids", "encoder_hidden_states", "encoder_attention_mask"),
            *(f"past_key_values.{n}" for n in names),
        ],
        "output_names": ["logits", *(f"present.{n}" for n in names)],
        "dynamic_shapes": (
            {0: "batch_size", 1: "sequence_length"},
            {0: "batch_size", 1: "encoder_sequence_length"},
            {0: "batch_size", 1: "encoder_sequence_length"},
            [{0: "batch_size", 2: "past_sequence_length"} for _ in past],
        ),
    }


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file))
