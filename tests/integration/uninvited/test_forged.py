"""What is stolen, said again, or made up: tokens, nonces, frames, routing ids, subscriptions."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import pytest
import zmq

from ezgraph.names import topic_of
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Disconnect,
    Goodbye,
    Heartbeat,
    ListClients,
    OpenSnapshot,
    ReadEvents,
    RegisterMetadata,
    ReportSettings,
    Resume,
    Revert,
    SetPause,
    Sync,
    TakeOver,
    UpdateUnits,
)
from ezgraph.protocol.events import AccessRefused
from ezgraph.protocol.metadata import GraphMetadata
from ezgraph.protocol.replies import Beat, Done, Refusal, Welcome
from ezgraph.protocol.settings import SettingsSnapshotValue

if TYPE_CHECKING:
    from ezgraph.broker.engine import BrokerEngine
    from tests.integration.uninvited.conftest import ByHand, Peer, Rig

pytestmark = pytest.mark.integration

VALUE = SettingsSnapshotValue(None, {"n": 1}, {"n": 1})


def head(rig: Rig) -> int:
    return rig.service_of("observer").sync()


# --- tokens ---


def take_over(stolen: Resume, hello: object) -> TakeOver:
    return TakeOver(hello, stolen.client, stolen.token, stolen.cluster_id)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["session", "process"])
@pytest.mark.parametrize("thief", ["admin", "blind", "nothing"])
def test_a_stolen_token_is_worth_nothing_under_another_key(rig: Rig, thief: str, kind: str) -> None:
    victim = rig.member("operator", kind)
    own = Connect("mine", "too") if kind == "session" else UpdateUnits(["RIG_B/MINE"], [])
    assert isinstance(victim.ask(own), Done)
    stolen = victim.token
    attacker = rig.member(thief, kind)
    before = head(rig)

    for said in (
        stolen,
        replace(stolen, nonce=victim.hello.nonce),
        take_over(stolen, attacker.hello),
        take_over(stolen, victim.hello),
    ):
        attacker.send(said, 0)
        refusal = attacker.reply(0)
        guess = replace(stolen, client="0" * 16, token=bytes(32))
        attacker.send(guess, 0)
        guessed = attacker.reply(0)

        assert isinstance(refusal, Refusal)
        assert isinstance(guessed, Refusal)
        assert (refusal.code, refusal.lost) == ("session_expired", None)
        # It is not even told whether there is such a lease.
        assert refusal.message.replace(stolen.client, "0" * 16) == guessed.message

    with rig.context_of("observer") as witness:
        audited = [each.body for each in witness.events(("audit", thief))]
        since = {each.kind for each in witness.events(after_seq=before)}
    assert {(each.what, each.code) for each in audited if isinstance(each, AccessRefused)} == {
        ("Resume", "foreign_token"),
        ("TakeOver", "foreign_token"),
    }
    assert stolen.token.hex() not in str(audited)
    assert str(stolen.token) not in str(audited)
    assert since <= {"AccessRefused", "SessionOpened"}
    assert isinstance(victim.ask(Sync()), Done)
    assert isinstance(attacker.ask(Revert()), Done)  # of a lease of its own
    listed = {each.id: each for each in rig.service_of("observer").clients()}
    assert bool(listed[stolen.client].edges or listed[stolen.client].units)


@pytest.mark.parametrize("kind", ["session", "process"])
def test_a_hello_with_a_stolen_nonce_opens_a_lease_of_its_own_and_nothing_else(
    rig: Rig, kind: str
) -> None:
    victim = rig.member("operator", kind)
    attacker = rig.peer("admin")

    welcome = attacker.enter(victim.hello)

    assert victim.welcome is not None
    assert welcome.client != victim.welcome.client
    assert welcome.token != victim.welcome.token
    assert (welcome.key_name, welcome.next_request_id) == ("admin", 1)
    assert isinstance(attacker.ask(Goodbye()), Done)
    assert isinstance(victim.ask(Sync()), Done)


def test_the_right_key_comes_back_with_its_token_also_after_a_restart(rig_on_disk: Rig) -> None:
    rig = rig_on_disk
    victim = rig.member("operator")
    victim.ask(Connect("mine", "too"))
    again = rig.peer("operator")
    assert again.enter(victim.token).client == victim.token.client
    assert isinstance(again.ask(Sync()), Done)

    rig.restart()

    attacker = rig.peer("admin")
    attacker.send(victim.token, 0)
    refused = attacker.reply(0)
    assert isinstance(refused, Refusal)
    assert refused.code == "session_expired"
    stolen = rig.peer("admin")
    stolen.send(take_over(victim.token, victim.hello), 0)
    assert isinstance(stolen.reply(0), Refusal)
    back = rig.peer("operator")
    assert back.enter(victim.token).client == victim.token.client
    assert isinstance(back.ask(Connect("mine", "three")), Done)
    assert rig.service_of("observer").snapshot().graph["mine"] == ["three", "too"]
    heir = rig.peer("operator")
    hello = replace(victim.hello, nonce="the-heirs")
    assert heir.enter(take_over(victim.token, hello)).client == victim.token.client
    assert back.refused(Sync()).code == "unbound"


# --- frames said again ---


def changes(*, process: bool) -> list[Command]:
    if process:
        return [UpdateUnits(["RIG_B/MINE"], []), ReportSettings("RIG_B/MINE", VALUE)]
    return [
        Connect("mine", "too"),
        SetPause(paused=True),
        RegisterMetadata(GraphMetadata()),
        Disconnect("mine", "too"),
    ]


@pytest.mark.parametrize("kind", ["session", "process"])
def test_a_replayed_frame_takes_effect_once_or_never(rig_on_disk: Rig, kind: str) -> None:
    rig = rig_on_disk
    first = rig.member("operator", kind)
    token = first.token
    bound = [first, rig.peer("operator")]
    bound[1].enter(token)
    strangers = [rig.peer("operator"), rig.peer("admin")]
    commands = changes(process=kind == "process")
    recorded = [first.send(each, 10 + number) for number, each in enumerate(commands)]
    replies = [first.reply(10 + number) for number in range(len(commands))]
    assert all(isinstance(each, Done) for each in replies), replies
    before, state = head(rig), rig.service_of("observer").snapshot()

    for _ in range(2):
        for number, frame in enumerate(recorded):
            for peer in bound:
                peer.socket.send(frame)
                assert peer.reply(10 + number) == replies[number]
            for peer in strangers:
                peer.socket.send(frame)
                refused = peer.reply(10 + number)
                assert isinstance(refused, Refusal)
                assert refused.code == "unbound"
        assert head(rig) == before
        after = rig.service_of("observer").snapshot()
        assert (after.graph, after.processes, after.paused) == (
            state.graph,
            state.processes,
            state.paused,
        )

        rig.restart()
        bound = [rig.peer("operator"), rig.peer("operator")]
        for peer in bound:
            peer.enter(token)
        strangers = [rig.peer("operator"), rig.peer("admin")]


def test_a_goodbye_or_a_resume_said_again_by_another_key_ends_and_gives_nothing(rig: Rig) -> None:
    victim, thief = rig.member("operator"), rig.peer("blind")
    goodbye = rig.member("operator").send(Goodbye(), 7)
    resume = rig.peer("operator").send(victim.token, 0)

    thief.socket.send(goodbye)
    thief.socket.send(resume)

    codes = [thief.reply(7), thief.reply(0)]
    assert [getattr(each, "code", None) for each in codes] == ["unbound", "session_expired"]
    assert isinstance(victim.ask(Sync()), Done)


# --- routing ids that are chosen ---

CHOSEN = b"chosen-by-both"


def test_who_takes_the_routing_id_of_another_key_takes_nothing_else(rig: Rig) -> None:
    victim = rig.peer("operator", routing_id=CHOSEN)
    victim.join()
    victim.ask(Connect("mine", "too"))
    keepalive = rig.peer("operator")
    keepalive.enter(victim.token)
    before = head(rig)
    victim.cut()
    attackers = (rig.peer(name, routing_id=CHOSEN) for name in ("admin", "nothing") * 50)
    taken = next(each for each in attackers if is_answered(each))

    said: list[Command] = [
        Connect("mine", "stolen"),
        Disconnect("mine", "too"),
        Revert(),
        ListClients(),
        OpenSnapshot([]),
        Heartbeat(0.0),
        Goodbye(),
    ]
    refusals = [taken.refused(each) for each in said]

    assert {each.code for each in refusals} == {"unbound"}
    assert head(rig) == before
    assert isinstance(keepalive.ask(Heartbeat(0.0)), Beat)
    assert isinstance(taken.join(), Welcome)  # a lease of its own
    assert isinstance(keepalive.ask(Connect("mine", "again")), Done)
    assert rig.service_of("observer").snapshot().graph["mine"] == ["again", "too"]
    back = rig.peer("operator", routing_id=CHOSEN + b"2")
    assert back.enter(victim.token).client == victim.token.client


def is_answered(peer: Peer) -> bool:
    """Whether the broker takes a peer in: it ignores one that came while another had its id."""
    peer.send(Sync(), 999)
    return bool(peer.listen(100))


def test_who_takes_a_routing_id_hears_nothing_of_what_was_asked_under_it(
    rig: Rig, by_hand: ByHand
) -> None:
    victim = by_hand.joined("observer", routing_id=CHOSEN)
    secretive = by_hand.joined("operator")
    secretive.send(Connect(rig.secret, f"{rig.secret}2", reason=rig.secret), 1)
    last = 499
    for asked in range(1, last + 1):
        victim.send(ReadEvents([], 0) if asked % 2 else OpenSnapshot([]), asked)
    engine = by_hand.service.engine
    by_hand.passes_until(lambda: engine.state.dag.edge_owners and is_asked(engine, CHOSEN, last))
    attacker = rig.dealer("nothing", rig.keys["nothing"], routing_id=CHOSEN)
    at = engine.fd_of(CHOSEN)
    assert at is not None

    victim.cut()
    wait_until_gone(at, by_hand.service._router)
    attacker.dial(*by_hand.address)
    by_hand.passes_until(lambda: attacker.handshake(0) == "welcome")
    assert len(engine._reads) > 20, "all was answered before the attacker was there"
    by_hand.passes_until(lambda: not engine._reads)

    assert attacker.listen(50) == []
    attacker.send(Sync(), 1)
    by_hand.passes_until(lambda: attacker.listen())
    assert attacker.listen() == []


def is_asked(engine: BrokerEngine, peer: bytes, request_id: int) -> bool:
    """Whether a read waits; with the last one, nothing of that peer is unread any more.

    ZeroMQ would not see the end of a connection before what it cannot read for want of room.
    """
    return any(each[:2] == (peer, request_id) for each in engine._reads._asked)


def test_who_takes_a_routing_id_and_its_descriptor_without_keys_takes_nothing_else(
    rig: Rig, open_by_hand: ByHand
) -> None:
    by_hand = open_by_hand
    victim = by_hand.joined(None, routing_id=CHOSEN)
    victim.send(Connect("mine", "too"), 1)
    engine, router = by_hand.service.engine, by_hand.service._router
    by_hand.passes_until(lambda: engine.state.dag.edge_owners)
    connection = engine.core.connection_of(CHOSEN)
    assert connection is not None
    assert connection.descriptor is not None
    number = connection.descriptor[0]
    attacker = rig.dealer("attacker", None, routing_id=CHOSEN)

    victim.cut()
    wait_until_gone(number, router)
    with next_descriptor(number):
        attacker.dial(*by_hand.address)
        attacker.send(Connect("mine", "stolen"), 2)
        attacker.send(Revert(), 3)
        assert attacker.handshake() == "welcome"
    by_hand.passes_until(lambda: len(attacker.heard) + len(attacker.listen()) >= 2)

    assert by_hand.service._peers.generations[number] == 2, "it should be the same number again"
    replies = attacker.reply(2), attacker.reply(3)
    assert {getattr(each, "code", None) for each in replies} == {"unbound"}
    assert engine.state.dag.graph == {"mine": {"too"}, "too": set()}


def wait_until_gone(number: int, router: zmq.Socket[bytes]) -> None:
    """Wait until the system has a descriptor back, and the ROUTER has let go of its peer."""
    deadline = monotonic() + 5
    looks = 0
    while looks < 20:
        assert monotonic() < deadline, "the connection should have ended"
        router.get(zmq.EVENTS)  # as the loop does for each message that it reads
        threading.Event().wait(0.005)
        try:
            os.fstat(number)
        except OSError:
            looks += 1  # it takes some: the two ends of a pipe take leave of each other


class next_descriptor:  # noqa: N801 - used as a function
    """Within it, the second descriptor that the system gives out is this one."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: list[int] = []

    def __enter__(self) -> None:
        while (held := os.open(os.devnull, os.O_RDONLY)) < self._number:
            self._held.append(held)
        os.close(held)
        os.close(self._held.pop())  # for the attacker's own end

    def __exit__(self, *_: object) -> None:
        for each in self._held:
            os.close(each)


