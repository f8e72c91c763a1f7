"""The structured form of settings: what has one, and what is shown as text."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol.metadata import (
    ComponentMetadata,
    DynamicSettingsMetadata,
    SettingsSchemaMetadata,
)
from ezgraph.protocol.settings import (
    EnumValue,
    SettingsSnapshotValue,
    initial_value,
    settings_value,
    structured,
)


class Mode(enum.Enum):
    FAST = 1


@dataclass(frozen=True)
class Notch:
    hz: float = 50.0


@dataclass
class Settings:
    cutoff: float = 30.0
    notch: Notch = field(default_factory=Notch)
    notches: list[Any] = field(default_factory=lambda: [Notch(1.0), {"hz": Notch(2.0)}, 3])
    by_name: dict[str, Any] = field(default_factory=lambda: {"x": Notch(3.0)})
    mode: Mode = Mode.FAST
    window: tuple[int, int] = (1, 2)


class Model:
    """What a pydantic model looks like from outside."""

    def model_dump(self) -> dict[str, Any]:
        return {"gain": 1.0, "inner": {"x": Notch()}}


class Plain:
    def __repr__(self) -> str:
        return "Plain()"


def test_a_dataclass_is_structured_recursively() -> None:
    assert structured(Settings()) == {
        "cutoff": 30.0,
        "notch": {"hz": 50.0},
        "notches": [{"hz": 1.0}, {"hz": {"hz": 2.0}}, 3],
        "by_name": {"x": {"hz": 3.0}},
        "mode": Mode.FAST,
        "window": (1, 2),
    }


def test_a_model_that_dumps_itself_is_structured() -> None:
    assert structured(Model()) == {"gain": 1.0, "inner": {"x": {"hz": 50.0}}}


@pytest.mark.parametrize("mapping", [{"a": 1}, OrderedDict(a=1), MappingProxyType({"a": 1})])
def test_mappings_are_structured(mapping: object) -> None:
    assert structured(mapping) == {"a": 1}


def test_keys_stay_what_they_are() -> None:
    mapping = {1: "one", "1": "text", (1, 2): {None: "none"}}

    assert structured(mapping) == mapping


def test_tuples_are_structured_within() -> None:
    assert structured({"bands": (Notch(1.0), [Notch(2.0)])}) == {
        "bands": ({"hz": 1.0}, [{"hz": 2.0}])
    }


@pytest.mark.parametrize("value", [None, 3, "text", [1], Plain(), Settings, Model, Mode.FAST])
def test_anything_else_has_no_structure_and_is_shown_as_text(value: object) -> None:
    assert structured(value) is None
    assert settings_value(value) == SettingsSnapshotValue(None, repr(value), None)


def test_a_structured_value_is_its_own_text() -> None:
    assert settings_value(Notch()) == SettingsSnapshotValue(None, {"hz": 50.0}, {"hz": 50.0})


def test_a_ready_value_is_left_as_it_is() -> None:
    value = SettingsSnapshotValue(b"opaque", "shown")

    assert settings_value(value) is value


def test_a_member_of_an_enum_elsewhere_stays_one() -> None:
    member = EnumValue("rig", "Mode", "FAST", {"hz": 1})

    assert structured({"mode": member, "modes": [(member,)]}) == {
        "mode": member,
        "modes": [(member,)],
    }
    assert structured(member) is None


def test_settings_that_hold_themselves_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = [endless]

    with pytest.raises(MalformedMessageError, match="settings of type dict hold themselves"):
        structured(endless)


def test_arrays_stay_arrays() -> None:
    weights = np.arange(3)

    form = structured({"weights": weights, "list": [weights]})

    assert form is not None
    assert form["weights"] is weights
    assert form["list"][0] is weights


def test_the_initial_value_of_a_component_is_what_its_metadata_says() -> None:
    schema = SettingsSchemaMetadata("dataclass", "m.S", [])
    dynamic = DynamicSettingsMetadata(enabled=True)

    with_form = ComponentMetadata("A", "A", "m.A", "m.S", (b"o", {"x": 1}), dynamic, schema)
    with_text = ComponentMetadata("A", "A", "m.A", "m.S", (None, "S(x=1)"), dynamic)

    assert initial_value(with_form) == SettingsSnapshotValue(b"o", {"x": 1}, {"x": 1}, schema)
    assert initial_value(with_text) == SettingsSnapshotValue(None, "S(x=1)", None, None)
