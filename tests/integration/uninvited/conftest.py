"""A rig with keys, guests and attackers: who hears what is written down, frame by frame.

The broker is on loopback and asks for keys. Whatever arrives at a raw peer is kept, and when a test
is over, none of it may have the `SECRET` if its key may read only a part.
"""

from __future__ import annotations

import shutil
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import pytest
import zmq

from ezgraph import Address, BrokerConfig, GraphServer, Limits, sync
from ezgraph.backends.base import Backend
from ezgraph.broker.service import BrokerService
from ezgraph.config import ClientKeys
from ezgraph.keys import contexts, folder, pair, roles_file, trusted
from ezgraph.protocol.commands import Command, Hello, Resume, TakeOver
from ezgraph.protocol.replies import Refusal, Reply, Welcome
from ezgraph.protocol.roles import EVERYTHING, VERBS
from ezgraph.testing import ManualClock
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path


SECRET = "Unspeakable-7f3a"
AT = datetime(2026, 1, 31, tzinfo=UTC)
WAIT_MS = 5_000
_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
OUTCOMES = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): "welcome",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "refused",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "mismatched",
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "broken off",
}
ROLES = """
[roles.part]
read = ["settings/RIG_A/", "config/*/RIG_A%2F*", "node/RIG_A%2F*"]

[roles.nothing]

[roles.blind]
read = ["settings/RIG_A/", "config/*/RIG_A%2F*", "node/RIG_A%2F*"]
connect = ["/"]
register = ["/"]
run = ["/"]
report = ["/"]
set = ["/"]
request = ["/"]
config = ["/"]
serve = ["/"]
pause = ["/"]
shutdown = ["/"]
store = ["/"]
restore = ["/"]
"""
ROLES += "".join(f'\n[roles.only-{verb}]\n{verb} = ["/"]\n' for verb in VERBS)
WHO = {
    "admin": "admin",
    "operator": "operator",
    "observer": "observer",
    "owner": "owner:RIG_A",
    "part": "part",
    "nothing": "nothing",
    "blind": "blind",
    **{f"only-{verb}": f"only-{verb}" for verb in VERBS},
}


class Raw:
    """A socket of an attacker, or of somebody honest whose every frame is looked at."""

    def __init__(self, sock: zmq.Socket[bytes], who: str) -> None:
        self.socket = sock
        self.who = who
        sock.set(zmq.LINGER, 0)
        self._monitor = sock.get_monitor_socket(sum(OUTCOMES) | _DISCONNECTED)

    def handshake(self, wait_ms: int = WAIT_MS) -> str:
        """How the next handshake goes: welcome, refused, mismatched, broken off; else nothing."""
        return OUTCOMES.get(self._next_of(OUTCOMES.keys(), wait_ms), "nothing")

    def is_cut(self, wait_ms: int = WAIT_MS) -> bool:
        """Whether its connection ends within that time."""
        return self._next_of({_DISCONNECTED}, wait_ms) == _DISCONNECTED

    def _next_of(self, wanted: Collection[int], wait_ms: int) -> int:
        while self._monitor.poll(wait_ms):
            event: int = struct.unpack("=Hi", self._monitor.recv_multipart()[0])[0]
            if event in wanted:
                return event
        return 0

    def cut(self) -> None:
        """Close it."""
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=0)


