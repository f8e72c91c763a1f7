"""Which refusals are written down, and how often."""

from __future__ import annotations

from ezgraph.broker.audit import BURST, MAX_KINDS, PER_S, REPEAT_S, Audit
from ezgraph.protocol.events import AccessRefused, Source

SOURCE = Source(program="ezgraph broker")


def refused(who: str = "bob", what: str = "Connect", message: str = "no") -> AccessRefused:
    return AccessRefused(who, what, "forbidden", message)


def counts(audit: Audit, now: float) -> list[tuple[str, int]]:
    return [(each.who, each.count) for each, _ in audit.due(now)]


def test_the_first_of_a_kind_is_written_at_once_and_its_repetitions_as_one_later() -> None:
    audit = Audit()
    audit.note(refused(), SOURCE, 100.0)
    assert audit.next_due() == 100.0
    assert counts(audit, 100.0) == [("bob", 1)]

    for _ in range(50):
        audit.note(refused(), SOURCE, 101.0)

    assert counts(audit, 101.0) == []
    assert audit.next_due() == 100.0 + REPEAT_S
    assert counts(audit, 100.0 + REPEAT_S) == [("bob", 50)]


def test_a_kind_is_forgotten_when_nothing_more_came() -> None:
    audit = Audit()
    audit.note(refused(), SOURCE, 0.0)
    audit.due(0.0)

    audit.due(REPEAT_S)

    assert audit.next_due() is None
    assert repr(audit) == "<Audit kinds=0>"


def test_kinds_are_told_apart_by_who_and_what_and_why() -> None:
    audit = Audit()
    for each in (refused(), refused("eve"), refused(what="SetPause")):
        audit.note(each, SOURCE, 0.0)

    assert len(audit.due(0.0)) == 3


def test_all_share_a_budget_and_what_does_not_fit_is_counted() -> None:
    audit = Audit()
    for number in range(100):
        audit.note(refused(f"key{number}"), SOURCE, 0.0)

    at_once = audit.due(0.0)
    due = audit.next_due()
    assert due is not None
    later = audit.due(due)

    assert len(at_once) == int(BURST)
    assert 0 < due <= 1.0 / PER_S + 1e-9
    assert len(later) == 1


def test_more_kinds_than_may_be_remembered_are_counted_together() -> None:
    audit = Audit()
    for number in range(MAX_KINDS + 500):
        audit.note(refused(f"key{number}"), SOURCE, 0.0)
    written: list[tuple[str, int]] = []
    now = 0.0
    while (due := audit.next_due()) is not None:
        now = max(due, now + 0.01)
        written += counts(audit, now)

    assert sum(count for _, count in written) == MAX_KINDS + 500
    assert ("others", 500) in written


def test_a_long_message_is_cut() -> None:
    audit = Audit()
    audit.note(refused(message="x" * 100_000), SOURCE, 0.0)

    ((written, _),) = audit.due(0.0)

    assert len(written.message) <= 500
