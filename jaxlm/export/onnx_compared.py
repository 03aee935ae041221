"""ONNX files beside us. In: a folder that `onnx.py` made, and the model. Out: the differences of all outputs.

Rows of several lengths stand beside each other, so that padding counts; a decoder is run a second time, behind its keys
and values. UserError for a file that is damaged, or that of another model.
"""

import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.exchange.sentence_transformers import Pooling
from jaxlm.export import padded
from jaxlm.export.difference import Difference
from jaxlm.infer import logits
from jaxlm.infer.loaded import Loaded

GENERATION, TRANSLATION = "text-generation", "text2text-generation"
_TOLERANCE = 2e-4  # of the largest output, or of 1 where that is smaller
_FIX = "Fix: export again."


class File:
    """One file, loaded by onnxruntime."""

    def __init__(self, path: pathlib.Path):
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError('--format=onnx needs onnxruntime: pip install "jaxlm[onnx]".') from error
        if not path.is_file():
            raise UserError(f"{path} is not there. {_FIX}")
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        self.path, self.engine = path, f"onnxruntime {onnxruntime.__version__}"
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # classes of its own for every kind of damage
            raise UserError(
                f"{path} is no ONNX file that onnxruntime reads: {str(error)[:300]} {_FIX}"
            ) from error
        self.inputs = {one.name: one.shape for one in self._session.get_inputs()}

    def __call__(self, **given: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name; whole numbers become int64, and what is no input is left out."""
        feed = {name: a.astype(np.int64) if a.dtype.kind == "i" else a for name, a in given.items()}
        try:
            found = self._session.run(None, {name: a for name, a in feed.items() if name in self.inputs})
        except Exception as error:
            raise UserError(f"{self.path} is of another model: {str(error)[:300]}") from error
        names = [one.name for one in self._session.get_outputs()]
        return {name: np.asarray(one) for name, one in zip(names, found, strict=True)}

    def nothing_before(self, rows: int) -> dict[str, np.ndarray]:
        """Keys and values of no token."""
        past = {name: shape for name, shape in self.inputs.items() if name.startswith("past_key_values.")}
        return {name: np.zeros((rows, shape[1], 0, shape[3]), np.float32) for name, shape in past.items()}

    def difference(
        self, what: str, said: np.ndarray, ours: np.ndarray, mask: np.ndarray | None = None
    ) -> Difference:
        """At the rows, or tokens, of a mask."""
        if said.shape != ours.shape:
            raise UserError(
                f"{self.path} is of another model: {what} has the shape {said.shape}, ours {ours.shape}."
            )
        ours = np.asarray(ours, np.float64)
        off = np.abs(said - ours)
        if mask is not None:
            chosen = mask > 0 if ours.shape[:2] == mask.shape else mask.any(axis=1)
            off, ours = off[chosen], ours[chosen]
        return Difference(
            what, float(off.max()), _TOLERANCE * max(1.0, float(np.abs(ours).max())), self.engine
        )


def differences(ready: Loaded, folder: pathlib.Path, task: str, pooling: Pooling | None) -> list[Difference]:
    """Of all outputs."""
    if task == TRANSLATION:
        return _of_both(
            ready,
            *(File(folder / "onnx" / f"{name}.onnx") for name in ("encoder_model", "decoder_model_merged")),
        )
    file = File(folder / "onnx" / "model.onnx")
    return _of_decoder(ready, file) if task == GENERATION else _of_encoder(ready, file, task, pooling)


def _of_encoder(ready: Loaded, file: File, task: str, pooling: Pooling | None) -> list[Difference]:
    batch, size = padded.batch_of(ready), ready.model.config.vocab_size
    mask_BT = np.asarray(batch.segments_BT)
    said = file(
        input_ids=np.asarray(batch.tokens_BT),
        attention_mask=mask_BT,
        token_type_ids=np.asarray(batch.types_BT),
    )
    with jax.set_mesh(ready.mesh):
        ours = jax.device_get(padded.outputs(ready.module, batch, task=task, pooling=pooling, size=size))
    if ours.keys() - said.keys():
        raise UserError(f"{file.path} is of another model: it has the outputs {', '.join(said)}.")
    return [file.difference(f"{name}, padded rows", said[name], one, mask_BT) for name, one in ours.items()]


def _of_decoder(ready: Loaded, file: File) -> list[Difference]:
    """Rows padded in front, and then one more token after the keys and values of the others."""
    rows, pad = padded.rows_of(ready), ready.tokenizer.vocabulary.pad
    width = max(map(len, rows)) - 1
    front = [width - len(row) + 1 for row in rows]
    ids_BT = np.stack(
        [np.pad(row[:-1], (n, 0), constant_values=pad) for row, n in zip(rows, front, strict=True)]
    )
    mask_BT = np.stack([np.arange(width) >= n for n in front]).astype(np.int64)
    positions_BT = np.maximum(np.cumsum(mask_BT, axis=1) - 1, 0)
    before = file.nothing_before(len(rows))
    first = file(input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions_BT, **before)
    last_B1, lengths_B1 = (
        np.array(a)[:, None] for a in ([row[-1] for row in rows], [len(row) - 1 for row in rows])
    )
    mask_BT = np.pad(mask_BT, ((0, 0), (0, 1)), constant_values=1)
    then = file(input_ids=last_B1, attention_mask=mask_BT, position_ids=lengths_B1, **_past(first))
    ours = logits.of_rows(ready, [row.tolist() for row in rows])
    first_BT, then_BT = first["logits"], then["logits"]
    prompts = [file.difference("", first_BT[b, n:], ours[b][:-1]) for b, n in enumerate(front)]
    after = [file.difference("", then_BT[b], ours[b][-1:]) for b in range(len(rows))]
    return [_worst("logits of prompts, padded rows", prompts), _worst("logits after keys and values", after)]


def _of_both(ready: Loaded, encoder: File, decoder: File) -> list[Difference]:
    """Padded sources, then answers, and one more token after the keys and values of the others."""
    source = padded.batch_of(ready)
    mask_BS = np.asarray(source.segments_BT)
    ids = np.delete(np.arange(ready.tokenizer.vocabulary.size), ready.tokenizer.vocabulary.pad)
    answers_BT = np.random.default_rng(1).choice(ids, (len(mask_BS), 6)).astype(np.int32)
    batch = Batch(
        tokens_BT=answers_BT,
        segments_BT=np.ones_like(answers_BT),
        positions_BT=np.tile(np.arange(6, dtype=np.int32), (len(answers_BT), 1)),
        source_tokens_BS=source.tokens_BT,
        source_segments_BS=source.segments_BT,
        source_positions_BS=source.positions_BT,
    )
    with jax.set_mesh(ready.mesh):
        size = ready.model.config.vocab_size
        ours = jax.device_get(padded.outputs(ready.module, batch, task="fill-mask", pooling=None, size=size))[
            "logits"
        ]
    read = encoder(input_ids=np.asarray(source.tokens_BT), attention_mask=mask_BS)["last_hidden_state"]
    given = {"encoder_hidden_states": read, "encoder_attention_mask": mask_BS}
    first = decoder(input_ids=answers_BT[:, :-1], **given, **decoder.nothing_before(len(answers_BT)))
    then = decoder(input_ids=answers_BT[:, -1:], **given, **_past(first))
    real = np.asarray(mask_BS).any(axis=1)
    return [
        decoder.difference("logits of answers to padded sources", first["logits"][real], ours[real, :-1]),
        decoder.difference("logits after keys and values", then["logits"][real], ours[real, -1:]),
    ]


def _past(said: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("present", "past_key_values"): a for name, a in said.items() if name != "logits"}


def _worst(what: str, found: Sequence[Difference]) -> Difference:
    return Difference(what, max(o.largest for o in found), min(o.allowed for o in found), found[0].engine)
