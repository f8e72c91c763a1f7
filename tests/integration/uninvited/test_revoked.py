"""G11 later on: who is revoked, or may read less, is cut off at once, whatever it was doing."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import pytest

from ezgraph import (
    Event,
    EzGraphError,
    GraphContext,
    NotAdmittedError,
    SessionExpiredError,
    SettingsSnapshotValue,
)
from ezgraph.keys import folder
from ezgraph.names import topic_of
from ezgraph.protocol.commands import (
    Connect,
    Heartbeat,
    OpenSnapshot,
    ReadEvents,
    ReportSettings,
    Sync,
    UpdateUnits,
)
from ezgraph.protocol.events import EndReason, SessionClosed, SettingsChanged
from ezgraph.protocol.replies import Done

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.integration.uninvited.conftest import ByHand, Raw, Rig

pytestmark = pytest.mark.integration

CUT_OFF_S = 2.0
BACK_S = 2.0
PUBLIC = "RIG_A/PUBLIC"


def value(number: int) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, {"n": number}, {"n": number})


def wait_until(reached: Callable[[], object], what: str, timeout: float = 10.0) -> None:
    deadline = monotonic() + timeout
    while not reached():
        assert monotonic() < deadline, what
        threading.Event().wait(0.01)


class Talker:
    """An admin who changes something all the time, under names that say when."""

    def __init__(self, rig: Rig) -> None:
        self.peer = rig.member("admin")
        self.count = 0

    def say(self, when: str) -> None:
        self.count += 1
        assert isinstance(self.peer.ask(Connect(when, f"{when}{self.count}")), Done)


# --- a key that is revoked ---


def test_a_revoked_key_is_cut_off_in_all_it_does_and_hears_nothing_more(rig: Rig) -> None:
    talker = Talker(rig)
    victim, keepalive, silent = rig.member("operator"), rig.peer("operator"), rig.peer("operator")
    keepalive.enter(victim.token)
    assert silent.handshake() == "welcome"
    port, keys = rig.port_of("operator"), rig.keys["operator"]
    flowing = rig.ear("operator", keys, port)
    idle = rig.ear("operator", keys, port, ())
    assert {flowing.handshake(), idle.handshake()} == {"welcome"}
    victim.ask(Connect("mine", "too"))
    talker.say("before")
    flowing.until(lambda message: message[0] == b"edge/before/before1/")
    assert {victim.handshake(), keepalive.handshake()} == {"welcome"}

    rig.revoke("operator")
    revoked_at = monotonic()
    cut: dict[Raw, float] = {}
    while len(cut) < 4 and monotonic() - revoked_at < CUT_OFF_S:
        talker.say("between")
        flowing.listen()
        for each in (victim, keepalive, flowing, idle):
            if each not in cut and each.is_cut(0):
                cut[each] = monotonic() - revoked_at
    for number in range(5):
        talker.say("late")
        victim.send(Connect("late", f"mine{number}"), 100 + number)
        keepalive.send(Heartbeat(0.0), 200 + number)
        silent.send(victim.hello, 0)
    idle.socket.subscribe(b"")
    flowing.socket.subscribe(b"edge/late/")

    assert len(cut) == 4
    assert {each.handshake() for each in (flowing, idle)} == {"refused"}
    assert {victim.handshake(), keepalive.handshake()} == {"refused"}
    talker.say("late")
    heard = {victim: len(victim.heard), keepalive: len(keepalive.heard)}
    for peer in (victim, keepalive, silent):
        peer.listen(30)
    assert heard == {victim: len(victim.heard), keepalive: len(keepalive.heard)}
    assert silent.heard == []
    flowing.listen(30)
    idle.listen(30)
    assert not [message for message in flowing.messages if b"late" in message[0]]
    assert idle.messages == []
    graph = rig.service_of("observer").snapshot().graph
    assert [each for each in graph["late"] if each.startswith("mine")] == []


def test_what_a_revoked_key_owned_ends_and_trusted_again_it_gets_in(rig: Rig) -> None:
    with rig.context_of("observer") as witness, rig.context_of("operator", ttl_s=30.0) as ctx:
        ctx.connect("mine", "too")
        stream = witness.subscribe(("session", ctx.session_id), 0)
        next(stream)

        rig.revoke("operator")
        revoked_at = monotonic()
        closed = next(
            each.body
            for each in stream
            if isinstance(each, Event) and isinstance(each.body, SessionClosed)
        )
        took_s = monotonic() - revoked_at

        assert closed.reason is EndReason.LOST
        assert took_s < CUT_OFF_S
        assert witness.snapshot().graph == {}

        with pytest.raises(EzGraphError):
            ctx.connect("mine", "again", timeout=0.5)
        rig.trust("operator", "operator")
        with pytest.raises(SessionExpiredError):
            ctx.connect("mine", "again", timeout=10)
        ctx.redeclare()
        assert witness.snapshot().graph == {"mine": ["too"], "too": []}
        assert isinstance(rig.member("operator").ask(Connect("new", "edge")), Done)


def revoked_blocking(rig: Rig) -> None:
    with rig.context_of("operator") as ctx:
        ctx.connect("mine", "too")
        stream = ctx.subscribe()
        next(stream)
        rig.revoke("operator")
        wait_until_cut(rig, "operator")
        ctx.connect("late", "edge", timeout=2.5)


def revoked_async(rig: Rig) -> None:
    async def scenario() -> None:
        async with GraphContext(rig.address, keys=rig.keys["operator"]) as ctx:
            await ctx.connect("mine", "too")
            stream = ctx.subscribe()
            await anext(stream)
            rig.revoke("operator")
            await asyncio.to_thread(wait_until_cut, rig, "operator")
            await ctx.connect("late", "edge", timeout=2.5)

    asyncio.run(scenario())


def wait_until_cut(rig: Rig, name: str) -> None:
    """Wait until the broker goes by an allow-list without that key."""
    public = rig.keys[name].public.hex()
    access = rig.service.engine.core
    wait_until(
        lambda: access.access is not None and access.access.identity(public) is None,
        "the key should have been revoked",
        CUT_OFF_S,
    )


@pytest.mark.parametrize("scenario", [revoked_blocking, revoked_async])
def test_a_client_whose_key_is_revoked_is_told_why_it_gets_no_answer(
    rig: Rig, scenario: Callable[[Rig], None]
) -> None:
    with pytest.raises(NotAdmittedError, match=r"does not admit key 'operator'.*was revoked"):
        scenario(rig)

    assert rig.service_of("observer").snapshot().graph.get("late") is None


# --- a key that may read something else than before ---


class Speaker:
    """An operator who says what is for all to hear, and an operator who does not."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._open, self._covert = rig.member("owner", "process"), rig.member("operator")
        self._open.ask(UpdateUnits([PUBLIC], []))

    def say(self, number: int) -> None:
        for command in (Connect(self._rig.secret, f"{number}"), Connect("a", f"b{number}")):
            assert isinstance(self._covert.ask(command), Done)
        assert isinstance(self._open.ask(ReportSettings(PUBLIC, value(number))), Done)

    def change(self, name: str, role: str) -> None:
        """Give a key another role, wait until it is in force, and talk on."""
        self._rig.trust(name, role)
        public = self._rig.keys[name].public.hex()
        core = self._rig.service.engine.core

        def is_in_force() -> bool:
            identity = core.access.identity(public) if core.access is not None else None
            return identity is not None and identity.role.name == role

        wait_until(is_in_force, "the role should have changed", CUT_OFF_S)
        for number in range(10, 13):
            self.say(number)


