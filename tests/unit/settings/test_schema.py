"""What a settings type takes, read from whichever library made the type."""

import datetime as dt
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from ezgraph.errors import ConfigError, MissingExtraError, SettingsRefusedError
from ezgraph.protocol.commands import Command, RegisterMetadata
from ezgraph.protocol.metadata import (
    DynamicSettingsMetadata,
    GraphMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    UnitMetadata,
)
from ezgraph.protocol.settings import structured
from ezgraph.settings import Setting, Settings, settings_schema
from ezgraph.state.schema_check import check_change
from ezgraph.wire import codec

if TYPE_CHECKING:
    from decimal import Decimal

attrs = pytest.importorskip("attrs")
msgspec = pytest.importorskip("msgspec")
param = pytest.importorskip("param")
pydantic = pytest.importorskip("pydantic")

Hertz = NewType("Hertz", float)


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class PrintMode:
    """A type whose name holds `int`."""


@dataclass
class Notch:
    hz: float = 50.0
    inner: "Notch | None" = None


def never() -> Any:
    raise RuntimeError("not now")


class Filter(Settings):
    order: int
    cutoff: Annotated[
        float, Setting(unit="Hz", bounds=(0, 500), step=0.5, description="where it cuts")
    ] = 30.0
    gain: float = field(
        default=1.0, metadata={"min": 0, "max": 10, "unit": "dB", "description": "how much"}
    )
    enabled: bool = True
    name: str = "x"
    serial: Annotated[str, Setting(read_only=True)] = "S1"
    mode: Mode = Mode.FAST
    kind: Literal["low", "high"] | None = None
    taps: Annotated[int, Setting(choices=(8, 16))] = 8
    at_least_one: Annotated[int, Setting(bounds=(1, None))] | None = None
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    notch: Notch = field(default_factory=Notch)
    printer: PrintMode = field(default_factory=PrintMode)
    later: Any = field(default_factory=never)


def fields_of(kind: type) -> dict[str, SettingsFieldMetadata]:
    return {each.name: each for each in settings_schema(kind).fields}


def test_a_settings_class_is_described_field_by_field() -> None:
    schema = settings_schema(Filter)

    assert (schema.provider, schema.settings_type) == ("dataclass", f"{__name__}.Filter")
    found = {each.name: each for each in schema.fields}
    assert list(found)[:3] == ["order", "cutoff", "gain"]
    assert found["order"] == SettingsFieldMetadata(
        "order", "int", required=True, widget_hint="int_input"
    )
    assert found["cutoff"] == SettingsFieldMetadata(
        "cutoff",
        "float",
        default=30.0,
        description="where it cuts",
        bounds=(0.0, 500.0),
        widget_hint="slider",
        unit="Hz",
        step=0.5,
    )
    assert found["gain"] == SettingsFieldMetadata(
        "gain",
        "float",
        default=1.0,
        description="how much",
        bounds=(0.0, 10.0),
        widget_hint="slider",
        unit="dB",
    )


@pytest.mark.parametrize(
    ("name", "field_type", "hint"),
    [
        ("enabled", "bool", "checkbox"),
        ("name", "str", "text_input"),
        ("mode", f"{__name__}.Mode", "select"),
        ("kind", "Literal['low', 'high'] | None", "select"),
        ("taps", "int", "select"),
        ("at_least_one", "int | None", "int_input"),
        ("printer", f"{__name__}.PrintMode", None),
        ("notch", f"{__name__}.Notch", None),
        ("later", "Any", None),
    ],
)
def test_a_hint_comes_from_the_type(name: str, field_type: str, hint: str | None) -> None:
    found = fields_of(Filter)[name]

    assert (found.field_type, found.widget_hint) == (field_type, hint)


def test_a_hint_comes_from_no_text_that_looks_like_a_type() -> None:
    named = [type(name, (), {}) for name in ("Pointing", "boolean", "Floating", "Strings")]
    kind = make_dataclass("Kind", [(each.__name__.lower(), each) for each in named])

    assert [each.widget_hint for each in settings_schema(kind).fields] == [None] * 4


def test_a_bound_that_is_none_or_endless_is_no_bound() -> None:
    marked: Any = Annotated[float, Setting(bounds=(float("-inf"), 2))]

    schema = settings_schema(make_dataclass("Kind", [("x", marked)]))

    assert schema.fields[0].bounds == (None, 2.0)
    assert schema.fields[0].widget_hint == "float_input"
    assert schema.json_schema is not None
    assert schema.json_schema["properties"]["x"] == {"type": "number", "maximum": 2}


