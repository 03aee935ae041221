"""What a run shows of its model at evaluations and at its end: the recipe's sentences filled, its prompts answered.

In: a Run and its tokenizer, before anything is trained; the weights, later. Out: a refusal of what could not be shown;
texts. They are compiled the first time only (the programs take the weights as arguments), greedy, and draw nothing of
the run's: it ends in the same bits with and without them.
"""

from typing import Any

import jax

from jaxlm.config import Run, folder
from jaxlm.infer import answers, fill_mask, frame
from jaxlm.infer.predict import Predictor
from jaxlm.infer.sampling import Sampling
from jaxlm.run.inputs import Text

_NEW_TOKENS = 48


def check(run: Run, text: Text) -> None:
    """UserError for sentences and prompts that could not be shown when the run is over."""
    fill_mask.check(text.tokenizer, run.fill, row_length=run.stages[-1].length)
    if run.generate:
        answers.check(
            run.model, text.tokenizer, frame.of_objective(run.objective, text.tokenizer), run.generate
        )


def keep(parts: Any, weights: Any, step: int) -> str:
    """Writes what the model makes of the recipe's sentences and prompts to samples/ and TensorBoard; returns it.

    '' where the recipe has none, and on several hosts.
    """
    if not (parts.run.fill or parts.run.generate) or jax.process_count() > 1:
        return ""
    text = _shown(parts, weights)
    folder.keep(parts.place.samples / f"step-{step}.txt", text + "\n", parts.console.say)
    parts.writer.text(step, "samples", text)
    return text


def _shown(parts: Any, weights: Any) -> str:
    run, lines = parts.run, []
    predictor = Predictor(
        model=parts.program.model,
        params=parts.program.view.merge(weights, parts.frozen),
        mesh=parts.program.mesh,
        tokenizer=parts.text.tokenizer,
        row_length=run.stages[-1].length,
    )
    if run.fill:
        lines.append(fill_mask.table(fill_mask.fill(predictor, run.fill)))
    if run.generate:
        around = frame.of_objective(run.objective, parts.text.tokenizer)
        greedy = {"new_tokens": _NEW_TOKENS, "sampling": Sampling(), "seed": 0}
        found, _ = answers.answer(predictor, around, run.generate, **greedy)
        lines.append(answers.table(found))
    return "\n".join(lines)
