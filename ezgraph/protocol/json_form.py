"""Frozen dataclasses as JSON, by the types of their fields; and what that JSON looks like.

A dataclass is an object of its fields; one of a family (`ComponentMetadata` and its subclasses)
says which under ``kind``. Fields of type ``Any`` hold what `ezgraph.protocol.tagged` spells. The
outermost object says what it is under ``$type`` and ``$version``.

Reading ignores unknown fields, fills absent ones from their defaults, and refuses everything else
with `MalformedMessageError`, which names the place; also what a newer version has written, whose
number is higher because a reader who left out what it does not know would be misled.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Self
from uuid import UUID

from ezgraph.errors import InvalidValueError, MalformedMessageError
from ezgraph.protocol.tagged import float_json, from_tagged, to_tagged

Json = Any
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FLOAT_SCHEMA = {
    "anyOf": [
        {"type": "number"},
        {
            "type": "object",
            "properties": {"$float": {"enum": ["NaN", "Infinity", "-Infinity"]}},
            "required": ["$float"],
        },
    ]
}


class JsonValue:
    """A frozen dataclass that can be written as JSON and read back as it was."""

    __slots__ = ()
    JSON_VERSION: ClassVar[int] = 1

    def to_json(self, *, indent: int | None = None) -> str:
        """Return it as JSON text."""
        form = _of_class(type(self))
        head = {"$type": type(self).__name__, "$version": self.JSON_VERSION}
        return json.dumps(head | form.write(self), indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes | Mapping[str, Json]) -> Self:
        """Return what `to_json` has written; ``text`` may also be parsed already.

        Raises:
            MalformedMessageError: it is not that; says where and why.
        """
        spelled = _parsed(cls.__name__, text)
        _check_head(cls, spelled)
        try:
            value: Self = _of_class(cls).read(spelled)
        except Misfit as misfit:
            raise MalformedMessageError(f"{misfit.place(cls.__name__)}: {misfit}") from misfit
        except RecursionError:
            raise MalformedMessageError(f"this {cls.__name__} is nested too deep") from None
        return value

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) that what `to_json` writes is valid against."""
        defined: dict[str, Json] = {}
        form = _of_class(cls)
        form.schema(defined)
        own = {
            **defined.pop(cls.__name__),
            "$schema": DIALECT,
            "title": cls.__name__,
        }
        head = {"$type": {"const": cls.__name__}, "$version": {"const": cls.JSON_VERSION}}
        own["properties"] = head | own["properties"]
        return own | ({"$defs": defined} if defined else {})


def _parsed(name: str, text: str | bytes | Mapping[str, Json]) -> Mapping[str, Json]:
    if isinstance(text, str | bytes):
        try:
            text = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MalformedMessageError(f"this is no JSON of a {name}: {error}") from error
    if not isinstance(text, Mapping):
        raise MalformedMessageError(f"this is no {name}: expected a JSON object, got {text!r:.60}")
    return text


def _check_head(cls: type[JsonValue], spelled: Mapping[str, Json]) -> None:
    kind, version = spelled.get("$type", cls.__name__), spelled.get("$version", 1)
    if kind != cls.__name__:
        raise MalformedMessageError(f"this is a {kind!r:.60}, not a {cls.__name__}")
    if type(version) is not int or version < 1:
        raise MalformedMessageError(f"{version!r:.60} is no version of a {cls.__name__}")
    if version > cls.JSON_VERSION:
        raise MalformedMessageError(
            f"this {cls.__name__} was written by a newer ezgraph (version {version}; this one "
            f"knows {cls.JSON_VERSION}); read it with that, or a newer one",
            unknown=True,
        )


