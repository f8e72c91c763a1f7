"""Basic indices as they are typed: ``10:20, ::2``. Nothing is evaluated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from types import EllipsisType

_NUMBER = r"\s*([+-]?[0-9]{1,19})?\s*"
_SLICE = re.compile(f"{_NUMBER}:{_NUMBER}(?::{_NUMBER})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def parse_index(typed: str) -> tuple[Any, ...]:
    """Return the index that a text spells, in brackets or without, as NumPy would take it.

    Raises:
        ConfigError: it spells none.
    """
    inner = typed.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1].strip()
    parts = inner.removesuffix(",").split(",")
    return tuple(_part(each.strip(), typed) for each in parts)


def _part(part: str, typed: str) -> int | slice | EllipsisType:
    if part == "...":
        return ...
    if _INTEGER.fullmatch(part):
        return int(part)
    if found := _SLICE.fullmatch(part):
        return slice(*(None if each is None else int(each) for each in found.groups()))
    raise ConfigError(
        f"{typed[:100]!r} is no slice: {part[:100]!r} is neither a number, nor START:STOP or "
        f"START:STOP:STEP, nor ...; write for example '[1000:2000, ::2]'"
    )
