"""Requests on their way to the owners of units, and back. Pure.

A route begins when somebody asks and ends with one answer: the owner's, or that it is gone, silent,
or not to be found. Its id is made of who asked (the lease, and the program that holds it) and of
the request's id, so that a repetition (also one that comes after a restart of the broker) is the
same route: it is handed to the owner again, who knows it again.

Requests to a unit are handed to its owner at once, any number side by side, up to a bound. Changes
of settings go one by one for each address, in the order they came: the next is handed on when the
one before is over, and is checked then, against what the settings are by then.

States of a change: waiting -> handed -> over, by a report, a veto, or the owner's end. Who asked
may be told before that there was no answer, or be gone: then the route is *left*, and its line
stands still until the owner has said what became of it. Else the next change would be checked
against settings that the one before may yet replace.

An owner may say that a change is *overdue*: it does not know yet what becomes of it, and refuses
others until it does. Then the route is left too, and its line goes on without it.

The broker asks owners itself, too, for a restore: whether they would take a change (a *check*,
which waits in no line, as it changes nothing), and to take what they are owed, which waits in line
as any change. Who asked is nobody then, and what is owed never runs out.
"""

from __future__ import annotations

import heapq
import hmac
import math
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from ezgraph.protocol.commands import ChangeSettings, RequestProcess

if TYPE_CHECKING:
    from ezgraph.broker.connections import Connection, Descriptor
    from ezgraph.broker.leases import Lease
    from ezgraph.protocol.commands import ReportSettings
    from ezgraph.protocol.events import SettingsOwed, Source
    from ezgraph.protocol.roles import ReadScope
    from ezgraph.protocol.routed import Routed

    RoutedCommand = ChangeSettings | RequestProcess

NOBODY = ""
"""In place of a client's id, where the broker itself asks."""

_STALE_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What an owner is asked whether it would take; the fields are as in `ChangeSettings`."""

    address: str
    changes: dict[str, Any]
    whole: bool
    base_seq: int
    reason: str | None
    timeout_s: float


def route_id(asker: Lease, request_id: int, command: RoutedCommand, secret: bytes) -> str:
    """Return the id of the route that a client's request takes.

    A lease may be taken over by another program, which counts its requests on from what was
    answered: the holder tells them apart. The last part proves to a broker that has started anew
    that it was asked (`is_proved`), as only one with the cluster's ``secret`` can make it.
    """
    named = f"{asker.client}:{asker.holder}:{request_id}"
    match command:
        case ChangeSettings():
            return f"{named}:{_proof(named, command.address, command.reason, secret)}"
        case RequestProcess():
            return f"{named}:{_proof(named, command.unit, None, secret)}"
    assert_never(command)


def _proof(named: str, address: str, reason: str | None, secret: bytes) -> str:
    asked = "\0".join((named, address) if reason is None else (named, address, reason))
    digest = blake2b(asked.encode(), key=secret, digest_size=_PROOF_BYTES)
    return f"{_PROOF}{digest.hexdigest()}"


def owed_id(owed: SettingsOwed) -> str:
    """Return the id of the route that settings take which a restore owes: the same at each try.

    It is in the journal with the report of them, and shows that they were taken.
    """
    return f"{_OWED}{owed.asked_in} {owed.address}"


class Asker(NamedTuple):
    """Who asked, as a route's id names them: the client, the program that held it, the request."""

    client: str
    holder: str
    request_id: int


def asker_of(route: str) -> Asker | None:
    """Return who a route's id names; None: it is none. It may be made up: see `is_proved`.

    Older journals have ids without a proof. Settings that were owed are asked for by nobody.
    """
    if route.startswith(_OWED):
        return None
    before, _, last = route.rpartition(":")
    named = before if last.startswith(_PROOF) else route
    program, _, number = named.rpartition(":")
    client, _, holder = program.rpartition(":")
    if not client or not number.isascii() or not number.isdecimal() or len(number) > _DIGITS:
        return None
    return Asker(client, holder, int(number)) if holder.isalnum() or not holder else None


def is_proved(report: ReportSettings, secret: bytes) -> bool:
    """Return whether a broker of this cluster had asked for the change that a report answers.

    That is: who the id names had asked for one at this address, and given this reason.
    """
    named, _, proof = (report.answers or "").rpartition(":")
    made = _proof(named, report.address, report.reason, secret)
    return hmac.compare_digest(proof.encode(), made.encode())


_DIGITS = 20
_OWED = "owed "
_PROOF = "p"
"""What a proof begins with, and no number does."""

_PROOF_BYTES = 8