def heard_blocking(rig: Rig, before: str, after: str) -> list[Event]:
    speaker, heard = Speaker(rig), Heard()
    with rig.context_of("someone") as ctx:
        stream = cast("Any", ctx.subscribe())._stream
        heard.add(stream.next_within(10))
        speaker.say(1)
        while not heard.has(1):
            heard.add(stream.next_within(10))
        speaker.change("someone", after)
        changed_at = monotonic()
        while not heard.has(12):
            heard.add(stream.next_within(10))
        assert monotonic() - changed_at < BACK_S
        assert ctx.snapshot().filtered is (after == "part")
        assert ctx.status().filtered is (after == "part")
    return heard.events


def heard_async(rig: Rig, before: str, after: str) -> list[Event]:
    async def scenario() -> list[Event]:
        speaker, heard = Speaker(rig), Heard()
        async with (
            GraphContext(rig.address, keys=rig.keys["someone"]) as ctx,
            asyncio.timeout(20),
        ):
            stream = ctx.subscribe()
            heard.add(await anext(stream))
            await asyncio.to_thread(speaker.say, 1)
            while not heard.has(1):
                heard.add(await anext(stream))
            await asyncio.to_thread(speaker.change, "someone", after)
            changed_at = monotonic()
            while not heard.has(12):
                heard.add(await anext(stream))
            assert monotonic() - changed_at < BACK_S
            assert (await ctx.snapshot()).filtered is (after == "part")
            assert (await ctx.status()).filtered is (after == "part")
        return heard.events

    return asyncio.run(scenario())


