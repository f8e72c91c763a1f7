"""What differs, in words, and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from ezgraph.protocol.change_text import change_text, change_texts, summary
from ezgraph.protocol.differences import FieldChange, GraphDiff, difference
from ezgraph.protocol.graphs import Graph
from ezgraph.protocol.metadata import (
    DynamicSettingsMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    UnitMetadata,
)
from ezgraph.protocol.settings import SettingsSnapshotValue

EVIL = "<script>alert(1)</script>"


def schema(unit: str | None, *, most: float = 500.0) -> SettingsSchemaMetadata:
    field = SettingsFieldMetadata("cutoff", "float", bounds=(1.0, most), unit=unit)
    form = {"properties": {"cutoff": {"maximum": most}}}
    return SettingsSchemaMetadata("dataclass", "lab.Filter", [field], form)


def component(address: str, of: SettingsSchemaMetadata) -> UnitMetadata:
    dynamic = DynamicSettingsMetadata(enabled=False)
    return UnitMetadata(address, "F", "lab.F", "lab.Filter", (None, {}), dynamic, of)


def graph(address: str = "F", of: SettingsSchemaMetadata | None = None, **held: Any) -> Graph:
    components = {} if of is None else {address: component(address, of)}
    return Graph("rig", components=components, settings={address: held})


def test_a_change_of_settings_says_what_the_values_are_in() -> None:
    old, new = graph(of=schema("Hz"), cutoff=30.0, order=2), graph(of=schema("Hz"), cutoff=20.0)

    (changed,) = difference(old, new).settings.changed

    assert changed.fields == [
        FieldChange(("cutoff",), 30.0, 20.0, old_unit="Hz", new_unit="Hz"),
        FieldChange(("order",), 2, None, is_there=False),
    ]
    assert change_texts(changed) == [
        ("cutoff", "30.0", "20.0", "Hz", ""),
        ("order", "2", "absent", "", ""),
    ]


def test_the_schema_that_a_value_brings_counts_before_its_components() -> None:
    value = SettingsSnapshotValue(None, {"cutoff": 2.0}, {"cutoff": 2.0}, schema("kHz"))
    old = graph(of=schema("Hz"), cutoff=30.0)
    new = Graph("rig", components=old.components, settings={"F": value})

    (changed,) = difference(old, new).settings.changed

    assert change_texts(changed) == [("cutoff", "30.0 Hz", "2.0 kHz", "", "")]


def test_a_component_that_moved_has_the_units_of_where_it_stood_before() -> None:
    old, new = graph("F", schema("Hz"), cutoff=30.0), graph("SYS/F", schema("Hz"), cutoff=20.0)

    found = difference(old, new)

    assert [(each.old_address, each.new_address) for each in found.moved] == [("F", "SYS/F")]
    assert change_texts(found.settings.changed[0]) == [("cutoff", "30.0", "20.0", "Hz", "")]


def test_a_schema_that_changed_is_told_field_by_field_and_once() -> None:
    old, new = graph(of=schema("Hz"), cutoff=1.0), graph(of=schema("kHz", most=9.0), cutoff=1.0)

    (changed,) = difference(old, new).components.changed

    assert [(each.path, each.old, each.new, each.note) for each in change_texts(changed)] == [
        ("settings_schema.fields.cutoff.bounds", "[1.0, 500.0]", "[1.0, 9.0]", ""),
        ("settings_schema.fields.cutoff.unit", "'Hz'", "'kHz'", ""),
        ("settings_schema.json_schema", "", "", "1 place differs"),
    ]


BIG = np.zeros((100, 100))
OTHER = BIG.copy()
OTHER[3, 4], OTHER[5, 5] = 1.0, np.nan
SAME_NAN = OTHER.copy()
SAME_NAN[0, 0] = 1.0


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (BIG, OTHER, "2 of 10,000 values differ"),
        (OTHER, SAME_NAN, "1 of 10,000 values differ"),
        (b"abc", b"abd", "1 of 3 bytes differ"),
        ([BIG], [OTHER], "differs"),
    ],
)
def test_what_looks_the_same_on_a_line_says_how_much_of_it_differs(
    old: Any, new: Any, told: str
) -> None:
    text = change_text(FieldChange(("x",), old, new))

    assert (text.old == text.new, text.note) == (True, told)


def test_what_differs_in_kind_alone_says_of_which_it_is() -> None:
    by_dtype = change_text(FieldChange(("x",), np.zeros(1, "f4"), np.zeros(1)))
    by_type = change_text(FieldChange(("x",), [1], (1,)))

    assert by_dtype[1:3] == ("[0.0] (float32)", "[0.0] (float64)")
    assert by_type[1:3] == ("[1] (list)", "[1] (tuple)")


def test_long_texts_are_cut_where_they_are_alike() -> None:
    alike = "the quick brown fox jumps over the lazy dog "
    change = change_text(FieldChange(("x",), f"{alike}on monday", f"{alike}on friday"))

    cut = change.within(30)

    assert (cut.old, cut.new) == (
        "… over the lazy dog on monday'",
        "… over the lazy dog on friday'",
    )
    assert change.within(100) == change


def test_of_long_texts_that_differ_early_the_beginning_stays() -> None:
    cut = change_text(FieldChange(("x",), "a" + "x" * 99, "b" + "x" * 99)).within(20)

    assert (cut.old, cut.new) == (f"'a{'x' * 17}…", f"'b{'x' * 17}…")


# --- in a notebook ---


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def hostile() -> GraphDiff:
    def made(value: str, *names: str) -> Graph:
        return Graph(
            f"{EVIL}",
            topology=[(f"{EVIL}{name}", f"{name}'\"><b>") for name in names],
            components={f"{EVIL}{name}": component(f"{EVIL}{name}", schema(f"{EVIL}{value}"))
                        for name in names},
            settings={EVIL: {f"{EVIL}": f"{EVIL}{value}", "cutoff": value}},
            config={EVIL: {f"{name}{EVIL}": value for name in (*names, "x")}},
        )

    return difference(made("1", "a"), made("2", "b", "c"))


def test_no_name_and_no_value_becomes_markup() -> None:
    parser = _Tags()

    parser.feed(hostile()._repr_html_())

    assert parser.seen <= {
        "div", "style", "span", "b", "details", "summary", "table", "tr", "th", "td"
    }
    assert parser.attributes <= {"class", "open"}
    assert "'<script>alert(1)</script>2'" in parser.text


def test_the_notebook_tells_each_part_and_counts_what_is_too_much() -> None:
    many: Any = {str(number): number for number in range(250)}
    old = graph(cutoff=1, **many)
    new = Graph("rig", topology=[("A", "B")], settings={"F": {"cutoff": 2}}, config={"t": {"k": 1}})

    shown = difference(old, new)._repr_html_()

    assert "<b>settings of 1 component, edges +1, config +1</b>" in shown
    assert "and 51 more" in shown
    assert "A → B" in shown
    assert "http" not in shown


def test_nothing_is_shown_as_nothing() -> None:
    same = difference(graph(cutoff=1), graph(cutoff=1))

    assert summary(same) == "nothing differs"
    assert "<table" not in same._repr_html_()
