"""True traces of random programs have no finding; whatever is changed in them is found."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.protocol.commands import Connect, Disconnect, RegisterMetadata, Revert, SetPause
from ezgraph.protocol.events import PauseChanged, key_of
from ezgraph.protocol.metadata import GraphMetadata
from ezgraph.testing import strategies as ours
from ezgraph.testing.strategies import Step
from ezgraph.testing.traces import TracedProgram, check_traces, header, history_of
from ezgraph.verify.checker import Checker
from ezgraph.verify.records import (
    Answered,
    Damage,
    Fingerprinted,
    Given,
    Progressed,
    Returned,
    TraceRecord,
)
from ezgraph.verify.trace_file import TraceFile, header_line, record_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ezgraph.protocol.events import Event

slow = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    max_examples=30,
)
PREFIXES: list[tuple[str, ...]] = [(), ("edge",), ("edge", "a"), ("settings",), ("session",)]


def traced(steps: list[Step]) -> TracedProgram:
    program = TracedProgram()
    for client, prefix in enumerate(PREFIXES):
        program.watch(client, *prefix)
    program.follow(0)
    for n, step in enumerate(steps):
        program.run([step])
        if n % 5 == 4:
            program.deliver()
    program.deliver()
    return program


@given(ours.programs)
@slow
def test_true_traces_have_no_finding(steps: list[Step]) -> None:
    program = traced(steps)

    report = check_traces(program.traces(), program.history())

    assert report.ok, str(report)


Traces = dict[int, list[TraceRecord]]


class NothingToChangeError(Exception):
    """This program has none of what a change needs."""


def need(there: object) -> None:
    if not there:
        raise NothingToChangeError


def some(rng: Random, traces: Traces, kind: type, **fields: object) -> tuple[int, int]:
    """Where a record of a kind with these fields is, in which trace; no such one: give up."""
    found = [
        (client, index)
        for client, records in traces.items()
        for index, record in enumerate(records)
        if isinstance(record.body, kind)
        and all(getattr(record.body, name) == value for name, value in fields.items())
    ]
    need(found)
    return rng.choice(found)


def change(traces: Traces, at: tuple[int, int], **fields: object) -> None:
    client, index = at
    record: Any = traces[client][index]
    traces[client][index] = replace(record, body=replace(record.body, **fields))


def drop_an_item(rng: Random, traces: Traces, events: list[Event]) -> str:
    client, index = some(rng, traces, Given)
    del traces[client][index]
    return "G2"


def give_an_item_twice(rng: Random, traces: Traces, events: list[Event]) -> str:
    client, index = some(rng, traces, Given)
    traces[client].insert(index, traces[client][index])
    return "G1"


def give_items_in_another_order(rng: Random, traces: Traces, events: list[Event]) -> str:
    client, index = some(rng, traces, Given)
    records = traces[client]
    following = records[index + 1].body
    need(isinstance(following, Given))
    records[index], records[index + 1] = records[index + 1], records[index]
    return "G1"


def change_what_was_given(rng: Random, traces: Traces, events: list[Event]) -> str:
    change(traces, some(rng, traces, Given), digest="0" * 16)
    return "G2"


def claim_more_than_was_given(rng: Random, traces: Traces, events: list[Event]) -> str:
    client, index = some(rng, traces, Progressed)
    watch = traces[client][index].body.watch  # type: ignore[union-attr]
    later = [r for r in traces[client][index:] if isinstance(r.body, Given)
             and r.body.watch == watch]
    need(later)
    seq = later[0].body.seq  # type: ignore[union-attr]
    change(traces, (client, index), seq=seq)
    return "G2"


def give_a_transaction_in_part(rng: Random, traces: Traces, events: list[Event]) -> str:
    change(traces, some(rng, traces, Given, left=1), left=0)
    return "G3"


def answer_with_another_seq(rng: Random, traces: Traces, events: list[Event]) -> str:
    client, index = some(rng, traces, Answered, reply="Done")
    seq: Any = traces[client][index].body
    change(traces, (client, index), seq=seq.seq + len(events) + 1)
    return "G4"


def lose_the_tail(rng: Random, traces: Traces, events: list[Event]) -> str:
    need(events)
    last = events[-1].txn_first
    while events and events[-1].seq >= last:
        events.pop()
    return "G4"


def execute_twice(rng: Random, traces: Traces, events: list[Event]) -> str:
    alone = [n for n, e in enumerate(events)
             if e.request_id is not None and e.txn_first == e.txn_last]
    need(len(alone) > 1)
    one, other = sorted(rng.sample(alone, 2))
    first = events[one]
    events[other] = replace(
        events[other], source=first.source, request_id=first.request_id
    )
    return "G5"


def return_too_early(rng: Random, traces: Traces, events: list[Event]) -> str:
    at = some(rng, traces, Returned)
    seq: Any = traces[at[0]][at[1]].body
    change(traces, at, replica=seq.seq - 1)
    return "G6"


def say_nothing(rng: Random, traces: Traces, events: list[Event]) -> str:
    client, index = some(rng, traces, Answered, reply=None)
    change(traces, (client, index), message="no")
    return "G8"


def end_late(rng: Random, traces: Traces, events: list[Event]) -> str:
    client, index = some(rng, traces, Answered)
    record = traces[client][index]
    traces[client][index] = replace(record, mono=record.mono + 11.0)
    return "G9"


def flip_a_fingerprint(rng: Random, traces: Traces, events: list[Event]) -> str:
    change(traces, some(rng, traces, Fingerprinted), fingerprint="e" * 32)
    return "G10"


def skip_a_number(rng: Random, traces: Traces, events: list[Event]) -> str:
    need(len(events) > 2)
    del events[rng.randrange(1, len(events) - 1)]
    return "G1"


def keep_something_of_the_dead(rng: Random, traces: Traces, events: list[Event]) -> str:
    ends = {e.seq for e in events if e.kind in ("SessionClosed", "ProcessClosed")}
    parts = [n for n, e in enumerate(events)
             if e.txn_last in ends and e.kind in ("EdgeDisconnected", "ComponentRemoved")]
    need(parts)
    at, body = rng.choice(parts), PauseChanged(paused=True)
    events[at] = replace(events[at], body=body, key=key_of(body))
    return "G7"


CHANGES = [
    drop_an_item,
    give_an_item_twice,
    give_items_in_another_order,
    change_what_was_given,
    claim_more_than_was_given,
    give_a_transaction_in_part,
    answer_with_another_seq,
    lose_the_tail,
    execute_twice,
    return_too_early,
    say_nothing,
    end_late,
    flip_a_fingerprint,
    skip_a_number,
    keep_something_of_the_dead,
]


@given(ours.programs, st.randoms(use_true_random=False))
@settings(slow, max_examples=15)
def test_every_change_of_a_true_trace_is_found(steps: list[Step], rng: Random) -> None:
    program = traced(steps)

    for breaking in CHANGES:
        traces, events = program.traces(), list(program.program.events)
        try:
            guarantee = breaking(rng, traces, events)
        except NothingToChangeError:
            continue
        report = check_traces(traces, history_of(events))

        assert guarantee in report.violations, f"{breaking.__name__}: {report}"


@pytest.mark.parametrize("breaking", CHANGES)
def test_each_change_is_found_in_a_program_that_has_everything(
    breaking: Callable[[Random, Traces, list[Event]], str]
) -> None:
    metadata = GraphMetadata()
    program = traced(
        [
            Step(0, Connect("a", "b")),
            Step(3, RegisterMetadata(metadata)),
            Step(3, Connect("a", "c")),
            Step(3, Connect("c", "a")),
            Step(0, Connect("b", "d")),
            Step(2, SetPause(paused=True)),
            Step(3, None),
            Step(0, Disconnect("a", "b")),
        ]
    )
    traces, events = program.traces(), list(program.program.events)

    guarantee = breaking(Random(1), traces, events)

    assert guarantee in check_traces(traces, history_of(events)).violations


def test_a_goodbye_in_the_damaged_part_of_a_file_is_not_missed(tmp_path: Path) -> None:
    program = traced([Step(0, Revert()), Step(0, None)])
    records = program.traces()[0]
    line = [record_line("00000000", r.number, r.body, mono=r.mono, wall=r.wall) for r in records]
    for damaged in range(len(line)):
        broken = [each[:-1] + b"x\n" if n == damaged else each for n, each in enumerate(line)]
        (tmp_path / "t").write_bytes(
            header_line(header(0), mono=0.0, wall=1e9) + b"".join(broken)
        )

        assert set(checked(tmp_path / "t", program)) == {"trace"}, damaged


def checked(path: Path, program: Any) -> dict[str, int]:
    """What is found in a file of a program's trace, by guarantee."""
    checker = Checker(program.history())
    trace, file = checker.begin("t"), TraceFile(path)
    for record in file:
        trace.header = file.header
        trace.take(record)
    trace.finish(file.ending)
    return dict(checker.finish().violations)


@given(ours.programs, st.data())
@settings(slow, max_examples=25)
def test_a_damaged_file_gives_damage_and_no_false_violation(
    tmp_path: Path, steps: list[Step], data: st.DataObject
) -> None:
    program = traced(steps)
    records = program.traces()[0]
    line = [record_line("00000000", r.number, r.body, mono=r.mono, wall=r.wall) for r in records]
    content = bytearray(header_line(header(0), mono=0.0, wall=1e9) + b"".join(line))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "t").write_bytes(content)

    checker = Checker(program.history())
    trace = checker.begin("t")
    file = TraceFile(tmp_path / "t")
    found = list(file)
    for record in found:
        trace.header = file.header
        trace.take(record)
    trace.finish(file.ending)
    report = checker.finish()

    assert any(isinstance(each, Damage) for each in found)
    assert set(report.violations) == {"trace"}, str(report)
