"""What a run can show of its model. In: a Run. Out: whether training makes it fill masks or write."""

from typing import Any

from jaxlm.config import tree
from jaxlm.data.tokens.subwords import SPECIAL_NAMES
from jaxlm.errors import UserError


def fills_masks(run: Any) -> bool:
    """An encoder, trained with masked LM."""
    return "mlm" in _terms(run) and run.model.kind == "encoder" and "tokens" in run.heads


def generates(run: Any) -> bool:
    """An objective whose targets are the next tokens."""
    return "lm" in _terms(run)


def check(run: Any, where: str) -> None:
    """UserError for sentences and prompts that the model, trained like this, can do nothing with."""
    objective = type(run.objective).__name__
    if run.fill and not fills_masks(run):
        raise UserError(
            f"{where}.fill: {objective} with {type(run.model).__name__} trains no model that fills masks. Fix: "
            f'"--{where}.fill=()", or an encoder with MaskedLM.'
        )
    for i, sentence in enumerate(run.fill):
        if not any(mask in sentence for mask in SPECIAL_NAMES["mask"]):
            raise UserError(f"{where}.fill[{i}]={sentence!r} has no [MASK] to fill.")
    if run.generate and not generates(run):
        raise UserError(
            f'{where}.generate: {objective} trains no generation. Fix: "--{where}.generate=()", or an objective such '
            "as CausalLM."
        )


def _terms(run: Any) -> set[str]:
    return {getattr(node, "token_term", "") for _, node in tree.nodes(run.objective, "")}