def test_choices_are_values() -> None:
    found = fields_of(Filter)

    assert found["mode"].choices == ["fast", "slow"]
    assert found["mode"].default == "fast"
    assert found["kind"].choices == ["low", "high"]
    assert found["taps"].choices == [8, 16]
    assert found["name"].choices is None


def test_defaults_are_what_the_bus_carries() -> None:
    found = fields_of(Filter)

    assert found["notch"].default == {"hz": 50.0, "inner": None}
    assert found["weights"].default.tolist() == [0, 0]
    assert found["printer"].default.startswith("<")
    assert found["later"].default is None
    assert not found["later"].required
    assert found["serial"].read_only


def test_the_json_schema_of_a_settings_class() -> None:
    schema = settings_schema(Filter).json_schema

    assert schema is not None
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["title"], schema["type"]) == ("Filter", "object")
    assert (schema["required"], schema["additionalProperties"]) == (["order"], False)
    assert schema["properties"] == {
        "order": {"type": "integer"},
        "cutoff": {
            "type": "number",
            "minimum": 0,
            "maximum": 500,
            "description": "where it cuts",
        },
        "gain": {"type": "number", "minimum": 0, "maximum": 10, "description": "how much"},
        "enabled": {"type": "boolean"},
        "name": {"type": "string"},
        "serial": {"type": "string", "readOnly": True},
        "mode": {"enum": ["fast", "slow"]},
        "kind": {"anyOf": [{"enum": ["low", "high"]}, {"type": "null"}]},
        "taps": {"enum": [8, 16]},
        "at_least_one": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        "weights": {"type": "array", "format": "ndarray"},
        "notch": {"$ref": "#/$defs/Notch"},
        "printer": {},
        "later": {},
    }
    assert schema["$defs"]["Notch"]["properties"]["inner"] == {
        "anyOf": [{"$ref": "#/$defs/Notch"}, {"type": "null"}]
    }


def test_json_schema_is_valid_where_it_can_be_checked() -> None:
    jsonschema = pytest.importorskip("jsonschema")

    for kind in (Filter, Model, Struct, Attrs, Param):
        jsonschema.Draft202012Validator.check_schema(settings_schema(kind).json_schema)


def test_a_schema_travels_with_its_component() -> None:
    schema = settings_schema(Filter)
    unit = UnitMetadata(
        "A", "A", "rig.A", "rig.Filter", (None, "x"), DynamicSettingsMetadata(False), schema
    )
    plain = SettingsSchemaMetadata(
        schema.provider,
        schema.settings_type,
        [each for each in schema.fields if each.name != "weights"],
        schema.json_schema,
    )
    command = RegisterMetadata(GraphMetadata(components={"A": unit}))

    arrived: Any = codec.decode(codec.encode(command), Command)

    found = arrived.metadata.components["A"].settings_schema
    assert (found.json_schema, found.version) == (schema.json_schema, 1)
    assert [each for each in found.fields if each.name != "weights"] == plain.fields


# --- other libraries ---


class Inner(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    hz: float = 1.0


class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    cutoff: float = pydantic.Field(
        ge=0, lt=500, description="where it cuts", json_schema_extra={"unit": "Hz"}
    )
    order: Annotated[int, Setting(unit="1")] = pydantic.Field(4, multiple_of=2)
    serial: str = pydantic.Field("S1", frozen=True, alias="serialNumber")
    mode: Mode = Mode.FAST
    inner: Inner = pydantic.Field(default_factory=Inner)
    z: complex = 1j


class ArrayModel(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    weights: np.ndarray[Any, Any]
    cutoff: float = pydantic.Field(1.0, ge=0)


class InnerStruct(msgspec.Struct):  # type: ignore[misc, name-defined]
    hz: float = 1.0


class Struct(msgspec.Struct):  # type: ignore[misc, name-defined]
    cutoff: Annotated[
        float, msgspec.Meta(ge=0, lt=500, description="where it cuts", extra={"unit": "Hz"})
    ]
    serial: Annotated[str, Setting(read_only=True)] = "S1"
    mode: Mode = Mode.FAST
    inner: InnerStruct = msgspec.field(default_factory=InnerStruct)


class Renamed(msgspec.Struct, rename="camel"):  # type: ignore[misc, name-defined, call-arg]
    cutoff_hz: float = 1.0


class Odd(msgspec.Struct):  # type: ignore[misc, name-defined]
    where: Path = Path("/a")


@attrs.define
class Attrs:
    cutoff: float = attrs.field(
        validator=[attrs.validators.ge(0), attrs.validators.lt(500)],
        metadata={"unit": "Hz", "description": "where it cuts"},
    )
    serial: str = attrs.field(default="S1", on_setattr=attrs.setters.frozen)
    mode: Mode = Mode.FAST
    kind: str = attrs.field(default="low", validator=attrs.validators.in_(["low", "high"]))
    order: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.gt(1))
    )
    notes: list[str] = attrs.Factory(list)
    again: float = attrs.Factory(lambda self: self.cutoff, takes_self=True)


