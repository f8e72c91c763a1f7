"""G11 at the door: who is not admitted gets no byte, and an impostor gets none of a client."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from ezgraph import (
    Address,
    BrokerConfig,
    ConfigError,
    EzGraphError,
    GraphContext,
    GraphServer,
    InsecureAddressError,
    KeyFileError,
    NotAdmittedError,
    sync,
)
from ezgraph.config import ClientKeys
from ezgraph.keys import curve
from ezgraph.keys.pair import make_pair
from ezgraph.protocol.commands import Connect, Hello, Sync
from ezgraph.protocol.events import AccessRefused
from ezgraph.protocol.replies import Done
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.uninvited.conftest import Rig, Tap

pytestmark = pytest.mark.integration

QUICK_S = 2.0
HANDSHAKE_HELLO_BYTES, HANDSHAKE_WELCOME_BYTES = 202, 170
AT = datetime(2026, 1, 31, tzinfo=UTC)
HELLO = Hello(1, "session", "nonce-of-a-stranger", "stranger", "here", 1, "me")


SIGNATURE = b"\xff" + bytes(7) + b"\x01\x7f"


def greeting(mechanism: bytes) -> bytes:
    return SIGNATURE + b"\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32)


def zmtp(content: bytes, flags: int = 0) -> bytes:
    """A frame of ZMTP; ``flags`` 4: a command."""
    return bytes([flags, len(content)]) + content


READY = zmtp(b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0", 4)
TALK = zmtp(frames.request_frame(0, 0, codec.encode(HELLO))) + zmtp(b"\x01")
SAID = {
    "nothing": b"",
    "no ZeroMQ": b"GET / HTTP/1.1\r\n\r\n" * 20,
    "without keys": greeting(b"NULL") + READY + TALK,
    "with a password": greeting(b"PLAIN") + zmtp(b"\x05HELLO\x05admin\x05admin", 4) + TALK,
    "keys, and no handshake": greeting(b"CURVE") + READY + TALK,
    "keys, and a forged handshake": greeting(b"CURVE")
    + zmtp(b"\x05HELLO\x01\0" + os.urandom(192), 4)
    + zmtp(b"\x08INITIATE" + os.urandom(240), 4)
    + TALK,
}


def all_that_comes(sock: socket.socket) -> bytes:
    """Every byte until the other side closes, or has been silent for a moment."""
    sock.settimeout(0.05)
    found = b""
    with suppress(TimeoutError, ConnectionResetError):
        while chunk := sock.recv(65_536):
            found += chunk
    return found


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_a_stranger_on_any_port_gets_a_greeting_and_not_a_byte_more(rig: Rig, said: bytes) -> None:
    operator = rig.member("operator")
    strangers = [
        socket.create_connection(("127.0.0.1", port))
        for port in (rig.address.port, *rig.events_ports())
    ]
    signatures = [each.recv(len(SIGNATURE), socket.MSG_WAITALL) for each in strangers]
    for each in strangers:
        with suppress(BrokenPipeError, ConnectionResetError):
            each.sendall(said)

    seqs = [operator.ask(Connect("a", f"b{number}")) for number in range(10)]

    assert seqs == [Done(2 + number) for number in range(10)]
    for each, signature in zip(strangers, signatures, strict=True):
        heard = signature + all_that_comes(each)
        each.close()
        assert signature == SIGNATURE
        assert greeting(b"CURVE").startswith(heard), heard


# --- whose handshake is refused ---


def with_nothing(rig: Rig) -> ClientKeys | None:
    return None


def with_an_unknown_key(rig: Rig) -> ClientKeys:
    return rig.add("mallory")


def with_a_revoked_key(rig: Rig) -> ClientKeys:
    rig.add("retired", "admin")
    rig.revoke("retired")
    rig.restart()  # the file is read at the start
    return rig.keys["retired"]


def with_another_ones_public_key(rig: Rig) -> ClientKeys:
    _, secret = curve.new_pair()
    return replace(rig.keys["admin"], secret=secret)


def with_the_brokers_own_public_key(rig: Rig) -> ClientKeys:
    _, secret = curve.new_pair()
    return ClientKeys("broker", rig.broker_pair.public, secret)


ATTACKERS = [
    with_nothing,
    with_an_unknown_key,
    with_a_revoked_key,
    with_another_ones_public_key,
    with_the_brokers_own_public_key,
]


@pytest.mark.parametrize("armed", ATTACKERS, ids=lambda each: each.__name__)
def test_who_is_not_admitted_hears_nothing_and_is_not_heard(
    rig: Rig, armed: Callable[[Rig], ClientKeys | None]
) -> None:
    keys = armed(rig)
    operator = rig.member("operator")
    ports = [rig.address.port, *rig.events_ports()]
    dealers = [rig.dealer("attacker", keys).dial("127.0.0.1", port) for port in ports]
    ears = [rig.ear("attacker", keys, port) for port in ports]
    for each in dealers:
        each.send(HELLO, 0)

    outcomes = {each.handshake() for each in dealers} | {each.handshake() for each in ears}
    for number in range(10):
        operator.ask(Connect("a", f"b{number}"))

    assert outcomes <= {"refused", "mismatched", "broken off"}
    for peer in dealers:
        assert peer.listen(20) == []
    for ear in ears:
        assert ear.listen(20) == []
    assert [each.program for each in rig.service_of("observer").clients()][:1] == ["operator"]
    assert "stranger" not in str(rig.service_of("observer").clients())


def test_an_unknown_key_stands_in_the_log_and_does_not_fill_it(rig: Rig) -> None:
    keys = rig.add("mallory")
    for _ in range(8):
        assert rig.dealer("mallory", keys).dial(*rig.address).handshake() == "refused"

    with rig.context_of("observer") as ctx:
        audited = ctx.events(("audit",))

    assert 1 <= len(audited) <= 2
    for event in audited:
        assert isinstance(event.body, AccessRefused)
        assert event.key == ("audit", "unknown key at 127.0.0.1")
        assert (event.body.what, event.body.code) == ("connect", "not_admitted")
        assert keys.public.hex()[:16] in event.body.message
        assert keys.secret.hex() not in str(event)


def test_a_key_gets_the_events_of_its_own_scope_and_none_at_another_port(rig: Rig) -> None:
    operator = rig.member("operator")
    names = ["operator", "observer", "part", "blind", "nothing"]
    ports = rig.events_ports()
    ears = {(name, port): rig.ear(name, rig.keys[name], port) for name in names for port in ports}

    outcomes = {at: ear.handshake() for at, ear in ears.items()}
    for number in range(10):
        operator.ask(Connect("a", f"b{number}"))
    ears["operator", rig.port_of("operator")].until(lambda message: message[0] == b"edge/a/b9/")

    assert outcomes == {
        (name, port): "welcome" if port == rig.port_of(name) else "refused"
        for name in names
        for port in ports
    }
    heard = {name for (name, _), ear in ears.items() if ear.listen(20) or ear.messages}
    assert heard == {"operator", "observer"}


def test_a_key_that_is_admitted_commands_nobody_at_an_events_port(rig: Rig) -> None:
    for port in rig.events_ports():
        peer = rig.dealer("admin", rig.keys["admin"]).dial("127.0.0.1", port)
        peer.send(HELLO, 0)
        assert peer.listen(50) == []

    assert [each.program for each in rig.service_of("observer").clients()] != ["stranger"]


def test_a_recorded_connection_said_again_gets_no_answer_and_changes_nothing(
    rig: Rig, tap: Callable[[Address], Tap]
) -> None:
    wire = tap(rig.address)
    victim = rig.dealer("operator", rig.keys["operator"]).dial(*wire.address)
    victim.join()
    victim.ask(Connect("a", "b"))
    head = victim.ask(Sync())
    recorded = bytes(wire.up)

    with socket.create_connection(rig.address) as replay:
        replay.sendall(recorded[:64])
        greeted = all_that_comes(replay)
        replay.sendall(recorded[64 : 64 + HANDSHAKE_HELLO_BYTES])
        sealed = all_that_comes(replay)
        replay.sendall(recorded[64 + HANDSHAKE_HELLO_BYTES :])
        afterwards = all_that_comes(replay)

    assert greeted == greeting(b"CURVE")
    assert sealed[2:10] == b"\x07WELCOME"  # for who has the secret of the recorded handshake
    assert len(sealed) == HANDSHAKE_WELCOME_BYTES
    assert afterwards == b""
    assert victim.ask(Sync()) == head


# --- clients at a broker that is not theirs; the two twins wait differently ---


def join_blocking(address: Address, keys: ClientKeys | None, timeout: float) -> None:
    context = sync.GraphContext(address, keys=keys, program="the-clients-program")
    context.open(timeout=timeout).close()


def join_async(address: Address, keys: ClientKeys | None, timeout: float) -> None:
    async def scenario() -> None:
        context = GraphContext(address, keys=keys, program="the-clients-program")
        await context.open(timeout=timeout)
        await context.close()

    asyncio.run(scenario())


TWINS = pytest.mark.parametrize("join", [join_blocking, join_async])


def refusal_of(join: Callable[..., None], *given: object) -> tuple[NotAdmittedError, float]:
    began = monotonic()
    with pytest.raises(NotAdmittedError) as refused:
        join(*given)
    return refused.value, monotonic() - began


def assert_nothing_was_said(wire: Tap) -> None:
    """Of all that the client sent, nothing could be read, and no command was among it."""
    assert wire.connections
    assert b"the-clients-program" not in wire.up
    assert b"Hello" not in wire.up
    assert b"eZ\1\0" not in wire.up


@TWINS
def test_a_client_without_keys_says_nothing_to_a_broker_with_keys(
    rig: Rig, tap: Callable[[Address], Tap], join: Callable[..., None]
) -> None:
    wire = tap(rig.address)

    error, took_s = refusal_of(join, wire.address, None, 10.0)

    assert "admits only clients with keys" in str(error)
    assert took_s < QUICK_S
    assert_nothing_was_said(wire)
    assert len(wire.up) <= 64 * wire.connections


@TWINS
def test_a_client_with_a_key_says_nothing_to_a_broker_without_keys(
    rig: Rig, server: GraphServer, tap: Callable[[Address], Tap], join: Callable[..., None]
) -> None:
    wire = tap(server.address)
    keys = replace(rig.keys["operator"], brokers={wire.address: rig.broker_pair.public})

    error, took_s = refusal_of(join, wire.address, keys, 10.0)

    assert "has no keys" in str(error)
    assert "nothing was sent" in str(error)
    assert took_s < QUICK_S
    assert_nothing_was_said(wire)
    assert len(wire.up) <= 64 * wire.connections


def hang_up_on_everybody(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.close()


def hang_up_first(listener: socket.socket) -> None:
    """As a broker with keys that sees before its client does that the other has none."""
    whole = greeting(b"CURVE")
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(0.1)
                connection.sendall(whole[:11])
                heard = b""
                with suppress(TimeoutError):
                    while len(heard) < 12 and (more := connection.recv(12)):
                        heard += more
                if len(heard) < 12:  # it says no more before it has heard more
                    connection.sendall(whole[11:])
                    connection.recv(1)


@TWINS
def test_a_client_that_is_always_hung_up_on_first_finds_out_why_all_the_same(
    home: Path, join: Callable[..., None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up_first, args=(listener,))
        thread.start()

        error, took_s = refusal_of(join, Address(*listener.getsockname()), None, 10.0)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert "admits only clients with keys" in str(error)
    assert took_s < QUICK_S


@TWINS
def test_a_client_without_keys_that_is_always_hung_up_on_is_told_of_keys_and_not_of_pins(
    home: Path, join: Callable[..., None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up_on_everybody, args=(listener,))
        thread.start()

        error, took_s = refusal_of(join, Address(*listener.getsockname()), None, 0.8)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert "admits only clients with keys" in str(error)
    assert "or no broker at all" in str(error)
    assert "pinned" not in str(error)
    assert took_s < 0.8 + 0.5


@TWINS
def test_a_client_says_nothing_that_can_be_read_to_somebody_elses_broker(
    rig: Rig, tap: Callable[[Address], Tap], join: Callable[..., None]
) -> None:
    somebody_else, _ = curve.new_pair()
    wire = tap(rig.address)
    keys = replace(rig.keys["operator"], brokers={wire.address: somebody_else})

    error, took_s = refusal_of(join, wire.address, keys, 1.0)

    assert "does not have the key that is pinned here" in str(error)
    assert took_s < 1.0 + 0.5
    assert_nothing_was_said(wire)
    assert keys.public not in wire.up  # not even who asks


@TWINS
def test_a_client_whose_key_is_unknown_is_told_so_at_once(
    rig: Rig, join: Callable[..., None]
) -> None:
    error, took_s = refusal_of(
        join, rig.address, replace(rig.add("mallory"), brokers=rig.keys["admin"].brokers), 10.0
    )

    assert "does not admit key 'mallory'" in str(error)
    assert "ezgraph keys trust" in str(error)
    assert took_s < QUICK_S


def test_a_client_that_names_no_key_does_not_dial_a_broker_that_is_known_by_its_key(
    rig: Rig, tap: Callable[[Address], Tap]
) -> None:
    wire = tap(rig.address)
    rig.pin(wire.address)

    with pytest.raises(ConfigError, match="none is named to show there"):
        sync.GraphContext(wire.address).open(timeout=1)

    assert wire.connections == 0


def test_a_client_does_not_dial_a_broker_whose_key_is_not_pinned(rig: Rig) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        address = Address("127.0.0.1", nobody.getsockname()[1])

        with pytest.raises(ConfigError, match="no key is pinned for the broker at"):
            sync.GraphContext(address, keys="operator").open(timeout=1)

        nobody.settimeout(0)
        with pytest.raises(BlockingIOError):
            nobody.accept()


# --- where a broker may listen ---

ANYWHERE = Address("0.0.0.0", 0)


@pytest.mark.parametrize("run_in", ["thread", "process"])
def test_outside_loopback_a_broker_without_keys_does_not_start(home: Path, run_in: str) -> None:
    config = BrokerConfig(address=ANYWHERE)

    with pytest.raises(InsecureAddressError) as refused:
        GraphServer(config=config, run_in=run_in).start()  # type: ignore[arg-type]

    for said in ("anybody there could command it", "ezgraph keys new broker", "--insecure"):
        assert said in str(refused.value)


def test_outside_loopback_a_broker_with_a_key_admits_only_keys(rig: Rig) -> None:
    with GraphServer(config=BrokerConfig(address=ANYWHERE)) as server:
        near = Address("127.0.0.1", server.address.port)

        with pytest.raises(NotAdmittedError):
            sync.GraphContext(near).open(timeout=5)
        rig.pin(near)
        with pytest.raises(KeyFileError, match="known to have a key"):
            sync.GraphContext(near).open(timeout=5)
        with sync.GraphContext(near, keys=rig.keys["observer"]) as ctx:
            status = ctx.status()

    assert status.keys == len(rig.keys)
    assert status.insecure is False


def test_an_insecure_broker_starts_and_its_status_says_so(home: Path) -> None:
    with GraphServer(config=BrokerConfig(address=ANYWHERE, insecure=True)) as server:
        near = Address("127.0.0.1", server.address.port)
        status = sync.GraphService(near).status()

    assert (status.insecure, status.keys) == (True, None)


@pytest.mark.parametrize("asked", [{"key": "broker"}, {"require_keys": True}], ids=str)
def test_a_broker_is_not_asked_for_keys_and_for_none(home: Path, asked: dict[str, object]) -> None:
    make_pair("broker", at=AT)

    with pytest.raises(ConfigError, match="insecure means without keys"):
        GraphServer(config=replace(BrokerConfig(ANYWHERE, insecure=True), **asked)).start()  # type: ignore[arg-type]


def test_a_broker_that_is_to_have_keys_and_has_none_does_not_start(home: Path) -> None:
    config = BrokerConfig(Address("127.0.0.1", 0), require_keys=True)

    with pytest.raises(EzGraphError, match="ezgraph keys new broker"):
        GraphServer(config=config).start()
