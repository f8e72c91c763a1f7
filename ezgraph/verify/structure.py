"""Is the journal itself in order? G1, G3, G5, G7 as far as it alone can show them. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ezgraph.protocol.events import (
    Body,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    SettingsOwed,
    StateRestored,
    key_of,
)
from ezgraph.verify.findings import IN_JOURNAL, JOURNAL, Finding
from ezgraph.verify.ownership import OwnershipCheck
from ezgraph.verify.states import StateQuestions, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.verify.history import History


def _found(guarantee: str, what: str, *seqs: int) -> Finding:
    return Finding(guarantee, IN_JOURNAL, what, seqs=seqs)


def check_numbers(history: History) -> Iterator[Finding]:
    """G1: the numbers are dense within an epoch and never go back; each key fits its body."""
    if history.events and history.events[0].seq > history.floor:
        first = history.events[0].seq
        yield _found("G1", f"the journal begins with {first}, its floor is {history.floor}", first)
    for before, event in pairwise(history.events):
        new_epoch = event.epoch == before.epoch + 1 and event.seq > before.seq
        if event.seq != before.seq + 1 and not new_epoch:
            yield _found("G1", f"seq is not dense: {event.seq} follows {before.seq}", event.seq)
        elif event.prev not in (event.seq - 1, before.seq):
            yield _found("G1", f"prev of {event.seq} is {event.prev}", event.seq)
        if event.epoch < before.epoch:
            yield _found("G1", f"epoch {event.epoch} follows {before.epoch}", event.seq)
    for event in history.events:
        if event.key != key_of(event.body):
            yield _found(JOURNAL, f"the key {event.key} does not fit its body", event.seq)


def check_transactions(history: History) -> Iterator[Finding]:
    """G3, G5: transactions are whole, have one cause each, and no request has two."""
    seen: dict[tuple[object, ...], int] = {}
    for events in history.transactions():
        first, last = events[0], events[-1]
        spans = {(event.txn_first, event.txn_last) for event in events}
        if spans != {(first.seq, last.seq)}:
            yield _found("G3", f"the transaction at {first.seq} is there in part", first.seq)
        if len({(event.source, event.request_id) for event in events}) != 1:
            yield _found(JOURNAL, f"the transaction at {first.seq} has several causes", first.seq)
        if first.request_id is not None:
            source = first.source
            request = (source.client, first.request_id, source.program, source.pid)
            if request in seen:
                what = f"request {first.request_id} of {source.client} was executed twice"
                yield _found("G5", what, seen[request], first.seq)
            seen[request] = first.seq


def check_restores(history: History) -> Iterator[Finding]:
    """G3: a restore is one transaction, which begins by saying what there is in it, and is so."""
    for events in history.transactions():
        for event in events[1:]:
            if isinstance(event.body, StateRestored):
                yield _found("G3", f"a restore begins within a transaction: {event.seq}", event.seq)
        first = events[0].body
        if isinstance(first, StateRestored):
            told = first.edges_added, first.edges_removed, first.settings, first.config
            made = _restored([event.body for event in events[1:]])
            if told != made:
                seq = events[0].seq
                yield _found("G3", f"the restore at {seq} tells {told} and makes {made}", seq)


def _restored(bodies: list[Body]) -> tuple[int, int, int, int]:
    """Return how many edges came and went, settings are owed, and entries changed."""
    came = {(e.from_topic, e.to_topic) for e in bodies if isinstance(e, EdgeConnected)}
    went = {(e.from_topic, e.to_topic) for e in bodies if isinstance(e, EdgeDisconnected)}
    owed = sum(isinstance(each, SettingsOwed) for each in bodies)
    entries = sum(isinstance(each, ConfigValueSet | ConfigValueDeleted) for each in bodies)
    return len(came), len(went), owed, entries


def check_structure(history: History) -> Iterator[Finding]:
    """Look at all of it."""
    yield from check_numbers(history)
    yield from check_transactions(history)
    yield from check_restores(history)
    yield from walk(history, StateQuestions(history), OwnershipCheck())
