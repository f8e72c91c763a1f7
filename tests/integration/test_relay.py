"""The relay: the same bytes for who cannot reach a host, and nobody holds up or harms another."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from time import monotonic
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq

from ezgraph.broker.gate import Gate
from ezgraph.broker.relaying.relay import Relay, RelayLimits, ServedAt, StandbyRelay
from ezgraph.broker.relaying.resolving import Resolver
from ezgraph.config import Address
from ezgraph.errors import NodeHostGoneError
from ezgraph.keys.curve import new_pair, serve_with
from ezgraph.nodes import ArrayNode, NodeHost, NodeServer, RemoteTree, RootNode
from ezgraph.nodes.endpoint import Endpoint
from ezgraph.protocol.roles import ADMIN, Access, Identity
from ezgraph.state.nodes import HostEntry, NodesState
from ezgraph.wire import relaying
from ezgraph.wire.nodes import request_frame
from tests.fuzz import zmtp
from tests.integration import node_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

NAME = "run42"
CHUNK = 1 << 20
MORE = 1
HOST_PUBLIC, HOST_SECRET = new_pair()
BROKER_PUBLIC, BROKER_SECRET = new_pair()


class Hosts(dict[str, ServedAt]):
    """Hosts by owner, as a broker would know them."""

    def find(self, name: str, owner: str) -> ServedAt | None:
        return self.get(owner) if name == NAME else None


@contextmanager
def through_relay(
    hosts: Hosts, new_gate: Any = None, resolver: Resolver | None = None, **limits: float
) -> Iterator[tuple[Relay, Callable[[str], Endpoint]]]:
    """Have a relay, and what makes the way through it to one owner's host."""
    chosen = RelayLimits()._replace(**limits)  # type: ignore[arg-type]
    relay = Relay(
        "127.0.0.1", 31_000, hosts.find, new_gate=new_gate, limits=chosen, resolver=resolver
    )
    address = Address("127.0.0.1", relay.start())

    def through(owner: str) -> Endpoint:
        route, note = relaying.relay_frame(NAME, owner), "relayed by lab:25979"
        return Endpoint(address, None, None, route, note)

    try:
        yield relay, through
    finally:
        relay.stop()


@contextmanager
def served(root: RootNode | None = None, **options: Any) -> Iterator[tuple[NodeHost, Hosts]]:
    with NodeHost(NodeServer(root or node_host.served_graph()), **options) as host:
        key = HOST_PUBLIC if "secure" in options else None
        yield host, Hosts(me=ServedAt([str(host.address)], key))


def until(is_so: Callable[[], bool], seconds: float = 5.0) -> None:
    end = monotonic() + seconds
    while not is_so():
        assert monotonic() < end, "it did not come to that"
        threading.Event().wait(0.005)


