"""What is typed as FIELD=VALUE becomes the value that the field takes."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray  # noqa: TC002 - the schema is made of it at run time

from ezgraph.cli.typed import choice_text, choices_of, guess, nodes_at, parse_assignments
from ezgraph.errors import ConfigError
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.settings import Setting, Settings, settings_schema
from ezgraph.state.schema_check import check_change


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Notch(Settings):
    hz: float = 50.0


class Everything(Settings):
    cutoff: float = 40.0
    order: int = 2
    on: bool = True
    name: str = ""
    label: str | None = None
    limit: int | None = None
    both: int | float = 0
    taps: Annotated[int, Setting(choices=(1, 2, 4))] = 1
    mode: Mode = Mode.FAST
    how: Literal["fast", "none"] = "fast"
    gains: list[float] = ()  # type: ignore[assignment]
    pair: tuple[int, int] = (1, 2)
    weights: NDArray[np.float64] = None  # type: ignore[assignment]
    notch: Notch = Notch()
    table: dict[str, int] = None  # type: ignore[assignment]
    raw: bytes = b""
    phase: complex = 0j
    at: dt.datetime | None = None
    lasts: dt.timedelta = dt.timedelta(0)
    id: UUID | None = None
    where: Path = Path()


SCHEMA = settings_schema(Everything)


def parsed(typed: str, current: dict[str, Any] | None = None) -> Any:
    (value,) = parse_assignments([typed], SCHEMA, current).values()
    return value


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("cutoff=30", 30.0),
        ("cutoff=-1e3", -1000.0),
        ("order=4", 4),
        ("on=false", False),
        ("on=TRUE", True),
        ("name=none", "none"),
        ("name=30", "30"),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ('name="x"', '"x"'),
        ("label=none", None),
        ('label="none"', "none"),
        ("label=true", "true"),
        ("limit=null", None),
        ("limit=7", 7),
        ("both=1", 1),
        ("both=1.5", 1.5),
        ("taps=4", 4),
        ("mode=slow", "slow"),
        ("how=none", "none"),
        ("gains=[1, 2.5]", [1.0, 2.5]),
        ("pair=[3, 4]", [3, 4]),
        ("notch.hz=60", 60.0),
        ('notch={"hz": 60}', {"hz": 60}),
        ("table.x=3", 3),
        ("raw=AAE=", b"\x00\x01"),
        ("phase=1+2j", 1 + 2j),
        ("at=2026-11-22T14:03", dt.datetime(2026, 11, 22, 14, 3)),  # noqa: DTZ001
        ("lasts=1.5", dt.timedelta(seconds=1.5)),
        ("id=12345678-1234-5678-1234-567812345678", UUID("12345678123456781234567812345678")),
        ("where=/tmp/x", "/tmp/x"),
    ],
)
def test_a_value_is_read_by_what_its_field_takes_and_fits_it(typed: str, value: object) -> None:
    found = parsed(typed)

    assert type(found) is type(value)
    assert found == value
    check_change(SCHEMA, {typed.partition("=")[0]: found})


def test_numbers_in_lists_are_floats_where_the_field_takes_floats() -> None:
    assert list(map(type, parsed("gains=[1, 2.5]"))) == [float, float]


def test_a_list_becomes_what_stands_there_now() -> None:
    array = parsed("weights=[1, 2]", {"weights": np.zeros(2, np.float32)})

    assert parsed("pair=[3, 4]", {"pair": (1, 2)}) == (3, 4)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    assert isinstance(parsed("weights=[1, 2]"), np.ndarray)


def test_an_array_of_integers_takes_no_fractions_by_rounding_them() -> None:
    current = {"weights": np.zeros(2, np.uint8)}

    assert parsed("weights=[1, 255]", current).dtype == np.uint8
    assert parsed("weights=[1.5, 2]", current).tolist() == [1.5, 2.0]
    assert parsed("weights=[1, 256]", current).tolist() == [1, 256]


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("cutoff=abc", "abc"),
        ("cutoff=true", True),
        ("order=3.0", 3.0),
        ("on=7", 7),
        ("taps=3", 3),
        ("gains=[1, 2", "[1, 2"),
        ('gains={"a": 1}', {"a": 1}),
        ("notch=[1]", [1]),
        ("nothing=3", 3),
    ],
)
def test_what_does_not_fit_is_sent_as_what_it_looks_like(typed: str, sent: object) -> None:
    found = parsed(typed)

    assert type(found) is type(sent)
    assert found == sent


@pytest.mark.parametrize(
    ("text", "current", "value"),
    [
        ("3", 1.0, 3.0),
        ("3", 1, 3),
        ("3", "x", "3"),
        ("none", "x", "none"),
        ("none", 3, None),
        ("[1, 2]", (1,), (1, 2)),
        ("[1, 1]", {1}, {1}),
        ("[[1]]", {1}, [[1]]),
        ("free text", None, "free text"),
    ],
)
def test_without_a_schema_the_value_that_is_there_says_what_is_meant(
    text: str, current: object, value: object
) -> None:
    found = parse_assignments([f"a.b={text}"], None, {"a": {"b": current}})

    assert found == {"a.b": value}
    assert type(found["a.b"]) is type(value)


def test_several_are_one_change_in_the_order_given() -> None:
    found = parse_assignments(["order=4", "cutoff=30"], SCHEMA, None)

    assert list(found.items()) == [("order", 4), ("cutoff", 30.0)]


@pytest.mark.parametrize("typed", [["cutoff"], ["=3"], ["order=1", "order=2"]])
def test_what_sets_nothing_or_twice_is_wrong_usage(typed: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse_assignments(typed, SCHEMA, None)


def test_a_field_described_in_words_only_is_read_by_them() -> None:
    schema = SettingsSchemaMetadata("own", "S", [SettingsFieldMetadata("gain", "float | None")])

    assert parse_assignments(["gain=3"], schema, None) == {"gain": 3.0}
    assert parse_assignments(["gain=none"], schema, None) == {"gain": None}


def test_a_schema_that_refers_to_itself_without_end_is_read_all_the_same() -> None:
    loop = {"$ref": "#/$defs/A", "anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}]}
    whole = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": loop}}
    schema = SettingsSchemaMetadata("own", "S", [SettingsFieldMetadata("a", "A")], whole)

    assert parse_assignments(["a.b.c=3", "a=[1]"], schema, None) == {"a.b.c": 3, "a": [1]}
    assert len(nodes_at(schema, "a")) <= 200


def test_choices_are_shown_as_they_are_typed() -> None:
    assert choices_of(nodes_at(SCHEMA, "mode")) == ["fast", "slow"]
    assert choices_of(nodes_at(SCHEMA, "taps")) == [1, 2, 4]
    assert [choice_text(each) for each in (None, True, 1.5, "x")] == ["none", "true", "1.5", "x"]


def test_nothing_typed_is_too_deep_or_too_long_to_be_guessed() -> None:
    assert guess("[" * 100_000) == "[" * 100_000
    assert guess("9" * 5_000) == float("inf")
