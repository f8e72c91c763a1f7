"""What ended leases owned, remembered for those who come back too late. Pure.

The memory is bounded: the latest leases, and not more than so many things altogether. A restarted
broker remembers what the latest events of its journal tell.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import groupby
from typing import TYPE_CHECKING

from ezgraph.protocol.events import (
    Body,
    ComponentRemoved,
    ConfigValueDeleted,
    EdgeDisconnected,
    GraphWithdrawn,
    ProcessClosed,
    ProcessUnitsChanged,
    SessionClosed,
    SettingsChanged,
)
from ezgraph.protocol.replies import Lost
from ezgraph.protocol.snapshot import Edge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ezgraph.protocol.events import Event

MAX_LEASES = 10_000
MAX_THINGS = 200_000


class EndedLeases:
    """What the latest leases to end have lost, by client id."""

    def __init__(self) -> None:
        self._lost: OrderedDict[str, Lost] = OrderedDict()
        self._things = 0

    def __len__(self) -> int:
        return len(self._lost)

    def get(self, client: str) -> Lost | None:
        """Return what a client's lease lost when it ended, or None."""
        return self._lost.get(client)

    def remember(self, events: Sequence[Event]) -> None:
        """Take note of one transaction, if it ended a lease."""
        lost = lost_in(events)
        if lost is None:
            return
        self._lost[lost.client] = lost
        self._things += _things(lost)
        while len(self._lost) > MAX_LEASES or (self._things > MAX_THINGS and len(self._lost) > 1):
            _, oldest = self._lost.popitem(last=False)
            self._things -= _things(oldest)

    def restore(self, history: Iterable[Event]) -> None:
        """Remember what the latest events tell; the first transaction may be there in part."""
        for _, events in groupby(history, key=lambda event: event.txn_first):
            self.remember(list(events))


def lost_in(events: Sequence[Event]) -> Lost | None:
    """Return what the lease owned that this transaction ended; None if it ended none."""
    closed = events[-1].body if events else None
    if isinstance(closed, SessionClosed):
        client = closed.session_id
    elif isinstance(closed, ProcessClosed):
        client = str(closed.process_id)
    else:
        return None
    lost = Lost(client, events[-1].seq, closed.reason)
    for event in events:
        _add(lost, event.body)
    if isinstance(closed, SessionClosed):
        lost.settings.clear()  # its components' initial values; they are in its metadata
    return lost


def _add(lost: Lost, body: Body) -> None:
    match body:
        case EdgeDisconnected():
            lost.edges.append(Edge(body.from_topic, body.to_topic))
        case ComponentRemoved():
            lost.components.append(body.address)
        case ConfigValueDeleted():
            lost.config.append((body.type, *body.key))
        case GraphWithdrawn():
            lost.graphs.append(body.name)
        case ProcessUnitsChanged():
            lost.units.extend(body.removed)
        case SettingsChanged():
            lost.settings.append(body.address)
        case _:
            pass


def _things(lost: Lost) -> int:
    settings = len(lost.settings) + len(lost.config) + len(lost.graphs)
    return len(lost.edges) + len(lost.components) + len(lost.units) + settings
