"""What a settings type takes: a list of its fields for forms, and JSON Schema for checks.

pydantic models and msgspec Structs have the JSON Schema that their own library makes of them. For
dataclasses, attrs classes and ``param`` classes, and where such a library does not know a type
(arrays, mostly), it is made here from the annotations, so that it is the same on every host,
whatever is installed there.
"""

from __future__ import annotations

import enum
from typing import Any

from ezgraph.errors import ConfigError, MalformedMessageError
from ezgraph.extras import extra
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.settings import structured
from ezgraph.settings.hints import enum_choices, full_name, mentions, some_type, type_text
from ezgraph.settings.providers import FieldSpec, read_type
from ezgraph.settings.type_schema import Node, TypeSchema
from ezgraph.wire import values

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def settings_schema(settings_type: type) -> SettingsSchemaMetadata:
    """Return the schema of a dataclass, pydantic model, msgspec Struct, attrs or ``param`` class.

    Unit, step, bounds, choices and whether a field is read-only are taken from `Setting` and from
    whatever means the library has for them (``annotated_types``, ``metadata=``, validators).

    Raises:
        ConfigError: it is no such type.
        MissingExtraError: its library is older than what is needed; names the extra.
    """
    read = read_type(settings_type)
    if read is None:
        raise ConfigError(
            f"{settings_type!r} is no settings type: give a dataclass, a subclass of Settings, a "
            f"pydantic model, a msgspec Struct, an attrs or a param class"
        )
    return SettingsSchemaMetadata(
        provider=read.provider,
        settings_type=full_name(settings_type),
        fields=[_field(each) for each in read.fields],
        json_schema=_json_schema(read.provider, settings_type, read.fields),
    )


# --- the list of fields ---


def _field(spec: FieldSpec) -> SettingsFieldMetadata:
    marks, bounds = spec.marks, spec.marks.bounds
    choices = enum_choices(spec.hint) if marks.choices is None else marks.choices
    unit, step = marks.one("unit"), marks.one("step", "multiple_of")
    description = marks.one("description", "doc", "documentation")
    return SettingsFieldMetadata(
        name=spec.name,
        field_type=type_text(spec.hint),
        required=spec.required,
        default=_carried(spec.default),
        description=description if isinstance(description, str) else None,
        bounds=bounds,
        choices=None if choices is None else [_carried(each) for each in choices],
        widget_hint=_widget(spec.hint, choices, bounds),
        unit=unit if isinstance(unit, str) else None,
        step=float(step) if isinstance(step, int | float) else None,
        read_only=bool(marks.one("read_only")),
    )


def _carried(value: Any) -> Any:  # noqa: ANN401
    """Return a default or choice as the bus carries it, a member of an enum as its value.

    What the bus does not carry is text.
    """
    value = value.value if isinstance(value, enum.Enum) else value
    try:
        form = structured({"": value}) or {}
        values.pack(form)
    except MalformedMessageError:
        return repr(value)
    return form[""]


def _widget(
    hint: Any,  # noqa: ANN401
    choices: list[Any] | None,
    bounds: tuple[float | None, float | None] | None,
) -> str | None:
    kind = some_type(hint)
    if choices:
        return "select"
    if kind is bool:
        return "checkbox"
    if kind in (int, float) and bounds and all(each is not None for each in bounds):
        return "slider"
    return {int: "int_input", float: "float_input", str: "text_input"}.get(kind)


# --- JSON Schema ---


def _json_schema(provider: str, kind: type, fields: tuple[FieldSpec, ...]) -> Node:
    own = _own_schema(kind)
    theirs = None
    if provider == "pydantic":
        theirs = _pydantic_schema(kind, fields, own)
    elif provider == "msgspec":
        theirs = _msgspec_schema(kind)
    return own if theirs is None else {"$schema": DIALECT, **theirs}


def _own_schema(kind: type) -> Node:
    types = TypeSchema()
    whole = types.object_of(kind)
    definitions = {"$defs": types.definitions} if types.definitions else {}
    return {"$schema": DIALECT, **whole, **definitions}


def _pydantic_schema(kind: type, fields: tuple[FieldSpec, ...], own: Node) -> Node | None:
    pydantic = extra("pydantic", "schema", "the JSON Schema of a pydantic model")
    try:
        schema: Node = pydantic.TypeAdapter(kind).json_schema(by_alias=False)
    except pydantic.PydanticUserError:  # it holds a type that pydantic cannot describe
        return None
    for each in fields:  # which pydantic describes as text, as it would be in JSON
        if mentions(each.hint, complex) and "properties" in schema:
            schema["properties"][each.name] = own["properties"][each.name]
    return schema


def _msgspec_schema(kind: type) -> Node | None:
    msgspec = extra("msgspec", "schema", "the JSON Schema of a msgspec Struct")
    if any(each.name != each.encode_name for each in msgspec.structs.fields(kind)):
        return None  # it speaks of the names in JSON, we of those in Python
    try:
        schema: Node = msgspec.json.schema(kind)
    except TypeError:  # it holds a type that msgspec cannot describe
        return None
    return schema