class Heard:
    """The events of one stream."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, item: object) -> None:
        assert item is not None, "nothing came in time"
        if isinstance(item, Event):
            self.events.append(item)

    def has(self, number: int) -> bool:
        return number in numbers(self.events)


def numbers(events: list[Event]) -> list[int]:
    """What was said openly, in order."""
    reports = [each.body for each in events if isinstance(each.body, SettingsChanged)]
    return [each.value.structured_value["n"] for each in reports if each.value.structured_value]


TWINS = pytest.mark.parametrize("heard_by", [heard_blocking, heard_async])


@TWINS
def test_a_key_that_may_read_less_hears_no_more_of_the_rest_and_all_of_what_it_may(
    rig: Rig, heard_by: Callable[[Rig, str, str], list[Event]]
) -> None:
    rig.add("someone", "observer")
    rig.restart()
    old_ear = rig.ear("someone", rig.keys["someone"], rig.port_of("someone"))
    rig.trusted_once.append(old_ear)
    assert old_ear.handshake() == "welcome"

    events = heard_by(rig, "observer", "part")

    assert numbers(events) == [1, 10, 11, 12]
    covert = [each.key for each in events if each.key[0] == "edge"]
    assert covert == [("edge", rig.secret, "1"), ("edge", "a", "b1")]
    assert [each.seq for each in events] == sorted({each.seq for each in events})
    assert old_ear.is_cut()
    assert old_ear.handshake() == "refused"
    edges = [message[0] for message in old_ear.messages if message[0].startswith(b"edge/")]
    assert set(edges) <= {topic_of(each) for each in covert}


@TWINS
def test_a_key_that_may_read_more_hears_all_of_it_from_then_on(
    rig: Rig, heard_by: Callable[[Rig, str, str], list[Event]]
) -> None:
    rig.add("someone", "part")
    rig.restart()

    events = heard_by(rig, "part", "observer")

    assert numbers(events) == [1, 10, 11, 12]
    edges = {each.key for each in events if each.key[0] == "edge"}
    assert ("edge", rig.secret, "1") not in edges
    assert ("edge", rig.secret, "12") in edges


def test_commands_are_judged_by_the_role_that_is_in_force(rig: Rig) -> None:
    rig.add("someone", "operator")
    rig.restart()
    speaker, peer = Speaker(rig), rig.member("someone")
    assert isinstance(peer.ask(Connect("mine", "one")), Done)

    speaker.change("someone", "observer")  # which reads as much: its connection stays

    assert peer.refused(Connect("mine", "two")).code == "forbidden"
    assert rig.service_of("observer").snapshot().graph["mine"] == ["one"]


# --- files that cannot be read ---


@pytest.mark.parametrize("file", [folder.roles_file, folder.trusted_file])
def test_where_a_file_breaks_the_reading_before_it_stays_in_force_and_the_status_says_so(
    rig: Rig, file: Callable[[], Path]
) -> None:
    path = file()
    whole = path.read_text()
    part, admin = rig.member("part"), rig.service_of("admin")
    retired = rig.member("operator")

    path.write_text(whole + "\n[roles.part\nread = 3\n")
    wait_until(lambda: admin.status().access_warning, "the status should warn")

    warning = admin.status().access_warning
    assert warning is not None
    assert "the allow-list before its last change is in force" in warning
    assert str(path) in warning
    assert isinstance(retired.ask(Connect("a", "b")), Done)
    assert part.refused(Connect("a", "b")).code == "forbidden"
    assert rig.service_of("part").status().access_warning is None
    assert rig.peer("only-pause").handshake() == "welcome"
    assert rig.dealer("mallory", rig.add("mallory")).dial(*rig.address).handshake() == "refused"

    path.write_text(whole)
    rig.revoke("operator")
    wait_until(lambda: admin.status().access_warning is None, "the status should be well again")

    assert retired.is_cut(int(CUT_OFF_S * 1000))
    assert isinstance(part.ask(Sync()), Done)


# --- a broker whose passes are made by hand ---


def test_reads_that_wait_while_their_key_is_revoked_are_never_answered(
    rig: Rig, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = by_hand.joined("observer")
    service, engine = by_hand.service, by_hand.service.engine
    for number in range(1, 40):
        peer.send(ReadEvents([], 0) if number % 2 else OpenSnapshot([]), number)
    by_hand.passes_until(lambda: len(engine._reads) > 20)
    sent: list[Sequence[bytes]] = []
    monkeypatch.setattr(service, "_send_reply", sent.append)

    rig.revoke("observer")
    by_hand.clock.advance(0.5)
    by_hand.passes_until(lambda: not engine._reads)

    assert sent == []  # not even to a connection that is shut by now
    assert service._gate is not None
    assert len(service._gate.access) == len(rig.keys) - 1
