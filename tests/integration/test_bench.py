"""The benchmark at tiny sizes: every row is there, whatever the figures are."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from ezgraph.bench.main import SECTIONS, run
from ezgraph.bench.scale import Scale

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

TINY = Scale(
    rounds=1,
    seconds=0.02,
    in_flight=8,
    reports=5,
    subscribers=2,
    subscriber_processes=2,
    reports_to_many=3,
    history=(50, 300),
    edges=(20, 40, 80),
    components=(3, 10),
    events_in_memory=300,
    starts=1,
    sessions=5,
    holding_s=0.2,
    owned_edges=20,
    journal_events=300,
    processors=3,
    variants=2,
    flows=2,
    config_entries=(100, 300),
    watches=5,
    chunks=3,
    chunk_bytes=1 << 16,
    samples=10_000,
    slices=5,
    children=50,
    flow_bytes=3 << 20,
    partitions=1_000,
)
DURABILITIES = ("memory", "SQLite NORMAL", "SQLite FULL")
EXPECTED = {
    "a": [f"one in flight, {each}, {d}" for each in ("blocking", "asyncio") for d in DURABILITIES],
    "b": [f"8 in flight, asyncio, {durability}" for durability in DURABILITIES],
    "c": [
        "one commit, SQLite FULL (1 subscriber)",
        "report to 1 subscriber, memory",
        "report to 1 subscriber, SQLite FULL",
        "one commit, SQLite FULL (the last of 2 subscribers)",
        "report to the last of 2 subscribers, memory",
        "report to the last of 2 subscribers, SQLite FULL",
    ],
    "d": [
        "catch-up of 50 events",
        "a command during it, p99 (50)",
        "catch-up of 300 events",
        "a command during it, p99 (300)",
    ],
    "e": [
        f"{shape}, {count} edges"
        for shape in ("chain", "reversed chain", "layered", "star", "random")
        for count in (20, 40, 80)
    ],
    "f": [
        text
        for schemas in ("without", "with")
        for count in (3, 10)
        for text in (
            f"snapshot of {count} components {schemas} schemas",
            f"a command during it, p99 ({count} components {schemas} schemas)",
        )
    ],
    "g": [
        "idle broker, resident",
        "more after 300 events, SQLite FULL",
        "broker process to its first reply",
        "import ezgraph",
        "from ezgraph import GraphContext",
    ],
    "h": [
        "5 live sessions, the broker's share of one core",
        "a command beside 5 sessions, p99",
    ],
    "i": [
        "end of a session with 20 edges, stored and answered",
        "end of a session with 20 edges, known to a watcher",
    ],
    "j": ["serving again on 300 events"],
    "k": [
        f"{how}, {durability}, CURVE"
        for how in ("one in flight, blocking", "one in flight, asyncio", "8 in flight, asyncio")
        for durability in ("memory", "SQLite FULL")
    ],
    "l": [
        *(
            f"a check of role {role}, {how}"
            for role in ("operator", "owner:RIG", "of 20 patterns")
            for how in ("warm", "cold")
        ),
        "a read scope of 20 patterns, the same key",
        "a read scope of 20 patterns, other keys",
    ],
    "m": [
        f"a command beside 1,000 connections/s {what}, p99"
        for what in ("with unknown keys", "that never shake hands", "with one admitted key")
    ],
    "n": [
        *(
            f"a command beside a flood of {kind}, p99"
            for kind in (
                "commands",
                "heartbeats",
                "hellos",
                "reads",
                "garbage",
                "subscriptions",
                "megabytes",
            )
        ),
        "report to 1 subscriber beside a flood of commands",
    ],
    "o": [
        "commands, 1 read scope",
        "commands, 4 read scopes",
        "commands, 16 read scopes",
    ],
    "p": [
        *(
            f"remote change to confirmed answer, p50, {each}"
            for each in ("memory", "SQLite NORMAL", "SQLite FULL")
        ),
        "its four messages alone, by a bare switch, p50",
        "flatten and sanitize 200 fields",
        "a settings producer begins with 10 components",
    ],
    "q": [
        "one commit of 7 records, SQLite FULL",
        "start_flow over 3 x 2, known to the last, p99, memory",
        "start_flow over 3 x 2, known to the last, p99, SQLite FULL",
        "events that reached processors, start_flow over 3 x 2",
        "what they fetched, start_flow over 3 x 2",
    ],
    "r": [
        "scan of a prefix with 100 entries, of 300",
        "scan of a prefix with 100 entries, of 300 against 100",
        "put of another value, of 300 against 100",
        "put of a new entry, of 300 against 100",
    ],
    "s": [
        "a put beside 5 watches, the broker's processor time",
        "puts beside 5 watches, 8 in flight",
        "messages to a bystander beside 5 watches",
    ],
    "t": [
        "chunks of 0.0625 MiB, each by itself",
        "chunks of 0.0625 MiB, into one array",
        "a slice of 1,000 samples",
        "the most that a slice moved",
        "opening a root with 50 children",
        "a reader's memory beyond its result",
        "a command while 3 MiB flow, p99",
        "chunks of 0.0625 MiB, through the relay",
        "a command while 3 MiB flow directly, p99",
        "a command while 3 MiB flow through the relay, p99",
    ],
    "u": [
        *(
            text
            for count in (3, 10)
            for text in (
                f"freeze of {count} components, at once",
                f"freeze of {count} components, the first",
                f"freeze of {count} components, after a change",
                f"a command during it, p99 ({count})",
            )
        ),
        "fingerprint of 10 components, whole",
        "fingerprint of 10 components, after a change",
        "1,000 partitions in batches of 1,000",
        "read of 100 of them by input fingerprint, beside 1,000 against 100",
        *(
            f"the state at one of 300 seqs, {how}"
            for count in (3, 10)
            for how in (f"{count} components", f"through a broker ({count})")
        ),
    ],
}


LONGER = "bcefhikmnopqrs"
"""Sections of many processes, whose parts the other sections run too: each takes some seconds."""


@pytest.mark.parametrize(
    "section",
    [pytest.param(each, marks=[pytest.mark.soak] * (each in LONGER)) for each in SECTIONS],
)
def test_each_section_gives_its_rows_to_people_and_to_machines(
    section: str, tmp_path: Path
) -> None:
    printed, json_path = StringIO(), tmp_path / "bench.json"

    code = run(
        TINY, only=[section], json_path=json_path, console=Console(file=printed, width=200)
    )

    found: dict[str, Any] = json.loads(json_path.read_text())
    assert [row["name"] for row in found["rows"]] == EXPECTED[section], found["rows"]
    assert all(row["measured"] is not None and row["section"] == section for row in found["rows"])
    assert [row["name"] for row in found["rows"] if row["name"] not in printed.getvalue()] == []
    assert code == (0 if found["passed"] else 1)
    assert "pyzmq" in printed.getvalue().splitlines()[-1]
    assert found["machine"]["cores"] >= 1
