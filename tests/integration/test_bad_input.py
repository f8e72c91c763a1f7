"""Bad input: one clear answer or none, and the broker lives on without others noticing."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest
import zmq

import ezgraph
from ezgraph import (
    Address,
    BrokerConfig,
    DeadlineError,
    Event,
    EzGraphError,
    GraphServer,
    JournalError,
    JournalFailedError,
    JournalVersionError,
    LimitError,
    Limits,
    MalformedMessageError,
    Progress,
    ProtocolVersionError,
    RefusedError,
    UnsupportedError,
    sync,
)
from ezgraph.backends import base, memory
from ezgraph.names import note_topic
from ezgraph.protocol.commands import Command, Connect, GetStatus, Hello, Resume, Sync
from ezgraph.protocol.replies import Done, Refusal, Reply, Welcome
from ezgraph.wire import codec, frames, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
HELLO = Hello(1, "guest", "nonce-1", "raw", "here", 1, "me")
SERVE_ON_A_FULL_DISK = """
import resource, sys
from ezgraph.broker.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop()), resource.RLIM_INFINITY))
sys.exit(main())
"""


def request(request_id: int, command: Command) -> bytes:
    return frames.request_frame(request_id, 0, codec.encode(command))


class RawClient:
    """A DEALER that sends what it likes."""

    def __init__(self, address: Address, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVTIMEO, 5_000)
        self.socket.connect(address.endpoint)

    def ask(self, command: Command, request_id: int = 1) -> Reply:
        self.socket.send(request(request_id, command))
        answered, reply = self.receive()
        assert answered == request_id
        return reply

    def receive(self) -> tuple[int, Reply]:
        return frames.read_reply(self.socket.recv())


@contextmanager
def raw(server: GraphServer) -> Iterator[RawClient]:
    with zmq.Context() as context:
        client = RawClient(server.address, context)
        try:
            yield client
        finally:
            client.socket.close()


def body(message: object) -> bytes:
    """A request with id 7 and any content."""
    return struct.pack("!4sQQ", b"eZ\1\0", 7, 0) + (
        message if isinstance(message, bytes) else values.pack(message)
    )


VALID = request(7, Sync())
GARBAGE = [
    b"",
    b"\0",
    b"eZ",
    b"GET / HTTP/1.1\r\n\r\n",
    b"eZ\2\0" + VALID[4:],  # another format
    b"ez\1\0" + VALID[4:],
    *(VALID[:length] for length in (3, 4, 11, 19)),
    os.urandom(5_000),
]


@pytest.mark.parametrize("multipart", [False, True], ids=["one part", "three parts"])
def test_garbage_gets_no_answer_and_nobody_notices(server: GraphServer, multipart: bool) -> None:
    with sync.GraphContext(server.address) as ctx, raw(server) as client:
        for number, garbage in enumerate(GARBAGE):
            client.socket.send_multipart([garbage] * (3 if multipart else 1))
            assert ctx.connect("a", f"b{number}") == number + 2

        assert isinstance(client.ask(HELLO, 0), Welcome)


MALFORMED: list[tuple[object, str]] = [
    (b"", "no msgpack value"),
    (b"\xc1", "no msgpack value"),
    (VALID[20:-1], "no msgpack value"),
    (b"\x91" * 100_000, "no msgpack value"),
    (b"\x91" * 1_000 + b"\xc0", r"expected \[tag, fields\]"),
    ("Sync", r"expected \[tag, fields\], got 'Sync'"),
    (["Sync"], r"expected \[tag, fields\]"),
    (["SetPause", []], "expected the fields of SetPause"),
    (["Connect", {}], "Connect lacks the field 'from_topic'"),
    (["Connect", {"from_topic": 3, "to_topic": "b"}], "from_topic: expected text, got 3"),
    (["Connect", {"from_topic": b"a", "to_topic": "b"}], "from_topic: expected text"),
    (["Connect", {"from_topic": None, "to_topic": "b"}], "from_topic: expected text, got None"),
    (["SetPause", {"paused": 1}], "paused: expected true or false, got 1"),
    (["ReadEvents", {"prefix": "edge", "after": 0}], "prefix: expected a list"),
    (["ReadEvents", {"prefix": [], "after": 0.5}], "after: expected an integer, got 0.5"),
    (["ReadEvents", {"prefix": [], "after": True}], "after: expected an integer, got True"),
    (["Heartbeat", {"main_loop_age_s": "x"}], "main_loop_age_s: expected a number"),
    (["Heartbeat", {"main_loop_age_s": 10**400}], "main_loop_age_s"),
    (["RegisterMetadata", {"metadata": {"components": {"A": {}}}}], r"'A'.*expected \[tag"),
    (["UpdateUnits", {"added": [1], "removed": []}], "added.*: expected text, got 1"),
    (msgpack.ExtType(99, b""), "extension type 99 is unknown"),
    (msgpack.ExtType(values.BLOB, b"x" * 16), "reference to a blob"),
    (msgpack.ExtType(values.NDARRAY, values.pack(["O", [1], "C", b"\0" * 8])), "Python objects"),
    (msgpack.ExtType(values.NDARRAY, values.pack(["|S0", [1 << 40], "C", b""])), "array|bytes"),
    (
        msgpack.ExtType(values.NDARRAY, values.pack(["<f8", [1 << 40], "C", b"\0" * 8])),
        "array|bytes",
    ),
]


@pytest.mark.parametrize(("message", "says"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_request_that_is_no_command_is_answered_with_what_is_wrong(
    server: GraphServer, message: object, says: str
) -> None:
    packed = (
        message if isinstance(message, bytes) else msgpack.packb(message, default=values.extend)
    )
    with raw(server) as client:
        client.ask(HELLO, 0)

        client.socket.send(body(packed))
        request_id, reply = client.receive()

        assert (request_id, isinstance(reply, Refusal)) == (7, True)
        with pytest.raises(MalformedMessageError, match=says):
            raise_refusal(reply)
        assert client.ask(Sync(), 8) == Done(0)


def raise_refusal(reply: Reply) -> None:
    assert isinstance(reply, Refusal)
    raise ezgraph.errors.from_code(reply.code, reply.message)


@pytest.mark.parametrize("depth", [65, 200, 3_000])
def test_values_nested_too_deep_are_refused(server: GraphServer, depth: int) -> None:
    in_lists: object = None
    packed_tuples = values.pack(1)
    for _ in range(min(depth, 900)):
        in_lists = [in_lists]
    for _ in range(depth):
        packed_tuples = msgpack.packb(msgpack.ExtType(values.TUPLE, b"\x91" + packed_tuples))
    report = ["ReportSettings", {"address": "A", "value": {"repr_value": {"x": in_lists}}}]

    with raw(server) as client:
        client.ask(HELLO, 0)
        for content in (body(report), body(packed_tuples)):
            client.socket.send(content)
            _, reply = client.receive()
            with pytest.raises(MalformedMessageError):
                raise_refusal(reply)
        assert client.ask(Sync(), 8) == Done(0)


def test_an_unknown_command_is_refused_by_name(server: GraphServer) -> None:
    unknown_part = {"metadata": {"components": {"A": ["Drone", {}]}}}
    with raw(server) as client:
        client.ask(HELLO, 0)
        for message, name in (
            (["Fly", {"height_m": 3}], "unknown message 'Fly'"),
            (["RegisterMetadata", unknown_part], "unknown message 'Drone'"),
        ):
            client.socket.send(body(message))
            _, reply = client.receive()

            with pytest.raises(UnsupportedError, match=f"{name}.*known are"):
                raise_refusal(reply)


def test_fields_of_a_newer_client_are_ignored(server: GraphServer) -> None:
    with raw(server) as client:
        client.ask(HELLO, 0)
        client.socket.send(body(["Sync", {"priority": 3}]))

        assert client.receive() == (7, Done(0))


REFUSED: list[tuple[Command, str, str]] = [
    (Connect("", "b"), "invalid_command", "segment ''"),
    (Connect("x" * 5000, "b"), "invalid_command", "at most 4096"),
    (Connect("a", "a"), "cyclic", "a -> a"),
    (Resume(1, "someone", b"guess", "", 1, 0), "wrong_cluster", "another journal"),
]


@pytest.mark.parametrize(("command", "code", "says"), REFUSED, ids=range(len(REFUSED)))
def test_a_command_outside_the_rules_is_refused_and_changes_nothing(
    server: GraphServer, command: Command, code: str, says: str
) -> None:
    with raw(server) as client:
        client.ask(HELLO, 0)

        reply = client.ask(command, 5)

        assert isinstance(reply, Refusal)
        assert reply.code == code
        assert says in reply.message
        assert client.ask(Sync(), 6) == Done(0)


def test_a_command_without_a_hello_is_told_to_say_it(server: GraphServer) -> None:
    with raw(server) as client:
        reply = client.ask(Connect("a", "b"))

        assert isinstance(reply, Refusal)
        assert reply.code == "unbound"
        assert "say HELLO or RESUME" in reply.message


def test_a_guessed_token_is_refused(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx, raw(server) as client:
        welcome = client.ask(HELLO, 0)
        assert isinstance(welcome, Welcome)
        guess = Resume(1, ctx.session_id, bytes(32), welcome.cluster_id, 1, 0)

        reply = client.ask(guess, 0)

        assert isinstance(reply, Refusal)
        assert reply.code == "session_expired"
        assert "token does not belong" in reply.message
        assert ctx.connect("a", "b") == 2


@pytest.mark.parametrize("kind", ["", "root", "broker"])
def test_a_hello_of_an_unknown_kind_is_refused(server: GraphServer, kind: str) -> None:
    with raw(server) as client:
        reply = client.ask(Hello(1, kind, "n", "raw", "here", 1, "me"), 0)

        assert isinstance(reply, Refusal)
        assert "it is session, process or guest" in reply.message


def test_a_client_of_another_protocol_version_is_told_both_versions(
    server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ezgraph.client.identity.PROTOCOL_VERSION", 99)

    with pytest.raises(ProtocolVersionError) as refused:
        sync.GraphContext(server.address).open(timeout=5)

    assert "the client speaks protocol 99" in str(refused.value)
    assert "speaks 1; install the same ezgraph on both" in str(refused.value)


# --- sizes ---


def small_frames() -> GraphServer:
    return GraphServer(
        config=BrokerConfig(
            address=Address("127.0.0.1", 0), limits=Limits(max_frame_bytes=100_000, max_leases=3)
        )
    )


def test_an_oversized_frame_costs_its_sender_the_connection_and_nobody_else() -> None:
    with small_frames() as server, sync.GraphContext(server.address) as ctx, raw(server) as client:
        client.ask(HELLO, 0)

        client.socket.send(body(bytes(200_000)))
        client.socket.set(zmq.RCVTIMEO, 300)
        with pytest.raises(zmq.Again):
            client.receive()

        assert ctx.connect("a", "b") == 2
        client.socket.set(zmq.RCVTIMEO, 5_000)
        reply = client.ask(Sync(), 8)
        assert isinstance(reply, Refusal)
        assert reply.code == "unbound"  # it is another connection now


def test_a_call_larger_than_the_broker_takes_is_refused_at_once() -> None:
    with small_frames() as server, sync.GraphContext(server.address) as ctx:
        with pytest.raises(EzGraphError, match=r"100000 in one command") as refused:
            ctx.connect("a", "b", reason="r" * 200_000, timeout=5)

        assert not isinstance(refused.value, DeadlineError)
        assert ctx.connect("a", "b") == 2


def test_more_clients_than_the_broker_takes_are_refused_by_the_limit() -> None:
    with small_frames() as server:
        contexts = [sync.GraphContext(server.address).open() for _ in range(3)]

        with pytest.raises((LimitError, DeadlineError), match="max_leases"):
            sync.GraphContext(server.address).open(timeout=1)

        for each in contexts:
            each.close()
        sync.GraphService(server.address).sync()


def test_a_client_that_never_reads_its_answers_holds_nobody_up(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx, raw(server) as client:
        client.ask(HELLO, 0)
        for number in range(5_000):
            client.socket.send(request(number, GetStatus()))

        for number in range(20):
            assert ctx.connect("a", f"b{number}", timeout=5) == number + 2


# --- what is no ZeroMQ at all ---

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
STRANGERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),
    "noise": os.urandom(10_000),
    "zeros": bytes(10_000),
    "half a greeting": GREETING[:11],
    "a greeting and noise": GREETING + os.urandom(1_000),
    "a greeting and an endless frame": GREETING + b"\x02" + b"\x7f" * 8 + b"x" * 1_000,
}


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_on_either_port_disturbs_nobody(server: GraphServer, said: bytes) -> None:
    host, port = server.address
    with sync.GraphContext(server.address) as ctx:
        stream = ctx.subscribe((), 0)
        assert isinstance(next(stream), Event)
        with (
            socket.create_connection((host, port)) as one,
            socket.create_connection((host, port + 1)) as two,
        ):
            for each in (one, two):
                each.sendall(said)
            seq = ctx.connect("a", "b")
        for item in stream:
            if isinstance(item, Event) and item.seq == seq:
                break
        assert ctx.disconnect("a", "b") == seq + 1


def test_what_is_no_subscription_on_the_event_port_is_ignored(server: GraphServer) -> None:
    with (
        sync.GraphContext(server.address) as ctx,
        zmq.Context() as context,
        context.socket(zmq.XSUB) as xsub,
    ):
        xsub.set(zmq.LINGER, 0)
        xsub.connect(f"tcp://{server.address.host}:{server.address.port + 1}")
        for message in (
            b"",
            b"\x05garbage",
            b"\x01\0\xff\xfe\0",
            b"\x01" + b"x" * 10_000,
            b"\x00no",
        ):
            xsub.send(message)
        xsub.send(b"\x01")  # everything: the others were read when this one has effect
        stream = ctx.subscribe((), 0)

        seq = ctx.connect("a", "b")

        for item in stream:
            if isinstance(item, Progress) and item.seq >= seq:
                break
        assert ctx.disconnect("a", "b") == seq + 1


# --- journals ---


def test_a_journal_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    url = f"sqlite:///{path}"
    with GraphServer(backend=url) as server:
        sync.GraphService(server.address).connect("a", "b")
    _pretend_newer(path)
    before = path.read_bytes()

    with pytest.raises(JournalVersionError, match="newer"):
        GraphServer(backend=url).start()
    with pytest.raises(JournalVersionError, match="newer"):
        GraphServer(backend=url, run_in="process").start()

    assert path.read_bytes() == before


def _pretend_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE meta SET value = 99 WHERE key = 'format'")


@pytest.mark.parametrize("path", ["/proc/rig.db", "/dev/null"])
def test_a_journal_that_cannot_be_written_is_refused_before_anything_starts(path: str) -> None:
    with pytest.raises(JournalError, match=r"rig\.db|null"):
        GraphServer(backend=f"sqlite:///{path}").start()


def test_on_a_full_disk_nothing_that_was_answered_is_lost(tmp_path: Path) -> None:
    backend = f"sqlite:///{tmp_path}/rig.db"
    config = json.dumps({"address": "127.0.0.1:0", "backend": backend})
    with subprocess.Popen(
        [sys.executable, "-c", SERVE_ON_A_FULL_DISK, config, "200000"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as broker:
        assert broker.stdout is not None
        address = json.loads(broker.stdout.readline())["address"]
        ctx = sync.GraphContext(address).open()
        answered, error = connect_until_it_fails(ctx)
        said, _ = broker.communicate(timeout=20)
        ctx._sessions[-1]._shut()

    assert isinstance(error, JournalFailedError)
    assert broker.returncode == 1
    assert json.loads(said)["code"] == "journal_failed"
    assert "Free disk space or repair the disk, then restart" in json.loads(said)["message"]
    with GraphServer(backend=backend) as server, sync.GraphContext(server.address) as later:
        stored = [event.seq for event in later.events(("edge",))]
        assert stored[: answered - 1] == list(range(2, answered + 1))
        assert later.dag().graph["a"] >= {f"b{number}" for number in range(answered - 1)}


def connect_until_it_fails(ctx: sync.GraphContext) -> tuple[int, EzGraphError]:
    """Return the last seq that was answered, and the error that ended it."""
    answered = 1
    while True:
        try:
            answered = ctx.connect("a", f"b{answered - 1}", timeout=2)
        except EzGraphError as error:
            return answered, error


class _FailingJournal(memory.MemoryJournal):
    """Stores 20 records and then has no room."""

    def _write(self, records: Sequence[base.Record]) -> None:
        if records[-1].seq > 20:
            raise OSError(28, "No space left on device")
        super()._write(records)


class _FailingConnection(memory.MemoryConnection):
    def open_journal(self, **options: object) -> memory.MemoryJournal:
        super().open_journal()
        assert self._store is not None
        self._journal = journal = _FailingJournal(self._store)
        return journal


class FailingBackend(memory.MemoryBackend):
    """``failing://``: what the tests below mean by a full disk."""

    @classmethod
    def parse(cls, url: str) -> FailingBackend:
        return cls()

    def connect(self) -> memory.MemoryConnection:
        return _FailingConnection()