# --- upstream of the events ---

GARBAGE: dict[str, list[bytes]] = {
    "nothing": [b""],
    "no subscription": [b"\x05garbage"],
    "a message": [b"edge/a/b/", bytes(32), b"forged event"],
    "a topic that is too long": [b"\x01" + b"x" * 5_000],
    "a huge message": [b"\x05" + b"x" * 5_000_000],
    "a subscription in a message of two": [b"\x01edge/", b"\x02more"],
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE.keys())
def test_who_sends_up_what_is_no_subscription_is_cut_off_and_nobody_else_loses_a_thing(
    rig: Rig, said: list[bytes]
) -> None:
    speaker = rig.member("operator")
    names = ("observer", "part")
    honest = {name: rig.ear(name, rig.keys[name], rig.port_of(name)) for name in names}
    for ear in honest.values():
        assert ear.handshake() == "welcome"
    seen = rig.ear("observer", rig.keys["observer"], rig.port_of("observer"))
    speaker.ask(Connect("first", "x"))
    honest["observer"].until(lambda message: message[0] == topic_of(("edge", "first", "x")))
    attacker = rig.ear("part", rig.keys["part"], rig.port_of("part"), kind=zmq.XSUB)
    other = rig.ear("operator", rig.keys["operator"], rig.port_of("operator"), kind=zmq.XSUB)
    for each in (attacker, other):
        assert each.handshake() == "welcome"
        each.socket.send_multipart(said)

    count = 50
    for number in range(count):
        assert isinstance(speaker.ask(Connect("a", f"b{number}")), Done)

    assert attacker.is_cut()
    assert other.is_cut()
    last = topic_of(("edge", "a", f"b{count - 1}"))
    for ear in (honest["observer"], seen):
        ear.until(lambda message: message[0] == last)
        topics = [each[0] for each in ear.messages if each[0].startswith(b"edge/a/")]
        assert topics == [topic_of(("edge", "a", f"b{number}")) for number in range(count)]
    assert honest["part"].listen() == []
    assert attacker.messages == []
