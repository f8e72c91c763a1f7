"""A type as JSON Schema (2020-12).

JSON has no word for some types that settings are made of; they stand as the type they would be in
JSON with a ``format``: ``ndarray``, ``complex``, ``binary``, ``path``, ``date-time``, ``date``,
``time``, ``duration``, ``uuid``. A type we know nothing of is ``{}``: its owner will judge.
"""

from __future__ import annotations

import collections.abc as abc
import datetime as dt
import enum
import types
import typing
from pathlib import PurePath
from typing import Any
from uuid import UUID

from ezgraph.protocol.plain import plain
from ezgraph.settings.hints import is_array, unwrapped
from ezgraph.settings.marks import Marks
from ezgraph.settings.providers import FieldSpec, read_type

Node = dict[str, Any]
_MAX_DEPTH = 32

_SIMPLE: dict[Any, Node] = {
    None: {"type": "null"},
    types.NoneType: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bytes: {"type": "string", "format": "binary"},
    bytearray: {"type": "string", "format": "binary"},
    complex: {"type": "string", "format": "complex"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    dt.timedelta: {"type": "string", "format": "duration"},
    UUID: {"type": "string", "format": "uuid"},
    tuple: {"type": "array"},
}
_LISTS = (list, set, frozenset, abc.Sequence, abc.Collection, abc.Iterable, abc.Set)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


class TypeSchema:
    """Makes nodes of types; ``definitions`` fills with the settings types that stand in them."""

    def __init__(self) -> None:
        self.definitions: dict[str, Node] = {}
        self._names: dict[Any, str] = {}
        self._depth = 0

    def node(self, hint: Any, marks: Marks | None = None) -> Node:  # noqa: ANN401
        """Return the JSON Schema of a type, with what is said about the field that has it."""
        base, said = unwrapped(hint)
        marks = Marks((*said, *(marks.said if marks else ())), marks.named if marks else None)
        if self._depth > _MAX_DEPTH:
            return {}
        self._depth += 1
        try:
            return _narrowed(self._plain_node(base), marks)
        finally:
            self._depth -= 1

    def object_of(self, kind: type) -> Node:
        """Return the schema of the fields of a settings type."""
        read = read_type(kind)
        fields = read.fields if read else ()
        return {
            "title": kind.__name__,
            "type": "object",
            "properties": {each.name: self._property(each) for each in fields},
            "required": [each.name for each in fields if each.required],
            "additionalProperties": False,
        }

    def _property(self, spec: FieldSpec) -> Node:
        node = self.node(spec.hint, spec.marks)
        said = {
            "description": spec.marks.one("description", "doc"),
            "readOnly": spec.marks.one("read_only"),
        }
        return node | {name: value for name, value in said.items() if value is not None}

    def _plain_node(self, hint: Any) -> Node:  # noqa: ANN401
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if hint in _SIMPLE:
            return dict(_SIMPLE[hint])
        if origin is typing.Literal:
            return {"enum": [plain(each) for each in arguments]}
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.node(each) for each in arguments]}
        if is_array(origin or hint):
            return {"type": "array", "format": "ndarray"}
        if origin is tuple:
            return self._tuple(arguments)
        if (origin or hint) in _LISTS:
            return {"type": "array"} | self._inner("items", arguments[:1])
        if (origin or hint) in _MAPPINGS:
            return {"type": "object"} | self._inner("additionalProperties", arguments[1:2])
        return self._class_node(origin or hint)

    def _inner(self, keyword: str, arguments: tuple[Any, ...]) -> Node:
        node = self.node(arguments[0]) if arguments else {}
        return {keyword: node} if node else {}

    def _tuple(self, items: tuple[Any, ...]) -> Node:
        if len(items) == 2 and items[1] is Ellipsis:
            return {"type": "array"} | self._inner("items", items[:1])
        nodes = [self.node(each) for each in items]
        return {
            "type": "array",
            "prefixItems": nodes,
            "minItems": len(nodes),
            "maxItems": len(nodes),
        }

    def _class_node(self, kind: Any) -> Node:  # noqa: ANN401
        if not isinstance(kind, type):
            return {}
        if issubclass(kind, enum.Enum):
            values = [plain(member.value) for member in kind]
            return {} if issubclass(kind, enum.Flag) else {"enum": values}
        if issubclass(kind, PurePath):
            return {"type": "string", "format": "path"}
        if read_type(kind) is None:
            return {}
        return {"$ref": f"#/$defs/{self._definition(kind)}"}

    def _definition(self, kind: type) -> str:
        if kind not in self._names:
            name, count = kind.__name__, 1
            while name in self.definitions:
                count += 1
                name = f"{kind.__name__}_{count}"
            self._names[kind] = name
            self.definitions[name] = {}  # it may stand within itself
            self.definitions[name] = self.object_of(kind)
        return self._names[kind]


def _narrowed(node: Node, marks: Marks) -> Node:
    """Return the node with bounds, where it is of something they bound, and choices."""
    if "anyOf" in node:
        return node | {"anyOf": [_narrowed(each, marks) for each in node["anyOf"]]}
    if marks.choices is not None and node.get("type") != "null":
        return {"enum": plain(marks.choices)}
    match node.get("type"):
        case "integer" | "number":
            return node | marks.limits()
        case "string" if "format" not in node:
            return node | marks.lengths("Length")
        case "array" if "format" not in node:
            return node | marks.lengths("Items")
    return node
