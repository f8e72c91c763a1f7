"""Whether one value fits one node of a schema, and how a refusal says so."""

from __future__ import annotations

import datetime as dt
import enum
import reprlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ezgraph.errors import (
    OutOfBoundsError,
    ReadOnlyFieldError,
    SettingsRefusedError,
    UnknownFieldError,
    WrongTypeError,
)
from ezgraph.protocol.plain import plain
from ezgraph.protocol.settings import EnumValue

LISTED = 20
"""How many names or choices a message lists."""
_PATH_SHOWN = 200

Node = Mapping[str, Any]
Refusal = SettingsRefusedError


def judge_type(path: str, node: Node, value: object) -> Refusal | None:
    """Return why a value is of none of the types that a node names; None if it is."""
    kinds = node.get("type")
    wanted = as_list(kinds) or ([kinds] if isinstance(kinds, str) else [])
    if not wanted or any(_is_of(each, node, value) for each in wanted[:LISTED]):
        return None
    return wrong_type(path, type_text(node), value)


def _is_of(kind: object, node: Node, value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return is_number and isinstance(value, int)
        case "number":
            return is_number
        case "string":
            return _is_text(_format(node), value)
        case "array":
            return is_array(value) or isinstance(value, list | tuple | set | frozenset)
        case "object":
            return isinstance(value, Mapping)
        case _:
            return True


def _is_text(form: str, value: object) -> bool:
    if form == "complex":
        return isinstance(value, complex | float | int) and not isinstance(value, bool)
    if form in ("path", "file-path", "directory-path", "new-path"):
        return isinstance(value, str) or hasattr(value, "__fspath__")
    return isinstance(value, (str, *_FORMATS.get(form, ())))


_FORMATS: dict[str, tuple[type, ...]] = {
    "binary": (bytes, bytearray),
    "date-time": (dt.datetime,),
    "date": (dt.date,),
    "time": (dt.time,),
    "duration": (dt.timedelta,),
    "uuid": (UUID,),
}


def _format(node: Node) -> str:
    return "binary" if "contentEncoding" in node else str(node.get("format", ""))


def judge_size(path: str, node: Node, value: object) -> Refusal | None:
    """Return why a number, text or list is too small or too large; None if it is not."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _outside(path, node, value, value, value)
    for unit, kinds in (("Length", str), ("Items", list | tuple | set | frozenset)):
        if isinstance(value, kinds):
            length = len(value)
            low, high = _number(node, f"min{unit}"), _number(node, f"max{unit}")
            if (low is not None and length < low) or (high is not None and length > high):
                return OutOfBoundsError(
                    f"{cut(path)} = {shown(value)} has {length} items; it takes {_range(low, high)}"
                )
    return None


def _outside(path: str, node: Node, value: object, least: Any, most: Any) -> Refusal | None:  # noqa: ANN401
    """Refuse numbers from ``least`` to ``most`` that are not all within bounds; NaN is nowhere."""
    low, high = _number(node, "minimum"), _number(node, "maximum")
    above, below = _number(node, "exclusiveMinimum"), _number(node, "exclusiveMaximum")
    fits = (
        (low is None or least >= low)
        and (high is None or most <= high)
        and (above is None or least > above)
        and (below is None or most < below)
    )
    if fits:
        return None
    parts = [
        f"{word} {bound}"
        for word, bound in (
            ("at least", low),
            ("above", above),
            ("at most", high),
            ("below", below),
        )
        if bound is not None
    ]
    return OutOfBoundsError(
        f"{cut(path)} = {shown(value)} is out of bounds; it takes {' and '.join(parts)}"
    )


def judge_array(path: str, node: Node, array: Any) -> Refusal | None:  # noqa: ANN401
    """Judge the items of a NumPy array by its dtype, least and greatest."""
    kinds = {"integer": "iu", "number": "iuf", "boolean": "b", "string": "US"}
    wanted = kinds.get(str(node.get("type")))
    if wanted is not None and array.dtype.kind not in wanted:
        return wrong_type(path, f"an array of {type_text(node)}", array)
    if array.dtype.kind in "iuf" and array.size:
        return _outside(path, node, array, array.min().item(), array.max().item())
    return None


def all_are(items: Any, node: Node) -> bool:  # noqa: ANN401
    """Return whether all items are of one simple type that fits, at the speed of C."""
    kinds: dict[Any, set[type]] = {
        "integer": {int},
        "number": {int, float},
        "string": {str},
        "boolean": {bool},
    }
    is_simple = not set(node) - {"type", "title", "description", "default"}
    fitting = kinds.get(node.get("type"), set()) if is_simple and len(node) < LISTED else set()
    return not node or set(map(type, items)) <= fitting


# --- values ---


def bare(value: Any) -> Any:  # noqa: ANN401
    """Return the value of an enum member, the number of a NumPy scalar."""
    if isinstance(value, EnumValue | enum.Enum):
        value = value.value
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return value.item()
    return value


def is_array(value: object) -> bool:
    """Return whether a value is a NumPy array or something like one."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def is_same(value: Any, choice: Any) -> bool:  # noqa: ANN401
    """Return whether a value is a choice, as it is or as it would stand in JSON."""
    value, choice = bare(value), bare(choice)
    if is_array(value) or is_array(choice):
        return False
    if isinstance(value, list | tuple) and isinstance(choice, list | tuple):
        return len(value) == len(choice) and all(map(is_same, value, choice))
    if isinstance(value, dict) and isinstance(choice, dict):
        return value.keys() == choice.keys() and all(
            is_same(value[key], choice[key]) for key in value
        )
    if isinstance(value, list | tuple | dict | set | frozenset):
        return type(value) is type(choice) and bool(value == choice)
    if type(value) is type(choice) and isinstance(value, str | bytes):
        return bool(value == choice)
    one, other = plain(value), plain(choice)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


# --- schemas: whatever a client sent ---


def as_node(part: object) -> Node:
    """Return a part of a schema as a node; what is none says nothing."""
    return part if isinstance(part, Mapping) else {}


def as_list(part: object) -> list[Any]:
    """Return a part of a schema as a list; what is none is empty."""
    return part if isinstance(part, list) else []


def options_of(node: Node) -> list[Any]:
    """Return the nodes of which one must fit."""
    return [*as_list(node.get("anyOf")), *as_list(node.get("oneOf"))]


def is_free(node: Node) -> bool:
    """Return whether an object may have any fields."""
    return "properties" not in node and node.get("additionalProperties") is not False


def _number(node: Node, word: str) -> int | float | None:
    found = node.get(word)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def node_of_text(field_type: str) -> Node:
    """Return what a type in words says, where there is no JSON Schema: ``int | None``."""
    names = [name.strip().removeprefix("builtins.") for name in field_type.split("|")[:LISTED]]
    nodes = [_BY_NAME.get(name) for name in names]
    return {} if None in nodes else {"anyOf": nodes}


_BY_NAME: dict[str, Node] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "binary"},
    "complex": {"type": "string", "format": "complex"},
    "None": {"type": "null"},
}


