"""Our models for the LM evaluation harness (lm-eval 0.4). In: `run=RUN` and others of its --model_args. Out: its `LM`.

Importing this needs lm-eval, and registers the model "jaxlm". Texts are encoded as the harness's own Hugging Face
backend encodes them: with what the model's frame puts before a text, and BOS (else EOS) in place of an empty context.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from jaxlm.errors import UserError
from jaxlm.infer import answers, frame, likelihood, loaded
from jaxlm.infer.sampling import Sampling

_LONGEST = 256  # tokens of an answer, where the task says nothing
_UNBOUNDED = 2048


@register_model("jaxlm")
class Harness(TemplateLM):
    """A decoder."""

    def __init__(
        self,
        run: str,
        step: int | None = None,
        base: str = "",
        precision: Literal["float32", "bfloat16"] = "float32",
        max_length: int = 0,  # tokens of context and answer but the last; 0: what the model reads, less one
        batch_size: Any = None,  # of the harness; here batches have a fixed number of tokens
        max_batch_size: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__()
        self._model = loaded.load(run, step=step, base=base, dtype=precision)
        self._frame, self._before = frame.of_loaded(self._model), likelihood.before(self._model)
        longest = getattr(self._model.model.config, "max_positions", None) or _UNBOUNDED
        self.max_length = int(max_length) or longest - 1

    @property
    def eot_token_id(self) -> int:
        """What ends a text."""
        return self._frame.stops[0] if self._frame.stops else self.prefix_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands for an empty context."""
        if not self._before:
            raise UserError("a tokenizer with neither BOS nor EOS: nothing stands for an empty context.")
        return self._before[-1]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Ids; behind the frame's own, unless the string begins with them."""
        ids, before = self._model.tokenizer.encode_marked(string), self._frame.before
        if add_special_tokens is False or tuple(ids[: len(before)]) == before:
            return ids
        return [*before, *ids]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        rows = [[*context, *more][-self.max_length - 1 :] for _, context, more in requests]
        found = likelihood.followed(self._model, rows)
        sizes = [min(len(more), len(row) - 1) for (_, _, more), row in zip(requests, rows, strict=True)]
        last = lambda array, size: array[len(array) - size :]
        return [
            (float(last(one.log_p, size).sum(dtype="float64")), bool(last(one.likeliest, size).all()))
            for one, size in zip(found, sizes, strict=True)
        ]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Sums over whole texts, in the harness's windows, which do not overlap."""
        found = []
        for request in requests:
            length = {"max_seq_len": self.max_length, "context_len": 1}
            tokens = self.tok_encode(request.args[0])
            windows = get_rolling_token_windows(tokens, prefix_token=self.prefix_token_id, **length)
            parts = [(None, *make_disjoint_window(window)) for window in windows]
            found.append(sum(log_p for log_p, _ in self._loglikelihood_tokens(parts)))
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers, up to what ends them; those with the same settings together."""
        groups: dict[str, list[int]] = {}
        for k, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(k)
        found = [""] * len(requests)
        for places in groups.values():
            texts = self._written([requests[k].args[0] for k in places], dict(requests[places[0]].args[1]))
            for k, text in zip(places, texts, strict=True):
                found[k] = text
        return found

    def _written(self, contexts: Sequence[str], how: dict[str, Any]) -> list[str]:
        until, most = how.pop("until", None) or [], int(how.pop("max_gen_toks", _LONGEST))
        samples = how.pop("do_sample", False) and how.get("temperature", 1.0) > 0
        kept = {name: how[name] for name in ("temperature", "top_k", "top_p", "min_p") if name in how}
        sampling = Sampling(**{"temperature": 1.0, **kept} if samples else {})
        sampling.validate()
        settings = {"new_tokens": most, "sampling": sampling, "seed": 0}
        stop = tuple([until] if isinstance(until, str) else cast(list[str], until))
        prompts = [self._cut(context, self.max_length - most) for context in contexts]
        found = []
        for at in range(0, len(prompts), 16):
            some, _ = answers.answer(self._model, self._frame, prompts[at : at + 16], stop=stop, **settings)
            found += [one.text for one in some]
        return found

    def _cut(self, context: str, most: int) -> str:
        """Its last tokens, where it is too long for the answer to fit."""
        tokenizer, room = self._model.tokenizer, most - len(self._frame.before)
        if room < 1:
            raise UserError(
                f"an answer of that many tokens leaves no room for a context of {self.max_length}."
            )
        ids = tokenizer.encode_marked(context)
        return context if len(ids) <= room else tokenizer.decode(ids[-room:])