make_attrs: Any = Attrs


class Param(param.Parameterized):  # type: ignore[misc, name-defined]
    cutoff = param.Number(
        1.0, bounds=(0, 500), inclusive_bounds=(True, False), step=0.5, doc="where it cuts"
    )
    order = param.Integer(4, bounds=(1, None))
    serial = param.String("S1", constant=True)
    mode = param.Selector(objects=["fast", "slow"])
    labels = param.Selector(objects={"one": 1, "two": 2})
    several = param.ListSelector(default=[1], objects=[1, 2])
    note = param.String(None, allow_None=True)
    weights = param.Array()
    names = param.List(item_type=str, bounds=(0, 3))
    on = param.Boolean(True)
    call = param.Callable()


@pytest.mark.parametrize(
    ("kind", "provider", "unit"),
    [
        (Model, "pydantic", "Hz"),
        (Struct, "msgspec", "Hz"),
        (Attrs, "attrs", "Hz"),
        (Param, "param", None),
    ],
)
def test_a_type_of_any_library_is_described_alike(
    kind: type, provider: str, unit: str | None
) -> None:
    schema = settings_schema(kind)
    found = {each.name: each for each in schema.fields}

    assert schema.provider == provider
    cutoff = found["cutoff"]
    assert (cutoff.field_type, cutoff.bounds) == ("float", (0.0, 500.0))
    assert (cutoff.description, cutoff.unit) == ("where it cuts", unit)
    assert cutoff.widget_hint == "slider"
    assert found["serial"].read_only
    assert not cutoff.read_only
    assert found["mode"].choices == ["fast", "slow"]
    assert found["mode"].default == "fast"
    assert schema.json_schema is not None
    assert schema.json_schema["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("kind", [Model, Struct, Attrs, Param])
def test_bounds_that_do_not_belong_to_the_range_are_refused(kind: type) -> None:
    schema = settings_schema(kind)

    check_change(schema, {"cutoff": 0.0, "mode": "slow"})
    with pytest.raises(SettingsRefusedError, match="below 500"):
        check_change(schema, {"cutoff": 500.0})
    with pytest.raises(SettingsRefusedError, match="serial is read-only"):
        check_change(schema, {"serial": "S2"})
    with pytest.raises(SettingsRefusedError, match="none of 'fast', 'slow'"):
        check_change(schema, {"mode": "fas"})


def test_pydantic_and_msgspec_make_their_own_json_schema() -> None:
    model, struct = settings_schema(Model).json_schema, settings_schema(Struct).json_schema

    assert model is not None
    assert struct is not None
    assert model["properties"]["order"]["multipleOf"] == 2
    assert "serial" in model["properties"]
    assert struct["$ref"] == "#/$defs/Struct"
    assert fields_of(Model)["order"].step == 2.0
    check_change(settings_schema(Model), {"inner.hz": 2.0, "z": 2j})
    check_change(settings_schema(Struct), {"inner.hz": 2.0})


@pytest.mark.parametrize(
    ("kind", "name", "node"),
    [
        (ArrayModel, "weights", {"type": "array", "format": "ndarray"}),
        (ArrayModel, "cutoff", {"type": "number", "minimum": 0}),
        (Renamed, "cutoff_hz", {"type": "number"}),
        (Odd, "where", {"type": "string", "format": "path"}),
    ],
)
def test_what_a_library_cannot_describe_is_described_here(
    kind: type, name: str, node: dict[str, Any]
) -> None:
    schema = settings_schema(kind).json_schema

    assert schema is not None
    assert schema["properties"][name] == node


def test_attrs_validators_are_bounds_and_choices() -> None:
    found = fields_of(Attrs)

    assert found["kind"].choices == ["low", "high"]
    assert found["order"].bounds == (1.0, None)
    assert found["notes"].default == []
    assert (found["again"].required, found["again"].default) == (False, None)
    assert found["cutoff"].required


def test_a_param_class_is_described_by_its_parameters() -> None:
    found = fields_of(Param)

    assert "name" not in found
    assert [(each.name, each.field_type) for each in found.values()] == [
        ("cutoff", "float"),
        ("order", "int"),
        ("serial", "str"),
        ("mode", "Any"),
        ("labels", "Any"),
        ("several", "Any"),
        ("note", "str | None"),
        ("weights", "numpy.ndarray | None"),
        ("names", "list[str]"),
        ("on", "bool"),
        ("call", "Any"),
    ]
    assert found["cutoff"].step == 0.5
    assert found["labels"].choices == [1, 2]
    assert found["several"].choices is None
    assert found["names"].bounds is None


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Model(cutoff=1.0, serialNumber="S2"), "S2"),
        (Struct(cutoff=1.0, serial="S2"), "S2"),
        (make_attrs(cutoff=1.0, serial="S2"), "S2"),
        (Param(serial="S2"), "S2"),
    ],
    ids=["pydantic", "msgspec", "attrs", "param"],
)
def test_an_object_of_any_library_is_structured_by_the_same_names(value: Any, form: str) -> None:
    found = structured(value)

    assert found is not None
    assert list(found) == list(fields_of(type(value)))
    assert found["serial"] == form