class Peer(Raw):
    """A DEALER that sends what it likes; ``heard`` are all frames that came."""

    def __init__(self, sock: zmq.Socket[bytes], who: str) -> None:
        super().__init__(sock, who)
        self.heard: list[bytes] = []
        self._unread: list[tuple[int, Reply]] = []
        self.welcome: Welcome | None = None
        self._asked = 0

    def __repr__(self) -> str:
        return f"<Peer {self.who} heard={len(self.heard)}>"

    def dial(self, host: str, port: int) -> Peer:
        self.socket.connect(f"tcp://{host}:{port}")
        return self

    def listen(self, wait_ms: int = 0) -> list[bytes]:
        """What has come by now, or comes first within ``wait_ms``; it is written down."""
        found: list[bytes] = []
        while self.socket.poll(0 if found else wait_ms):
            found += self.socket.recv_multipart()
        self.heard += found
        self._unread += [frames.read_reply(frame) for frame in found]
        return found

    def send(self, command: Command, request_id: int) -> bytes:
        """Send it, and return its frame; who has been hung up on for good sends nothing."""
        frame = frames.request_frame(request_id, 0, codec.encode(command))
        with suppress(zmq.Again):
            self.socket.send(frame, int(zmq.NOBLOCK))
        return frame

    def reply(self, request_id: int) -> Reply:
        """The next reply to that request; others wait until they are asked for."""
        until = monotonic() + WAIT_MS / 1000
        while (left := until - monotonic()) > 0:
            for each in self._unread:
                if each[0] == request_id:
                    self._unread.remove(each)
                    return each[1]
            self.listen(int(left * 1000) + 1)
        raise AssertionError(f"{self!r} got no reply to request {request_id}")

    def ask(self, command: Command) -> Reply:
        self._asked += 1
        self.send(command, self._asked)
        return self.reply(self._asked)

    def refused(self, command: Command) -> Refusal:
        reply = self.ask(command)
        assert isinstance(reply, Refusal), reply
        return reply

    def join(
        self, kind: str = "session", *, program: str = "", nonce: str = "", ttl_s: float = 60.0
    ) -> Welcome:
        """Say HELLO, and be welcomed."""
        nonce = nonce or f"nonce-of-{self.who}-{id(self)}"
        self.hello = Hello(1, kind, nonce, program or self.who, "here", 1, "me", ttl_s=ttl_s)
        return self.enter(self.hello)

    def enter(self, command: Hello | Resume | TakeOver) -> Welcome:
        """Say one of these, and be welcomed."""
        self.send(command, 0)
        reply = self.reply(0)
        assert isinstance(reply, Welcome), reply
        self.welcome = reply
        self._asked = max(self._asked, reply.next_request_id - 1)
        return reply

    @property
    def token(self) -> Resume:
        """What this peer would say to come back to its lease, if it had not its nonce to show."""
        welcome = self.welcome
        assert welcome is not None
        return Resume(1, welcome.client, welcome.token, welcome.cluster_id, 1, 0)


