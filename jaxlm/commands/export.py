"""A run or a model folder becomes a Hugging Face folder, which transformers loads, or what another engine runs.

    jaxlm export runs/wiki exported --check
    jaxlm export --run=runs/wiki --format=safetensors --output=exported
    jaxlm export runs/wiki exported --dtype=bfloat16 --shard-size=2GB --step=1200
    jaxlm export runs/reviews adapter --adapter
    jaxlm export --run=runs/chat --format=gguf --dtype=Q8_0 --output=chat-gguf --check
    jaxlm export --run=hf:path/to/minilm --format=onnx --pooling=mean --output=minilm-onnx

Of a run the best checkpoint is used when it kept one, else the newest; LoRA's matrices are merged, unless
--adapter asks for them alone.
"""

import argparse
import pathlib
import re
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import compare
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, EXIT_USER, UserError
from jaxlm.runtime import signals

SAFETENSORS = "safetensors"
_DTYPES = (None, "float32", "bfloat16", "float16", "source")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def main(argv: Sequence[str]) -> int:
    """Converts, and compares where that is asked for."""
    options = _options(argv)
    signals.end_on_term()

    from jaxlm.config import flags  # after parsing, so that --help answers at once
    from jaxlm.data.places import expanded
    from jaxlm.exchange import adapter_writing, exporting

    flags.named_recipe(options.recipe, options.source)
    target = expanded(options.target)
    if options.format != SAFETENSORS:
        return _other(options, target)
    if options.dtype not in _DTYPES:
        raise UserError(f"--dtype={options.dtype}: safetensors has {', '.join(filter(None, _DTYPES))}.")
    if options.adapter:
        source = expanded(options.source)
        adapter_writing.to_peft(source, target, say=print, step=options.step, base=options.base)
        return EXIT_DONE
    exporting.to_hf(
        expanded(options.source),
        target,
        say=print,
        step=options.step,
        dtype=options.dtype,
        shard_bytes=_bytes(options.shard_size),
        pooling=options.pooling,
        base=options.base,
    )
    if options.check:
        return compare.told(options.source, str(target), base=options.base)
    return EXIT_DONE


def _other(options: argparse.Namespace, target: pathlib.Path) -> int:
    """What is not a Hugging Face folder."""
    from jaxlm.export import formats

    typed = {"dtype": options.dtype, "pooling": options.pooling, "shard-size": options.shard_size}
    typed["adapter"] = options.adapter or None
    found = formats.options(options.format, typed)
    source = formats.Source(path=options.source, step=options.step, base=options.base, options=found)
    formats.write(options.format, source, target, say=print)
    if not options.check:
        return EXIT_DONE
    same = formats.check(options.format, source, target, say=print)
    print("the same model" if same else "NOT the same model")
    return EXIT_DONE if same else EXIT_USER


def _options(argv: Sequence[str]) -> argparse.Namespace:
    """What was typed; source and target may be spelled in two ways."""
    parser = _parser()
    options = parser.options(argv)
    for place, option, name in (("source", "run", "RUN"), ("target", "output", "DIR")):
        words = [word for word in (getattr(options, place), getattr(options, option)) if word is not None]
        if not words:
            parser.error(f"the following arguments are required: {name}")
        if len(words) > 1:
            raise UserError(f"jaxlm export takes {name} once: as a word, or as --{option}={name}.")
        setattr(options, place, words[0])
    return options


def _bytes(text: str | None) -> int | None:
    """'5GB' -> 5 * 10**9."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?i?B?)", text, re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise UserError(f"--shard-size={text}: a size such as 5GB, 500MB or 2GiB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    add = parser.add_argument
    parser.runs += ["source", "run"]
    add("source", metavar="RUN", nargs="?", help="a run folder or a model folder; also as --run=RUN")
    add("target", metavar="DIR", nargs="?", help="the folder to make; it must not exist, or be empty")
    add("--run", help=argparse.SUPPRESS)
    add("--output", metavar="DIR", help=argparse.SUPPRESS)
    formats = (
        f"{SAFETENSORS} (a Hugging Face folder, the default), gguf (llama.cpp), onnx, ...: docs/export.md"
    )
    add("--format", default=SAFETENSORS, metavar="NAME", help=formats)
    add(
        "--dtype",
        help=f"{', '.join(filter(None, _DTYPES))}; default: float32 of a run, source (as it came in) of a model "
        "folder; gguf: F16 (the default), F32, BF16, Q8_0, Q4_0",
    )
    add("--shard-size", metavar="SIZE", help="largest file of weights; default: 5GB, or as it came in")
    add("--pooling", choices=["cls", "mean", "cls_mlp"], help="add sentence-transformers' files")
    add(
        "--adapter",
        action="store_true",
        help="what was trained beside the base alone, as a PEFT folder; of a method that PEFT lacks, as one of jaxlm's",
    )
    table.add_checkpoint(parser)
    compare.add_check(parser)
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
