"""Packages that only some features need: imported when such a feature is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ezgraph.errors import MissingExtraError


def extra(module: str, name: str, purpose: str) -> Any:  # noqa: ANN401
    """Return an optional package.

    Raises:
        MissingExtraError: it is not installed; says which extra brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module.partition('.')[0]}, which cannot be imported here ({error}); "
            f"install it with: pip install 'ezgraph[{name}]'"
        ) from error
