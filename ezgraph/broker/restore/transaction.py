"""What the transaction of a restore consists of, and what it tells of the restore later. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ezgraph.protocol.config import config_key_text
from ezgraph.protocol.events import (
    Body,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    SettingsOwed,
    SettingsSettled,
    StateRestored,
)
from ezgraph.protocol.replies import RestoreReport
from ezgraph.protocol.snapshot import Edge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ezgraph.broker.restore.plan import RestorePlan
    from ezgraph.protocol.events import Event, Source

SUPERSEDED = "another restore took its place"


def restored_bodies(
    plan: RestorePlan, report: RestoreReport, source: Source, first: int
) -> list[Body]:
    """Return what a restore makes true, as one transaction that begins at seq ``first``."""
    counts = len(report.config_set) + len(report.config_deleted)
    return [
        StateRestored(
            report.name,
            report.fingerprint,
            len(report.edges_added),
            len(report.edges_removed),
            len(plan.settings),
            counts,
            report.tag,
        ),
        *plan.bodies,
        *(SettingsSettled(address, SUPERSEDED) for address in plan.settled),
        *(
            SettingsOwed(each.address, each.value, source, first)
            for each in plan.settings
        ),
    ]


def done_report(report: RestoreReport, seq: int) -> RestoreReport:
    """Return what is told of a restore that was done at ``seq``."""
    owed = [address for address, _, _ in report.settings]
    return replace(report, seq=seq, owed=owed)


def reports_in(history: Sequence[Event]) -> Iterator[tuple[Event, RestoreReport]]:
    """Yield what restores of the past have changed, each with the first event of its transaction.

    What they left as it was is in no event, and is not told.
    """
    for place, event in enumerate(history):
        if isinstance(event.body, StateRestored):
            others = history[place + 1 : place + 1 + event.txn_last - event.seq]
            yield event, _report_of(event, event.body, others)


def _report_of(
    first: Event, body: StateRestored, others: Iterable[Event]
) -> RestoreReport:
    report = RestoreReport(first.txn_last, body.name, body.fingerprint, dry_run=False, tag=body.tag)
    removed: dict[Edge, None] = {}
    for event in others:
        match event.body:
            case EdgeConnected(from_topic=start, to_topic=end):
                report.edges_added.append(Edge(start, end))
            case EdgeDisconnected(from_topic=start, to_topic=end):
                removed[Edge(start, end)] = None
            case ConfigValueSet(type=kind, key=key):
                report.config_set.append((kind, config_key_text(key)))
            case ConfigValueDeleted(type=kind, key=key):
                report.config_deleted.append((kind, config_key_text(key)))
            case SettingsOwed(address=address):
                report.settings.append((address, {}, None))
                report.owed.append(address)
            case _:
                pass
    report.edges_removed.extend(removed)
    return report
