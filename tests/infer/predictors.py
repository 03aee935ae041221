"""Predictors of models made in tests."""

from typing import Any

from jaxlm.infer.predict import Predictor
from jaxlm.models.build import Model
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh

ONE = Mesh(data=1)


def predictor(model: Model, params: Any, tokenizer: Any = None, row_length: int = 40) -> Predictor:
    """On one device."""
    return Predictor(
        model=model, params=params, mesh=meshes.local(ONE), tokenizer=tokenizer, row_length=row_length
    )