@dataclass(slots=True, eq=False)
class Route:
    """One request under way. ``came_on``: the connection its answer goes to, and its descriptor.

    ``scope``: what who asked may read. ``owner`` is the client id of the process it was handed to
    (None: it waits for its turn), ``handed`` what that was told, ``sent_on`` on which connection
    (None: it has none, and is told when it has). ``is_left``: who asked waits no longer.
    """

    id: str
    client: str
    request_id: int
    came_on: tuple[bytes, Descriptor | None]
    command: RequestProcess | ChangeSettings | CheckSettings
    source: Source
    deadline: float
    scope: ReadScope
    owner: str | None = None
    handed: Routed | None = None
    sent_on: Connection | None = None
    is_left: bool = False

    @property
    def is_own(self) -> bool:
        """Whether the broker itself asks."""
        return self.client == NOBODY

    @property
    def line(self) -> str | None:
        """The address whose changes go one by one, this one among them; None: it is no change."""
        return self.command.address if isinstance(self.command, ChangeSettings) else None


class Routes:
    """All routes under way, and when they run out."""

    def __init__(self) -> None:
        self._by_id: dict[str, Route] = {}
        self._of_owner: dict[str, dict[str, Route]] = {}
        self._of_client: dict[str, dict[str, Route]] = {}
        self._lines: dict[str, OrderedDict[str, Route]] = {}
        self._overdue: dict[str, Route] = {}
        self._queue: list[tuple[float, int, Route]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"<Routes under_way={len(self)} lines={len(self._lines)}>"

    def get(self, route_id: str) -> Route | None:
        """Return the route with this id, if it is under way."""
        return self._by_id.get(route_id)

    def count_of(self, client: str) -> int:
        """Return how many a client waits for."""
        return len(self._of_client.get(client, ()))

    def begin(self, route: Route) -> bool:
        """Take a route up; return whether it is its turn at once."""
        self._by_id[route.id] = route
        self._wait(route)
        if route.line is None:
            return True
        line = self._lines.setdefault(route.line, OrderedDict())
        line[route.id] = route
        return len(line) == 1

    def wait_again(self, route: Route, deadline: float) -> None:
        """Who asked for a route that was left asks for it again."""
        route.is_left, route.deadline = False, deadline
        self._wait(route)

    def _wait(self, route: Route) -> None:
        self._of_client.setdefault(route.client, {})[route.id] = route
        if len(self._queue) > _STALE_ENTRIES + 4 * len(self._by_id):  # of those that ended
            self._queue = [each for each in self._queue if self._is_awaited(each)]
            heapq.heapify(self._queue)
        if not math.isinf(route.deadline):
            heapq.heappush(self._queue, (route.deadline, next(self._numbers), route))

    def hand(self, route: Route, owner: str, what: Routed) -> None:
        """Take note of who is to be handed a route, and what."""
        route.owner, route.handed = owner, what
        self._of_owner.setdefault(owner, {})[route.id] = route

    def handed_to(self, owner: str) -> list[Route]:
        """Return what an owner has not answered yet, oldest first."""
        return list(self._of_owner.get(owner, {}).values())

    def of_client(self, client: str) -> list[Route]:
        """Return what a client waits for."""
        return list(self._of_client.get(client, {}).values())

    def leave(self, route: Route) -> None:
        """Nobody waits for this route any more; it ends when its owner has answered."""
        route.is_left = True
        _drop(self._of_client, route.client, route.id)

    def leave_overdue(self, route: Route) -> Route | None:
        """As `leave`, and its line waits no longer either; return the change whose turn it is.

        There is one for each address: if another is overdue there, the one before is over.
        """
        self.leave(route)
        if route.line is None or self._overdue.get(route.line) is route:
            return None
        if (before := self._overdue.get(route.line)) is not None:
            self.end(before)
        self._overdue[route.line] = route
        return self._next_in_line(route)

    def end(self, route: Route) -> Route | None:
        """Forget a route; return the change whose turn it is now, if there is one."""
        if self._by_id.get(route.id) is not route:
            return None
        del self._by_id[route.id]
        _drop(self._of_client, route.client, route.id)
        if route.owner is not None:
            _drop(self._of_owner, route.owner, route.id)
        if route.line is not None and self._overdue.get(route.line) is route:
            del self._overdue[route.line]
        return self._next_in_line(route)

    def _next_in_line(self, route: Route) -> Route | None:
        line = self._lines.get(route.line) if route.line is not None else None
        if line is None or route.line is None or route.id not in line:
            return None
        was_first = next(iter(line.values())) is route
        del line[route.id]
        if not line:
            del self._lines[route.line]
            return None
        return next(iter(line.values())) if was_first else None

    def next_due(self) -> float | None:
        """Return when a route may run out, at the earliest."""
        while self._queue and not self._is_awaited(self._queue[0]):
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def overdue(self, now: float) -> list[Route]:
        """Return the routes whose time is over; each once."""
        over = []
        while (due := self.next_due()) is not None and due <= now:
            over.append(heapq.heappop(self._queue)[2])
        return over

    def _is_awaited(self, entry: tuple[float, int, Route]) -> bool:
        deadline, _, route = entry
        is_there = self._by_id.get(route.id) is route
        return is_there and not route.is_left and route.deadline == deadline


def _drop(by_key: dict[str, dict[str, Route]], key: str, item: str) -> None:
    items = by_key.get(key, {})
    items.pop(item, None)
    if not items:
        by_key.pop(key, None)
