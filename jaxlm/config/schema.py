"""The schema of a run: what a recipe returns. In: field values. Out: the same, checked by `Run.validate`.

Fields without a default change results; fields with one are operational. Components (`model`, `objective`,
`tokenizer`, `optimizer`) are dataclasses of other packages, chosen by type; each checks itself.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxlm.checkpoint.policy import Keep
from jaxlm.config import averaged, excluded, length, shown, taught, tree
from jaxlm.config.traced import traced
from jaxlm.config.tree import within
from jaxlm.data.corpus.columns import Column
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.corpus.steps import Step
from jaxlm.errors import UserError, check_text
from jaxlm.partition.mesh import Mesh

_LARGEST = 2**31 - 1  # what devices count with


@dataclasses.dataclass(kw_only=True)
class Stage:
    """A part of the run with its own row length: BERT trains 90 % of its steps on 128 tokens, then 10 % on 512."""

    length: int  # tokens per row
    share: float  # of the run's steps


@dataclasses.dataclass(kw_only=True)
class Share:
    """One corpus of a mixture."""

    name: str  # in metrics: eval/NAME/loss
    corpus: Corpus  # where its text comes from
    weight: float  # of its rows among all; 0: as many as it has
    epochs: float  # of it in a stage at most, then the others share its room; 0: no limit


@dataclasses.dataclass(kw_only=True)
class Mixture:
    """Several corpora whose rows alternate. The tokenizer is trained on all of them, by their weights."""

    shares: tuple[Share, ...]  # one for each corpus
    temperature: float  # weights count as weight ** (1 / temperature); 1: as they are

    def validate(self, where: str) -> None:
        """Different names, weights and epochs that are numbers, and one corpus without an end."""
        for i, share in enumerate(self.shares):
            at = f"{where}.shares[{i}]"
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", share.name) or share.name in [
                other.name for other in self.shares[:i]
            ]:
                raise UserError(
                    f"{at}.name={share.name!r}: allowed are letters, digits, _ . - and no name twice."
                )
            within(share.weight, 0.0, 1e9, f"{at}.weight")
            within(share.epochs, 0.0, 1e9, f"{at}.epochs")
        within(self.temperature, 1e-3, 1e3, f"{where}.temperature")
        if not self.shares or all(share.epochs for share in self.shares):
            raise UserError(
                f"{where}.shares: every corpus ends. Fix: --{where}.shares[0].epochs=0.0 (no limit), or another."
            )

    def weights(self, rows: Sequence[float]) -> list[float]:
        """Of every source, given how many rows, or how much text, it has."""
        given = [share.weight or float(n) for share, n in zip(self.shares, rows, strict=True)]
        return [weight ** (1.0 / self.temperature) for weight in given]


@dataclasses.dataclass(kw_only=True)
class Data:
    """Where the text comes from and how rows are filled with it.

    Each corpus of a `mixture`, which stands in place of `corpus`, has its own fields, columns, steps and shares.
    """

    # A path, glob or folder of text, CSV, TSV, JSONL or Parquet (plain, .gz, .zst; local or fsspec URL), several with
    # commas between, tfds:NAME, hf:NAME, builtin:pydocs (docstrings of what is installed), or a folder of `jaxlm data`
    corpus: str
    reader: Any = None  # a corpus of your own, that derives from data.corpus.source.Reader; corpus is "" then
    text_field: str = "text"  # the field or column that holds the text
    text_fields: tuple[str, ...] = ()  # two or more in its place: texts that belong together
    columns: tuple[Column, ...] = ()  # what else is kept of every record, see data.corpus.columns
    steps: tuple[Step, ...] = ()  # what is done to every record before it is tokenised
    mixture: Mixture | None = None  # several corpora; corpus is "" then
    # How rows are filled: a document each; documents cut at the end of a row; whole ones that fit together
    packing: Literal["none", "concatenate", "best_fit"]
    validation_share: float  # of the documents, by a hash of their text; 0: evaluates on those it trains on
    test_share: float  # of the documents, held out for `jaxlm evaluate --split=test`, in the same way
    validation: str = ""  # files of their own for this split, named as the corpus is; it then takes no share
    test: str = ""  # the same for what is held out for the end
    moved: tuple[tuple[str, str], ...] = ()  # (hash, split) so that no split lacks a label; found, not set
    cache: str = ""  # folder for tokenised shards and packing plans; empty: $JAXLM_CACHE or ~/.cache/jaxlm
    # How shards are checked when they are opened; auto: sizes always, SHA-256 up to 1 GiB
    check: Literal["auto", "size", "sha256"] = "auto"
    workers: int = 0  # reader processes; 0 reads with two threads in this process
    prefetch: int = 4  # batches kept ready on the devices

    def validate(self, where: str) -> None:
        """Checks the corpus and the counts."""
        self.corpus_config().check(where)
        if self.mixture is not None and self.corpus:
            raise UserError(
                f"{where}.corpus={self.corpus!r}, and there is a {where}.mixture, too. Fix: --{where}.corpus= or "
                f"--{where}.mixture=None."
            )
        within(self.workers, 0, 1024, f"{where}.workers")
        within(self.prefetch, 1, 1024, f"{where}.prefetch")

    def corpora(self) -> dict[str, Corpus]:
        """The corpora of a mixture by name, or the one there is, named ""."""
        if self.mixture is None:
            return {"": self.corpus_config()}
        return {share.name: share.corpus for share in self.mixture.shares}

    def corpus_config(self) -> Corpus:
        """What of this decides the shards; two Data that differ in the rest share them."""
        return Corpus(
            source=self.corpus,
            reader=self.reader,
            text_field=self.text_field,
            text_fields=tuple(self.text_fields),
            columns=tuple(self.columns),
            steps=tuple(self.steps),
            validation_share=self.validation_share,
            test_share=self.test_share,
            validation=self.validation,
            test=self.test,
            moved=tuple(self.moved),
        )


@dataclasses.dataclass(kw_only=True)
class Evaluation:
    """When and on how much held-out text the model is evaluated. The masks of an evaluation never change."""

    # Steps between evaluations; the last step is evaluated, too. 0: an epoch, of a run in steps only the last
    every_steps: int = 1000
    rows: int = 512  # held-out rows per evaluation; 0 means all
    # stop after this many evaluations without a new best checkpoint.keep.best_metric; 0: never
    patience: int = 0
    # whether each evaluation also writes to samples/ what the model makes of `fill` and `generate`
    samples: bool = True

    def validate(self, where: str) -> None:
        """Checks the counts."""
        within(self.every_steps, 0, None, f"{where}.every_steps")
        within(self.rows, 0, None, f"{where}.rows")
        within(self.patience, 0, None, f"{where}.patience")


@dataclasses.dataclass(kw_only=True)
class Checkpointing:
    """When checkpoints are written and which are kept."""

    every_steps: int = 0  # steps between checkpoints; 0: by time only
    every_minutes: float = 15.0  # minutes between checkpoints; 0: by steps only
    keep: Keep = dataclasses.field(default_factory=Keep)  # which checkpoints stay
    check: Literal["size", "sha256"] = "sha256"  # of its files; size: for storage with checksums of its own

    def validate(self, where: str) -> None:
        """Checks the intervals."""
        within(self.every_steps, 0, None, f"{where}.every_steps")
        within(self.every_minutes, 0.0, None, f"{where}.every_minutes")


@dataclasses.dataclass(kw_only=True)
class Logging:
    """What is reported, where and how often."""

    every_steps: int = 10  # steps between lines of metrics
    wandb: str = ""  # Weights & Biases project; empty: off
    watchdog_minutes: float = 30.0  # without a step for this long, all stacks are written to crash/; 0: off

    def validate(self, where: str) -> None:
        """Checks the interval."""
        within(self.every_steps, 1, None, f"{where}.every_steps")
        within(self.watchdog_minutes, 0.0, None, f"{where}.watchdog_minutes")


@dataclasses.dataclass(kw_only=True)
class Run:
    """Everything that determines a run. See the package docstring for the meaning of defaults."""

    model: Any  # sizes of the model, such as Bert
    objective: Any  # what is predicted, such as MaskedLM
    tokenizer: Any  # trained on the corpus (WordPiece, Unigram, Bpe, ByteBpe), or Pretrained(path=...)
    optimizer: Any  # such as AdamW, with the schedule of its learning rate
    data: Data  # where the text comes from
    stages: tuple[Stage, ...]  # parts of the run with row lengths of their own
    steps: (
        int  # optimizer steps of the whole run; 0: as many as `epochs` are, which is counted when it starts
    )
    batch_size: int  # rows per optimizer step, over all devices and micro-batches
    seed: int  # of initial weights, order, masks and dropout: the same seed gives the same run
    ema_decay: float  # exponential moving average of the weights, used by evaluation; 0: off
    # Duration ("75%") from which on the mean of the weights is evaluated (SWA, 1803.05407), without ema_decay; "": off
    average_from: str = ""
    # Spans (first, last) of steps whose rows are never read, as after a loss spike; the steps after them read what
    # follows. Each counts steps as the run with the spans before it did
    exclude: tuple[tuple[int, int], ...] = ()
    # Passes over the training rows, counted as steps at the start; on a command line one takes the place of the other
    epochs: float = dataclasses.field(default=0.0, metadata={"instead_of": "steps"})
    view: tuple[Any, ...] = ()  # what is trained of the model: Freeze, LoRA (jaxlm.views); (): everything
    accumulate: int = 1  # micro-batches per step; equals the large batch
    precision: Literal["auto", "float32", "bfloat16"] = (
        "auto"  # of the computation; auto: bfloat16 on TPU and GPU
    )
    dropout_generator: Literal["auto", "threefry2x32", "rbg"] = "auto"  # auto: rbg on TPU, else threefry2x32
    compiler_options: Literal["auto", "none"] = (
        "auto"  # of XLA; auto: by kind of device, see docs/performance.md
    )
    mesh: Mesh = dataclasses.field(default_factory=Mesh)  # how the devices share the work
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)  # when held-out text is read
    evaluators: tuple[Any, ...] = ()  # what else is evaluated, beside the held-out loss (jaxlm/evaluate)
    checkpoint: Checkpointing = dataclasses.field(default_factory=Checkpointing)  # when the run is saved
    logging: Logging = dataclasses.field(default_factory=Logging)  # what is reported
    # Whose weights (not its optimizer) a new run starts from: a run folder, a model folder, or hf:DIR
    init_from: str = ""
    # Which layers of deeper weights a shallower model begins with: first, last, spread (DistilBERT's 0,2,4,7,9,11 of
    # 12), or their numbers from 0, as 0,2,4; "": it must have as many as they
    init_layers: str = ""
    # Whose frozen weights an objective such as Distil learns from: hf:DIR, a run or a model folder; "": no one's
    teacher: str = ""
    teacher_model: Any = None  # its sizes; found when the run starts, not set
    # Of its weights and its computation; auto: that of the run's computation
    teacher_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # How the entries begin that a larger vocabulary adds: the mean of all entries, or as drawn for a new model
    resize_vocabulary: Literal["refuse", "mean", "normal"] = "refuse"
    reset_layers: int = 0  # so many top layers (with them the pooler) begin as drawn, not from init_from
    # How further learned positions begin: the known ones again, stretched over all, or as drawn for a new model
    extend_positions: Literal["refuse", "repeat", "interpolate", "normal"] = "refuse"
    # Whether a probe shows before every stage that documents of a row cannot see each other, see docs/data.md
    check_isolation: bool = True
    non_finite_limit: int = 10  # non-finite steps in a row after which the run stops with exit code 70
    time_limit_minutes: float = 0.0  # save and exit 75 after this long; 0: no limit
    profile: str = ""  # START:STOP: trace steps START to STOP - 1 into the run folder, for XProf
    show_batch: int = 0  # print this many rows as the model sees them
    fill: tuple[str, ...] = ()  # sentences with [MASK] that are filled at evaluations and at the end
    generate: tuple[str, ...] = ()  # prompts that are continued (or answered) at evaluations and at the end

    def validate(self, where: str = "config") -> None:
        """Raises UserError for the first value that cannot work, naming its key; checks every component."""
        tree.check_types(self, where)
        for path, value, _ in tree.leaves(self, where):
            if isinstance(value, int) and abs(value) > _LARGEST and path != f"{where}.seed":
                raise UserError(f"{path}={value} is out of range; allowed: at most {_LARGEST}.")
        for path, node in tree.nodes(self, where):
            if node is not self and hasattr(node, "validate"):
                node.validate(path)
        within(self.accumulate, 1, None, f"{where}.accumulate")
        within(self.non_finite_limit, 1, None, f"{where}.non_finite_limit")
        within(self.ema_decay, 0.0, 0.999999, f"{where}.ema_decay")
        within(self.seed, 0, 2**32 - 1, f"{where}.seed")
        within(self.time_limit_minutes, 0.0, None, f"{where}.time_limit_minutes")
        within(self.show_batch, 0, None, f"{where}.show_batch")
        averaged.check(self, where)
        taught.check(self, where)
        excluded.check(self.exclude, f"{where}.exclude")
        traced(self.profile, self.steps or _LARGEST, f"{where}.profile")
        for text in (*self.fill, *self.generate):
            check_text(text, where)
        within(self.batch_size, 1, 2**20, f"{where}.batch_size")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"{where}.batch_size={self.batch_size} must be divisible by {where}.accumulate={self.accumulate}."
            )
        self.objective.check_batch(self.batch_size, self.accumulate, where)
        self.objective.check_model(self.model, f"{where}.model")
        self.objective.check_view(self.view, f"{where}.view")
        length.check(self, where)
        shown.check(self, where)

    @property
    def averages(self) -> bool:
        """Whether evaluation, and whoever uses the run, reads an average of its weights."""
        return bool(self.ema_decay or self.average_from)

    @property
    def heads(self) -> Mapping[str, Any]:
        """What the objective puts on the model, by name (`jaxlm.models.heads`)."""
        return self.objective.heads(self.model)

    def stage_steps(self) -> list[tuple[int, int]]:
        """[first, last) global step of every stage; the shares are rounded, the last stage takes what is left."""
        bounds, total = [0], 0.0
        for stage in self.stages[:-1]:
            total += stage.share
            bounds.append(round(total * self.steps))
        bounds.append(self.steps)
        return list(itertools.pairwise(bounds))
