"""Does a settings change fit the schema? Asked before a change is sent to who owns the settings.

The schema comes from a client and the values from another, so nothing here trusts either: every
schema is judged (what it says in words we do not know is left to the owner), every value gets an
answer, and there is a bound on the steps taken. Of JSON Schema (2020-12) the words known are
``$ref`` (to ``$defs``), ``anyOf``, ``oneOf``, ``allOf``, ``type``, ``format``, ``enum``, ``const``,
the bounds of numbers and lengths, ``items``, ``prefixItems``, ``properties``,
``additionalProperties``, ``required`` and ``readOnly``. Patterns are not among them: they can take
forever.

A value is native, not JSON: where the schema says text of a format, the type of that format fits
too; an array and a tuple are lists, an enum member is its value. An ``int`` field takes no ``3.0``.
A mapping of fields takes no other fields, unless it says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ezgraph.errors import (
    NotAChoiceError,
    SchemaVersionError,
    SettingsRefusedError,
    WrongTypeError,
)
from ezgraph.protocol.metadata import (
    SCHEMA_VERSION,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
)
from ezgraph.state.schema_facts import (
    LISTED,
    Node,
    Refusal,
    all_are,
    as_list,
    as_node,
    bare,
    cut,
    is_array,
    is_free,
    is_same,
    judge_array,
    judge_size,
    judge_type,
    listed,
    node_of_text,
    options_of,
    read_only_field,
    shown,
    type_text,
    unknown_field,
    wrong_type,
)

MAX_STEPS = 20_000
"""Some 20 ms."""
MAX_DEPTH = 64


class _TooMuchError(Exception):
    """The steps are used up."""


def check_change(schema: SettingsSchemaMetadata, changes: Mapping[str, object]) -> None:
    """Return if every change fits; ``changes`` are new values by dotted path (``notch.hz``).

    Raises:
        SchemaVersionError: the schema says more than this version understands.
        UnknownFieldError, WrongTypeError, OutOfBoundsError, NotAChoiceError, ReadOnlyFieldError:
            one change does not fit, or several for the same reason; says which, the value and why.
        SettingsRefusedError: several do not, for different reasons; or there is too much to check.
    """
    if schema.version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"the schema of {schema.settings_type} has version {schema.version}, and version "
            f"{SCHEMA_VERSION} is known here; upgrade the broker to change these settings"
        )
    check = _Check(schema)
    try:
        refusals = [each for path, value in changes.items() if (each := check.refusal(path, value))]
    except _TooMuchError:
        raise SettingsRefusedError(
            f"the change of {shown(list(changes))} takes more than {MAX_STEPS} steps to check; "
            f"change less at once, and give many numbers as a NumPy array"
        ) from None
    if refusals:
        raise _together(refusals)


def _together(refusals: list[Refusal]) -> Refusal:
    kinds = {type(each) for each in refusals}
    kind = kinds.pop() if len(kinds) == 1 else SettingsRefusedError
    texts = [str(each) for each in refusals[:LISTED]]
    if more := len(refusals) - len(texts):
        texts.append(f"and {more} more")
    return kind("; ".join(texts))


class _Check:
    """One pass over a change; counts its steps."""

    def __init__(self, schema: SettingsSchemaMetadata) -> None:
        self._type = schema.settings_type
        self._fields = {each.name: each for each in schema.fields}
        self._whole = as_node(schema.json_schema)
        self._definitions = as_node(self._whole.get("$defs"))
        self._steps = 0

    def _count(self, steps: int = 1) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise _TooMuchError

    def refusal(self, path: object, value: object) -> Refusal | None:
        """Return why a value may not stand at a path; None if it may."""
        self._count()
        first, *rest = str(path).split(".")
        field = self._fields.get(first)
        if field is None:
            return unknown_field(path, list(self._fields), f"settings of type {self._type}")
        if field.read_only:
            return read_only_field(path)
        place = self._place(self._whole, first)
        nodes = [place or node_of_text(field.field_type)]
        for name in rest:
            if self._is_read_only(nodes[-1]):
                return read_only_field(path)
            place = self._place(nodes[-1], name)
            if place is None:
                above = f"what stands above {shown(name)}"
                return unknown_field(path, self._names(nodes[-1]), above)
            nodes.append(place)
        if self._is_read_only(nodes[-1]):
            return read_only_field(path)
        return self._judge(str(path), nodes[-1], value) or (
            None if rest else self._judge_field(str(path), field, value)
        )

    # --- where a path leads ---

    def _meanings(self, node: Node, depth: int = 0) -> Iterator[Node]:
        """Return a node and all that it refers to or offers."""
        self._count()
        yield node
        if depth < MAX_DEPTH:
            for each in (*self._target(node), *options_of(node), *as_list(node.get("allOf"))):
                yield from self._meanings(as_node(each), depth + 1)

    def _target(self, node: Node) -> tuple[Node, ...]:
        if "$ref" not in node:
            return ()
        return (as_node(self._definitions.get(str(node["$ref"]).removeprefix("#/$defs/"))),)

    def _place(self, node: Node, name: str) -> Node | None:
        """Return the node at a name below one; None: there is no such name."""
        is_open = False
        for each in self._meanings(node):
            properties, others = as_node(each.get("properties")), each.get("additionalProperties")
            if name in properties:
                return as_node(properties[name])
            if isinstance(others, Mapping):
                return others
            is_open |= others is True or (each.get("type") == "object" and is_free(each))
        is_open |= not node
        return {} if is_open else None

    def _names(self, node: Node) -> list[str]:
        return [name for each in self._meanings(node) for name in as_node(each.get("properties"))]

    def _is_read_only(self, node: Node) -> bool:
        return any(each.get("readOnly") is True for each in self._meanings(node))

    # --- whether a value fits ---

    def _judge(self, path: str, node: Node, value: object, depth: int = 0) -> Refusal | None:
        self._count()
        if depth > MAX_DEPTH:
            return None
        value = bare(value)
        for each in (*self._target(node), *as_list(node.get("allOf"))):
            if refusal := self._judge(path, as_node(each), value, depth + 1):
                return refusal
        return (
            self._judge_options(path, options_of(node), value, depth)
            or self._judge_choice(path, node, value)
            or judge_type(path, node, value)
            or judge_size(path, node, value)
            or self._judge_inside(path, node, value, depth)
        )

    def _judge_options(
        self, path: str, options: list[Any], value: object, depth: int
    ) -> Refusal | None:
        refusals = []
        for each in options:
            refusal = self._judge(path, as_node(each), value, depth + 1)
            if refusal is None:
                return None
            refusals.append(refusal)
        telling = [each for each in refusals if type(each) is not WrongTypeError]
        if telling or not refusals:  # of the right type, and not right: that is what to say
            return telling[0] if telling else None
        wanted = " or ".join(type_text(as_node(each)) for each in options[:LISTED])
        return wrong_type(path, wanted, value)

    def _judge_choice(self, path: str, node: Node, value: object) -> Refusal | None:
        choices = as_list(node.get("enum")) or ([node["const"]] if "const" in node else [])
        return self._refuse_other(path, choices, value) if choices else None

    def _refuse_other(self, path: str, choices: list[Any], value: object) -> Refusal | None:
        self._count(len(choices))
        if any(is_same(value, each) for each in choices):
            return None
        return NotAChoiceError(f"{cut(path)} = {shown(value)} is none of {listed(choices)}")

    def _judge_inside(self, path: str, node: Node, value: object, depth: int) -> Refusal | None:
        if isinstance(value, Mapping):
            return self._judge_fields(path, node, value, depth)
        if is_array(value):
            return judge_array(path, as_node(node.get("items")), value)
        if not isinstance(value, list | tuple | set | frozenset):
            return None
        first, others = as_list(node.get("prefixItems")), as_node(node.get("items"))
        if not first and all_are(value, others):
            return None
        for index, item in enumerate(value):
            each = as_node(first[index]) if index < len(first) else others
            if refusal := self._judge(f"{path}[{index}]", each, item, depth + 1):
                return refusal
        return None

    def _judge_fields(
        self, path: str, node: Node, value: Mapping[Any, Any], depth: int
    ) -> Refusal | None:
        properties, others = as_node(node.get("properties")), node.get("additionalProperties")
        required = as_list(node.get("required"))
        self._count(len(required))
        if lacking := [name for name in required if isinstance(name, str) and name not in value]:
            return WrongTypeError(f"{cut(path)} = {shown(value)} lacks {listed(lacking)}")
        for key, item in value.items():
            if key in properties:
                inner = as_node(properties[key])
            elif others is False or (others is None and properties):
                return unknown_field(
                    f"{path}.{key}", list(properties), f"what stands at {cut(path)}"
                )
            else:
                inner = as_node(others)
            if refusal := self._judge(f"{path}.{key}", inner, item, depth + 1):
                return refusal
        return None

    def _judge_field(
        self, path: str, field: SettingsFieldMetadata, value: object
    ) -> Refusal | None:
        """Judge by what the list of fields says, which a schema of a library need not say."""
        value = bare(value)
        if value is None:
            return None
        if field.choices is not None and (
            refusal := self._refuse_other(path, field.choices, value)
        ):
            return refusal
        low, high = field.bounds or (None, None)
        node = {"minimum": low, "maximum": high}
        if is_array(value):
            return judge_array(path, node, value)
        return judge_size(path, node, value)