class Misfit(Exception):  # noqa: N818 - what leaves is a MalformedMessageError
    """A part does not fit; the path grows on the way out."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.path: list[str] = []

    def place(self, root: str) -> str:
        """Return where it stands, in words that begin with ``root``."""
        return root + "".join(reversed(self.path))

    def within(self, step: str) -> Misfit:
        """Note that it stands in this part of what is around it."""
        self.path.append(step)
        return self


# --- one form per type, made once ---


@dataclass(frozen=True, slots=True)
class JsonForm:
    """How values of one type are written, read, and described.

    ``schema`` puts what it needs into the definitions, and returns how to refer to it. A class
    with a form of its own has it from its class method ``__json_form__``.
    """

    write: Callable[[Any], Json]
    read: Callable[[Json], Any]
    schema: Callable[[dict[str, Json]], Json]


def _of_class(cls: type) -> JsonForm:
    hint: Any = cls
    form: JsonForm = _form_of(hint)
    return form


@cache
def _form_of(hint: Any) -> JsonForm:  # noqa: ANN401
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object):
        return JsonForm(to_tagged, _read_tagged, lambda _: True)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin in (typing.Union, types.UnionType):
        return _union_form(arguments)
    if origin is list or (origin is tuple and arguments[1:] == (Ellipsis,)):
        return _list_form(origin, arguments[0])
    if origin is tuple:
        return _row_form(arguments)
    if origin in (dict, Mapping):
        return _mapping_form(arguments[1])
    if hasattr(hint, "__json_form__"):
        return hint.__json_form__()  # type: ignore[no-any-return]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _enum_form(hint)
    if isinstance(hint, type) and (is_dataclass(hint) or issubclass(hint, tuple)):
        return _family_form(hint) if hint.__subclasses__() else _object_form(hint)
    raise TypeError(f"there is no JSON form for {hint!r}")


def text_form(read: Callable[[str], Any], pattern: str) -> JsonForm:
    """Return the form of a type that is written as text; ``read`` may raise ValueError."""

    def read_text(spelled: Json) -> Any:  # noqa: ANN401
        if type(spelled) is not str:
            raise Misfit(f"expected text, got {spelled!r:.60}")
        try:
            return read(spelled)
        except ValueError as error:
            raise Misfit(str(error)) from error

    return JsonForm(str, read_text, lambda _: {"type": "string", "pattern": pattern})


def _read_tagged(spelled: Json) -> Any:  # noqa: ANN401
    try:
        return from_tagged(spelled)
    except MalformedMessageError as error:
        raise Misfit(str(error)) from error


def _read_structure(spelled: Json) -> dict[str, Any]:
    found = _read_tagged(spelled)
    if type(found) is not dict:
        raise Misfit(f"expected an object, got {spelled!r:.60}")
    return found


def _exactly(kind: type, name: str, schema: Json) -> JsonForm:
    def read(spelled: Json) -> Any:  # noqa: ANN401
        if type(spelled) is not kind:
            raise Misfit(f"expected {name}, got {spelled!r:.60}")
        return spelled

    return JsonForm(lambda value: value, read, lambda _: schema)


def _read_float(spelled: Json) -> float:
    found = _read_tagged(spelled)
    if type(found) not in (int, float):
        raise Misfit(f"expected a number, got {spelled!r:.60}")
    try:
        return float(found)
    except OverflowError as error:
        raise Misfit(str(error)) from error


def _read_bytes(spelled: str) -> bytes:
    try:
        return base64.b64decode(spelled, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{spelled!r:.60} is no base64: {error}") from error


_BYTES = text_form(_read_bytes, "^[A-Za-z0-9+/]*={0,2}$")
_PLAIN: dict[Any, JsonForm] = {
    int: _exactly(int, "an integer", {"type": "integer"}),
    str: _exactly(str, "text", {"type": "string"}),
    bool: _exactly(bool, "true or false", {"type": "boolean"}),
    types.NoneType: _exactly(types.NoneType, "null", {"type": "null"}),
    float: JsonForm(float_json, _read_float, lambda _: _FLOAT_SCHEMA),
    bytes: JsonForm(
        lambda value: base64.b64encode(value).decode(),
        _BYTES.read,
        lambda _: {"type": "string", "contentEncoding": "base64"},
    ),
    dict[str, Any]: JsonForm(to_tagged, _read_structure, lambda _: {"type": "object"}),
    UUID: text_form(UUID, "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
}


def _union_form(options: tuple[Any, ...]) -> JsonForm:
    forms = [_form_of(each) for each in options]

    def attempt(convert: Callable[[JsonForm], Json]) -> Json:
        problems = []
        for form in forms:
            try:
                return convert(form)
            except Misfit as misfit:
                problems.append(str(misfit))
        raise Misfit(problems[0] if len(set(problems)) == 1 else " or ".join(problems))

    def write(value: Any) -> Json:  # noqa: ANN401
        # What reads back is what fits; None and text are told apart by their own reading.
        def written(form: JsonForm) -> Json:
            try:
                spelled = form.write(value)
            except (TypeError, AttributeError, InvalidValueError) as error:
                raise Misfit(str(error)) from error
            form.read(spelled)
            return spelled

        return None if value is None else attempt(written)

    return JsonForm(
        write,
        lambda spelled: attempt(lambda form: form.read(spelled)),
        lambda defined: {"anyOf": [form.schema(defined) for form in forms]},
    )


def _list_form(kind: Any, item: Any) -> JsonForm:  # noqa: ANN401
    form = _form_of(item)

    def read(spelled: Json) -> Any:  # noqa: ANN401
        if type(spelled) is not list:
            raise Misfit(f"expected a list, got {spelled!r:.60}")
        found = []
        for place, each in enumerate(spelled):
            try:
                found.append(form.read(each))
            except Misfit as misfit:
                raise misfit.within(f"[{place}]") from None
        return kind(found)

    return JsonForm(
        lambda value: [form.write(each) for each in value],
        read,
        lambda defined: {"type": "array", "items": form.schema(defined)},
    )


def _row_form(items: tuple[Any, ...]) -> JsonForm:
    forms = [_form_of(each) for each in items]

    def read(spelled: Json) -> Any:  # noqa: ANN401
        if type(spelled) is not list or len(spelled) != len(forms):
            raise Misfit(f"expected a list of {len(forms)}, got {spelled!r:.60}")
        return tuple(form.read(each) for form, each in zip(forms, spelled, strict=True))

    return JsonForm(
        lambda value: [form.write(each) for form, each in zip(forms, value, strict=True)],
        read,
        lambda defined: {
            "type": "array",
            "prefixItems": [form.schema(defined) for form in forms],
            "minItems": len(forms),
            "items": False,
        },
    )


def _mapping_form(item: Any) -> JsonForm:  # noqa: ANN401
    form = _form_of(item)

    def read(spelled: Json) -> dict[str, Any]:
        if not isinstance(spelled, Mapping):
            raise Misfit(f"expected an object, got {spelled!r:.60}")
        found = {}
        for name, each in spelled.items():
            try:
                found[name] = form.read(each)
            except Misfit as misfit:
                raise misfit.within(f"[{name!r}]") from None
        return found

    return JsonForm(
        lambda value: {name: form.write(each) for name, each in value.items()},
        read,
        lambda defined: {"type": "object", "additionalProperties": form.schema(defined)},
    )


def _enum_form(kind: type[enum.Enum]) -> JsonForm:
    members = {member.value: member for member in kind}

    def read(spelled: Json) -> enum.Enum:
        if type(spelled) is not str or spelled not in members:
            raise Misfit(f"expected one of {list(members)}, got {spelled!r:.60}")
        return members[spelled]

    return JsonForm(lambda member: member.value, read, lambda _: {"enum": list(members)})


class _FieldForm(typing.NamedTuple):
    name: str
    form: JsonForm
    default: Callable[[], Any] | None


def _object_form(cls: Any) -> JsonForm:  # noqa: ANN401
    hints = typing.get_type_hints(cls)
    parts = [_FieldForm(name, _form_of(hints[name]), default) for name, default in _members(cls)]

    def write(value: Any) -> Json:  # noqa: ANN401
        return {each.name: each.form.write(getattr(value, each.name)) for each in parts}

    def read(spelled: Json) -> Any:  # noqa: ANN401
        if not isinstance(spelled, Mapping):
            raise Misfit(f"expected the fields of a {cls.__name__}, got {spelled!r:.60}")
        found = {each.name: _read_field(cls, each, spelled) for each in parts}
        try:
            return cls(**found)
        except InvalidValueError as error:
            raise Misfit(str(error)) from error

    def schema(defined: dict[str, Json]) -> Json:
        if cls.__name__ not in defined:
            defined[cls.__name__] = {}  # it may hold itself
            defined[cls.__name__] = {
                "type": "object",
                "properties": {each.name: each.form.schema(defined) for each in parts},
                "required": [each.name for each in parts if each.default is None],
            }
        return {"$ref": f"#/$defs/{cls.__name__}"}

    return JsonForm(write, read, schema)


def _read_field(cls: Any, part: _FieldForm, spelled: Mapping[str, Json]) -> Any:  # noqa: ANN401
    if part.name not in spelled:
        if part.default is None:
            raise Misfit(f"a {cls.__name__} lacks the field {part.name!r}")
        return part.default()
    try:
        return part.form.read(spelled[part.name])
    except Misfit as misfit:
        raise misfit.within(f".{part.name}") from None


def _members(cls: Any) -> list[tuple[str, Callable[[], Any] | None]]:  # noqa: ANN401
    """Return the fields that a caller gives, and what stands for those left out."""
    if not is_dataclass(cls):
        return [(name, None) for name in cls._fields]
    return [(each.name, _default(each)) for each in fields(cls) if each.init]


def _default(each: Any) -> Callable[[], Any] | None:  # noqa: ANN401
    if each.default is not MISSING:
        default = each.default
        return lambda: default
    factory: Callable[[], Any] | None = each.default_factory
    return None if factory is MISSING else factory


def _family_form(cls: type) -> JsonForm:
    forms = {each.__name__: _object_form(each) for each in _family(cls)}

    def write(value: Any) -> Json:  # noqa: ANN401
        kind = type(value).__name__
        return {"kind": kind, **forms[kind].write(value)}

    def read(spelled: Json) -> Any:  # noqa: ANN401
        kind = spelled.get("kind") if isinstance(spelled, Mapping) else None
        if kind not in forms:
            raise Misfit(f"expected a kind of {', '.join(forms)}, got {kind!r:.60}")
        return forms[kind].read(spelled)

    def schema(defined: dict[str, Json]) -> Json:
        return {
            "anyOf": [
                {"allOf": [form.schema(defined), {"properties": {"kind": {"const": name}}}]}
                for name, form in forms.items()
            ],
            "required": ["kind"],
        }

    return JsonForm(write, read, schema)


def _family(cls: type) -> list[type]:
    children: list[type] = cls.__subclasses__()
    return [cls, *(inner for each in children for inner in _family(each))]