def ask_until_answered(client: RawClient, request_id: int) -> tuple[int, Reply]:
    """Ask again and again: what came with the failed batch gets no answer, later ones do."""
    client.socket.set(zmq.RCVTIMEO, 50)
    for each in range(request_id, request_id + 40):
        client.socket.send(request(each, Sync()))
        with suppress(zmq.Again):
            return client.receive()
    raise AssertionError("no answer at all")


def test_when_an_append_fails_nothing_of_it_is_answered_or_published_and_the_broker_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(ezgraph.backends.base._BUILT_IN, "failing", f"{__name__}:FailingBackend")
    server = GraphServer(backend="failing://").start()
    with sync.GraphContext(server.address, patience_s=5) as observer, raw(server) as client:
        stream = observer.subscribe((), 0)
        assert isinstance(next(stream), Event)
        client.ask(HELLO, 0)
        for number in range(19):
            assert client.ask(Connect("a", f"b{number}"), number + 1) == Done(number + 2)

        client.socket.send(request(20, Connect("a", "lost")))
        thread = server._runner._thread  # type: ignore[union-attr]
        request_id, reply = ask_until_answered(client, 21)

        assert request_id > 20
        with pytest.raises(JournalFailedError, match="nothing of this batch was acknowledged"):
            raise_refusal(reply)
        thread.join(5)
        assert not server.running
        while (item := stream._stream.next_within(0.5)) is not None:  # type: ignore[attr-defined]
            assert item.seq <= 20
    assert "journal failed, broker ends" in caplog.text
    server.stop()


