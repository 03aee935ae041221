"""jaxlm from Python: what `import jaxlm` offers. In: a recipe, or a folder with weights. Out: a trained run, a `Model`.

    run = jaxlm.load_recipe("quickstart")         # a tree of dataclasses: read it, change it
    run.steps = 300
    outcome = jaxlm.fit(run, workdir="runs/mine")  # the same bits as `jaxlm train` with the same values
    steps, losses = outcome.curves["train/loss"]
    model = jaxlm.load("runs/mine")                # or "hf:DIR", or a model folder
    model.fill_mask("returns the [MASK] of the array.")

No name here is that of a module `jaxlm.NAME`. What a command calls an error is raised as `UserError`, whose text says
what was wrong, what is allowed and the fix. Everything works from a thread, and several times in one process. In a
script put the calls below `if __name__ == "__main__":`, since the processes that tokenise import the script.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.config import Run, flags, remote
from jaxlm.config.flags import Command
from jaxlm.data import workers
from jaxlm.data.places import expanded
from jaxlm.errors import UserError, check_text
from jaxlm.evaluate import of_run
from jaxlm.exchange import exporting
from jaxlm.exchange.sentence_transformers import Pooling
from jaxlm.infer import adapters as beside
from jaxlm.infer import answers, fill_mask, frame, loaded, logits, text_reading
from jaxlm.infer.answers import Answer
from jaxlm.infer.fill_mask import Filled
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.logits import Scored
from jaxlm.infer.sampling import Sampling
from jaxlm.monitor import metrics
from jaxlm.objectives.search import Search
from jaxlm.partition import mesh as meshes
from jaxlm.run import inputs, inventory, streams
from jaxlm.tasks import of as tasks
from jaxlm.train import train

Texts = str | Sequence[str]
Adapters = str | Sequence[str | None] | None  # of every text, the name of its adapter; None: the base alone
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How `fit` ended, and what was measured on the way."""

    code: int  # 0: done; 75: stopped on request or at its time limit, saved: the same call goes on
    step: int  # batches consumed
    metrics: dict[str, float]  # of the last evaluation
    workdir: pathlib.Path

    @functools.cached_property
    def curves(self) -> Curves:
        """Every metric of the run folder, earlier starts included; see `read_curves`."""
        return read_curves(self.workdir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(Loaded):
    """Weights, ready to use; `params` is a plain nested dict of arrays."""

    where: str  # as it was given to `load`
    base: str  # the same: where the frozen weights of a run with a view are

    def _for(self, texts: Texts, adapters: Adapters) -> "tuple[Model, list[str]]":
        """The model whose rows are computed as `adapters` says, and the texts."""
        found = _several(texts)
        if adapters is None:
            self._alone()
            return self, found
        return self.choosing([adapters] if isinstance(adapters, str) else list(adapters), len(found)), found

    def _alone(self) -> None:
        if self.adapters:
            raise UserError(
                f"the model has the adapters {', '.join(self.adapters)}. Fix: adapters=[name of each text]."
            )

    def fill_mask(self, texts: Texts, *, top: int = 5, adapters: Adapters = None) -> list[Filled]:
        """The `top` likeliest tokens for every [MASK] of every text, text by text: `.candidates` of a mask are
        (token, probability). A masked language model."""
        self.require("filling masks", ("encoder",), ("tokens",))
        model, found = self._for(texts, adapters)
        return fill_mask.fill(model, found, top=top)

    def generate(
        self,
        texts: Texts,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        beams: int = 1,
        length_penalty: float = 1.0,
        early_stopping: Literal["no", "yes", "never"] = "no",
        no_repeat_ngram: int = 0,
        min_new_tokens: int = 0,
        n_best: int = 1,
        seed: int = 0,
        stop: Sequence[str] = (),
        adapters: Adapters = None,
    ) -> list[Answer]:
        """How each text goes on, or what answers it: `.text`, `.written` (ids, log-probabilities, why it ended).

        A decoder or an encoder-decoder; greedy unless a temperature or `beams` are given, and then `n_best` answers to
        each text with `.written.score`. `Sampling` and `Search` say what the others do.
        """
        how = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        how.validate()
        search = Search(
            beams=beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            no_repeat_ngram=no_repeat_ngram,
            min_new_tokens=min_new_tokens,
            n_best=n_best,
        )
        search.validate()
        asked = {"new_tokens": max_new_tokens, "sampling": how, "seed": seed, "stop": stop, "search": search}
        model, found = self._for(texts, adapters)
        return answers.answer(model, frame.of_loaded(self), found, **asked)[0]

    def embed(self, texts: Texts, *, pooling: Pooling | None = None, adapters: Adapters = None) -> np.ndarray:
        """[texts, D], float32, vectors of length 1: their products are cosines. `pooling` as the run or folder says
        unless given. An encoder."""
        return text_reading.vectors(*self._for(texts, adapters), pooling)[0]

    def predict(
        self, texts: Texts | Sequence[Sequence[str]], *, max_new_tokens: int = 64, adapters: Adapters = None
    ) -> list[dict[str, Any]]:
        """What the model is for, done to every text, as `jaxlm predict` does to the rows of a table: {"predicted": ...,
        "probability": ...} of a classifier, {"spans": ...} of a tagger, tokens for masks, an answer, or a vector.

        Texts that belong together are a tuple: [(premise, hypothesis), ...], [(question, context), ...]. UserError for
        another number of them than the model takes.
        """
        items = [_item(one) for one in ([texts] if isinstance(texts, str) else texts)]
        self._for([text for text, *_ in items], adapters)
        fields = ("text", "text_pair") if any(len(item) == 2 for item in items) else ()
        if self.adapters:
            use = tasks.by_adapter(self, max_new_tokens=max_new_tokens)
        else:
            use = tasks.of(self, max_new_tokens=max_new_tokens, fields=fields)
        if wrong := [item for item in items if len(item) != len(use.fields)]:
            raise UserError(
                f"texts: {wrong[0]!r:.60} is {len(wrong[0])} text(s), and the model takes {len(use.fields)}, "
                f"{', '.join(use.fields)}: a tuple of them, or a text where it is one."
            )
        for item in items:
            use.check(item[0])
        if self.adapters:
            named = [adapters] if isinstance(adapters, str) else adapters or ()
            items = [(*item, str(name)) for item, name in zip(items, named, strict=True)]
        return use.answer(items, use.ask(items))

    def logits(self, texts: Texts, answers: Texts | None = None) -> list[Scored]:
        """Of every text its ids_T and logits_TV, see jaxlm/infer/logits.py; an encoder-decoder scores `answers`."""
        return logits.logits(*self._for(texts, None), None if answers is None else _several(answers))

    def evaluate(self, split: inputs.Split = "test", *, rows: int = 0) -> dict[str, float]:
        """What the run's own evaluators measure on a split of its corpus: {metric: value}; `rows`: at most, 0: all.

        UserError for a model that is no run, or a split that its corpus does not have.
        """
        self._alone()
        return of_run.measure(
            self.where, split=split, step=self.stored.step, rows=rows, base=self.base, say=print
        )[1]

    def export(self, folder: str | pathlib.Path) -> pathlib.Path:
        """Writes a Hugging Face folder, which must not exist, and returns its path. UserError for what has no place
        in one."""
        self._alone()
        target = expanded(folder)
        exporting.to_hf(
            pathlib.Path(self.where), target, say=print, step=self.stored.step or None, base=self.base
        )
        return target


def load_recipe(recipe: str | pathlib.Path) -> Run:
    """The Run of a recipe: the name of one that comes with jaxlm, or a file (which is executed).

    Assign to its fields to change it (`run.data.corpus = "notes/*.txt"`); `fit` checks the whole.
    """
    return flags.load(recipe)


def fit(run: Run, *, workdir: str | pathlib.Path, allow_config_change: bool = False) -> Outcome:
    """Trains `run` in the folder `workdir`, or goes on with what is there, to the same bits.

    An interrupt (Ctrl-C, a notebook's stop button) finishes the step, saves, and returns with code 75; a second one
    raises KeyboardInterrupt. Raises UserError, and NumericalError after too many steps that are not finite.
    """
    workers.check_main()
    run.validate()
    folder, url = remote.working(str(workdir), "workdir")
    words = f"fit(workdir={str(workdir)!r})"
    ended = train(Command(run, folder, {}, False, allow_config_change, words=words, url=url))
    return Outcome(code=ended.code, step=ended.step, metrics=ended.metrics or _last(folder), workdir=folder)


def load(
    where: str | pathlib.Path,
    *,
    step: int | None = None,
    base: str = "",
    adapters: Mapping[str, str | pathlib.Path] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Model:
    """The model of a run folder, a model folder, or a Hugging Face folder or .gguf file (`hf:DIR`).

    Of a run the best checkpoint, else the newest, unless `step` says which; `base`: where the frozen weights of a run
    with a view are now. `adapters`: {name: run with LoRA or PEFT folder} on `where` as their base; the methods then
    take `adapters=[name of each text]`. Weights lie on all local devices. UserError where there is no model.
    """
    where = remote.readable(str(where))
    if adapters is not None:
        places = {name: str(one) for name, one in adapters.items()}
        found = beside.load(str(where), places, step=step, dtype=precision)
    else:
        found = loaded.load(where, step=step, base=base, dtype=precision)
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return Model(**fields, where=str(where), base=base)


def batch_at(run: Run, step: int = 1) -> Mapping[str, Batch]:
    """The batch that `run` trains on in `step` (from 1), by task ("" is the only task of most), as numpy arrays.

    Tokenises the corpus unless that is done. The field names of `Batch` say the shapes: tokens_BT is [rows, tokens].
    """
    workers.check_main()
    run.validate()
    run = inventory.filled(run, print)
    mesh = meshes.make(run.mesh)
    streams.check_rows(run, mesh)
    text = inputs.text(run, print)
    for number, (first, last) in enumerate(run.stage_steps()):
        if first < step <= last:
            rows = inputs.rows(run, text, run.stages[number], "train", number=number)
            with jax.set_mesh(mesh), inputs.train_feed(text, rows, mesh, start=step - 1 - first) as feed:
                return jax.device_get(next(feed))
    raise UserError(f"step={step}: the run has the steps 1 to {run.steps}.")


def read_curves(workdir: str | pathlib.Path) -> Curves:
    """{metric: (steps, values)} of a run folder, int64 and float64 of one length each; docs/metrics.md has the units.

    A value that was not finite is NaN.
    """
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in metrics.read(workdir):
        for name, value in line.items():
            if name != "step":
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(float("nan") if value is None else value)
    return {name: (np.array(s, np.int64), np.array(v, np.float64)) for name, (s, v) in found.items()}


def _last(workdir: pathlib.Path) -> dict[str, float]:
    """What the newest evaluation of an earlier start measured."""
    curves = read_curves(workdir)
    return {name: float(values[-1]) for name, (_, values) in curves.items() if name.startswith("eval/")}


def _item(texts: Any) -> tuple[str, ...]:
    """A text, or those that belong together."""
    found: Any = texts if isinstance(texts, tuple | list) and texts else [texts]
    return tuple(_several(found))


def _several(texts: Texts) -> list[str]:
    """One text is a list of one."""
    found = [texts] if isinstance(texts, str) else list(texts)
    for text in found:
        check_text(text, "texts")
    return found
