"""Coming back: who holds a lease, what a latecomer lost, and what a restart still knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ezgraph.broker.admission import Cluster, holder_of
from ezgraph.broker.core import BrokerCore
from ezgraph.broker.ended import EndedLeases, lost_in
from ezgraph.broker.live import LiveSet
from ezgraph.config import BrokerConfig
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Goodbye,
    Hello,
    RegisterMetadata,
    ReportSettings,
    Request,
    Resume,
    Sync,
    TakeOver,
    UpdateUnits,
)
from ezgraph.protocol.events import (
    EndReason,
    Event,
    HistoryCompacted,
    ProcessTakenOver,
    SessionTakenOver,
)
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata
from ezgraph.protocol.replies import Answered, Done, Lost, Refusal, Welcome
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge
from ezgraph.state.graph import GraphState
from ezgraph.testing import SequentialIds
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLUSTER_ID = "c" * 32
A, B, C = b"a", b"b", b"c"
FIRST = Hello(1, "session", "first", "old.py", "rig", 1, "ada")
SECOND = replace(FIRST, nonce="second", program="new.py", pid=2)
VALUE = SettingsSnapshotValue(None, {"gain": 1}, {"gain": 1})
METADATA = GraphMetadata(
    1,
    None,
    {
        "SYS/A": ComponentMetadata(
            "SYS/A", "A", "m.A", "m.S", (None, ""), DynamicSettingsMetadata(enabled=False)
        )
    },
)


class Broker:
    """A core whose events are kept, so that it can be restarted."""

    def __init__(
        self, events: Sequence[Event] = (), answered: Iterable[Answered] = (), tail: int = 0
    ) -> None:
        self.events = list(events)
        state = GraphState.fold(events, epoch=1, seq=len(events))
        self.now = 50.0
        self.core = BrokerCore(
            state, Cluster(CLUSTER_ID, b"secret"), BrokerConfig(), SequentialIds(),
            events_port=1, floor=1,
        )
        self.core.restore_leases(self.events[tail:], answered, now=self.now)

    def ask(self, peer: bytes, command: Command, request_id: int = 0, lowest: int = 0) -> object:
        request = Request(request_id, lowest, command)
        outcome = self.core.receive(peer, request, now=self.now, wall=1e9)
        self.events += outcome.events
        return outcome.reply

    def welcome(self, peer: bytes, command: Command) -> Welcome:
        reply = self.ask(peer, command)
        assert isinstance(reply, Welcome), reply
        return reply

    def refusal(self, peer: bytes, command: Command, request_id: int = 0) -> Refusal:
        reply = self.ask(peer, command, request_id)
        assert isinstance(reply, Refusal), reply
        return reply

    def restarted(self) -> Broker:
        return Broker(self.events)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for events in self.core.expire(now=self.now, wall=1e9):
            self.events += events


def resume(welcome: Welcome, nonce: str, seq: int = 0) -> Resume:
    return Resume(1, welcome.client, welcome.token, CLUSTER_ID, 1, seq, nonce)


def take_over(welcome: Welcome, hello: Hello = SECOND) -> TakeOver:
    return TakeOver(hello, welcome.client, welcome.token, CLUSTER_ID)


# --- taking over ---


def test_a_successor_goes_on_with_all_that_the_session_owns_and_is_named_in_listings() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.ask(A, Connect("a", "b"), 1)

    again = broker.welcome(B, take_over(welcome))

    assert again.client == welcome.client
    event = broker.events[-1]
    assert event.body == SessionTakenOver(welcome.client, 6.0, holder_of("second"), 1, 1e9)
    assert (event.source.program, event.source.pid, event.source.session_id) == (
        "new.py", 2, welcome.client,
    )
    (info,) = broker.core.list_clients(broker.now).clients
    assert (info.program, info.pid, info.edges) == ("new.py", 2, [Edge("a", "b")])


def test_the_predecessor_is_cut_off_and_told_so_also_after_a_restart() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.welcome(B, take_over(welcome))

    for each in (broker, broker.restarted()):
        assert each.refusal(A, Connect("x", "y"), 1).code == "unbound"
        refusal = each.refusal(A, resume(welcome, "first"))
        assert refusal.code == "taken_over"
        assert "new.py on rig (pid 2) took lease" in refusal.message
        assert isinstance(each.ask(B, resume(welcome, "second")), Welcome)


def test_a_repeated_take_over_is_the_same_one_also_after_a_restart() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.welcome(B, take_over(welcome))
    count = len(broker.events)

    for each in (broker, broker.restarted()):
        assert each.welcome(C, take_over(welcome)).client == welcome.client
        assert len(each.events) == count


def test_the_predecessors_late_hello_opens_nothing() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.welcome(B, take_over(welcome))

    assert broker.refusal(C, FIRST).code == "session_expired"


def test_a_successors_requests_are_numbered_above_its_predecessors() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.ask(A, Connect("a", "b"), 7)
    broker.ask(A, Sync(), 12, lowest=11)

    again = broker.welcome(B, take_over(welcome))

    assert again.next_request_id == 13
    assert isinstance(broker.ask(B, Connect("c", "d"), 13, lowest=13), Done)


def test_a_process_is_taken_over_with_its_units() -> None:
    broker = Broker()
    hello = replace(FIRST, kind="process")
    welcome = broker.welcome(A, hello)
    broker.ask(A, UpdateUnits(["SYS/A"], []), 1)

    broker.welcome(B, take_over(welcome, replace(hello, nonce="second")))

    assert isinstance(broker.events[-1].body, ProcessTakenOver)
    assert isinstance(broker.ask(B, UpdateUnits(["SYS/A"], []), 2), Done)
    assert isinstance(broker.ask(B, ReportSettings("SYS/A", VALUE), 3), Done)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"token": b"x" * 32}, "session_expired"),
        ({"cluster_id": "d" * 32}, "wrong_cluster"),
        ({"hello": replace(SECOND, protocol=9)}, "protocol_version"),
        ({"hello": replace(SECOND, kind="process")}, "invalid_command"),
        ({"client": "s9"}, "session_expired"),
        ({"hello": replace(SECOND, program="x" * 256)}, "invalid_command"),
    ],
)
def test_a_take_over_that_does_not_fit_changes_nothing(
    change: dict[str, object], code: str
) -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)

    refusal = broker.refusal(B, replace(take_over(welcome), **change))  # type: ignore[arg-type]

    assert refusal.code == code
    assert len(broker.events) == 1
    assert isinstance(broker.ask(A, Connect("a", "b"), 1), Done)


def test_a_taken_over_session_stands_where_it_stood_in_the_live_set() -> None:
    """Folded from the live events, what it owns must find it there."""
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.ask(A, RegisterMetadata(METADATA), 1)
    broker.ask(A, Connect("a", "b"), 2)
    broker.welcome(B, take_over(welcome))
    live = LiveSet()
    for event in broker.events:
        live.add(event, codec.encode_event(event))

    entries = [entry for _, entry in live.freeze()]
    events = [codec.decode_live_event(each.entry, each.blobs) for each in entries]
    folded = GraphState.fold(events, epoch=1, seq=broker.core.state.seq)

    assert folded.fingerprint() == broker.core.state.fingerprint()


def test_a_take_over_that_comes_late_does_not_take_the_lease_from_a_later_successor() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.welcome(B, take_over(welcome))
    third = replace(FIRST, nonce="third", program="third.py", pid=3)
    broker.welcome(C, take_over(welcome, third))

    for each in (broker, broker.restarted()):
        refusal = each.refusal(B, take_over(welcome))
        assert refusal.code == "taken_over"
        assert "third.py on rig (pid 3)" in refusal.message
        assert isinstance(each.ask(C, resume(welcome, "third")), Welcome)


def test_a_guests_lease_is_not_taken_over_and_the_attempt_changes_nothing() -> None:
    broker = Broker()
    guest = replace(FIRST, kind="guest")
    welcome = broker.welcome(A, guest)

    refusal = broker.refusal(B, take_over(welcome, replace(guest, nonce="second")))

    assert refusal.code == "invalid_command"
    assert isinstance(broker.ask(A, Connect("a", "b"), 1), Done)


def test_a_successor_that_was_gone_before_it_was_heard_leaves_the_lease_to_the_grace() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.core.connection_closed((9, 1), now=broker.now)
    request = Request(0, 0, take_over(welcome))
    broker.events += broker.core.receive(
        B, request, now=broker.now, wall=1e9, descriptor=(9, 1)
    ).events

    broker.pass_time(0.7)

    assert broker.events[-1].kind == "SessionClosed"


# --- what a restart knows ---


def test_a_hello_repeated_after_a_restart_is_the_same_lease() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)

    again = broker.restarted()

    assert again.welcome(A, FIRST).client == welcome.client
    assert len(again.events) == 1


def test_a_hello_whose_lease_has_ended_opens_nothing_after_a_restart() -> None:
    broker = Broker()
    broker.welcome(A, FIRST)
    broker.ask(A, Goodbye(), 1)

    assert broker.restarted().refusal(A, FIRST).code == "session_expired"


def test_a_hello_whose_welcome_never_arrived_may_open_a_lease_when_the_first_has_ended() -> None:
    broker = Broker()
    broker.welcome(A, FIRST)
    broker.pass_time(6.0)

    for each in (broker.restarted(), broker):
        count = len(each.events)
        each.welcome(B, FIRST)
        assert [event.kind for event in each.events[count:]] == ["SessionOpened"]


def test_what_was_answered_before_a_checkpoint_is_not_done_again_after_it() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    first = broker.ask(A, Connect("a", "b"), 5, lowest=5)
    assert isinstance(first, Done)
    for number in range(6, 9):
        broker.ask(A, Connect("a", f"c{number}"), number, lowest=5)
    (kept,) = broker.core.admission.answered()
    assert (kept.requests, kept.lowest, kept.highest) == ([5, 6, 7, 8], 5, 8)

    again = Broker(broker.events, [kept], tail=len(broker.events))  # nothing but the checkpoint
    again.welcome(B, resume(welcome, "first"))

    assert again.ask(B, Connect("a", "b"), 5) == first
    assert again.refusal(B, Connect("x", "y"), 4).code == "request_too_old"
    assert len(again.events) == len(broker.events)


def test_a_guest_that_was_cut_off_and_says_hello_again_does_not_do_it_twice() -> None:
    broker = Broker()
    guest = replace(FIRST, kind="guest")
    broker.welcome(A, guest)
    done = broker.ask(A, Connect("a", "b"), 1)
    broker.pass_time(61.0)

    for each in (broker, broker.restarted()):
        each.welcome(B, guest)
        assert each.ask(B, Connect("a", "b"), 1) == done
        assert len(each.events) == 1


def test_a_sync_repeated_after_a_restart_does_not_count_what_was_asked_after_it() -> None:
    """A watcher that begins with it would never get what its own program did next."""
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    assert broker.ask(A, Sync(), 1) == Done(1)
    broker.ask(A, RegisterMetadata(METADATA), 2)
    broker.ask(A, Connect("a", "b"), 3)

    again = broker.restarted()
    again.welcome(A, resume(welcome, "first"))

    assert again.ask(A, Sync(), 1) == Done(1)
    assert again.ask(A, Sync(), 4) == Done(len(broker.events))


def test_absent_guests_are_remembered_in_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ezgraph.broker.admission._ABSENT_GUESTS", 3)
    broker = Broker()
    for number in range(8):
        broker.welcome(A, replace(FIRST, kind="guest", nonce=f"guest {number}"))
        broker.ask(A, Connect("a", f"b{number}"), 1)
        broker.ask(A, Goodbye(), 2)

    kept = broker.restarted().core.admission.answered()

    assert len(kept) == 3
    assert kept[-1].client == f"guest-{holder_of('guest 7')}"


# --- what a latecomer lost ---


def test_a_session_that_comes_back_too_late_is_told_what_it_lost_also_after_a_restart() -> None:
    broker = Broker()
    welcome = broker.welcome(A, FIRST)
    broker.ask(A, Connect("a", "b"), 1)
    broker.ask(A, RegisterMetadata(METADATA), 2)
    broker.pass_time(6.0)

    for each in (broker, broker.restarted()):
        refusal = each.refusal(B, resume(welcome, "first"))
        assert refusal.code == "session_expired"
        assert "lost 1 edge (a -> b) and 1 component (SYS/A)" in refusal.message
        assert refusal.lost == Lost(
            welcome.client, len(broker.events), EndReason.EXPIRED, [Edge("a", "b")], ["SYS/A"]
        )


def test_a_process_is_told_of_its_units_and_live_values() -> None:
    broker = Broker()
    welcome = broker.welcome(A, replace(FIRST, kind="process"))
    broker.ask(A, UpdateUnits(["SYS/A", "SYS/B"], []), 1)
    broker.ask(A, ReportSettings("SYS/A", VALUE), 2)
    broker.pass_time(6.0)

    lost = broker.refusal(B, resume(welcome, "first")).lost

    assert lost is not None
    assert (lost.units, lost.settings) == (["SYS/A", "SYS/B"], ["SYS/A"])
    assert lost.client == str(UUID(lost.client))


def test_the_memory_of_ended_leases_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ezgraph.broker.ended.MAX_LEASES", 3)
    monkeypatch.setattr("ezgraph.broker.ended.MAX_THINGS", 4)
    broker = Broker()
    ended = EndedLeases()
    for number in range(6):
        peer = bytes([number])
        broker.welcome(peer, replace(FIRST, nonce=f"n{number}"))
        for edge in range(number % 3):
            broker.ask(peer, Connect(f"a{number}", f"b{edge}"), edge + 1)
        count = len(broker.events)
        broker.ask(peer, Goodbye(), 99)
        ended.remember(broker.events[count:])

    assert len(ended) == 3
    assert ended.get("s6") is not None
    assert ended.get("s1") is None
    assert lost_in(broker.events[:1]) is None


# --- diverged ---


@pytest.mark.parametrize(
    ("epoch", "seq", "fits"), [(1, 10, True), (1, 11, False), (2, 10**6, True), (2, 10**7, False),
                               (3, 0, False)]
)
def test_a_client_beyond_the_end_of_its_epoch_has_diverged(
    epoch: int, seq: int, *, fits: bool
) -> None:
    state = GraphState()
    state.epoch, state.seq = 2, 10**6
    core = BrokerCore(
        state, Cluster(CLUSTER_ID, b"secret"), BrokerConfig(), SequentialIds(),
        events_port=1, floor=1, epoch_ends={1: 10},
    )
    joined = core.receive(A, Request(0, 0, FIRST), now=0.0, wall=0.0).reply
    assert isinstance(joined, Welcome)
    asked = Resume(1, joined.client, joined.token, CLUSTER_ID, epoch, seq, "first")

    reply = core.receive(B, Request(0, 0, asked), now=0.0, wall=0.0).reply

    assert isinstance(reply, Welcome) is fits
    if isinstance(reply, Refusal):
        assert reply.code == "diverged"
        assert "redeclare()" in reply.message


def test_compaction_is_an_event_of_the_broker_itself() -> None:
    broker = Broker()
    broker.welcome(A, FIRST)

    (event,) = broker.core.compacted(1, now=1.0, wall=2.0)

    assert event.body == HistoryCompacted(1)
    assert (event.source.program, event.source.client, event.request_id) == (
        "ezgraph broker", None, None,
    )
    assert broker.welcome(B, FIRST).floor == 1
