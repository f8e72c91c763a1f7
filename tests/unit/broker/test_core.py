"""The broker's core: leases, transactions, repetition, and refusals that change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ezgraph.broker.admission import Cluster, holder_of
from ezgraph.broker.core import BrokerCore
from ezgraph.config import BrokerConfig
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Disconnect,
    GetStatus,
    Goodbye,
    Heartbeat,
    Hello,
    ListClients,
    OpenSnapshot,
    ReadEvents,
    ReadSnapshot,
    RegisterMetadata,
    ReportSettings,
    Resume,
    Revert,
    SetPause,
    Shutdown,
    Sync,
    UpdateUnits,
)
from ezgraph.protocol.events import (
    EdgeConnected,
    EndReason,
    PauseChanged,
    ProcessOpened,
    SessionClosed,
    SessionOpened,
    SettingsChanged,
)
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata
from ezgraph.protocol.replies import Beat, Done, Lost, Refusal, Welcome
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.testing import SequentialIds

if TYPE_CHECKING:
    from tests.unit.broker.conftest import Desk

A, B, C = b"peer-a", b"peer-b", b"peer-c"
CLUSTER_ID = "c" * 32


def metadata(*addresses: str) -> GraphMetadata:
    dynamic = DynamicSettingsMetadata(enabled=False)
    return GraphMetadata(
        components={
            each: ComponentMetadata(each, each, "m.A", "m.S", (None, ""), dynamic)
            for each in addresses
        }
    )


# --- joining ---


def test_a_hello_opens_a_session_and_says_all_that_a_client_needs(desk: Desk) -> None:
    welcome = desk.ask(A, desk.hello_of(), request_id=0)

    assert isinstance(welcome, Welcome)
    assert (welcome.client, welcome.cluster_id, welcome.epoch, welcome.head) == (
        "s1",
        CLUSTER_ID,
        1,
        1,
    )
    assert (welcome.floor, welcome.ttl_s, welcome.events_port) == (1, 6.0, 1234)
    assert len(welcome.token) == 32
    (event,) = desk.events
    assert event.body == SessionOpened("s1", 6.0, holder_of("nonce-1"))
    assert (event.source.session_id, event.source.client) == ("s1", "s1")
    assert (event.source.program, event.source.host) == ("demo.py", "rig")
    assert (event.source.pid, event.source.login, event.source.key_name) == (42, "ada", None)


def test_a_process_has_a_uuid_and_a_guest_leaves_no_event(desk: Desk) -> None:
    process = desk.join(A, "process")
    guest = desk.join(B, "guest")

    assert UUID(process) == UUID(int=1)
    assert guest.startswith("guest-")
    (event,) = desk.events
    assert isinstance(event.body, ProcessOpened)
    assert (event.body.process_id, event.body.ttl_s) == (UUID(process), 6.0)
    assert desk.events[0].source.session_id is None


def test_a_repeated_hello_is_the_same_lease(desk: Desk) -> None:
    hello = desk.hello_of()
    first = desk.ask(A, hello, request_id=0)

    again = desk.ask(B, hello, request_id=0)

    assert isinstance(first, Welcome)
    assert isinstance(again, Welcome)
    assert (again.client, again.token) == (first.client, first.token)
    assert len(desk.events) == 1
    assert desk.ask(A, Sync()) == desk.ask(B, Sync()) == Done(1)


def test_a_late_repetition_of_a_hello_opens_nothing_when_its_lease_has_ended(desk: Desk) -> None:
    hello = desk.hello_of()
    desk.ask(A, hello, request_id=0)
    desk.ask(A, Goodbye())

    refusal = desk.refusal(A, hello, request_id=0)

    assert refusal.code == "session_expired"


@pytest.mark.parametrize(("asked_s", "given_s"), [(None, 6.0), (2.0, 2.0), (0.0, 0.5), (1e9, 3600)])
def test_a_ttl_is_kept_within_bounds(desk: Desk, asked_s: float | None, given_s: float) -> None:
    hello = Hello(1, "session", "n", "p", "h", 1, "l", ttl_s=asked_s)

    welcome = desk.ask(A, hello, request_id=0)

    assert isinstance(welcome, Welcome)
    assert welcome.ttl_s == given_s


HELLOS: list[tuple[Hello, str, str]] = [
    (Hello(2, "session", "n", "p", "h", 1, "l"), "protocol_version", "install the same ezgraph"),
    (Hello(1, "king", "n", "p", "h", 1, "l"), "invalid_command", "session, process or guest"),
    (
        Hello(1, "session", "n", "p", "h", 1, "l", cluster_id="d" * 32),
        "wrong_cluster",
        "open a new context",
    ),
    (Hello(1, "session", "n", "p", "h", 1, "l", ttl_s=float("nan")), "invalid_command", "TTL"),
    (Hello(1, "session", "n", "p", "h", 1, "l", ttl_s=float("inf")), "invalid_command", "TTL"),
]


@pytest.mark.parametrize(("hello", "code", "says"), HELLOS)
def test_a_hello_outside_the_rules_is_refused(
    desk: Desk, hello: Hello, code: str, says: str
) -> None:
    refusal = desk.refusal(A, hello, request_id=0)

    assert refusal.code == code
    assert says in refusal.message
    assert desk.ask(A, Sync()) == desk.ask(B, Sync())  # both unbound


def test_beyond_the_limit_of_leases_a_hello_is_refused_and_those_there_go_on(desk: Desk) -> None:
    for number in range(5):
        desk.join(b"peer-%d" % number)

    refusal = desk.refusal(A, desk.hello_of(), request_id=0)

    assert (refusal.code, "max_leases" in refusal.message) == ("limit", True)
    assert desk.ask(b"peer-0", Connect("a", "b")) == Done(6)
    desk.ask(b"peer-1", Goodbye())
    desk.join(A)


# --- bound and unbound ---


def test_an_unbound_connection_is_told_to_say_hello(desk: Desk) -> None:
    refusal = desk.refusal(A, Connect("a", "b"))

    assert refusal.code == "unbound"
    assert "HELLO or RESUME" in refusal.message


def test_a_resume_binds_another_connection_to_the_lease(desk: Desk) -> None:
    welcome = desk.ask(A, desk.hello_of(), request_id=0)
    assert isinstance(welcome, Welcome)
    resume = Resume(1, welcome.client, welcome.token, CLUSTER_ID, 1, 1)

    again = desk.ask(B, resume, request_id=0)

    assert isinstance(again, Welcome)
    assert again.client == welcome.client
    assert desk.bodies(B, Connect("a", "b")) == [
        EdgeConnected("a", "b", "s1", topology_changed=True)
    ]


RESUMES = [
    ({"token": b"x" * 32}, "session_expired", "token does not belong"),
    ({"client": "s9"}, "session_expired", "token does not belong"),
    ({"cluster_id": "d" * 32}, "wrong_cluster", "another journal"),
    ({"protocol": 9}, "protocol_version", "speaks protocol 9"),
    ({"seq": 2}, "diverged", "seen seq 2 of epoch 1, which in this history ends at 1 (now epoch 1"),
    ({"epoch": 2, "seq": 0}, "diverged", "take a snapshot"),
]


@pytest.mark.parametrize(("change", "code", "says"), RESUMES)
def test_a_resume_that_does_not_fit_is_refused(
    desk: Desk, change: dict[str, object], code: str, says: str
) -> None:
    welcome = desk.ask(A, desk.hello_of(), request_id=0)
    assert isinstance(welcome, Welcome)
    given: dict[str, object] = {
        "protocol": 1,
        "client": welcome.client,
        "token": welcome.token,
        "cluster_id": CLUSTER_ID,
        "epoch": 1,
        "seq": 1,
        **change,
    }

    refusal = desk.refusal(B, Resume(**given), request_id=0)  # type: ignore[arg-type]

    assert refusal.code == code
    assert says in refusal.message


def test_a_resume_of_a_lease_that_has_ended_says_what_is_lost(desk: Desk) -> None:
    welcome = desk.ask(A, desk.hello_of(), request_id=0)
    assert isinstance(welcome, Welcome)
    desk.pass_time(6.0)

    refusal = desk.refusal(
        B, Resume(1, welcome.client, welcome.token, CLUSTER_ID, 1, 1), request_id=0
    )

    assert refusal.code == "session_expired"
    assert "(expired, at seq 2) lost nothing; open a new session" in refusal.message
    assert refusal.lost == Lost(welcome.client, 2, EndReason.EXPIRED)


def test_tokens_differ_by_client_and_by_secret(desk: Desk) -> None:
    first = desk.ask(A, desk.hello_of(), request_id=0)
    second = desk.ask(B, desk.hello_of(), request_id=0)
    elsewhere = BrokerCore(
        desk.state,
        Cluster(CLUSTER_ID, b"other secret"),
        BrokerConfig(),
        SequentialIds(),
        events_port=1,
        floor=1,
    )

    assert isinstance(first, Welcome)
    assert isinstance(second, Welcome)
    assert len({first.token, second.token, elsewhere.admission.token(first.client)}) == 3
    assert "secret" not in repr(Cluster(CLUSTER_ID, b"secret"))


# --- transactions ---


def test_the_events_of_a_command_are_one_dense_transaction(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"))
    desk.ask(A, RegisterMetadata(metadata("X", "Y")), request_id=77)

    assert [event.seq for event in desk.events] == list(range(1, 8))
    assert [event.prev for event in desk.events] == list(range(7))
    assert [(event.txn_first, event.txn_last) for event in desk.events] == [
        (1, 1),
        (2, 2),
        *[(3, 7)] * 5,
    ]
    assert {event.request_id for event in desk.events[2:]} == {77}
    assert {(event.mono_time, event.wall_time) for event in desk.events} == {(100.0, 1e9 + 100)}
    assert desk.state.seq == 7


def test_a_reason_is_kept_with_the_event_and_only_there(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b", "because"))
    desk.ask(A, Connect("b", "c"))

    assert [event.source.reason for event in desk.events] == [None, "because", None]


def test_a_command_that_changes_nothing_makes_no_event(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"))

    for command in (Connect("a", "b"), SetPause(paused=False), Sync()):
        outcome = desk.outcome(A, command)
        assert (outcome.reply, outcome.events) == (Done(2), ())


def test_pausing_is_an_event_when_it_changes_something(desk: Desk) -> None:
    desk.join(A, "guest")

    assert desk.bodies(A, SetPause(paused=True)) == [PauseChanged(paused=True)]
    assert desk.bodies(A, SetPause(paused=True)) == []
    assert desk.bodies(A, SetPause(paused=False)) == [PauseChanged(paused=False)]


@pytest.mark.parametrize(
    "command", [ReadEvents([], 0), OpenSnapshot([]), ReadSnapshot(1, [], 0), GetStatus()]
)
def test_what_reads_stored_bytes_is_left_to_the_shell(desk: Desk, command: Command) -> None:
    desk.join(A)

    outcome = desk.outcome(A, command)

    assert (outcome.reply, outcome.read, outcome.events) == (None, command, ())


# --- repetition ---


def test_a_repeated_request_is_answered_and_not_executed_again(desk: Desk) -> None:
    desk.join(A)
    first = desk.outcome(A, SetPause(paused=True), request_id=1)
    desk.ask(A, SetPause(paused=False), request_id=2)

    again = desk.outcome(A, SetPause(paused=True), request_id=1)

    assert again.reply == first.reply == Done(2)
    assert again.events == ()
    assert not desk.state.paused


def test_a_refused_request_is_refused_again_even_if_it_would_be_right_by_now(desk: Desk) -> None:
    desk.join(A)
    first = desk.ask(A, Disconnect("a", "b"), request_id=1)
    desk.ask(A, Connect("a", "b"), request_id=2)

    again = desk.ask(A, Disconnect("a", "b"), request_id=1)

    assert isinstance(first, Refusal)
    assert again == first
    assert ("a", "b") in desk.state.dag.edge_owners


def test_a_request_that_changed_nothing_is_not_judged_anew(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"), request_id=1)
    assert desk.ask(A, Connect("a", "b"), request_id=2) == Done(2)
    desk.ask(A, Disconnect("a", "b"), request_id=3)

    assert desk.ask(A, Connect("a", "b"), request_id=2) == Done(2)
    assert desk.state.dag.edge_owners == {}


def test_request_ids_of_two_leases_have_nothing_to_do_with_each_other(desk: Desk) -> None:
    desk.join(A)
    desk.join(B)

    assert desk.ask(A, Connect("a", "b"), request_id=1) == Done(3)
    assert desk.ask(B, Connect("b", "c"), request_id=1) == Done(4)


def test_a_request_below_the_lowest_open_is_refused_and_not_executed(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"), request_id=1)
    desk.ask(A, Connect("b", "c"), request_id=5, lowest=5)

    refusal = desk.refusal(A, Connect("x", "y"), request_id=4, lowest=5)

    assert refusal.code == "request_too_old"
    assert "request 4 lies below 5" in refusal.message
    assert "send it under a new id" in refusal.message


def test_more_open_requests_than_the_limit_are_refused(desk: Desk) -> None:
    desk.join(A)
    for number in range(1, 21):
        desk.ask(A, Connect("a", f"b{number}"), request_id=number)

    refusal = desk.refusal(A, Connect("a", "c"), request_id=21)

    assert (refusal.code, "max_open_requests" in refusal.message) == ("limit", True)
    assert desk.ask(A, Connect("a", "c"), request_id=22, lowest=21) == Done(22)


def test_heartbeats_need_no_request_id(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"), request_id=9, lowest=9)

    assert desk.ask(A, Heartbeat(0.25), request_id=0) == Beat(2, 1e9 + 100, 100.0)
    (client,) = desk.core.list_clients(desk.now).clients
    assert client.main_loop_age_s == 0.25


# --- the end of leases ---


def test_goodbye_ends_the_lease_and_all_it_owned_in_one_transaction(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"))
    desk.ask(A, RegisterMetadata(metadata("X")))

    bodies = desk.bodies(A, Goodbye())

    assert [type(body).__name__ for body in bodies] == [
        "EdgeDisconnected",
        "ComponentRemoved",
        "SettingsChanged",
        "GraphRemoved",
        "SessionClosed",
    ]
    assert bodies[-1] == SessionClosed("s1", EndReason.CLOSED)
    assert len({event.txn_first for event in desk.events[-5:]}) == 1
    assert desk.refusal(A, Sync()).code == "unbound"
    assert desk.state.sessions == {}


def test_silence_for_a_ttl_ends_the_lease_and_any_word_renews_it(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"))
    desk.join(B)

    assert desk.pass_time(5.9) == []
    desk.ask(B, Heartbeat(0.0))
    (events,) = desk.pass_time(0.1)

    assert [event.kind for event in events] == ["EdgeDisconnected", "SessionClosed"]
    assert events[-1].body == SessionClosed("s1", EndReason.EXPIRED)
    assert {event.request_id for event in events} == {None}
    assert desk.refusal(A, Sync()).code == "unbound"
    assert desk.pass_time(5.0) == []
    assert len(desk.pass_time(1.0)) == 1


def test_leases_that_run_out_together_are_one_transaction_each(desk: Desk) -> None:
    desk.join(A)
    desk.join(B, "process")

    over = desk.pass_time(6.0)

    assert sorted([event.kind for event in events] for events in over) == [
        ["ProcessClosed"],
        ["SessionClosed"],
    ]


def test_a_guest_that_is_silent_is_forgotten_without_an_event(desk: Desk) -> None:
    desk.join(A, "guest")

    assert desk.pass_time(60.0) == []
    assert desk.refusal(A, Sync()).code == "unbound"
    assert desk.events == []


def test_revert_drops_all_and_keeps_the_lease(desk: Desk) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"))
    desk.ask(A, RegisterMetadata(metadata("X")))

    bodies = desk.bodies(A, Revert())

    assert "SessionClosed" not in {type(body).__name__ for body in bodies}
    assert (desk.state.dag.edge_owners, desk.state.components) == ({}, {})
    assert desk.bodies(A, Connect("a", "b"))
    assert desk.bodies(A, Revert())
    assert desk.bodies(A, Revert()) == []


# --- a restart ---


def restarted(desk: Desk) -> Desk:
    """The same history in a new core, as after a restart."""
    again = type(desk)()
    again.now = desk.now + 1000.0
    for event in desk.events:
        again.state.apply(event)
    again.core.restore_leases(desk.events, now=again.now)
    return again


def test_after_a_restart_every_lease_has_one_fresh_ttl(desk: Desk) -> None:
    desk.join(A)
    desk.join(B, "process")
    again = restarted(desk)

    assert len(again.core.leases) == 2
    assert again.pass_time(5.9) == []
    assert len(again.pass_time(0.1)) == 2


def test_after_a_restart_a_client_resumes_and_its_repetitions_are_known(desk: Desk) -> None:
    welcome = desk.ask(A, desk.hello_of(), request_id=0)
    desk.ask(A, SetPause(paused=True), request_id=1)
    desk.ask(A, SetPause(paused=False), request_id=2)
    assert isinstance(welcome, Welcome)
    again = restarted(desk)
    assert again.refusal(A, SetPause(paused=True), request_id=1).code == "unbound"

    again.ask(A, Resume(1, welcome.client, welcome.token, CLUSTER_ID, 1, 3), request_id=0)

    assert again.ask(A, SetPause(paused=True), request_id=1) == Done(2)
    assert not again.state.paused
    assert again.ask(A, Connect("a", "b"), request_id=3) == Done(4)


def test_after_a_restart_a_guest_that_says_hello_again_has_its_answers(desk: Desk) -> None:
    hello = desk.hello_of("guest", "guest-nonce")
    desk.ask(A, hello, request_id=0)
    desk.ask(A, Connect("a", "b"), request_id=1)
    again = restarted(desk)

    again.ask(A, hello, request_id=0)

    assert again.ask(A, Connect("a", "b"), request_id=1) == Done(1)
    assert len(again.events) == 0


# --- shutting down and listing ---


def test_shutdown_is_refused_while_others_live_and_counts_them(desk: Desk) -> None:
    desk.join(A, "guest")
    desk.join(B)
    desk.join(C, "process")

    refusal = desk.refusal(A, Shutdown())

    assert refusal.code == "live_sessions"
    assert "2 live session(s)" in refusal.message
    assert "demo.py on rig (pid 42); close them, or force" in refusal.message
    assert desk.outcome(A, Shutdown(force=True)).stop


def test_shutdown_of_an_empty_broker_is_granted(desk: Desk) -> None:
    desk.join(A)

    outcome = desk.outcome(A, Shutdown())

    assert (outcome.reply, outcome.stop, outcome.events) == (Done(1), True, ())


def test_everybody_is_listed_oldest_first_with_what_they_own(desk: Desk) -> None:
    session = desk.join(A)
    desk.now += 1.0
    process = desk.join(B, "process")
    desk.ask(A, Connect("a", "b"))
    desk.ask(A, RegisterMetadata(metadata("Y", "X")))
    desk.ask(B, UpdateUnits(["U2", "U1"], []))
    desk.now += 2.0

    read = desk.outcome(A, ListClients()).read
    reply = desk.core.list_clients(desk.now)

    assert read == ListClients()  # for the shell, which answers such questions by turns
    assert reply.seq == desk.state.seq
    first, second = reply.clients
    assert (first.id, first.kind, first.age_s, first.last_heard_s) == (session, "session", 3.0, 0.0)
    assert (first.edges, first.components, first.units) == ([("a", "b")], ["X", "Y"], [])
    assert (second.id, second.kind, second.age_s) == (process, "process", 2.0)
    assert (second.last_heard_s, second.units) == (2.0, ["U1", "U2"])
    assert (first.program, first.host, first.pid, first.login) == ("demo.py", "rig", 42, "ada")


# --- what is refused to whom ---

VALUE = SettingsSnapshotValue(None, "x")
REFUSED: list[tuple[str, Command, str, list[str]]] = [
    ("session", Connect("a", "a"), "cyclic", ["'a' -> 'a'", "a -> a"]),
    ("session", Connect("c", "a"), "cyclic", ["c -> a -> b -> c", "disconnect one of these"]),
    ("session", Connect("", "b"), "invalid_command", ["segment ''", "at least one character"]),
    ("session", Connect("a", "x" * 5000), "invalid_command", ["5008 bytes", "at most 4096"]),
    ("session", Disconnect("x", "y"), "unknown_edge", ["no edge 'x' -> 'y'", "ezgraph ls edges"]),
    (
        "session",
        Disconnect("a", "b"),
        "foreign_edge",
        ["not held by session s2", "session s1 (demo.py on rig, pid 42)", "only who holds it"],
    ),
    ("guest", Disconnect("a", "b"), "foreign_edge", ["not held by persistent", "session s1"]),
    ("process", Connect("x", "y"), "invalid_command", ["holds no edges", "GraphContext"]),
    ("process", Disconnect("a", "b"), "invalid_command", ["holds no edges"]),
    ("guest", RegisterMetadata(metadata("Z")), "invalid_command", ["this is a guest"]),
    ("process", RegisterMetadata(metadata("Z")), "invalid_command", ["use a GraphContext"]),
    (
        "session",
        RegisterMetadata(metadata("X", "Z")),
        "address_collision",
        ["'X' held by session s1 (demo.py on rig, pid 42)", "close that session first"],
    ),
    (
        "session",
        RegisterMetadata(GraphMetadata(components={"Q": metadata("Z").components["Z"]})),
        "invalid_command",
        ["components['Q'] says its address is 'Z'", "both must be the same"],
    ),
    ("session", RegisterMetadata(metadata("")), "invalid_command", ["component address ''"]),
    ("session", UpdateUnits(["U"], []), "invalid_command", ["use a ProcessControlClient"]),
    ("guest", ReportSettings("U", VALUE), "invalid_command", ["use a ProcessControlClient"]),
    (
        "process",
        UpdateUnits(["U", "W"], []),
        "address_collision",
        ["'U' held by process 00000000-0000-0000-0000-000000000001", "close that process first"],
    ),
    ("process", UpdateUnits([""], []), "invalid_command", ["unit address ''"]),
    (
        "process",
        UpdateUnits([], ["U"]),
        "not_owner",
        ["lets go of 'U'", "held by process 00000000-0000-0000-0000-000000000001"],
    ),
    ("process", UpdateUnits([], ["W"]), "not_owner", ["'W', which no process has registered"]),
    (
        "process",
        ReportSettings("U", VALUE),
        "not_owner",
        ["reports settings of 'U'", "held by process", "register the unit first"],
    ),
    ("process", ReportSettings("W", VALUE), "not_owner", ["which no process has registered"]),
]


@pytest.mark.parametrize(("kind", "command", "code", "says"), REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_names_what_why_and_what_to_do_and_changes_nothing(
    desk: Desk, kind: str, command: Command, code: str, says: list[str]
) -> None:
    desk.join(A)
    desk.ask(A, Connect("a", "b"))
    desk.ask(A, Connect("b", "c"))
    desk.ask(A, RegisterMetadata(metadata("X")))
    desk.join(B, "process")
    desk.ask(B, UpdateUnits(["U"], []))
    desk.join(C, kind)

    refusal = desk.refusal(C, command)

    assert refusal.code == code
    for part in says:
        assert part in refusal.message


def test_a_process_reports_settings_with_its_own_time(desk: Desk) -> None:
    desk.join(A, "process")
    desk.ask(A, UpdateUnits(["U"], []))

    (body,) = desk.bodies(A, ReportSettings("U", VALUE, 12.5))

    assert isinstance(body, SettingsChanged)
    assert (body.address, body.value, body.reported_time) == ("U", VALUE, 12.5)
    assert body.process_id == UUID(int=1)


def test_a_core_shows_where_it_is(desk: Desk) -> None:
    desk.join(A)

    assert repr(desk.core) == "<BrokerCore seq=1 leases=1>"


def test_a_sync_repeated_says_the_seq_it_said_before(desk: Desk) -> None:
    """Who begins to watch with it would else miss what it did itself in between."""
    desk.join(A)
    first = desk.ask(A, Sync(), request_id=5, lowest=5)
    desk.ask(A, Connect("a", "b"), request_id=6, lowest=5)

    assert desk.ask(A, Sync(), request_id=5, lowest=5) == first
    assert desk.ask(A, Sync(), request_id=7, lowest=5) == Done(2)
