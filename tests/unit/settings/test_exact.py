"""The lossless pair, and enum members that are found without importing anything."""

from __future__ import annotations

import enum
import math
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol.settings import EnumValue
from ezgraph.settings import Settings, decode_settings, encode_settings
from ezgraph.settings.exact import native


class Mode(enum.Enum):
    FAST = "fast"


class Taps(enum.Enum):
    ONLY = np.arange(2)


class Bits(enum.Flag):
    A = 1
    B = 2


class Level(enum.IntEnum):
    HIGH = 3


class Outer:
    class Inner(enum.Enum):
        X = (1, 2)


@dataclass(frozen=True)
class Notch:
    hz: float = 50.0


class Filter(Settings):
    mode: Mode = Mode.FAST
    notches: tuple[Notch, ...] = (Notch(1.0), Notch(2.0))
    by_channel: dict[Any, float] = field(default_factory=lambda: {1: 0.5, "1": 1.5, (2, 3): -0.0})


def through(value: object) -> Any:
    return decode_settings(encode_settings(value))


def test_a_settings_object_arrives_as_its_fields_with_types_and_keys() -> None:
    assert through(Filter()) == {
        "mode": Mode.FAST,
        "notches": ({"hz": 1.0}, {"hz": 2.0}),
        "by_channel": {1: 0.5, "1": 1.5, (2, 3): -0.0},
    }


@pytest.mark.parametrize(
    "member", [Mode.FAST, Taps.ONLY, Bits.A, Bits.A | Bits.B, Bits(0), Level.HIGH, Outer.Inner.X]
)
def test_a_member_of_a_class_that_is_loaded_arrives_as_itself(member: enum.Enum) -> None:
    assert through({"x": [member], member: (member,)}) == {"x": [member], member: (member,)}
    assert through({member}) == {member}


@pytest.mark.parametrize(
    "stranger",
    [
        EnumValue("not.loaded", "Mode", "FAST", "fast"),
        EnumValue(__name__, "Mode", "SLOW", "slow"),
        EnumValue(__name__, "Mode", "FAST", "another value"),
        EnumValue(__name__, "Mode.FAST", "name", "FAST"),
        EnumValue(__name__, "Bits", "C", 4),
        EnumValue(__name__, "Bits", "C", "text"),
        EnumValue(__name__, "Notch", "FAST", "fast"),
        EnumValue(__name__, "np.bool_", "FAST", "fast"),
        EnumValue(__name__, "", None, None),
        EnumValue("builtins", "eval", "x", "x"),
    ],
    ids=repr,
)
def test_a_member_that_is_not_known_here_stays_its_name_and_value(stranger: EnumValue) -> None:
    assert through([stranger]) == [stranger]
    assert "not.loaded" not in sys.modules


def test_looking_for_a_class_makes_no_module_load_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise AssertionError(f"{name} was loaded")

    lazy = types.ModuleType("lazy")
    monkeypatch.setattr(lazy, "__getattr__", load, raising=False)
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    member = EnumValue("lazy", "Mode", "FAST", 1)

    assert native(member) == member


def test_what_no_number_equals_comes_back_too() -> None:
    found = through({"nan": math.nan, "inf": [-math.inf], "zero": -0.0})

    assert math.isnan(found["nan"])
    assert found["inf"] == [-math.inf]
    assert math.copysign(1, found["zero"]) == -1


def test_an_array_keeps_its_order() -> None:
    array = np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))

    found = through({"a": array})["a"]

    assert found.flags.f_contiguous
    assert (found.dtype, found.shape) == (array.dtype, array.shape)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": {"b": [1, object()]}}, "a.b[1]: "),
        ({"a": {2: {object}}}, "a.2: "),
        (Filter(by_channel={1: object()}), "by_channel.1: "),  # type: ignore[dict-item]
        ({("x", object()): 1}, "builtins.object is no type the bus carries"),
        (object(), "builtins.object is no type the bus carries"),
    ],
)
def test_a_refusal_says_where(value: object, says: str) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        encode_settings(value)

    assert says in str(refused.value)


def test_a_value_that_could_not_be_read_again_is_not_encoded() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    endless: dict[str, Any] = {}
    endless["again"] = [endless]

    with pytest.raises(MalformedMessageError, match="nested deeper than 64"):
        encode_settings({"x": deep})
    with pytest.raises(MalformedMessageError, match="settings of type dict hold themselves"):
        encode_settings(endless)


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x91" * 80])
def test_bytes_that_are_no_settings_are_refused(packed: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_settings(packed)
