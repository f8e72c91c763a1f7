"""What a settings type says about a field beside its type: unit, step, bounds, choices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Says more about a field: ``cutoff: Annotated[float, Setting(unit="Hz", bounds=(0, 500))]``.

    ``bounds`` are the lowest and the highest value (either may be None), in ``unit``, as is
    ``step``, which a form would go by. A ``read_only`` field is shown and not changed remotely.
    """

    unit: str | None = None
    step: float | None = None
    bounds: tuple[float | None, float | None] | None = None
    choices: tuple[Any, ...] | None = None
    read_only: bool = False
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds by the names they have in `annotated_types`, pydantic and msgspec."""

    ge: Any = None
    gt: Any = None
    le: Any = None
    lt: Any = None


@dataclass(frozen=True, slots=True)
class Marks:
    """Everything that was said about a field, by whatever library's means."""

    said: tuple[Any, ...] = ()
    named: Mapping[str, Any] | None = None

    def one(self, *names: str) -> Any:  # noqa: ANN401
        """Return the first that is said (not None, not False) under one of the names, or None."""
        for name in names:
            for each in (*self.said, *self._extras()):
                found = each.get(name) if isinstance(each, Mapping) else _said(each, name)
                if found is not None and found is not False:
                    return found
        return None

    def _extras(self) -> Iterable[Mapping[str, Any]]:
        given = (self.named, *(getattr(each, "extra", None) for each in self.said))
        return (each for each in given if isinstance(each, Mapping))

    @property
    def bounds(self) -> tuple[float | None, float | None] | None:
        """The lowest and the highest value, whether or not they belong to the range."""
        low, high = self.one("bounds") or (None, None)
        low = _number(self.one("ge", "gt", "min") if low is None else low)
        high = _number(self.one("le", "lt", "max") if high is None else high)
        return None if low is None and high is None else (low, high)

    @property
    def choices(self) -> list[Any] | None:
        """The values that may be chosen from."""
        found = self.one("choices")
        return list(found) if isinstance(found, Iterable) and not isinstance(found, str) else None

    def limits(self) -> dict[str, Any]:
        """Return the bounds in the words of JSON Schema."""
        low, high = self.one("bounds") or (None, None)
        found = {
            "minimum": self.one("ge", "min") if low is None else low,
            "exclusiveMinimum": self.one("gt"),
            "maximum": self.one("le", "max") if high is None else high,
            "exclusiveMaximum": self.one("lt"),
        }
        return {name: value for name, value in found.items() if _number(value) is not None}

    def lengths(self, unit: str) -> dict[str, Any]:
        """Return the bounds of a length, in ``Length`` (of text) or ``Items``."""
        found = {f"min{unit}": self.one("min_length"), f"max{unit}": self.one("max_length")}
        return {name: value for name, value in found.items() if isinstance(value, int)}


def _said(mark: object, name: str) -> Any:  # noqa: ANN401
    """Return an attribute of a mark; a text or a number is no mark, whatever its methods."""
    if isinstance(mark, type | str | bytes | int | float | tuple | list):
        return None
    found = getattr(mark, name, None)
    return None if callable(found) else found


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