@contextmanager
def stranger(relay: Relay | StandbyRelay) -> Iterator[zmq.Socket[bytes]]:
    """A socket that says whatever it likes, and hears when it is hung up on."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.RECONNECT_IVL, -1)
    dealer.set(zmq.SNDTIMEO, 5_000)
    port = relay.port() if isinstance(relay, StandbyRelay) else relay.port
    dealer.connect(f"tcp://127.0.0.1:{port}")
    try:
        yield dealer
    finally:
        context.destroy(linger=0)


# --- the same bytes ---


@pytest.mark.parametrize("is_secured", [False, True])
def test_what_is_read_through_the_relay_is_what_is_read_directly_and_says_so(
    is_secured: bool,
) -> None:
    secure: dict[str, Any] = {}
    if is_secured:
        secure["secure"] = lambda sock: serve_with(sock, HOST_SECRET)
    with (
        served(**secure) as (_, hosts),
        through_relay(hosts) as (_, through),
        RemoteTree([through("me")]) as tree,
    ):
        graph = RootNode(tree)
        here = node_host.served_graph()

        np.testing.assert_array_equal(graph["g1"][3].read(), here["g1"][3].read())
        np.testing.assert_array_equal(graph["long"].read(verify=True), here["long"].read())
        np.testing.assert_array_equal(graph["long"][::-7], here["long"][::-7])
        assert graph["long"].description().note == "relayed by lab:25979"
        assert graph["long"].description().layout == here["long"].description().layout


def test_growing_rows_are_followed_through_the_relay() -> None:
    node = ArrayNode.growing("f8", (4,))
    with (
        served(RootNode(edges={"n": node})) as (_, hosts),
        through_relay(hosts) as (_, through),
        RemoteTree([through("me")]) as tree,
    ):
        followed = RootNode(tree)["n"].follow(after=-1, timeout=5.0)
        for number in range(20):
            node.append(np.full((2, 4), number))
            assert next(followed).value.tolist() == [[number] * 4] * 2
        node.finish()

        assert list(followed) == []


# --- ways that end ---


def test_where_nobody_listens_the_relay_is_tried_at_once() -> None:
    with (
        served() as (_, hosts),
        through_relay(hosts) as (_, through),
        RemoteTree([Endpoint(_closed_port()), through("me")], grace_s=20.0) as tree,
    ):
        begin = monotonic()
        graph = RootNode(tree)

        assert graph["g1"][3].read().size == 200
        assert graph.description().note == "relayed by lab:25979"
        assert monotonic() - begin < 5.0  # not the 10 s that one who is silent is given


def _closed_port() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return Address("127.0.0.1", taken.getsockname()[1])


def test_a_host_that_ends_in_mid_read_is_followed_by_its_replica_through_the_relay() -> None:
    array = np.arange(64 * CHUNK // 8, dtype="f8")

    def root() -> RootNode:
        return RootNode(uid="r", edges={"a": ArrayNode(array, uid="a", chunks=(CHUNK // 8,))})

    with served(root()) as (first, hosts), served(root()) as (_, others):
        hosts["other"] = others["me"]
        told: list[int] = []
        with (
            through_relay(hosts) as (_, through),
            RemoteTree([through("me"), through("other")], window_bytes=4 * CHUNK) as tree,
        ):

            def stop_soon(done: int, _total: int) -> None:
                told.append(done)
                if done == 8 * CHUNK:
                    first.stop()

            found = RootNode(tree)["a"].read(progress=stop_soon)

        np.testing.assert_array_equal(found, array)
        assert told[-1] == array.nbytes


def test_a_host_that_is_gone_is_a_typed_error_also_where_the_relay_is_there() -> None:
    hosts = Hosts(me=ServedAt([str(_closed_port())], None), no=ServedAt([], None))
    with through_relay(hosts) as (_, through):
        for owner in ("me", "no", "nobody"):
            begin = monotonic()
            with (
                RemoteTree([through(owner)], grace_s=0.3, timeout=5.0) as tree,
                pytest.raises(NodeHostGoneError),
            ):
                RootNode(tree)
            assert monotonic() - begin < 3.0


def test_of_the_endpoints_of_a_host_the_next_is_tried_after_one_that_fails() -> None:
    with served() as (host, hosts):
        hosts["me"] = ServedAt([str(_closed_port()), str(host.address)], None)
        with through_relay(hosts) as (_, through), RemoteTree([through("me")]) as tree:
            assert RootNode(tree)["g1"][3].read().size == 200


@pytest.mark.parametrize("is_full", [False, True], ids=["no handshake", "no connection"])
def test_a_host_that_does_not_answer_is_given_up(is_full: bool) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        where = Address("127.0.0.1", silent.getsockname()[1])
        if is_full:  # whoever dials now is not refused, and hears nothing
            stack.enter_context(socket.create_connection(where))
        hosts = Hosts(me=ServedAt([str(where)], None))
        with through_relay(hosts, connect_s=0.2) as (relay, through):
            with (
                RemoteTree([through("me")], grace_s=0.3) as tree,
                pytest.raises(NodeHostGoneError),
            ):
                RootNode(tree)
            until(lambda: "pairs=0" in repr(relay))


def test_a_name_that_is_looked_up_for_long_holds_up_only_who_needs_it() -> None:
    answers = threading.Event()

    def look_up(host: str) -> str:
        if host != "slow.lab":
            raise OSError(f"{host} is unknown")
        assert answers.wait(10.0)
        return "127.0.0.1"

    with served() as (host, hosts):
        for name in ("slow", "unknown"):
            hosts[name] = ServedAt([f"{name}.lab:{host.address.port}"], None)
        with (
            through_relay(hosts, resolver=Resolver(look_up)) as (_, through),
            RemoteTree([through("slow")], grace_s=10.0) as slow,
            RemoteTree([through("unknown")], grace_s=0.3) as unknown,
            RemoteTree([through("me")]) as other,
        ):
            found: list[RootNode] = []
            reader = threading.Thread(target=lambda: found.append(RootNode(slow)))
            reader.start()

            assert RootNode(other)["g1"][3].read().size == 200
            with pytest.raises(NodeHostGoneError):
                RootNode(unknown)
            assert found == []
            answers.set()
            reader.join()
            assert found[0]["g1"][3].read().size == 200


def test_a_reader_that_leaves_leaves_nothing_at_the_relay_or_the_host() -> None:
    with served() as (host, hosts), through_relay(hosts) as (relay, through):
        for _ in range(5):
            with RemoteTree([through("me")]) as tree:
                assert RootNode(tree)["g1"][3].read().size == 200
            gc.collect()

        until(lambda: "pairs=0 connections=0" in repr(relay))
        until(lambda: "peers=0" in repr(host))


# --- bounds ---


def test_who_does_not_read_what_it_asked_for_is_sent_little_and_holds_up_nobody() -> None:
    array = np.zeros(96 * CHUNK, dtype="u1")
    root = RootNode(uid="root", edges={"a": ArrayNode(array, uid="a", chunks=(CHUNK,))})
    with (
        served(root) as (_, hosts),
        through_relay(hosts, unsent_bytes=4 * CHUNK, dead_after_s=1.0) as (relay, through),
        stranger(relay) as greedy,
        RemoteTree([through("me")]) as tree,
    ):
        greedy.set(zmq.RCVHWM, 1)
        greedy.disconnect(f"tcp://127.0.0.1:{relay.port}")
        greedy.set(zmq.RCVBUF, 64 << 10)
        greedy.connect(f"tcp://127.0.0.1:{relay.port}")
        greedy.send(relaying.relay_frame(NAME, "me"))
        for number in range(96):
            asked = {"request": "send_data", "uid": "a", "kwargs": {"index": number}}
            greedy.send(request_frame(number, asked, takes_frames=True))
        until(lambda: _unsent(relay) == 4 * CHUNK)

        assert RootNode(tree)["a"].read().nbytes == array.nbytes
        assert _unsent(relay) <= 4 * CHUNK
        until(lambda: "pairs=1" in repr(relay))  # who reads nothing for long is taken for dead


def _unsent(relay: Any) -> int:
    """Return how much is on its way to the reader that takes least."""
    pairs = list(relay._passing._pairs.values())
    return max((pair.to_reader.size_bytes for pair in pairs), default=0)


def test_one_reader_too_many_is_turned_away_and_takes_the_place_of_one_that_is_idle() -> None:
    with served() as (_, hosts):
        with (
            through_relay(hosts, pairs=1) as (_, through),
            RemoteTree([through("me")]) as first,
            RemoteTree([through("me")], grace_s=0.3) as second,
        ):
            graph = RootNode(first)
            with pytest.raises(NodeHostGoneError):
                RootNode(second)
            assert graph["g1"][3].read().size == 200
        with (
            through_relay(hosts, pairs=1, idle_s=0.0) as (relay, through),
            RemoteTree([through("me")]) as first,
            RemoteTree([through("me")]) as second,
        ):
            assert RootNode(first)["g1"][3].read().size == 200
            assert RootNode(second)["g1"][3].read().size == 200
            assert "pairs=1" in repr(relay)


@pytest.mark.parametrize(
    "said",
    [
        [b""],
        [b"eZn\1" + bytes(20)],
        [b"eZy\2"],
        [relaying.RELAY_PREAMBLE],
        [relaying.RELAY_PREAMBLE + b"\xc1"],
        [relaying.RELAY_PREAMBLE + b"\x92\xa1a\x01"],
        [relaying.relay_frame(NAME, "nobody")],
        [relaying.relay_frame("another", "me")],
        [relaying.relay_frame(NAME, "x" * 5_000)],
        [relaying.relay_frame(NAME, "me"), b"and more"],
        [b"x" * (relaying.MAX_REQUEST_BYTES + 1)],
    ],
    ids=lambda said: f"{said[0][:12]!r}x{len(said)}",
)
def test_who_says_what_is_no_way_to_a_host_is_hung_up_on_and_harms_nobody(
    said: list[bytes],
) -> None:
    with (
        served() as (_, hosts),
        through_relay(hosts) as (relay, through),
        RemoteTree([through("me")]) as tree,
        stranger(relay) as hostile,
    ):
        graph = RootNode(tree)
        ends = hostile.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        hostile.send_multipart(said)

        assert ends.poll(5_000)
        assert graph["g1"][3].read().size == 200
        hostile.disable_monitor()
        ends.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what came in on a connection")
def test_a_message_without_end_is_hung_up_on() -> None:
    with (
        served() as (_, hosts),
        through_relay(hosts, grown_bytes=0) as (relay, through),  # much may be free to fill here
        RemoteTree([through("me")]) as tree,
        socket.create_connection(("127.0.0.1", relay.port or 0)) as hostile,
    ):
        graph = RootNode(tree)
        hostile.settimeout(1.0)
        hostile.sendall(zmtp.greeting() + zmtp.ready(b"DEALER"))
        part = zmtp.frame(bytes(relaying.MAX_REQUEST_BYTES), MORE)

        with pytest.raises((ConnectionError, TimeoutError)):  # reset, or not read any more
            _send_all(hostile, part, 2_048)  # 512 MiB

        assert graph["g1"][3].read().size == 200


def _send_all(sock: socket.socket, part: bytes, times: int) -> None:
    for _ in range(times):
        sock.sendall(part)


# --- the broker's own ---


class Served(NodesState):
    """Served graphs that cannot be looked at the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def __len__(self) -> int:
        return 1

    def host(self, name: str, owner: str) -> HostEntry | None:
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("a fault of our own")
        return None


