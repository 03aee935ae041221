"""A new run starts from weights that exist. In: the run, its fresh state, `config.init_from`. Out: the state with them.

Heads that the weights lack stay fresh, heads that the run lacks are left behind, both listed; a longer vocabulary or
more positions are made only when the run says how. Guaranteed: any other difference between the two models is refused
by the name of its field; no parameter is ever whole on a device that holds a part of it, those that grow aside.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxlm.config import Run, remote, swap, tree
from jaxlm.convert.table import listed
from jaxlm.data.places import expanded
from jaxlm.data.tokenizer import Pretrained, load
from jaxlm.data.tokens.subwords import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import growing, pairs, reset, tokenizer_files
from jaxlm.exchange.stored import HF, Stored, is_foreign
from jaxlm.models.build import Model, build
from jaxlm.models.paths import flatten, nest

Say = Callable[[str], None]
# The recipe that goes on with a model of a kind, and takes model and tokenizer from where its weights are
CONTINUE = {
    "encoder": "continue_mlm",
    "pair": "continue_mlm",
    "decoder": "continue_causal",
    "encoder_decoder": "continue_seq2seq",
}
TINY = 128  # wide
_LONGEST = 2**31 - 1
_DEPTHS = ("layers", "encoder_layers", "decoder_layers")  # fields of a config


def params(
    run: Run, model: Model, fresh: Any, like: Any, tokenizer: Tokenizer, say: Say, trained: Any = None
) -> Any:
    """The parameters a run starts with. `fresh`: initialised ones, on the mesh; `like`: their shapes and shardings;
    `trained`: what is trained of them, and beside them; None: all.

    UserError when tokenizer or model do not fit.
    """
    stored = _opened(run.init_from, say)
    smaller = run.resize_vocabulary != "refuse"
    check_tokenizer(stored, run.init_from, f"config.init_from={run.init_from}", tokenizer, say, smaller)
    check_model(run, stored)
    shapes, new, axes = flatten(like), flatten(fresh), flatten(model.axes)
    deeper = {path for path in shapes if path in stored.shapes and _is_deeper(run, axes[path])}
    larger = {path for path in shapes if path in stored.shapes and growing.resized(stored, run, axes[path])}
    larger |= deeper
    same = {
        path: leaf.sharding for path, leaf in shapes.items() if path in stored.shapes and path not in larger
    }
    for path in same:
        if tuple(stored.shapes[path].shape) != tuple(shapes[path].shape):
            raise UserError(
                f"config.init_from={run.init_from}: {path} has shape {tuple(stored.shapes[path].shape)}, this run's "
                f"{tuple(shapes[path].shape)}. Give config.model the sizes of {stored.where}."
            )
    made = dict(new) | stored.place(same)
    for path in sorted(larger):
        cut = growing.layers if path in deeper else growing.grown
        made[path] = cut(run, stored, path, new[path], axes[path])
        if path not in deeper:
            say(f"  {path}: {tuple(stored.shapes[path].shape)} made into {tuple(new[path].shape)}")
    for line in sorted({growing.told(run, stored, path, new[path], axes[path]) for path in deeper}):
        say(line)
    _report(stored, shapes, len(same) + len(larger), say)
    if trained is not None:
        _warn_of_untrained(set(shapes) - set(stored.shapes), flatten(trained), say)
    return reset.top(run.reset_layers, model, nest(made), fresh, say) if run.reset_layers else nest(made)


def _is_deeper(run: Run, axes: tuple[str | None, ...]) -> bool:
    """Whether layers of it are chosen. UserError where layers of several kinds take turns."""
    if not run.init_layers or "layers" not in axes:
        return False
    if hasattr(run.model, "kinds"):
        raise UserError(
            f"config.init_layers={run.init_layers}: the layers of {type(run.model).__name__} are of several kinds that "
            "take turns. Fix: as many layers as the weights have, and --config.init_layers= for none."
        )
    return True


def take(run: Run, start: str) -> Run:
    """`run` with the model, the tokenizer and the weights of `start`, in place; rows no longer than it has positions.

    `start`: hf:DIR, a .gguf file, a run folder or a model folder. UserError when it is none, or lacks a tokenizer.
    """
    run.init_from = start
    stored = _opened(start, print)
    if not stored.tokenizer:
        raise UserError(f"{start} has no tokenizer. Fix: put the files of its tokenizer into that folder.")
    kind, run.model = run.model.kind, stored.config
    meant = narrowed(run).model.kind
    if CONTINUE[meant] != CONTINUE[kind] and meant not in run.objective.takes:
        raise UserError(
            f"{start} is a {type(stored.config).__name__}. Fix: jaxlm train {CONTINUE[stored.config.kind]}:{start}"
        )
    path = tokenizer_path(start)
    theirs = tokenizer_files.open_files(stored.tokenizer, start)
    # Of T5's SentencePiece model alone, config.json says how it is used.
    if load(path).fingerprint != theirs.fingerprint:
        raise UserError(
            f"{start}: its tokenizer is no file of its own that a run can name. Fix: jaxlm import {start} models/it, "
            f"then jaxlm train {CONTINUE[stored.config.kind]}:models/it."
        )
    run.tokenizer = Pretrained(path=path)
    if run.extend_positions != "refuse" and hasattr(run.model, "max_positions"):
        run.model.max_positions = max(run.model.max_positions, *(stage.length for stage in run.stages))
    for stage in run.stages:
        stage.length = min(stage.length, getattr(run.model, "max_positions", _LONGEST))
    return run


def is_tiny(start: str) -> bool:
    """Whether it is no wider than the quickstarts: recipes train it as they train such a model from nothing."""
    return width(start) <= TINY


def width(start: str) -> int:
    """Of its hidden states."""
    return _opened(start, lambda line: None).config.hidden


def check(run: Run, say: Say) -> None:
    """UserError when model or view of `init_from` do not fit this run: known before a tokenizer is trained."""
    check_model(run, _opened(run.init_from, say))


_OF_TRAINING = (
    "dropout",
    "init",
    "loss",
)  # in a field's name: another function of the weights in training alone


def check_model(run: Run, stored: Stored) -> None:
    """UserError naming all fields of config.model that make another function of the same weights, with their fixes."""
    ours, theirs = run.model, stored.config
    if type(ours) is not type(theirs) and hasattr(ours, "begun_with"):
        theirs = ours.begun_with(theirs) or theirs
    if type(ours) is not type(theirs):
        theirs = next(iter(_parts(theirs, ours.kind)), theirs)
    recipe = f"jaxlm train {CONTINUE[theirs.kind]}:{run.init_from}"
    if type(ours) is not type(theirs):
        fits = theirs.kind == ours.kind
        flag = f'--config.model="{swap.as_text(theirs)}", or ' if fits else ""
        raise UserError(
            f"config.init_from={run.init_from} is a {type(theirs).__name__}, config.model is a "
            f"{type(ours).__name__}. Fix: {flag}{recipe}, which takes model and tokenizer from there."
        )
    told, fixes = [], []
    for field in dataclasses.fields(ours):
        have, want = getattr(theirs, field.name), getattr(ours, field.name)
        if have == want or tree.has_default(field) or any(one in field.name for one in _OF_TRAINING):
            continue
        how = _how(run, field.name, have, want)
        if how is not None:
            told.append(f"config.model.{field.name}={want!r}, but {run.init_from} has {have!r}{how}")
            fixes.append(_typed(f"model.{field.name}", have))
    longest = getattr(theirs, "max_positions", _LONGEST)
    if told and longest < getattr(ours, "max_positions", _LONGEST):
        long = [i for i, stage in enumerate(run.stages) if stage.length > longest]
        fixes += [_typed(f"stages[{i}].length", longest) for i in long]
    if told:
        listed = "\n  ".join(told)
        raise UserError(
            f"The weights of config.init_from would mean something else in this model:\n  {listed}\n"
            f"Fix: {' '.join(fixes)}\nOr: {recipe}, which takes model and tokenizer from there."
        )


def narrowed(run: Run) -> Run:
    """`run`, in place, with the part of its model that its objective can train, where it takes none of its kind: of a
    T5 the encoder."""
    if run.model.kind not in run.objective.takes:
        for part in _parts(run.model, *run.objective.takes):
            with contextlib.suppress(UserError):
                run.objective.check_model(part, "config.model")
                run.model = part
                break
    return run


def _parts(config: Any, *kinds: str) -> list[Any]:
    found = [config.part(kind) for kind in kinds] if hasattr(config, "part") else []
    return [part for part in found if part is not None]


def _how(run: Run, field: str, have: Any, want: Any) -> str | None:
    """What else can be done about a field that differs; None: it may differ."""
    if field in _DEPTHS:
        if run.init_layers:
            return None
        return ", or say which of its layers it begins with: --config.init_layers (first, last, spread, or 0,2,4)"
    if field == "vocab_size":
        if run.resize_vocabulary != "refuse":
            return None
        return (
            ", or say how what is new begins: --config.resize_vocabulary (mean or normal; docs/conversion.md)"
        )
    if field != "max_positions":
        return ""
    if not _has_axis(run.model, "positions"):
        return None
    if want < have:
        return ": positions can only become more; shorter rows need no fewer"
    if run.extend_positions != "refuse":
        return None
    return (
        ", or say how what is new begins: --config.extend_positions (repeat, interpolate or normal; "
        "docs/conversion.md)"
    )


def _typed(key: str, value: Any) -> str:
    """A flag as it can be typed."""
    if isinstance(value, str | int | float):
        return f"--config.{key}={value}"
    return f'--config.{key}="{swap.as_text(value)}"'


def _has_axis(config: Any, axis: str) -> bool:
    return any(axis in axes for axes in flatten(build(config).axes).values())


def _opened(name: str, say: Say) -> Stored:
    """What init_from names. UserError when it is no model by itself."""
    stored = pairs.open_any(
        name if is_foreign(name) else str(expanded(remote.local(name, "config.init_from"))), say=say
    )
    if stored.run is not None and stored.run.view:
        raise UserError(
            f"config.init_from={name} holds what was trained on top of other weights. Fix: merge the two first, "
            f"jaxlm export {name} DIR, then --config.init_from=hf:DIR."
        )
    return stored


def tokenizer_path(name: str) -> str:
    """Where the tokenizer of `init_from` lies."""
    if not is_foreign(name):
        return f"{name}/tokenizer"
    path = name.removeprefix(HF)
    return f"{path}/discriminator" if pairs.is_pair(expanded(path)) else path


def check_tokenizer(
    stored: Stored, name: str, key: str, tokenizer: Tokenizer, say: Say, smaller: bool = False
) -> None:
    """UserError unless the weights (`name`, which `key` names) mean the same by every id; `smaller`: by those of
    both."""
    if stored.fingerprint == tokenizer.fingerprint:
        return
    if stored.run is None and not stored.tokenizer:
        say(f"WARNING: {name} has no tokenizer: nobody knows whether its ids are those of this run's")
        return
    theirs = tokenizer_files.open_files(stored.tokenizer, stored.where) if stored.tokenizer else None
    if theirs is not None and theirs.fingerprint == tokenizer.fingerprint:
        return
    path = tokenizer_path(name)
    if stored.run is None and theirs is not None:
        size = min(theirs.size, tokenizer.size) if smaller else theirs.size
        other = [i for i in range(size) if i >= tokenizer.size or theirs.token(i) != tokenizer.token(i)]
        if not other:
            say(f"the tokenizer is not the one of {name}, its {size} ids are the same")
            return
        first = f"id {other[0]} is {theirs.token(other[0])!r} there"
    else:
        first = f"{stored.fingerprint[:16]} there, {tokenizer.fingerprint[:16]} here"
    raise UserError(
        f"{key} was trained with another tokenizer ({first}). Fix: "
        f"--config.tokenizer=\"Pretrained(path='{path}')\"."
    )


def _report(stored: Stored, shapes: Mapping[str, Any], taken: int, say: Say) -> None:
    say(f"weights from {stored.where}: {taken} of {len(shapes)} parameters")
    fresh = sorted(set(shapes) - set(stored.shapes))
    left = [*sorted(set(stored.shapes) - set(shapes)), *stored.unexpected]
    if fresh:
        say(f"  {listed('fresh, which the weights lack', fresh)}")
    if left:
        say(f"  {listed('left behind, which this model lacks', left)}")


def _warn_of_untrained(fresh: set[str], trained: Mapping[str, Any], say: Say) -> None:
    """Of what is drawn, and stays so. What stands beside a weight is trained under the path of that."""
    if drawn := sorted(p for p in fresh if not any(f"{one}/".startswith(f"{p}/") for one in trained)):
        say(
            f"WARNING: {listed('fresh, and the view does not train them', drawn)}: they stay as they were drawn. "
            "Fix: a view that trains them, such as LoRA(..., also='heads/')"
        )
