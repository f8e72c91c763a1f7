"""Whatever happens in whatever order: each request one answer, each line one change at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ezgraph.broker.connections import Connections
from ezgraph.broker.leases import Lease, Leases
from ezgraph.broker.routing import Routing
from ezgraph.config import Limits
from ezgraph.errors import RefusedError
from ezgraph.protocol.commands import AnswerRequest, ChangeSettings, ReportSettings, RequestProcess
from ezgraph.protocol.events import (
    EndReason,
    Event,
    ProcessClosed,
    ProcessOpened,
    ProcessUnitsChanged,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.replies import HANDED_ID, Handed, Refusal, SettingsSet
from ezgraph.protocol.routed import SettingsChangeRequest
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.state.graph import GraphState
from ezgraph.testing import SequentialIds

if TYPE_CHECKING:
    from ezgraph.protocol.events import Body
    from ezgraph.protocol.replies import Reply
    from ezgraph.protocol.routed import Routed

UNITS = ("A", "B")
ASKERS = ("x", "y", "z")
VALUE = SettingsSnapshotValue(None, {"gain": 1}, {"gain": 1})


class Interleaving(RuleBasedStateMachine):
    """One owner after the other, three askers, and everything that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ids = SequentialIds()
        self.state = GraphState()
        self.state.epoch = 1
        self.leases = Leases()
        self.connections = Connections()
        self.routing = Routing(self.state, self.leases, Limits(max_routed_requests=6), secret=b"s")
        self.numbers = 0
        self.owner: Lease | None = None
        self.at_owner: dict[str, Routed] = {}
        self.overdue: set[str] = set()
        self.handed: set[tuple[bytes, str]] = set()
        self.open: dict[tuple[str, int], RequestProcess | ChangeSettings] = {}
        self.answered: dict[tuple[str, int], Reply] = {}
        self.base: dict[tuple[str, int], int] = {}
        for name in ASKERS:
            self.join(name)
        self.owner_starts()

    # --- the rest of the broker ---

    def apply(self, body: Body) -> int:
        state = self.state
        seq = state.seq + 1
        event = Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, key_of(body), Source(), None, body)
        state.apply(event)
        return seq

    def join(self, name: str, *, process: Source | None = None) -> Lease:
        lease = Lease(
            name, "process" if process else "session", process or Source(client=name),
            60.0, 0.0, 0.0, "holder",
        )
        self.leases.add(lease)
        self.connect(lease)
        return lease

    def connect(self, lease: Lease) -> None:
        self.numbers += 1
        peer = f"{lease.client} {self.numbers}".encode()
        self.connections.bind(peer, lease, (self.numbers, 1), self.now, is_main=True)
        self.routing.owner_is_back(lease)

    def leave(self, lease: Lease) -> None:
        self.leases.remove(lease.client)
        self.connections.unbind_all_of(lease)

    def deliver(self) -> None:
        """Bring what leaves to where it goes: an owner is handed it, an asker told once."""
        for peer, request_id, reply, _ in list(self.routing.outgoing):
            client = peer.decode().partition(" ")[0]
            if request_id == HANDED_ID:
                assert isinstance(reply, Handed)
                once = peer, reply.request.request_id
                assert once not in self.handed, "handed twice on one connection"
                self.handed.add(once)
                if self.owner is not None and client == self.owner.client:
                    self.at_owner[reply.request.request_id] = reply.request
            else:
                self.tell(client, request_id, reply)
        self.routing.outgoing.clear()

    def tell(self, client: str, request_id: int, reply: Reply) -> None:
        who = client, request_id
        assert who in self.open, f"{who} was answered twice: {self.answered.get(who)}, {reply}"
        command = self.open.pop(who)
        self.answered[who] = reply
        if isinstance(reply, SettingsSet) and isinstance(command, ChangeSettings):
            assert command.expected_seq in (None, self.base[who]), "an update was lost"

    # --- what happens ---

    @rule(
        name=st.sampled_from(ASKERS),
        unit=st.sampled_from(UNITS),
        timeout_s=st.sampled_from([0.5, 2.0, 9.0]),
        what=st.sampled_from(["request", "change", "compare and set"]),
    )
    def asks(self, name: str, unit: str, timeout_s: float, what: str) -> None:
        lease = self.leases.get(name) or self.join(name)
        self.numbers += 1
        command: RequestProcess | ChangeSettings = RequestProcess(unit, "do", None, timeout_s)
        if what != "request":
            now = self.state.settings.get(unit)
            expected = now.seq if what != "change" and now is not None else None
            command = ChangeSettings(unit, {"gain": 2}, False, expected, None, timeout_s)
        self.open[name, self.numbers] = command
        self.ask(lease, self.numbers, command)

    def ask(self, lease: Lease, number: int, command: RequestProcess | ChangeSettings) -> None:
        came_on = next(reversed(lease.connections)), None
        try:
            reply = self.routing.ask(lease, came_on, number, command, now=self.now)
        except RefusedError as error:
            reply = Refusal(error.code, str(error))
        if reply is not None:
            lease.answers.remember(number, reply)
            self.tell(lease.client, number, reply)
        self.deliver()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def repeats(self, data: st.DataObject) -> None:
        name, number = data.draw(st.sampled_from(sorted(self.open)))
        lease = self.leases.get(name)
        assert lease is not None
        assert lease.answers.reply_to(number) is None
        self.ask(lease, number, self.open[name, number])

    @precondition(lambda self: self.at_owner)
    @rule(data=st.data(), is_done=st.booleans())
    def owner_answers(self, data: st.DataObject, is_done: bool) -> None:
        assert self.owner is not None
        request = self.at_owner.pop(data.draw(st.sampled_from(sorted(self.at_owner))))
        self.overdue.discard(request.request_id)
        if isinstance(request, SettingsChangeRequest) and self.is_overdue(request.address):
            busy = AnswerRequest(request.request_id, ok=False, error_code="owner_busy")
            self.routing.answer(self.owner, busy)
        elif isinstance(request, SettingsChangeRequest) and is_done:
            self.report(request.address, request.request_id)
        else:
            is_ok = is_done and not isinstance(request, SettingsChangeRequest)
            self.routing.answer(self.owner, AnswerRequest(request.request_id, is_ok))
        self.deliver()

    @precondition(lambda self: self.at_owner)
    @rule(data=st.data())
    def owner_says_that_it_is_overdue(self, data: st.DataObject) -> None:
        """It may still be answered, and so stays at the owner, who makes no other meanwhile."""
        assert self.owner is not None
        request = self.at_owner[data.draw(st.sampled_from(sorted(self.at_owner)))]
        if not isinstance(request, SettingsChangeRequest) or self.is_overdue(request.address):
            return
        self.overdue.add(request.request_id)
        said = AnswerRequest(request.request_id, ok=False, error_code="change_overdue")
        self.routing.answer(self.owner, said)
        self.deliver()

    def is_overdue(self, address: str) -> bool:
        """Whether the owner is at a change of an address for too long already."""
        return any(
            request.request_id in self.overdue
            for request in self.at_owner.values()
            if isinstance(request, SettingsChangeRequest) and request.address == address
        )

    def report(self, address: str, answers: str | None) -> None:
        assert self.owner is not None
        report = ReportSettings(address, VALUE, answers=answers)
        asked_by = self.routing.asked_by(self.owner, report)
        route = self.routing.routes.get(answers) if answers is not None else None
        if route is not None:
            self.base[route.client, route.request_id] = self.state.settings[address].seq
        process_id = self.owner.source.process_id
        kind, layer = SettingsEventType.SETTINGS_UPDATED, SettingsLayer.LIVE
        body = SettingsChanged(address, kind, layer, VALUE, process_id, None, asked_by, answers)
        self.routing.reported(self.owner, report, self.apply(body))

    @precondition(lambda self: self.owner is not None)
    @rule(was_told=st.booleans())
    def owner_reconnects(self, was_told: bool) -> None:
        assert self.owner is not None
        if was_told:
            for connection in self.owner.connections.values():
                connection.closed = True
        self.connect(self.owner)
        self.deliver()

    @precondition(lambda self: self.at_owner)
    @rule(data=st.data())
    def owner_does_not_read(self, data: st.DataObject) -> None:
        request = self.at_owner.pop(data.draw(st.sampled_from(sorted(self.at_owner))))
        self.routing.unsent(request)
        self.deliver()

    @precondition(lambda self: self.owner is not None)
    @rule()
    def owner_ends(self) -> None:
        owner = self.owner
        assert owner is not None
        self.leave(owner)
        process_id = owner.source.process_id
        assert process_id is not None
        for unit in UNITS:
            kind, layer = SettingsEventType.SETTINGS_REMOVED, SettingsLayer.LIVE
            self.apply(SettingsChanged(unit, kind, layer, VALUE))
        self.apply(ProcessUnitsChanged(process_id, [], [], list(UNITS)))
        self.apply(ProcessClosed(process_id, EndReason.CLOSED))
        self.owner, self.at_owner = None, {}
        self.routing.ended(owner)
        self.deliver()

    @precondition(lambda self: self.owner is not None)
    @rule()
    def owner_is_taken_over(self) -> None:
        assert self.owner is not None
        self.connections.unbind_all_of(self.owner)
        self.at_owner = {}
        self.routing.taken_over(self.owner)
        self.connect(self.owner)
        self.deliver()

    @precondition(lambda self: self.owner is None)
    @rule()
    def owner_starts(self) -> None:
        process_id = self.ids.process_id()
        source = Source(client=str(process_id), process_id=process_id)
        self.owner = self.join(str(process_id), process=source)
        self.apply(ProcessOpened(process_id, 60.0, "holder"))
        self.apply(ProcessUnitsChanged(process_id, list(UNITS), list(UNITS), []))
        for unit in UNITS:
            self.report(unit, None)

    @rule(name=st.sampled_from(ASKERS))
    def asker_ends(self, name: str) -> None:
        lease = self.leases.get(name)
        if lease is not None:
            self.leave(lease)
            self.open = {who: command for who, command in self.open.items() if who[0] != name}
            self.routing.ended(lease)
            self.deliver()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.routing.expire(self.now)
        self.deliver()
        for who, command in self.open.items():
            assert command.timeout_s > 0, who

    # --- what is always so ---

    @invariant()
    def nobody_waits_for_longer_than_they_said(self) -> None:
        due = self.routing.routes.next_due()
        assert (due is not None) is bool(self.open)
        assert due is None or due > self.now

    @invariant()
    def no_two_changes_of_one_address_are_at_the_owner(self) -> None:
        changes = [
            each.address
            for each in self.at_owner.values()
            if isinstance(each, SettingsChangeRequest) and each.request_id not in self.overdue
        ]
        assert len(changes) == len(set(changes))

    @invariant()
    def what_is_under_way_is_awaited_or_at_the_owner(self) -> None:
        routes = self.routing.routes
        for route in list(routes._by_id.values()):
            is_awaited = (route.client, route.request_id) in self.open
            assert is_awaited is not route.is_left
            assert is_awaited or route.owner is not None

    def teardown(self) -> None:
        """When everybody has gone nothing is left behind."""
        if self.owner is not None:
            self.owner_ends()
        for name in ASKERS:
            self.asker_ends(name)
        self.time_passes(5.0)
        routes = self.routing.routes
        tables = (
            routes._by_id, routes._of_owner, routes._of_client, routes._lines, routes._overdue
        )
        assert not any(tables)
        assert routes.next_due() is None
        assert not self.open


Interleaving.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestInterleaving = Interleaving.TestCase
