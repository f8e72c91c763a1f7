"""Settings in a notebook."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from typing import Any

import numpy as np

from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.settings import (
    SettingsChangedEvent,
    SettingsEventType,
    SettingsSnapshotValue,
    settings_value,
)
from ezgraph.settings import SettingsTable, settings_history_html, settings_table_html

INITIAL, UPDATED, REMOVED = SettingsEventType
SCHEMA = SettingsSchemaMetadata(
    "dataclass",
    "rig.Filter",
    [
        SettingsFieldMetadata(
            "cutoff", "float", default=30.0, bounds=(0, 500), unit="Hz", description="x"
        ),
        SettingsFieldMetadata("low", "float", default=1.0, bounds=(None, 2.5)),
        SettingsFieldMetadata("mode", "str", required=True, choices=["fast", "slow"]),
        SettingsFieldMetadata("serial", "str", default="S1", unit="no.", read_only=True),
    ],
)
NOW = {"cutoff": 25.0, "low": 2.0, "mode": "fast", "serial": "S1", "inner": {"hz": [1, 2]}}


class Cells(HTMLParser):
    """Reads the rows of tables; fails on elements that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in ("script", "img", "link", "iframe")
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]
        if tag not in ("br", "path"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        assert tag == "path"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def event(
    seq: int, address: str, value: Any, kind: SettingsEventType = UPDATED
) -> SettingsChangedEvent:
    return SettingsChangedEvent(
        seq, kind, address, 1_700_000_000.0 + seq, f"s{seq}", None, settings_value(value)
    )


def test_settings_are_shown_with_what_they_take_and_their_last_change() -> None:
    value = SettingsSnapshotValue(None, NOW, NOW, SCHEMA)

    rows = Cells(settings_table_html({"SYS/A": value}, {"SYS/A": event(7, "SYS/A", NOW)})).rows

    when, who = "2023-11-14 22:13:27.000", "s7"
    assert rows == [
        ["component", "field", "value", "takes", "default", "changed", "by"],
        ["SYS/A", "cutoff", "25.0", "float 0…500 Hz", "30.0", when, who],
        ["SYS/A", "low", "2.0", "float …2.5", "1.0", when, who],
        ["SYS/A", "mode", "fast", "str fast | slow", "required", when, who],
        ["SYS/A", "serial", "S1", "str no. read-only", "S1", when, who],
        ["SYS/A", "inner.hz", "[1, 2]", "", "", when, who],
    ]


def test_settings_without_schema_or_structure_are_shown_too() -> None:
    rows = Cells(
        settings_table_html(
            {
                "A": SettingsSnapshotValue(b"", "Filter(1)"),
                "B": settings_value({"w": np.zeros((10, 2)), "v": np.arange(2)}),
            }
        )
    ).rows

    assert rows[1:] == [
        ["A", "", "Filter(1)", "", "", "", ""],
        ["B", "w", "float64 array 10x2", "", "", "", ""],
        ["B", "v", "[0, 1]", "", "", "", ""],
    ]


HISTORY = [
    event(1, "A", {"gain": 1, "on": True}, INITIAL),
    event(2, "A", {"gain": 2.5, "on": True, "w": np.arange(20)}),
    event(3, "A", {"gain": 2.5, "on": True, "w": np.arange(20)}),
    event(4, "A", {}, REMOVED),
]


def test_a_history_says_what_changed_the_newest_first() -> None:
    rows = Cells(settings_history_html(HISTORY)).rows

    assert rows[0] == ["field", "", "now"]
    assert rows[1] == ["A.gain", "", "2.5"]
    assert rows[2] == ["seq", "time", "component", "what", "by"]
    assert [[row[0], row[3], row[4]] for row in rows[3:]] == [
        ["4", "removed", "s4"],
        ["3", "the same again", "s3"],
        ["2", "gain 1 → 2.5w none → int64 array 20", "s2"],
        ["1", "gain none → 1on none → True", "s1"],
    ]


def test_numbers_that_moved_are_drawn_as_steps() -> None:
    html = settings_history_html([event(n, "A", {"x": n % 3, "y": 1}) for n in range(5)])

    assert html.count("<svg") == 1
    assert "<path d='M0 26.0H55.0V14.0H110.0V2.0H165.0V26.0H220.0V14.0H220'/>" in html


def test_numbers_that_are_none_break_no_drawing() -> None:
    odd = [math.nan, 1.0, math.inf, 1e308, -1e308, 10**400, True, 3]

    html = settings_history_html([event(n, "A", {"x": value}) for n, value in enumerate(odd)])

    Cells(html)
    assert "nan" not in html.split("<path")[1].split("/>")[0]
    assert "inf" not in html.split("<path")[1].split("/>")[0]


def test_many_moving_numbers_are_not_all_drawn() -> None:
    html = settings_history_html(
        [event(n, "A", {f"x{field}": n for field in range(20)}) for n in range(3)]
    )

    assert html.count("<svg") == 12
    assert "numbers over time, and 8 more" in html
    assert "and 10 more" in html


def test_a_name_is_text_whatever_is_in_it() -> None:
    evil = "<script>alert(1)</script>\x1b"

    for html in (
        settings_table_html({evil: settings_value({evil: evil})}),
        settings_history_html([event(1, evil, {evil: evil})]),
        SettingsTable([event(1, evil, {evil: evil})])._repr_html_(),
    ):
        Cells(html)
        assert "<script>" not in html
        assert "&lt;script&gt;" in html
        assert "\x1b" not in html


def test_nothing_is_shown_as_nothing() -> None:
    assert "settings of 0 components" in settings_table_html({})
    assert "0 changes of settings" in settings_history_html([])


def test_a_time_that_is_no_wall_time_is_seconds() -> None:
    short = SettingsChangedEvent(1, INITIAL, "A", 12.5, None, None, settings_value({}))

    assert "12.500 s" in settings_history_html([short])