def test_objects_stand_structured_within_each_other() -> None:
    found = structured({"inner": [Struct(cutoff=1.0), (InnerStruct(),)]})

    assert found == {
        "inner": [
            {"cutoff": 1.0, "serial": "S1", "mode": Mode.FAST, "inner": {"hz": 1.0}},
            ({"hz": 1.0},),
        ]
    }


# --- types ---


@dataclass
class Typed:
    a: list[int]
    b: tuple[int, str]
    c: tuple[float, ...]
    d: dict[str, Notch]
    e: Sequence[float]
    f: Mapping[str, int]
    g: set[str]
    h: bytes
    i: complex
    j: dt.datetime
    k: dt.timedelta
    l: UUID  # noqa: E741
    m: Path
    n: Hertz
    o: int | str | None
    p: Annotated[list[int], Setting(bounds=(0, 1))]
    q: Annotated[str, pydantic.Field(min_length=1)]
    r: tuple  # type: ignore[type-arg]
    s: list  # type: ignore[type-arg]


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("a", {"type": "array", "items": {"type": "integer"}}),
        (
            "b",
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        ("c", {"type": "array", "items": {"type": "number"}}),
        ("d", {"type": "object", "additionalProperties": {"$ref": "#/$defs/Notch"}}),
        ("e", {"type": "array", "items": {"type": "number"}}),
        ("f", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("g", {"type": "array", "items": {"type": "string"}}),
        ("h", {"type": "string", "format": "binary"}),
        ("i", {"type": "string", "format": "complex"}),
        ("j", {"type": "string", "format": "date-time"}),
        ("k", {"type": "string", "format": "duration"}),
        ("l", {"type": "string", "format": "uuid"}),
        ("m", {"type": "string", "format": "path"}),
        ("n", {"type": "number"}),
        ("o", {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}),
        ("p", {"type": "array", "items": {"type": "integer"}}),
        ("r", {"type": "array"}),
        ("s", {"type": "array"}),
    ],
)
def test_a_type_is_this_in_json_schema(name: str, node: dict[str, Any]) -> None:
    schema = settings_schema(Typed).json_schema

    assert schema is not None
    assert schema["properties"][name] == node
    json.dumps(schema, allow_nan=False)


@dataclass
class Unresolved:
    amount: "Decimal"
    count: int = 3


def test_an_annotation_that_cannot_be_read_here_is_its_text() -> None:
    found = fields_of(Unresolved)

    assert (found["amount"].field_type, found["amount"].widget_hint) == ("Decimal", None)
    assert found["count"].field_type == "int"
    check_change(settings_schema(Unresolved), {"amount": object()})


@pytest.mark.parametrize("kind", [int, "Filter", Notch(), None, list[int], PrintMode], ids=repr)
def test_what_is_no_settings_type_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="is no settings type: give a dataclass"):
        settings_schema(kind)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "msgspec", None)

    with pytest.raises(MissingExtraError, match=r"needs msgspec.*pip install 'ezgraph\[schema\]'"):
        settings_schema(Struct)
