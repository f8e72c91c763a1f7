"""Values of settings as they are typed: ``cutoff=30``, ``mode=fast``, ``gains=[1, 2.5]``.

What a text stands for follows from what the field takes. Numbers, ``true`` and ``false``, ``none``;
choices as they are shown; lists and mappings as JSON; bytes as base64, times as ISO 8601, spans in
seconds. A field that takes text gets it as it is. Where a text could be several things, quotes make
it text: ``'label="none"'``. A field nothing is known about takes what the text looks like.

Nothing is refused here for its value: what does not fit is sent as what it looks like, and whoever
judges it says what is wrong.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any
from uuid import UUID

from ezgraph.errors import ConfigError
from ezgraph.protocol.metadata import SettingsSchemaMetadata
from ezgraph.protocol.plain import plain
from ezgraph.protocol.settings import EnumValue
from ezgraph.state.schema_facts import Node, as_list, as_node, node_of_text, options_of

_MOST_MEANINGS = 200
_MAX_DEPTH = 16
_TRUTH = {"true": True, "false": False}


def parse_assignments(
    typed: Iterable[str],
    schema: SettingsSchemaMetadata | None,
    current: Mapping[Any, Any] | None,
) -> dict[str, Any]:
    """Return the values of ``FIELD=VALUE`` by field (a dotted path).

    Raises:
        ConfigError: there is no ``=``, or a field is given twice.
    """
    found: dict[str, Any] = {}
    for each in typed:
        path, sign, text = each.partition("=")
        if not sign or not path:
            raise ConfigError(f"{each!r} sets nothing; say FIELD=VALUE, such as cutoff=30")
        if path in found:
            raise ConfigError(f"{path!r} is given twice; give it once")
        found[path] = parse_value(text, nodes_at(schema, path), _held(current, path))
    return found


def _held(current: Mapping[Any, Any] | None, path: str) -> Any:  # noqa: ANN401
    held: Any = current
    for name in path.split("."):
        held = held.get(name) if isinstance(held, Mapping) else None
    return held


# --- what a field takes ---


def nodes_at(schema: SettingsSchemaMetadata | None, path: str) -> list[Node]:
    """Return the nodes of JSON Schema that say what a field takes; none: nothing is known."""
    if schema is None:
        return []
    whole = as_node(schema.json_schema)
    definitions = as_node(whole.get("$defs"))
    first, *rest = path.split(".")
    field = next((each for each in schema.fields if each.name == first), None)
    nodes = _below([whole], first, definitions)
    if not nodes and field is not None:
        nodes = [node_of_text(field.field_type)]
    for name in rest:
        nodes = _below(nodes, name, definitions)
    found = list(_all_meanings(nodes, definitions))
    if field is not None and field.choices is not None and not rest:
        found.append({"enum": field.choices})
    return [each for each in found if each]


def _below(nodes: Iterable[Node], name: str, definitions: Node) -> list[Node]:
    places = []
    for each in _all_meanings(nodes, definitions):
        properties, others = as_node(each.get("properties")), each.get("additionalProperties")
        if name in properties:
            places.append(as_node(properties[name]))
        elif isinstance(others, Mapping):
            places.append(others)
    return places


def _all_meanings(nodes: Iterable[Node], definitions: Node) -> Iterator[Node]:
    every = (found for node in nodes for found in _meanings(node, definitions, _MAX_DEPTH))
    return islice(every, _MOST_MEANINGS)  # a schema is whatever a client sent


def _meanings(node: Node, definitions: Node, depth: int) -> Iterator[Node]:
    yield node
    if depth:
        target = as_node(definitions.get(str(node.get("$ref")).removeprefix("#/$defs/")))
        for each in (target, *options_of(node), *as_list(node.get("allOf"))):
            if each:
                yield from _meanings(as_node(each), definitions, depth - 1)


def choices_of(nodes: Iterable[Node]) -> list[Any]:
    """Return what there is to choose from."""
    found: list[Any] = []
    for node in nodes:
        const = [node["const"]] if "const" in node else []
        for each in (*as_list(node.get("enum")), *const):
            if each not in found:
                found.append(each)
    return found


def choice_text(choice: Any) -> str:  # noqa: ANN401
    """Return a choice as it is typed."""
    shown = plain(choice)
    if shown is None:
        return "none"
    return shown if isinstance(shown, str) else json.dumps(shown)


# --- what a text stands for ---


def parse_value(text: str, nodes: list[Node], current: Any = None) -> Any:  # noqa: ANN401
    """Return what a text stands for in a field of which ``nodes`` are known, and what it holds."""
    choices = choices_of(nodes)
    for choice in choices:
        if text == choice_text(choice):
            return choice
    kinds = {str(kind) for node in nodes for kind in _kinds(node)}
    if not kinds:
        return _chosen(guess(text), choices) if choices else _unknown(text, current)
    for kind, reads in _READERS.items():
        if kind in kinds:
            own = [node for node in nodes if kind in _kinds(node)]
            try:
                return _like(reads(text, own, kinds), current)
            except (ValueError, RecursionError):
                continue
    return guess(text)


def _kinds(node: Node) -> list[Any]:
    kind = node.get("type")
    return [kind] if isinstance(kind, str) else as_list(kind)


def _chosen(value: Any, choices: list[Any]) -> Any:  # noqa: ANN401
    """Return the choice that equals a value (1 for 1.0), or the value: it is none of them."""
    is_truth = isinstance(value, bool)
    same = (each for each in choices if isinstance(each, bool) == is_truth and each == value)
    return next(same, value)


def _unknown(text: str, current: Any) -> Any:  # noqa: ANN401
    """Return what a text looks like, and is like what is there now."""
    if isinstance(current, EnumValue):
        current = current.value
    if isinstance(current, str):
        return text
    value = guess(text)
    if type(current) is float and type(value) is int:
        return float(value)
    return _like(value, current)


def guess(text: str) -> Any:  # noqa: ANN401
    """Return what a text looks like: none, true or false, a number, JSON, or text."""
    if text.lower() in ("none", "null"):
        return None
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    for reads in (int, float):
        try:
            return reads(text)
        except ValueError:
            continue
    if text[:1] in ("[", "{", '"'):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _like(value: Any, current: Any) -> Any:  # noqa: ANN401
    """Return a list as the kind of sequence that is there now."""
    if isinstance(value, list) and type(current) in (tuple, set, frozenset):
        try:
            return type(current)(value)
        except TypeError:  # lists do not stand in sets
            return value
    is_many = isinstance(value, list) or hasattr(value, "dtype")
    if is_many and hasattr(current, "dtype") and hasattr(current, "shape"):
        return _array_like(value, current.dtype)
    return value


def _array_like(value: Any, dtype: Any) -> Any:  # noqa: ANN401
    """Return an array of the dtype, if nothing of the numbers is lost by it."""
    import numpy as np

    try:
        array = np.asarray(value)
        is_whole = array.dtype.kind in "iu" and dtype.kind in "iu"
        if is_whole or np.can_cast(array.dtype, dtype, "same_kind"):
            return np.asarray(array.tolist(), dtype)
    except (ValueError, TypeError, OverflowError):
        pass
    return value  # its owner will say what is wrong


# --- one kind each: they raise ValueError where the text is none ---


def _null(text: str, _: list[Node], __: set[str]) -> None:
    if text.lower() not in ("none", "null"):
        raise ValueError(text)


def _boolean(text: str, _: list[Node], __: set[str]) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _integer(text: str, _: list[Node], __: set[str]) -> int:
    return int(text)


def _number(text: str, _: list[Node], __: set[str]) -> float:
    return float(text)


def _array(text: str, nodes: list[Node], _: set[str]) -> Any:  # noqa: ANN401
    value = json.loads(text)
    if not isinstance(value, list):
        raise ValueError(text)  # noqa: TRY004 - a text of another kind, not a bug
    if any(node.get("format") == "ndarray" for node in nodes):
        import numpy as np

        return np.asarray(value)
    items = [as_node(node.get("items")) for node in nodes]
    if items and all(node.get("type") == "number" for node in items):
        return [float(each) if type(each) is int else each for each in value]
    return value


def _object(text: str, _: list[Node], __: set[str]) -> Any:  # noqa: ANN401
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)  # noqa: TRY004 - a text of another kind, not a bug
    return value


def _string(text: str, nodes: list[Node], kinds: set[str]) -> Any:  # noqa: ANN401
    for node in nodes:
        form = "binary" if "contentEncoding" in node else str(node.get("format", ""))
        if form in _FORMATS:
            try:
                return _FORMATS[form](text)
            except ValueError:
                continue
    if len(kinds) > 1 and text[:1] == text[-1:] == '"':
        quoted = guess(text)
        return quoted if isinstance(quoted, str) else text
    return text


_READERS: dict[str, Callable[[str, list[Node], set[str]], Any]] = {
    "null": _null,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "array": _array,
    "object": _object,
    "string": _string,
}
"""In this order: what is narrower comes first."""

_FORMATS: dict[str, Callable[[str], Any]] = {
    "binary": lambda text: base64.b64decode(text, validate=True),
    "complex": lambda text: complex(text.replace(" ", "")),
    "date-time": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "duration": lambda text: dt.timedelta(seconds=float(text)),
    "uuid": UUID,
}