class Ear(Raw):
    """A SUB or XSUB; ``messages`` are all that came."""

    def __init__(self, sock: zmq.Socket[bytes], who: str) -> None:
        super().__init__(sock, who)
        self.messages: list[list[bytes]] = []

    def __repr__(self) -> str:
        return f"<Ear {self.who} heard={len(self.messages)}>"

    @property
    def heard(self) -> list[bytes]:
        return [frame for message in self.messages for frame in message]

    def listen(self, wait_ms: int = 0) -> list[list[bytes]]:
        found: list[list[bytes]] = []
        while self.socket.poll(0 if found else wait_ms):
            found.append(self.socket.recv_multipart())
        self.messages += found
        return found

    def until(self, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
        """Listen until a message is the one that is waited for, and return it."""
        until = monotonic() + WAIT_MS / 1000
        while (left := until - monotonic()) > 0:
            for message in self.listen(int(left * 1000) + 1):
                if enough(message):
                    return message
        raise AssertionError(f"{self!r} waited in vain; it heard {self.messages[-3:]}")


class Tap:
    """Forwards TCP to a broker's address, and keeps every byte that a client sent up it."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self.up = bytearray()
        self.connections = 0
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                broker = socket.create_connection(self._target)
                self._ends += [client, broker]
                self._start(self._pump, client, broker, self.up)
                self._start(self._pump, broker, client, bytearray())

    def _pump(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                kept += chunk
                sink.sendall(chunk)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._ends):
            each.close()


class Rig:
    """The broker, everybody's keys, and all raw peers there ever were.

    ``secret`` stands in what others do, and is for those who may read everything.
    """

    secret = SECRET

    def __init__(self, config: BrokerConfig | None = None) -> None:
        self.broker_pair = pair.read_pair("broker")
        self.roles = dict(WHO)
        self.keys = {name: _client_keys(pair.read_pair(name)) for name in WHO}
        self.config = config or BrokerConfig(address=Address("127.0.0.1", 0), require_keys=True)
        self.server = GraphServer(config=self.config).start()
        self.address = self.server.address
        self.pin(self.address)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.raw: list[Peer | Ear] = []
        self.trusted_once: list[Peer | Ear] = []

    # --- keys ---

    def add(self, name: str, role: str | None = None) -> ClientKeys:
        """Make a key pair; admit it if it is given a role."""
        self.keys[name] = _client_keys(pair.make_pair(name, at=AT))
        if role is not None:
            self.trust(name, role)
        return self.keys[name]

    def trust(self, name: str, role: str) -> None:
        key = pair.read_public(name)
        trusted.trust_again(folder.trusted_file(), key, role=role, at=AT)
        self.roles[name] = role

    def revoke(self, name: str) -> None:
        trusted.revoke(folder.trusted_file(), name, at=AT)

    def pin(self, address: Address) -> None:
        """Know this broker by its key at an address, in the file and for raw peers."""
        contexts.pin(folder.contexts_file(), [address], self.broker_pair.public)
        pins = {address: self.broker_pair.public}
        self.keys = {
            name: replace(each, brokers={**each.brokers, **pins})
            for name, each in self.keys.items()
        }

    def reads_everything(self, name: str) -> bool:
        custom = roles_file.load_roles(folder.roles_file())
        role = self.roles.get(name)
        return role is not None and roles_file.find_role(role, custom).reads == EVERYTHING

    # --- the broker ---

    @property
    def service(self) -> BrokerService:
        return cast("BrokerService", cast("Any", self.server)._runner._outcome)

    def restart(self) -> None:
        self.server.stop()
        self.server = GraphServer(config=replace(self.config, address=self.address)).start()

    def events_ports(self) -> list[int]:
        """The ports of all read scopes."""
        return [each.port for each in list(self.service._streams.values())]

    def port_of(self, name: str) -> int:
        """Where the events of this key's scope are."""
        access = self.service.engine.core.access
        assert access is not None
        identity = access.identity(self.keys[name].public.hex())
        assert identity is not None
        return self.service._streams[access.scope_of(identity).number].port

    # --- raw peers ---

    def socket(self, kind: int, keys: ClientKeys | None) -> zmq.Socket[bytes]:
        sock = self.context.socket(kind)
        if keys is not None:
            sock.set(zmq.CURVE_PUBLICKEY, keys.public)
            sock.set(zmq.CURVE_SECRETKEY, keys.secret)
            sock.set(zmq.CURVE_SERVERKEY, self.broker_pair.public)
        return sock

    def dealer(self, who: str, keys: ClientKeys | None, *, routing_id: bytes = b"") -> Peer:
        """A raw peer with any keys that has not dialled yet."""
        sock = self.socket(zmq.DEALER, keys)
        if routing_id:
            sock.set(zmq.ROUTING_ID, routing_id)
        peer = Peer(sock, who)
        self.raw.append(peer)
        return peer

    def peer(self, name: str, *, routing_id: bytes = b"") -> Peer:
        """A raw peer with that name's key, connected for commands."""
        return self.dealer(name, self.keys[name], routing_id=routing_id).dial(*self.address)

    def member(self, name: str, kind: str = "session", *, program: str = "") -> Peer:
        """A raw peer that has a lease."""
        peer = self.peer(name)
        peer.join(kind, program=program)
        return peer

    def ear(
        self,
        who: str,
        keys: ClientKeys | None,
        port: int,
        topics: tuple[bytes, ...] = (b"",),
        *,
        kind: int = zmq.SUB,
    ) -> Ear:
        """A raw subscriber with any keys at any port."""
        ear = Ear(self.socket(kind, keys), who)
        self.raw.append(ear)
        for topic in topics:
            if kind == zmq.SUB:
                ear.socket.subscribe(topic)
        ear.socket.connect(f"tcp://127.0.0.1:{port}")
        return ear

    def context_of(self, name: str, **options: Any) -> sync.GraphContext:
        return sync.GraphContext(self.address, keys=self.keys[name], **options)

    def service_of(self, name: str) -> sync.GraphService:
        return sync.GraphService(self.address, keys=self.keys[name])

    # --- the end ---

    def leaks(self) -> list[str]:
        """Who heard the secret and must not have."""
        return [
            f"{each!r}: {frame[:200]!r}"
            for each in self.raw
            if each not in self.trusted_once and not self.reads_everything(each.who)
            for frame in each.heard
            if SECRET.encode() in frame
        ]

    def close(self) -> None:
        for each in self.raw:
            if not each.socket.closed:
                each.listen()
                each.cut()
        self.context.term()
        self.server.stop()


def _client_keys(made: pair.KeyPair) -> ClientKeys:
    return ClientKeys(made.name, made.public, made.secret)


class ByHand:
    """A broker whose passes a test makes, with a clock that it sets; a pass answers one read."""

    def __init__(self, rig: Rig, *, require_keys: bool) -> None:
        self.clock = ManualClock()
        self._rig = rig
        limits = Limits(chunk_events=1)
        config = BrokerConfig(Address("127.0.0.1", 0), require_keys=require_keys, limits=limits)
        self._connection = Backend.from_url("memory://").connect()
        journal = self._connection.__enter__().open_journal()
        self.service = BrokerService(config, journal, clock=self.clock)
        self.address = self.service.bind()

    def passes_until(self, reached: Callable[[], object]) -> None:
        deadline = monotonic() + WAIT_MS / 1000
        while not reached():
            self.service.run_pass(wait=False)
            assert monotonic() < deadline, "the passes came to nothing"
            threading.Event().wait(0.001)  # for the other threads: passes would overtake them

    def joined(self, name: str | None, *, routing_id: bytes = b"") -> Peer:
        """A raw peer with a lease of this broker; None: one without a key."""
        keys = None if name is None else self._rig.keys[name]
        peer = self._rig.dealer(name or "nobody", keys, routing_id=routing_id)
        thread = threading.Thread(target=peer.dial(*self.address).join)
        thread.start()
        self.passes_until(lambda: not thread.is_alive())
        return peer

    def close(self) -> None:
        self.service.close()
        self._connection.__exit__(None, None, None)


@pytest.fixture(scope="session")
def everybodys_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the broker's and everybody's key pairs, the allow-list and the roles."""
    made = tmp_path_factory.mktemp("config")
    with pytest.MonkeyPatch.context() as patch:
        live_in(made, patch)
        for name in ("broker", *WHO):
            pair.make_pair(name, at=AT)
        for name, role in WHO.items():
            trusted.trust(folder.trusted_file(), pair.read_public(name), role=role, at=AT)
        folder.roles_file().write_text(ROLES)
    return made


def live_in(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HOME", str(home))
    patch.setenv("XDG_CONFIG_HOME", str(home))
    patch.delenv("EZGRAPH_KEYS", raising=False)
    patch.delenv("EZGRAPH_ADDR", raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder without any keys."""
    live_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def keyed_home(home: Path, everybodys_keys: Path) -> Path:
    """A user's folder with the keys of everybody in `WHO`, all of them admitted."""
    shutil.copytree(everybodys_keys, home, dirs_exist_ok=True)
    return home


@pytest.fixture
def rig(keyed_home: Path) -> Iterator[Rig]:
    """A broker with keys; at the end nobody may have heard what was not theirs."""
    found = Rig()
    yield found
    found.close()
    assert found.leaks() == []


@pytest.fixture
def small_chunks(keyed_home: Path) -> Iterator[Rig]:
    """A rig whose snapshots are read in chunks of a single entry."""
    limits = Limits(chunk_events=1)
    found = Rig(BrokerConfig(Address("127.0.0.1", 0), require_keys=True, limits=limits))
    yield found
    found.close()
    assert found.leaks() == []


@pytest.fixture
def rig_on_disk(keyed_home: Path) -> Iterator[Rig]:
    """A rig that goes on from its journal when its broker is started again."""
    backend = f"sqlite:///{keyed_home / 'rig.db'}"
    found = Rig(BrokerConfig(Address("127.0.0.1", 0), backend=backend, require_keys=True))
    yield found
    found.close()
    assert found.leaks() == []


@pytest.fixture
def by_hand(rig: Rig) -> Iterator[ByHand]:
    """A second broker, with keys, whose passes the test makes."""
    found = ByHand(rig, require_keys=True)
    yield found
    found.close()


@pytest.fixture
def open_by_hand(rig: Rig) -> Iterator[ByHand]:
    """A second broker, without keys, whose passes the test makes."""
    found = ByHand(rig, require_keys=False)
    yield found
    found.close()


@pytest.fixture
def tap() -> Iterator[Callable[[Address], Tap]]:
    """Makes taps, and closes them."""
    made: list[Tap] = []

    def make(target: Address) -> Tap:
        made.append(Tap(target))
        return made[-1]

    yield make
    for each in made:
        each.close()
