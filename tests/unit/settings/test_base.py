"""What counts as a settings object."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields
from typing import Any

import pytest

import ezgraph.settings
from ezgraph.settings import Settings
from ezgraph.settings.base import is_settings


class Filter(Settings):
    cutoff: float = 30.0
    taps: list[float] = field(default_factory=list)


class SteepFilter(Filter):
    order: int = 8


class Named(Settings, kw_only=True):
    name: str


def test_a_subclass_is_a_frozen_dataclass() -> None:
    settings = Filter(cutoff=10.0)

    assert [each.name for each in fields(settings)] == ["cutoff", "taps"]
    assert settings == Filter(10.0, [])
    assert repr(settings) == "Filter(cutoff=10.0, taps=[])"
    with pytest.raises(FrozenInstanceError):
        settings.cutoff = 1.0  # type: ignore[misc]


def test_a_subclass_of_a_subclass_has_the_fields_of_both() -> None:
    assert SteepFilter(1.0, [2.0], 3).order == 3


def test_fields_can_be_for_keywords_only() -> None:
    assert Named(name="x").name == "x"
    with pytest.raises(TypeError):
        Named("x")  # type: ignore[call-arg]


def ezmsg_settings() -> Any:
    """What ezmsg's settings look like from outside."""
    base = type("Settings", (), {"__module__": "ezmsg.core.settings"})
    return dataclass(type("Theirs", (base,), {"__annotations__": {"gain": float}, "gain": 1.0}))


@dataclass
class Plain:
    gain: float = 1.0


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (Filter(), True),
        (SteepFilter(), True),
        (ezmsg_settings()(), True),
        (Plain(), False),
        (Filter, False),
        ({"cutoff": 1.0}, False),
        (None, False),
        (type("Settings", (), {"__module__": "another.settings"})(), False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_ours_and_ezmsgs_are_settings_and_nothing_else_is(value: object, counts: bool) -> None:
    assert is_settings(value) is counts


def test_every_name_of_the_room_is_there_and_no_other() -> None:
    for name in ezgraph.settings.__all__:
        assert getattr(ezgraph.settings, name) is not None
    assert sorted(ezgraph.settings.__all__) == sorted(ezgraph.settings._HOME)
    with pytest.raises(AttributeError, match="has no attribute 'flaten'"):
        ezgraph.settings.__getattr__("flaten")
