"""Named arrays in a safetensors file. In: a path. Out: numpy arrays by name, or the file. Never pickle."""

import pathlib
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxlm.errors import UserError


def load(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of one file. Raises UserError if there is none or it is damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file. Give the path of a model.safetensors.") from error
    except SafetensorError as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}). Fetch or export it again."
        ) from error


def save(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write one file; transformers reads it ('format': 'pt' says that names and layouts are PyTorch's)."""
    save_file(dict(tensors), path, metadata={"format": "pt"})