def test_a_refusal_of_the_broker_is_no_crash_of_the_client(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        for _ in range(3):
            with pytest.raises(RefusedError):
                ctx.connect("a", "a")
        assert ctx.connect("a", "b") == 2


def test_who_ends_subscriptions_of_others_ends_nothing(server: GraphServer) -> None:
    host, port = server.address
    topics = [note_topic(b"edge/"), b"edge/"]
    ends = b"".join(bytes([0, 1 + len(topic), 0]) + topic for topic in topics)
    begins = b"".join(bytes([0, 1 + len(topic), 1]) + topic for topic in topics)
    ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
    with sync.GraphContext(server.address) as ctx:
        stream = iter(ctx.subscribe(("edge",), 0))
        for said in (ends, begins + ends + ends):
            with socket.create_connection((host, port + 1), timeout=5) as stranger:
                stranger.sendall(GREETING)
                received = b""
                while b"READY" not in received:  # libzmq is confused by a READY before its own
                    received += stranger.recv(1_000)
                stranger.sendall(ready + said + b"\0\3\1zz")
                watched_by(server, b"zz")

                seq = ctx.connect("a", f"b{len(said)}")

                while True:
                    item = next(stream)
                    if isinstance(item, Event | Progress) and item.seq >= seq:
                        break
            assert ctx.status().watched_prefixes == 1


def test_whoever_comes_on_the_descriptor_of_one_who_was_cut_off_is_answered(
    server: GraphServer,
) -> None:
    for number in range(100):
        with raw(server) as flooder:
            flooder.ask(HELLO, 0)
            flooder.socket.send_multipart([b""] * 3_000)
            flooder.receive()  # why it is cut off: in a moment
        with raw(server) as client:
            assert isinstance(client.ask(replace(HELLO, nonce=f"after {number}"), 0), Welcome)


def watched_by(server: GraphServer, topic: bytes) -> None:
    """Wait until somebody's subscription to a topic has come."""
    for _ in range(500):
        if topic in server._runner._outcome.engine.broadcasts[0]._subscribed:  # type: ignore[union-attr]
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"nobody subscribed to {topic!r}")
