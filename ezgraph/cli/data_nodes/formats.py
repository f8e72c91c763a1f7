"""How ``ezgraph nodes get`` may write data."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ezgraph.cli.paper import is_terminal
from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Format(enum.StrEnum):
    """How data is written."""

    NPY = "npy"
    CSV = "csv"
    JSON = "json"


def format_for(asked: Format | None, output: Path | None) -> Format | None:
    """Return the format that is meant; None: as suits who looks.

    Raises:
        ConfigError: a file of that name does not say what it is to be, or the bytes of a ``.npy``
            would go to a terminal.
    """
    if asked is Format.NPY and output is None and is_terminal():
        raise ConfigError("a .npy is no text for a terminal; name a file for it with -o")
    if asked is not None or output is None:
        return asked
    try:
        return Format(output.suffix.removeprefix(".").lower())
    except ValueError:
        raise ConfigError(
            f"{output.name!r} does not say what kind of file it is to be: end it with .npy, .csv "
            f"or .json, or say --format; `ezgraph nodes export` writes the others"
        ) from None
