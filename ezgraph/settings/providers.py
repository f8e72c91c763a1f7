"""The fields of a settings type, read from whichever library made it.

A type is known by the marks its library leaves on it, so no library is imported that the program
does not use already.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from pathlib import PurePath
from typing import Any

from ezgraph.extras import extra
from ezgraph.settings.hints import said_of
from ezgraph.settings.marks import Limits, Marks, Setting


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field as its type declares it; ``default`` is None where there is none."""

    name: str
    hint: Any
    marks: Marks = dataclasses.field(default_factory=Marks)
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True)
class SettingsType:
    """A settings type: the name of its library, and its fields."""

    provider: str
    fields: tuple[FieldSpec, ...]


def read_type(kind: object) -> SettingsType | None:
    """Return what a settings type declares; None for any other type or value."""
    if not isinstance(kind, type):
        return None
    for provider, mark, read in _LIBRARIES:
        if mark(kind):
            return SettingsType(provider, tuple(map(_with_what_its_type_says, read(kind))))
    return None


def _with_what_its_type_says(spec: FieldSpec) -> FieldSpec:
    said = (*said_of(spec.hint), *spec.marks.said)
    return dataclasses.replace(spec, marks=Marks(said, spec.marks.named))


def _hints(kind: type) -> dict[str, Any]:
    """Return the annotations of a class; as written where a name in one is not known here."""
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that is text may be any text
        return {
            name: hint
            for each in reversed(kind.__mro__)
            for name, hint in vars(each).get("__annotations__", {}).items()
        }


def _made(factory: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return factory()
    except Exception:  # noqa: BLE001 - a user's factory may need what is not there yet
        return None


def _dataclass_fields(kind: Any) -> Iterator[FieldSpec]:  # noqa: ANN401
    hints = _hints(kind)
    for each in dataclasses.fields(kind):
        default = None if each.default is MISSING else each.default
        required = each.init and each.default is MISSING and each.default_factory is MISSING
        if each.default_factory is not MISSING:
            default = _made(each.default_factory)
        hint = hints.get(each.name, each.type)
        yield FieldSpec(each.name, hint, Marks((), each.metadata), required, default)


def _pydantic_fields(kind: Any) -> Iterator[FieldSpec]:  # noqa: ANN401
    declared = getattr(kind, "__pydantic_fields__", None) or kind.model_fields
    for name, field in declared.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, Mapping) else {}
        named = {"description": field.description, "read_only": field.frozen, **extra}
        required, default = field.is_required(), None
        if not required:
            default = _made(field.default_factory) if field.default_factory else field.default
        marks = Marks(tuple(field.metadata), named)
        yield FieldSpec(name, field.annotation, marks, required, default)


def _msgspec_fields(kind: Any) -> Iterator[FieldSpec]:  # noqa: ANN401
    msgspec = extra("msgspec", "schema", "the schema of a msgspec Struct")
    for each in msgspec.structs.fields(kind):
        default = None if each.default is msgspec.NODEFAULT else each.default
        if each.default_factory is not msgspec.NODEFAULT:
            default = _made(each.default_factory)
        yield FieldSpec(each.name, each.type, Marks(), each.required, default)


def _attrs_fields(kind: Any) -> Iterator[FieldSpec]:  # noqa: ANN401
    attrs = extra("attrs", "schema", "the schema of an attrs class")
    hints = _hints(kind)
    for each in kind.__attrs_attrs__:
        is_required, default = each.default is attrs.NOTHING, each.default
        if isinstance(default, attrs.Factory):
            default = None if default.takes_self else _made(default.factory)
        is_frozen = each.on_setattr is attrs.setters.frozen
        said = (*_attrs_limits(each.validator), Setting(read_only=is_frozen))
        yield FieldSpec(
            each.name,
            hints.get(each.name, each.type),
            Marks(said, each.metadata),
            required=each.init and is_required,
            default=None if is_required else default,
        )


def _attrs_limits(validator: Any) -> Iterator[Any]:  # noqa: ANN401
    """Return what attrs' own validators (ge, lt, in_, …) demand; others stay with the owner."""
    if validator is None:
        return
    match type(validator).__name__:
        case "_AndValidator":
            for each in validator._validators:  # noqa: SLF001
                yield from _attrs_limits(each)
        case "_OptionalValidator":
            yield from _attrs_limits(validator.validator)
        case "_NumberValidator":
            words = {">=": "ge", ">": "gt", "<=": "le", "<": "lt"}
            yield Limits(**{words[validator.compare_op]: validator.bound})
        case "_InValidator":
            yield Setting(choices=tuple(validator.options))
        case _:
            pass


def _param_fields(kind: Any) -> Iterator[FieldSpec]:  # noqa: ANN401
    for name, each in kind.param.objects("existing").items():
        if name == "name":  # every object has one; it is no setting
            continue
        said = Setting(
            step=getattr(each, "step", None),
            choices=_param_choices(each),
            read_only=bool(each.constant or each.readonly),
            description=each.doc,
        )
        marks = Marks((said, _param_limits(each)))
        yield FieldSpec(name, _param_hint(each), marks, default=each.default)


def _param_hint(each: Any) -> Any:  # noqa: ANN401
    names = (kind.__name__ for kind in type(each).__mro__)
    hint = next((_PARAM_TYPES[name] for name in names if name in _PARAM_TYPES), Any)
    if isinstance(hint, str):
        hint = vars(sys.modules["numpy"])[hint] if "numpy" in sys.modules else Any
    if hint is list and isinstance(each.item_type, type):
        hint = list[each.item_type]
    return hint | None if each.allow_None and hint is not Any else hint


def _param_choices(each: Any) -> tuple[Any, ...] | None:  # noqa: ANN401
    """Return the values of a Selector; a ListSelector takes several of them."""
    names = [kind.__name__ for kind in type(each).__mro__]
    if "Selector" not in names or "ListSelector" in names or not each.check_on_set:
        return None
    return tuple(each.objects)


def _param_limits(each: Any) -> Limits:  # noqa: ANN401
    low, high = (
        (getattr(each, "bounds", None) or (None, None)) if _is_number(each) else (None, None)
    )
    with_low, with_high = getattr(each, "inclusive_bounds", (True, True))
    return Limits(
        ge=low if with_low else None,
        gt=None if with_low else low,
        le=high if with_high else None,
        lt=None if with_high else high,
    )


def _is_number(each: Any) -> bool:  # noqa: ANN401
    return any(kind.__name__ == "Number" for kind in type(each).__mro__)


_PARAM_TYPES: dict[str, Any] = {
    "Boolean": bool,
    "Integer": int,
    "Number": float,
    "String": str,
    "Bytes": bytes,
    "Tuple": tuple,
    "List": list,
    "Dict": dict,
    "Path": PurePath,
    "Date": dt.datetime,
    "CalendarDate": dt.date,
    "Array": "ndarray",
}

_LIBRARIES: tuple[tuple[str, Callable[[Any], bool], Callable[[Any], Iterator[FieldSpec]]], ...] = (
    (
        "pydantic",
        lambda kind: hasattr(kind, "__pydantic_fields__") or hasattr(kind, "model_fields"),
        _pydantic_fields,
    ),
    ("dataclass", dataclasses.is_dataclass, _dataclass_fields),
    ("msgspec", lambda kind: hasattr(kind, "__struct_fields__"), _msgspec_fields),
    ("attrs", lambda kind: hasattr(kind, "__attrs_attrs__"), _attrs_fields),
    ("param", lambda kind: hasattr(getattr(kind, "param", None), "objects"), _param_fields),
)
