"""How things are said to people."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from ezgraph import SettingsSnapshotValue
from ezgraph.cli import words
from ezgraph.protocol.events import (
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    EndReason,
    GraphServed,
    GraphWithdrawn,
    NodeAnnounced,
    NodeWithdrawn,
    SessionClosed,
    SettingsChanged,
    SettingsLayer,
    Source,
)
from ezgraph.protocol.settings import SettingsEventType


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m 0s"),
        (192, "3m 12s"),
        (3600, "1h 0m"),
        (86399, "23h 59m"),
        (190_000, "2d 4h"),
        (-3, "-3.0s"),
    ],
)
def test_an_age_has_its_two_largest_units(seconds: float, said: str) -> None:
    assert words.age(seconds) == said


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (12_897_485, "12.3 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_a_size_is_in_binary_units(size_bytes: int, said: str) -> None:
    assert words.size(size_bytes) == said


def test_a_count_agrees_with_its_noun() -> None:
    assert words.count(1, "edge") == "1 edge"
    assert words.count(0, "process") == "0 processes"
    assert words.count(12_345, "session") == "12,345 sessions"


def test_a_moment_of_today_needs_no_date() -> None:
    wall = dt.datetime(2026, 11, 22, 14, 3, 22, 123_456).astimezone()

    assert words.moment(wall.timestamp(), today=wall.date()) == "14:03:22.123"
    assert words.moment(wall.timestamp()) == "2026-11-22 14:03:22.123"


def test_settings_are_one_line_with_large_arrays_by_their_shape() -> None:
    arrays = {"w": np.zeros((3, 4)), "few": np.array([1, 2])}
    value = {"gain": 2.0, **arrays, "raw": b"abc", "d": {"a": 1}}

    said = words.setting(SettingsSnapshotValue(None, "text", value))

    assert said == "gain=2.0 w=<float64 3x4> few=[1, 2] raw=<3 B> d={a=1}"


def test_what_others_named_cannot_steer_a_terminal() -> None:
    value = SettingsSnapshotValue(None, "\x1b[2J\n", {"\x1b": "\x07"})

    assert words.setting(value).isprintable()
    assert words.setting(SettingsSnapshotValue(None, "\x1b[2J\nx")).isprintable()
    assert words.who(Source(program="\x1b[31m", host="h\n", login="\u202eabc")).isprintable()


def test_who_did_something_begins_with_the_key_that_was_proved() -> None:
    claimed = Source(client="c", program="rig.py", pid=7, host="lab1", login="anna")

    assert words.who(claimed) == "rig.py[7]@lab1 anna"
    assert words.who(replace(claimed, key_name="rig")) == "key rig: rig.py[7]@lab1 anna"


def test_an_edge_says_who_holds_it_and_whether_others_do() -> None:
    connected = words.tell(EdgeConnected("a", "b", None, topology_changed=True))
    kept = words.tell(EdgeDisconnected("a", "b", "s1", topology_changed=False))

    assert (connected.verb, connected.what) == ("connected", "persistent")
    assert kept.what == "session s1, others still hold it"


def test_an_entry_of_the_configuration_says_its_value_and_whose_it_is() -> None:
    put = words.tell(ConfigValueSet("flow", ("a",), {"size": 1, "on": None}, None))
    held = words.tell(ConfigValueSet("flow", ("a",), "\x1b[2J", "s\n1"))
    large = words.tell(ConfigValueSet("flow", ("a",), "x" * 100_000, None))
    deleted = words.tell(ConfigValueDeleted("flow", ("a",), "s1"))
    gone = words.tell(ConfigValueDeleted("flow", ("a",), None))

    assert (put.verb, put.what) == ("put", "{size=1, on=None}")
    assert held.what == "'\\x1b[2J' (ends with session s\\n1)"
    assert held.what.isprintable()
    assert len(large.what) < 600
    assert large.what.endswith("… (100,002 characters)")
    assert (deleted.verb, deleted.what, gone.what) == ("deleted", "was session s1's", "")


def test_a_type_of_configuration_says_whether_it_has_a_schema() -> None:
    assert words.tell(ConfigSchemaSet("flow", {})).what == "has a schema"
    assert words.tell(ConfigSchemaSet("flow", None)).what == "has no schema any more"


def test_a_served_graph_says_where_it_is_and_by_whom() -> None:
    served = words.tell(GraphServed("run", "r", "s\n1", "i", ["10.0.0.1:4000", "h:\x1b1"]))
    nowhere = words.tell(GraphServed("run", "r", "s1", "i", []))
    kept = words.tell(GraphWithdrawn("run", "r", "s1", is_last=False))
    gone = words.tell(GraphWithdrawn("run", "r", "s1", is_last=True))

    assert (served.verb, served.what) == ("served", "at 10.0.0.1:4000, h:\\x1b1 by s\\n1")
    assert nowhere.what == "at nowhere that can be dialled by s1"
    assert (kept.what, gone.what) == ("by s1, others still serve it", "by s1")


def test_a_node_says_how_it_is_reached_and_what_it_is() -> None:
    card = NodeAnnounced("run", "n", ["ecg", 3], 2, "m.Array", "ArrayNode \x1b[2J f4 (10,)")
    deep = NodeAnnounced("run", "n", ["a"] * 32, 9_999, "m.Node")

    assert (words.tell(card).verb, words.tell(card).what) == (
        "added", "ecg/[3]  ArrayNode \\x1b[2J f4 (10,)",
    )  # fmt: skip
    assert words.tell(deep).what.strip().endswith("a/…")
    assert words.tell(NodeWithdrawn("run", "n")).verb == "removed"


def test_an_ended_session_says_why() -> None:
    assert words.tell(SessionClosed("s", EndReason.EXPIRED)).what == "silent for its whole lease"


def test_a_setting_back_at_its_initial_value_says_so() -> None:
    body = SettingsChanged(
        "A",
        SettingsEventType.SETTINGS_UPDATED,
        SettingsLayer.INITIAL,
        SettingsSnapshotValue(None, {"g": 1}, {"g": 1}),
    )

    assert words.tell(body).what == "g=1 (back to initial)"
