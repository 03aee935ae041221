"""Optional libraries. In: the names of a module and of the extra that brings it. Out: the module.

Imported where it is used, so the core install stays small; a missing one is a UserError that names the extra.
"""

import importlib
from typing import Any

from jaxlm.errors import UserError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import `module`; UserError with the pip command when it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise UserError(
            f'{purpose} needs the package "{missing}", which is not installed. '
            f'Install it with: pip install "jaxlm[{extra}]"'
        ) from error
