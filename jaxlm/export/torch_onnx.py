"""A program, never imported: a Hugging Face folder to ONNX with PyTorch's exporter, in a process of its own.

    python -P torch_onnx.py REQUEST.json

Request: {folder, task, pooling, output}. The row lengths and the batch are free. It is traced with a mask that has
zeros: with one of ones alone the exporter leaves the mask out, and padded rows are wrong without a word.
"""

import inspect
import json
import sys
from typing import Any

import torch
import transformers

_CLASSES = {
    "feature-extraction": transformers.AutoModel,
    "fill-mask": transformers.AutoModelForMaskedLM,
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
    "question-answering": transformers.AutoModelForQuestionAnswering,
    "text-generation": transformers.AutoModelForCausalLM,
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
        cache = transformers.DynamicCache()
        for layer, (keys, values) in enumerate(zip(past[::2], past[1::2], strict=True)):
            cache.update(keys, values, layer)
        said = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        now = [one for layer in said.past_key_values.layers for one in (layer.keys, layer.values)]
        return (said.logits, *now)


def main(request: dict[str, Any]) -> None:
    """Writes the file."""
    torch.manual_seed(0)
    model = _CLASSES[request["task"]].from_pretrained(request["folder"], dtype=torch.float32).eval()
    how = _decoder(model) if request["task"] == "text-generation" else _encoder(model, request)
    with torch.no_grad():
        torch.onnx.export(
            f=request["output"], dynamo=True, external_data=False, verbose=False, optimize=True, **how
        )


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


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file))
