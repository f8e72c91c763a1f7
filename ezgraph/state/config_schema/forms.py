"""Values as they are judged: in JSON's own types, and short when a message shows them.

The validator writes the value and the schema into each message, also into those it throws away.
With the usual ``repr`` that alone would take time as steps times size.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from ezgraph.protocol.plain import plain

if TYPE_CHECKING:
    from ezgraph.state.config_schema.steps import Steps

_SHOWN_ITEMS = 3
_SHOWN_TEXT = 60
_SMALL = 1 << 64
_CONTAINERS = (dict, list, tuple, set, frozenset)


class Object(dict[str, Any]):
    """A JSON object; shown by its first few members."""

    __slots__ = ()

    def __repr__(self) -> str:
        inside = ", ".join(f"{shown(k)}: {shown(v)}" for k, v in islice(self.items(), _SHOWN_ITEMS))
        return f"{{{inside}{_more(self, 'properties')}}}"


class Array(list[Any]):
    """A JSON array; shown by its first few items."""

    __slots__ = ()

    def __repr__(self) -> str:
        inside = ", ".join(map(shown, islice(self, _SHOWN_ITEMS)))
        return f"[{inside}{_more(self, 'items')}]"


class LongText(str):
    """A text that is cut when it is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{self[:_SHOWN_TEXT].__str__()!r}... ({len(self):,} characters)"


class BigInteger(int):
    """An integer whose digits are not worth writing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"an integer of {self.bit_length()} bits"


def _more(container: Object | Array, what: str) -> str:
    more = len(container) - _SHOWN_ITEMS
    return f", ... {len(container)} {what} in all" if more > 0 else ""


def shown(value: object) -> str:
    """Return a value in few characters; what is within it in fewer."""
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    if isinstance(value, list):
        return "[...]" if value else "[]"
    return repr(short(value))


def short(value: Any) -> Any:  # noqa: ANN401
    """Return a value in JSON's types as one that is equal, and short when shown."""
    if isinstance(value, dict):
        return Object({short(name): short(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return Array(map(short, value))
    if type(value) is str and len(value) > _SHOWN_TEXT:
        return LongText(value)
    if type(value) is int and not -_SMALL < value < _SMALL:
        return BigInteger(value)
    return value


def judged(value: object, steps: Steps) -> Any:  # noqa: ANN401
    """Return a value as it is judged: its plain JSON form (`ezgraph.protocol.plain`).

    Raises:
        TooMuchError: it has more parts than there are steps left.
    """
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, _CONTAINERS):
            steps.spend(len(part) // 4)
            parts.extend(part.values() if isinstance(part, dict) else part)
        elif hasattr(part, "dtype"):  # an array: each item becomes one of a list
            steps.spend(getattr(part, "size", 1) // 4)
    return short(plain(value))


def identity(value: Any, steps: Steps | None = None) -> str:  # noqa: ANN401
    """Return a text that two values share if and only if they are equal in JSON's sense.

    So 1 is 1.0 and not true, and the order of an object's members is nothing. (Texts are compared
    and hashed at a cost that nobody outside can raise; numbers can be made to share a hash.)
    """
    match value:
        case dict():
            _spend(steps, len(value))
            inside = (f"{json.dumps(k)}:{identity(value[k], steps)}" for k in sorted(value))
            return f"{{{','.join(inside)}}}"
        case list():
            _spend(steps, len(value))
            return f"[{','.join(identity(item, steps) for item in value)}]"
        case str():
            _spend(steps, len(value) // 128)
            return json.dumps(value)
        case bool() | None:
            return json.dumps(value)
        case int():
            return hex(value)  # digits would take time as the square of their number
        case float() if value.is_integer():
            return hex(int(value))
        case _:
            return repr(value)


def _spend(steps: Steps | None, parts: int) -> None:
    if steps is not None:
        steps.spend(1 + parts // 8)