def test_a_relay_that_fails_is_started_anew(caplog: pytest.LogCaptureFixture) -> None:
    state: Any = SimpleNamespace(served=Served())
    relay = StandbyRelay("127.0.0.1", lambda: state, new_gate=None)
    try:
        relay.mind(31_000, now=0.0)
        with stranger(relay) as reader:
            reader.send(relaying.relay_frame(NAME, "me"))
            until(lambda: "fails" in caplog.text)
        until(lambda: _mind(relay, 1.0) is None)
        assert _mind(relay, 2.0) is None  # not at once, as it may fail again
        assert _mind(relay, 20.0) is not None
        with stranger(relay) as reader:
            ends = reader.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            reader.send(relaying.relay_frame(NAME, "me"))
            assert ends.poll(5_000)
            reader.disable_monitor()
            ends.close()
    finally:
        relay.stop()


def _mind(relay: StandbyRelay, now: float) -> int | None:
    relay.mind(31_000, now)
    return relay.port()


# --- keys ---


class Admitted:
    """An allow-list in memory, which a test may change."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = keys
        self.is_changed = False

    def load(self, before: Access | None) -> Access:
        self.is_changed = False
        return _access(self.keys)

    def changed(self) -> bool:
        return self.is_changed


def _access(keys: tuple[bytes, ...]) -> Access:
    return Access([Identity(f"key{n}", key.hex(), ADMIN) for n, key in enumerate(keys)])


def gate_of(admitted: Admitted) -> Callable[[Any], Gate]:
    return lambda context: Gate(context, BROKER_PUBLIC, BROKER_SECRET, admitted)


def secure_as(public: bytes, secret: bytes) -> Any:
    def secure(sock: Any, _: Address) -> None:
        sock.set(zmq.CURVE_PUBLICKEY, public)
        sock.set(zmq.CURVE_SECRETKEY, secret)
        sock.set(zmq.CURVE_SERVERKEY, BROKER_PUBLIC)

    return secure


def test_of_one_key_there_are_so_many_readers_and_others_have_their_own() -> None:
    mine, other = new_pair(), new_pair()
    gate = gate_of(Admitted(mine[0], other[0]))
    with (
        served() as (_, hosts),
        through_relay(hosts, gate, pairs_per_key=1) as (_, through),
        RemoteTree([through("me")], secure=secure_as(*mine)) as first,
        RemoteTree([through("me")], secure=secure_as(*mine), grace_s=0.3) as second,
        RemoteTree([through("me")], secure=secure_as(*other)) as third,
    ):
        graph = RootNode(first)
        with pytest.raises(NodeHostGoneError):
            RootNode(second)

        assert graph["g1"][3].read().size == 200
        assert RootNode(third)["g1"][3].read().size == 200


def test_an_unknown_key_is_not_let_in_and_one_that_is_revoked_is_hung_up_on() -> None:
    (mine, my_secret), (other, other_secret) = new_pair(), new_pair()
    admitted = Admitted(mine)
    with served() as (_, hosts), through_relay(hosts, gate_of(admitted)) as (relay, through):
        me, stranger_ = secure_as(mine, my_secret), secure_as(other, other_secret)
        with RemoteTree([through("me")], secure=me, grace_s=1.0) as tree:
            graph = RootNode(tree)
            assert graph["g1"][3].read().size == 200
            with (
                RemoteTree([through("me")], secure=stranger_, grace_s=0.3) as strange,
                pytest.raises(NodeHostGoneError),
            ):
                RootNode(strange)

            admitted.keys, admitted.is_changed = (), True
            until(lambda: "pairs=0" in repr(relay))
            with pytest.raises(NodeHostGoneError):
                graph["g1"][4].read()