# --- wording ---


def wrong_type(path: str, wanted: str, value: object) -> Refusal:
    """Return the refusal of a value of another type."""
    return WrongTypeError(
        f"{cut(path)} = {shown(value)} is of type {type(value).__name__}; it takes {wanted}"
    )


def unknown_field(path: object, names: list[str], where: str) -> Refusal:
    """Return the refusal of a field that is not there, with the names of those that are."""
    known = f"it has {listed(names)}" if names else "it has no fields"
    return UnknownFieldError(f"{where} has no field {shown(path)}; {known}")


def read_only_field(path: object) -> Refusal:
    """Return the refusal of a field that only its owner changes."""
    return ReadOnlyFieldError(f"{cut(str(path))} is read-only; only its owner changes it")


def type_text(node: Node) -> str:
    """Return what a node takes, for a message."""
    kinds = node.get("type")
    if "enum" in node:
        return f"one of {listed(as_list(node['enum']))}"
    if not isinstance(kinds, str):
        return " or ".join(map(str, as_list(kinds)[:LISTED])) or "something else"
    return _NAMES.get(_format(node)) or _NAMES.get(kinds, cut(kinds))


_NAMES = {
    "null": "None",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a mapping of fields",
    "complex": "a complex number",
    "ndarray": "an array",
    "binary": "bytes",
    "path": "a path",
    "date-time": "a date and time",
    "date": "a date",
    "time": "a time of day",
    "duration": "a time span",
    "uuid": "a UUID",
}


def _range(low: float | None, high: float | None) -> str:
    if low == high:
        return f"{low}"
    return f"{'any number' if low is None else low} to {'any number' if high is None else high}"


def listed(values: list[Any]) -> str:
    """Return some values for a message."""
    more = ["…"] if len(values) > LISTED else []
    return ", ".join([shown(each) for each in values[:LISTED]] + more)


def shown(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    return reprlib.repr(value)


def cut(text: str) -> str:
    """Return a path for a message, cut where it is long."""
    return text if len(text) <= _PATH_SHOWN else f"{text[:_PATH_SHOWN]}…"
