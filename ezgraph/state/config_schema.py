"""Stand-in until the validator is merged: nothing can be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a value, and where: a JSON pointer."""

    path: str
    message: str


def check_schema(schema: object) -> None:
    """Refuse."""
    raise UnsupportedError(f"no validator for {type(schema).__name__} here")


def violation(schema: Mapping[str, Any], value: object) -> Violation | None:
    """Refuse."""
    raise UnsupportedError(f"no validator for {len(schema)} rules and {type(value).__name__} here")
