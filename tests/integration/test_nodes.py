"""Nodes of one process read by another: the same words, quick, and errors instead of waiting."""

from __future__ import annotations

import gc
import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq

from ezgraph.errors import (
    AddressInUseError,
    CompactedError,
    ConfigError,
    ContextClosedError,
    DeadlineError,
    EzGraphError,
    ForbiddenError,
    InsecureAddressError,
    KeyFileError,
    LimitError,
    MalformedMessageError,
    NodeError,
    NodeHostGoneError,
    NodeIndexError,
    NodeSourceError,
    UnknownNodeError,
)
from ezgraph.nodes import (
    ArrayNode,
    BaseNode,
    EmptyNode,
    GenericNode,
    NodeHost,
    NodeLimits,
    NodeServer,
    RemoteTree,
    RootNode,
    meta,
)
from ezgraph.nodes.endpoint import Endpoint
from ezgraph.nodes.gate import Gate
from ezgraph.nodes.sources.base import SourceLayout
from ezgraph.testing import NumpyTestNode
from ezgraph.wire import nodes as frames
from ezgraph.wire.tickets import PREAMBLE, ticket_bytes
from tests.fuzz import zmtp
from tests.integration import node_host

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

NUMBERS = np.tile(np.arange(10), 20)


@pytest.fixture
def host() -> Iterator[NodeHost]:
    with NodeHost(NodeServer(node_host.served_graph())) as running:
        yield running


@pytest.fixture
def graph(host: NodeHost) -> Iterator[RootNode]:
    with RemoteTree(host.address) as tree:
        yield RootNode(tree)


@contextmanager
def serving(root: RootNode, **options: Any) -> Iterator[tuple[NodeHost, RemoteTree]]:
    """Serve a graph, and have a reader of it."""
    with (
        NodeHost(NodeServer(root, **options)) as host,
        RemoteTree(host.address, timeout=5.0) as tree,
    ):
        yield host, tree


class Program:
    """A process that serves nodes."""

    def __init__(self, port: int = 0) -> None:
        root = Path(node_host.__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.node_host", str(port)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self.hear()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def program() -> Iterator[Program]:
    running = Program()
    yield running
    running.kill()


# --- reading ---


def test_the_same_200_numbers_from_another_process_and_again_at_the_second_read(
    program: Program,
) -> None:
    here = node_host.served_graph()["g1"][3].read()
    with RemoteTree(program.address) as tree:
        graph = RootNode(tree)
        there, again = graph["g1"][3].read(), graph["g1"][3].read()

        assert type(graph["g1"][3]) is NumpyTestNode
        assert graph["g1"][3].meta == {"field1": "testing"}
    for found in (here, there, again):
        np.testing.assert_array_equal(found, NUMBERS)


def test_an_array_is_read_by_any_index(graph: RootNode) -> None:
    node, array = graph["long"], np.arange(1_000_000.0)

    for index in (..., slice(99_990, 300_010), slice(None, None, -7), 500_000, (None, slice(3))):
        np.testing.assert_array_equal(node[index], array[index])
    assert node.read(verify=True).sum() == array.sum()
    assert [number for number, _ in node.read_chunks(7)] == [7, 8, 9]


def test_what_is_read_may_be_changed_and_outlives_the_reader(host: NodeHost) -> None:
    with RemoteTree(host.address) as tree:
        found = RootNode(tree)["long"][:90_000]
    gc.collect()

    found += 1

    assert found[-1] == 90_000


def test_a_search_a_tree_and_pages_come_from_another_process(
    graph: RootNode, capsys: pytest.CaptureFixture[str]
) -> None:
    found = graph.search(meta.field1 == "testing", prefix="g1")
    graph.tree()

    assert found.paths == [("g1", number) for number in range(5)]
    assert found[3] is graph["g1"][3]
    assert "├─ long  ArrayNode float64 (1000000,)" in capsys.readouterr().out
    assert list(graph["g1"].keys(start=3)) == [3, 4]


def test_a_root_with_ten_thousand_children_is_opened_by_one_request() -> None:
    root = RootNode(edges={number: EmptyNode() for number in range(10_000)})
    asked: list[str] = []

    with serving(root) as (_, tree):
        request = tree.request

        def counted(message: Any, /, **options: Any) -> bytes:
            asked.append(message["request"])
            return request(message, **options)

        tree.request = counted  # type: ignore[method-assign]
        graph = RootNode(tree)

        assert len(graph.edges) == 10_000
        assert asked == ["send_root"]
        assert graph[9_999].uid == root[9_999].uid


def test_several_threads_read_at_once(graph: RootNode) -> None:
    node, sums = graph["long"], []

    def read() -> None:
        sums.append(float(node[:].sum()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sums == [float(np.arange(1_000_000.0).sum())] * 4


def test_what_is_refused_there_has_its_class_here(graph: RootNode) -> None:
    tree: Any = graph.server
    cases: list[tuple[type[EzGraphError], str, dict[str, Any]]] = [
        (UnknownNodeError, "nobody", {}),
        (NodeIndexError, "long", {"index": 10}),
    ]
    for kind, uid, kwargs in cases:
        name = "send_data" if kwargs else "send_info"
        with pytest.raises(kind):
            tree.request({"request": name, "uid": uid, "kwargs": kwargs})


def test_nodes_that_come_and_go_are_seen_from_another_process() -> None:
    root = RootNode(edges={"old": NumpyTestNode()})
    with serving(root) as (_, tree):
        graph = RootNode(tree)
        old = graph["old"]

        root.edges = {"new": NumpyTestNode()}

        assert graph["new"].read().size == 200
        with pytest.raises(UnknownNodeError):
            old.read()


# --- growing ---


def test_rows_are_followed_from_another_thread_as_they_come() -> None:
    node = ArrayNode.growing("f8", (4,))
    with serving(RootNode(edges={"n": node})) as (_, tree):
        copy = RootNode(tree)["n"]
        followed = copy.follow(after=-1, timeout=5.0)

        for number in range(20):
            node.append(np.full((2, 4), number))
            assert next(followed).value.tolist() == [[number] * 4] * 2
        node.finish()

        assert list(followed) == []
        assert copy[::2, 0].tolist() == list(range(20))


def test_who_waits_for_a_node_to_grow_holds_up_nobody() -> None:
    node = ArrayNode.growing("f8")
    with serving(RootNode(edges={"n": node, "t": NumpyTestNode()})) as (host, tree):
        graph = RootNode(tree)
        told: list[Any] = []
        follower = threading.Thread(target=lambda: told.extend(graph["n"].follow(after=-1)))
        follower.start()
        _until(lambda: "waiters=1" in repr(host))

        begin = monotonic()
        assert graph["t"].read().size == 200
        took_s = monotonic() - begin
        node.append([1.0])
        node.finish()
        follower.join()

    assert took_s < 2.0  # it would have waited 5
    assert [(number, part.tolist()) for number, part in told] == [(0, [1.0])]


def test_who_waits_for_much_takes_nobody_elses_place_to_wait() -> None:
    node = ArrayNode.growing("f8", uid="n")
    wait: Any = {"request": "send_growth", "uid": "n", "kwargs": {"after": -1, "wait_s": 30.0}}
    limits = NodeLimits(max_peers=4)
    with serving(RootNode(edges={"n": node}), limits=limits) as (host, greedy):
        many = threading.Thread(target=lambda: greedy.request_many([wait] * 4, timeout=40))
        many.start()
        _until(lambda: "waiters=4" in repr(host))
        told: list[Any] = []
        with RemoteTree(host.address) as tree:
            follower = threading.Thread(
                target=lambda: told.extend(RootNode(tree)["n"].follow(after=-1))
            )
            follower.start()
            _until(lambda: "peers=0 waiters=4" in repr(host) and greedy_was_told(host))
            with pytest.raises(LimitError, match="3 of them yours"):
                greedy.request(wait)
            node.append([1.0])
            node.finish()
            follower.join()
        many.join()

    assert [number for number, _ in told] == [0]


def greedy_was_told(host: NodeHost) -> bool:
    service = host._service
    assert service is not None
    return len({each.peer for each in service._waiters}) == 2


def test_a_follower_too_slow_for_what_is_kept_is_told() -> None:
    node = ArrayNode.growing("f8", keep_bytes=8 * 8)
    with serving(RootNode(edges={"n": node})) as (_, tree):
        followed = RootNode(tree)["n"].follow(after=-1)
        for number in range(20):
            node.append([number])

        with pytest.raises(CompactedError) as caught:
            list(followed)

    assert caught.value.floor == 12


def test_a_wait_that_ends_without_news_says_so() -> None:
    node = GenericNode(data=[1])
    node.grow()
    with serving(RootNode(edges={"n": node})) as (_, tree):
        copy = RootNode(tree)["n"]

        assert copy.growth_report(after=0, wait_s=0.05).partitions == 1
        with pytest.raises(DeadlineError):
            next(copy.follow(timeout=0.05))


# --- hosts that go away ---


def test_a_host_that_is_killed_in_mid_read_is_a_typed_error_by_the_deadline(
    program: Program,
) -> None:
    with RemoteTree(program.address, grace_s=0.3, timeout=10.0) as tree:
        node = RootNode(tree)["stuck"]
        done: list[int] = []

        def kill_when_stuck() -> None:
            program.hear()
            _until(lambda: len(done) == node_host.SLOW_READS)
            program.kill()

        killer = threading.Thread(target=kill_when_stuck)
        killer.start()
        begin = monotonic()

        with pytest.raises(NodeHostGoneError, match=f"at {tree.address} is gone"):
            node.read(progress=lambda now, _: done.append(now))

        took_s = monotonic() - begin
        killer.join()
        assert done[-1] == node_host.SLOW_READS * 8_000
        assert took_s < 10.0
        with pytest.raises(NodeHostGoneError):
            node[0]


def test_a_host_that_says_nothing_is_a_deadline_error(program: Program) -> None:
    with RemoteTree(program.address, timeout=0.3) as tree:
        node = RootNode(tree)["stuck"]

        with pytest.raises(DeadlineError, match=r"sent nothing for 0.3 s, with .* requests"):
            node.read()


def test_a_host_that_comes_back_in_time_goes_on_with_what_was_asked(program: Program) -> None:
    with RemoteTree(program.address, grace_s=20.0, timeout=20.0) as tree:
        graph = RootNode(tree)
        late: list[Any] = []
        done: list[int] = []
        wanted = slice(0, 2 * node_host.SLOW_READS)  # the first gives half of them, then no more

        def read() -> None:
            late.append(graph["stuck"].read(wanted, progress=lambda n, _: done.append(n)).shape)

        reader = threading.Thread(target=read)
        reader.start()
        assert program.hear() == "stuck"
        _until(lambda: len(done) == node_host.SLOW_READS)  # else the second has more to give
        program.kill()

        again = Program(int(program.address.rpartition(":")[2]))
        reader.join()
        again.kill()

    assert late == [(2 * node_host.SLOW_READS, 1000)]


def test_the_rest_comes_from_another_host_that_serves_the_same(program: Program) -> None:
    with NodeHost(NodeServer(node_host.served_graph())) as other:
        addresses = [program.address, str(other.address)]
        with RemoteTree(addresses, grace_s=10.0) as tree:
            chunks = RootNode(tree)["long"].read_chunks()
            begin = next(chunks).value[0]
            program.kill()

            rest = [float(part[0]) for _, part in chunks]

            assert (begin, rest) == (0.0, [100_000.0 * number for number in range(1, 10)])
            assert tree.address == other.address or len(rest) == 9


def test_nobody_at_an_address_is_a_typed_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        tree = RemoteTree(("127.0.0.1", port), grace_s=0.1)
        with pytest.raises(NodeHostGoneError, match=f"127.0.0.1:{port} is gone, or was never"):
            RootNode(tree)
        tree.close()


def test_a_closed_reader_says_so_and_one_that_waits_is_freed(program: Program) -> None:
    tree = RemoteTree(program.address)
    node = RootNode(tree)["stuck"]
    failed: list[BaseException] = []

    def read() -> None:
        try:
            node.read()
        except EzGraphError as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert program.hear() == "stuck"
    tree.close()
    tree.close()
    reader.join()

    assert [type(error) for error in failed] == [ContextClosedError]
    with pytest.raises(ContextClosedError, match="is closed; open the graph again"):
        node[0]
    assert "closed" in repr(tree)


def test_a_reader_that_nobody_holds_any_more_ends_its_thread(host: NodeHost) -> None:
    tree = RemoteTree(host.address)
    RootNode(tree)
    thread = tree._line._thread

    del tree
    gc.collect()
    thread.join(5)

    assert not thread.is_alive()


def test_a_host_may_stop_and_start_again(host: NodeHost) -> None:
    with RemoteTree(host.address, grace_s=10.0) as tree:
        graph = RootNode(tree)
        host.stop()
        host.stop()
        assert "stopped" in repr(host)
        host.start()

        assert graph["g1"][0].read().size == 200


# --- bad input ---


def raw_dealer(host: NodeHost, *, holds: int = 1_000) -> Any:
    """Return a socket that holds so many answers which nobody took."""
    dealer: Any = zmq.Context.instance().socket(zmq.DEALER)
    dealer.set(zmq.LINGER, 0)
    dealer.set(zmq.RCVHWM, holds)
    dealer.set(zmq.RCVTIMEO, 5_000)
    dealer.connect(host.address.endpoint)
    return dealer


def test_garbage_gets_no_answer_and_harms_nobody(host: NodeHost, graph: RootNode) -> None:
    dealer = raw_dealer(host)
    good = frames.request_frame(1, {"request": "send_root"}, takes_frames=False)

    for garbage in ([b""], [b"x"], [b"eZ\x01\0" * 20], [good, b"more"], [b"a"] * 50):
        dealer.send_multipart(garbage)
    dealer.send(frames.request_frame(2, ["no", "request"], takes_frames=True))
    dealer.send(good[:13] + b"\xc1\xc1")
    dealer.send(good)

    answers = [frames.read_answer(memoryview(dealer.recv()), None) for _ in range(3)]
    assert [(each.request_id, each.kind) for each in answers] == [(2, b"E"), (1, b"E"), (1, b"V")]
    with pytest.raises(MalformedMessageError):
        answers[1].check()
    assert graph["g1"][0].read().size == 200
    dealer.close()


@pytest.mark.parametrize("announced", [1 << 60, 1 << 20])
def test_a_frame_that_announces_too_many_bytes_is_cut_off(
    announced: int, host: NodeHost, graph: RootNode
) -> None:
    with socket.create_connection(host.address) as raw:
        raw.settimeout(5)
        raw.sendall(zmtp.greeting() + zmtp.ready(b"DEALER"))
        greeted = raw.recv(zmtp.GREETING_BYTES, socket.MSG_WAITALL)
        raw.sendall(bytes([zmtp.LONG]) + struct.pack("!Q", announced) + b"eZn\x01")
        with suppress(ConnectionResetError):
            while raw.recv(4096):
                pass  # until it hangs up

    assert greeted.startswith(b"\xff")
    assert graph["g1"][0].read().size == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the system does not tell")
def test_who_sends_a_message_without_end_is_hung_up_on() -> None:
    limits = NodeLimits(max_waiting_requests=64, max_request_bytes=64 << 10)
    endless = zmtp.frame(bytes(8 << 10), flags=1)
    sent = 0
    with serving(node_host.served_graph(), limits=limits) as (host, tree):
        with socket.create_connection(host.address) as raw:
            raw.settimeout(5)
            raw.sendall(zmtp.greeting() + zmtp.ready(b"DEALER"))
            with suppress(ConnectionError):
                while sent < 1 << 30:
                    raw.sendall(endless)
                    sent += len(endless)

        assert sent < 1 << 30
        assert RootNode(tree)["g1"][0].read().size == 200


class LyingHost:
    """Answers every request with the frames it was given, for the length of a ``with``."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._router: Any = zmq.Context.instance().socket(zmq.ROUTER)
        self._router.set(zmq.LINGER, 0)
        port: int = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"127.0.0.1:{port}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._router.poll(20):
                peer, asked = self._router.recv_multipart()
                self._router.send_multipart([peer, *self._make(frames.read_request_id(asked))])

    def __enter__(self) -> str:
        self._thread.start()
        return self.address

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._router.close()


def test_a_head_that_announces_2_to_the_60_bytes_is_refused_before_anything_is_allocated() -> None:
    def lie(request_id: int) -> list[bytes]:
        head, _ = frames.answer_frames(request_id, np.zeros(1), takes_frames=True)
        at = head.index(b"\x91\x01")  # the shape [1]
        return [head[:at] + b"\x91\xcf" + struct.pack("!Q", 1 << 57) + head[at + 2 :], bytes(8)]

    asked = [({"request": "send_data", "uid": "a", "kwargs": {"index": 0}}, 8)]
    with (
        LyingHost(lie) as address,
        RemoteTree(address) as tree,
        pytest.raises(MalformedMessageError, match="8 bytes are no array of shape"),
    ):
        list(tree.fetch(asked))


def test_an_answer_of_another_kind_is_malformed_and_the_reader_lives_on() -> None:
    def lie(request_id: int) -> list[bytes]:
        return frames.answer_frames(request_id, [1, 2], takes_frames=False)

    with LyingHost(lie) as address, RemoteTree(address) as tree:
        with pytest.raises(MalformedMessageError):
            RootNode(tree)
        with pytest.raises(MalformedMessageError, match="where an array was due"):
            list(tree.fetch([({"request": "send_data", "uid": "a", "kwargs": {"index": 0}}, 8)]))
        assert tree.request({"request": "send_root"}) == b"\x92\x01\x02"


def test_a_reader_that_asks_for_much_and_takes_nothing_gets_no_more_than_its_bound() -> None:
    given: list[int] = []

    class Counted:
        dtype = np.dtype("u1")

        def layout(self) -> SourceLayout:
            return SourceLayout((1_000, 1 << 20), (1, 1 << 20))

        def read(self, part: tuple[slice, ...]) -> Any:
            given.append(part[0].start)
            return np.zeros((1, 1 << 20), "u1")

        def stamp(self) -> None:
            return None

    root = RootNode(edges={"n": ArrayNode(Counted(), uid="n"), "t": NumpyTestNode()})
    limits = NodeLimits(max_unsent_bytes=8 << 20, max_waiting_requests=200)
    with serving(root, limits=limits) as (host, tree):
        greedy = raw_dealer(host, holds=1)
        for number in range(150):
            asked = {"request": "send_data", "uid": "n", "kwargs": {"index": number}}
            greedy.send(frames.request_frame(number + 1, asked, takes_frames=True))
        _until(lambda: len(given) >= 8)

        begin = monotonic()
        for _ in range(200):  # the greedy one has its turn after each of these, too
            tree.request({"request": "send_info", "uid": root["t"].uid, "kwargs": {}})
        assert monotonic() - begin < 5.0
        assert len(given) < 100  # its bound, and what the network and both sockets hold

        heard = [greedy.recv_multipart() for _ in range(150)]
        assert [frames.read_answer(memoryview(head), None).request_id for head, _ in heard] == list(
            range(1, 151)
        )
        greedy.close()


def test_answers_that_a_reader_does_not_take_wait_until_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ezgraph.nodes.host._UNREAD_ANSWERS", 2)
    root = RootNode(uid="r", edges={"n": GenericNode(uid="n", data=[b"x" * 60_000])})
    with serving(root, limits=NodeLimits(max_waiting_requests=1_000)) as (host, tree):
        slow = raw_dealer(host, holds=1)
        for number in range(1_000):
            asked = {"request": "send_data", "uid": "n", "kwargs": {"index": 0}}
            slow.send(frames.request_frame(number, asked, takes_frames=False))
        for _ in range(1_000):  # the slow one has its turn after each of these, too
            tree.request({"request": "send_info", "uid": "r", "kwargs": {}})

        heard = [slow.recv() for _ in range(1_000)]
        slow.close()

    answers = [frames.read_answer(memoryview(each), None) for each in heard]
    assert [each.request_id for each in answers if each.kind == b"V"] == [
        each.request_id for each in answers
    ]


def test_of_who_shows_no_ticket_nothing_is_kept_however_much_it_asks() -> None:
    asked = frames.request_frame(1, {"request": "send_root"}, takes_frames=False)
    gate = Gate("run", lambda: 0.0)
    gate.open_with(bytes(32))
    ticket = PREAMBLE + ticket_bytes(bytes(32), None, ["/"], 1.0)
    with (
        NodeHost(NodeServer(node_host.served_graph()), gate=gate) as host,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            dealer.set(option, 1)
        dealer.set(zmq.RCVBUF, 4_096)  # it takes none of the refusals
        dealer.set(zmq.LINGER, 0)
        dealer.connect(f"tcp://{host.address}")
        for _ in range(30_000):
            dealer.send(asked)
        with RemoteTree([Endpoint(host.address, ticket=ticket)]) as tree:
            for _ in range(20):
                assert tree.request({"request": "send_root"})
        _until(lambda: "peers=0" in repr(host))


def test_requests_beyond_those_that_may_wait_are_refused_at_once() -> None:
    began, may_go_on = threading.Event(), threading.Event()

    class Slow(GenericNode):
        def load_data(self) -> None:
            began.set()
            may_go_on.wait(10)
            self.data = [1]

    root = RootNode(edges={"s": Slow(uid="s")})
    with serving(root, limits=NodeLimits(max_waiting_requests=4)) as (host, _):
        dealer = raw_dealer(host)
        asked = {"request": "send_data", "uid": "s", "kwargs": {"index": 0}}
        dealer.send(frames.request_frame(0, asked, takes_frames=False))
        assert began.wait(5)
        for number in range(1, 41):
            dealer.send(frames.request_frame(number, asked, takes_frames=False))
        may_go_on.set()
        dealer.set(zmq.RCVTIMEO, 2_000)
        kinds: list[str] = []
        for _ in range(41):
            answer = frames.read_answer(memoryview(dealer.recv()), None)
            try:
                answer.check()
                kinds.append("answered")
            except LimitError:
                kinds.append("refused")
        dealer.close()

    assert kinds.count("answered") >= 5
    assert kinds.count("answered") + kinds.count("refused") == 41


def test_a_request_that_is_too_long_is_refused_where_it_is_made(graph: RootNode) -> None:
    with pytest.raises(LimitError, match="a request of"):
        graph.search(meta.x == "y" * 300_000)
    assert graph["g1"][0].read().size == 200


def test_readers_beyond_the_bound_are_refused() -> None:
    root = RootNode(edges={"n": ArrayNode(np.zeros((200, 1 << 20), "u1"), chunks=(1, 1 << 20))})
    limits = NodeLimits(max_peers=1, max_unsent_bytes=1 << 20)
    with serving(root, limits=limits) as (host, tree):
        greedy = raw_dealer(host, holds=1)
        for number in range(200):
            asked = {"request": "send_data", "uid": root["n"].uid, "kwargs": {"index": number}}
            greedy.send(frames.request_frame(number, asked, takes_frames=True))
        greedy.recv_multipart()

        with pytest.raises(LimitError, match="1 readers are served already; try again later"):
            RootNode(tree)

        for _ in range(199):
            greedy.recv_multipart()
        _until(lambda: "peers=0" in repr(host))
        assert RootNode(tree)["n"][7, :3].tolist() == [0, 0, 0]
        greedy.close()


# --- who may ---


def test_a_host_outside_loopback_needs_keys_or_is_told_to_be_insecure() -> None:
    server = NodeServer(RootNode())

    with pytest.raises(InsecureAddressError, match="would be served to anybody"):
        NodeHost(server, host="0.0.0.0")
    with NodeHost(server, host="0.0.0.0", insecure=True):
        pass
    with pytest.raises(ConfigError):
        NodeHost(server, host="no.such.host.invalid")


def test_a_port_that_is_taken_is_said(host: NodeHost) -> None:
    other = NodeHost(NodeServer(RootNode()), port=host.address.port)

    with pytest.raises(AddressInUseError, match="somebody listens on"):
        other.start()
    assert "stopped" in repr(other)


def test_keys_are_given_to_both_ends_and_name_the_asker() -> None:
    public, secret = zmq.curve_keypair()

    def secure_host(router: Any) -> None:
        router.set(zmq.CURVE_SERVER, 1)
        router.set(zmq.CURVE_SECRETKEY, secret)

    def secure_reader(dealer: Any, _: Any) -> None:
        mine, mine_secret = zmq.curve_keypair()
        dealer.set(zmq.CURVE_SERVERKEY, public)
        dealer.set(zmq.CURVE_PUBLICKEY, mine)
        dealer.set(zmq.CURVE_SECRETKEY, mine_secret)

    with NodeHost(NodeServer(node_host.served_graph()), secure=secure_host) as host:
        with RemoteTree(host.address, secure=secure_reader) as tree:
            assert RootNode(tree)["g1"][3].read().size == 200
        stranger = RemoteTree(host.address, grace_s=0.3)
        with pytest.raises(NodeHostGoneError):
            RootNode(stranger)
        stranger.close()


def test_a_reader_without_a_key_for_the_address_says_so(host: NodeHost) -> None:
    def no_key(_: Any, address: Any) -> None:
        raise KeyFileError(f"no key is pinned for {address}")

    with RemoteTree(host.address, secure=no_key) as tree:
        for _ in range(2):
            with pytest.raises(KeyFileError, match="no key is pinned"):
                RootNode(tree)


def test_a_reader_whose_thread_fails_says_why(host: NodeHost) -> None:
    def broken(_: Any, address: Any) -> None:
        raise ZeroDivisionError(f"at {address}")

    with RemoteTree(host.address, secure=broken) as tree:
        for _ in range(2):
            with pytest.raises(NodeError, match=r"failed: ZeroDivisionError\('at 127.0.0.1"):
                RootNode(tree)


def test_who_may_not_see_a_node_is_refused_over_the_network() -> None:
    def may_see(_: str | None, node: BaseNode) -> bool:
        return node.uid != "secret"

    root = RootNode(edges={"secret": NumpyTestNode(uid="secret"), "open": NumpyTestNode()})
    with serving(root, may_see=may_see) as (_, tree):
        graph = RootNode(tree)

        assert list(graph.edges) == ["open"]
        with pytest.raises(ForbiddenError):
            tree.request({"request": "send_data", "uid": "secret", "kwargs": {"index": 0}})


# --- sources that fail while they are served ---


def test_a_file_that_shrinks_in_mid_read_is_a_typed_error_and_the_host_lives_on(
    tmp_path: Path,
) -> None:
    from ezgraph.nodes import NpySource

    path = tmp_path / "a.npy"
    np.save(path, np.arange(1_000_000.0))
    node = ArrayNode(NpySource(path), chunks=(10_000,), uid="eeg")
    with serving(RootNode(edges={"a": node, "t": NumpyTestNode()})) as (_, tree):
        graph = RootNode(tree)
        chunks = graph["a"].read_chunks()
        next(chunks)

        os.truncate(path, 4_000)

        with pytest.raises(NodeSourceError, match=r"node 'eeg'.*(has shrunk from|ends before)"):
            list(chunks)
        assert graph["t"].read().size == 200


class Failing(BaseNode):
    """A node that somebody else wrote, and whose file has a name that is no UTF-8."""

    def read(self) -> Any:
        return self.data

    def load_meta(self) -> None:
        self.meta = {}

    def load_data(self) -> None:
        raise OSError(os.fsdecode(b"no such file: caf\xe9.dat"))

    def summary(self) -> str:
        return str(self.data)


@pytest.mark.parametrize(
    "asked",
    [
        {"request": "send_data", "uid": "f", "kwargs": {"index": 0}},
        {"request": "send_growth", "uid": "f", "kwargs": {}},
        {"request": "send_growth", "uid": "f", "kwargs": {"after": 0, "wait_s": 5.0}},
    ],
)
def test_a_node_that_fails_in_any_way_harms_no_other_and_the_host_lives_on(asked: Any) -> None:
    with serving(RootNode(edges={"f": Failing(uid="f"), "t": NumpyTestNode()})) as (_, tree):
        with pytest.raises(NodeSourceError, match=r"node 'f'.*OSError: .*caf\\udce9"):
            tree.request(asked)

        assert RootNode(tree)["t"].read().size == 200
        RootNode(tree).tree()


def test_a_node_that_fails_while_one_waits_for_it_tells_who_waits() -> None:
    class FailingLater(Failing):
        def load_data(self) -> None:
            self.data = [1]

    node = FailingLater(uid="f")
    with serving(RootNode(edges={"f": node, "t": NumpyTestNode()})) as (host, tree):
        node.append(2)
        followed: list[Any] = []

        def follow() -> None:
            with suppress(NodeSourceError):
                list(RootNode(tree)["f"].follow(after=None))
            followed.append("told")

        follower = threading.Thread(target=follow)
        follower.start()
        _until(lambda: "waiters=1" in repr(host))
        node.data = 5  # type: ignore[assignment]
        node.growth.tell()
        follower.join(5)

        assert followed == ["told"]
        assert RootNode(tree)["t"].read().size == 200


def test_a_rule_of_who_may_see_what_that_fails_shows_nothing_and_the_host_lives_on() -> None:
    def may_see(_: str | None, node: BaseNode) -> bool:
        if node.uid == "odd":
            raise RuntimeError("the list of keys is gone")
        return True

    root = RootNode(edges={"odd": NumpyTestNode(uid="odd")}, uid="root")
    with serving(root, may_see=may_see) as (_, tree):
        with pytest.raises(NodeSourceError, match=r"node 'odd'.*the list of keys is gone"):
            tree.request({"request": "send_data", "uid": "odd", "kwargs": {"index": 0}})

        assert tree.request({"request": "send_info", "uid": "root", "kwargs": {}})


def test_an_item_too_large_for_a_reader_is_refused_and_not_sent_in_vain() -> None:
    huge = ArrayNode(np.zeros(1, f"S{(256 << 20) + 1}"))
    with (
        serving(RootNode(edges={"huge": huge})) as (_, tree),
        pytest.raises(LimitError, match="readers take at most 268435456"),
    ):
        RootNode(tree)["huge"].read()


def test_a_source_that_does_not_return_does_not_hold_up_the_end_of_its_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hanging(Failing):
        def load_data(self) -> None:
            begun.set()
            may_end.wait()
            self.data = []

    monkeypatch.setattr("ezgraph.nodes.host._STOP_S", 0.05)
    begun, may_end = threading.Event(), threading.Event()
    host = NodeHost(NodeServer(RootNode(edges={"n": Hanging(uid="n")}))).start()
    with RemoteTree(host.address, timeout=0.05) as tree:
        with pytest.raises(DeadlineError):
            tree.request({"request": "send_data", "uid": "n", "kwargs": {"index": 0}})
        assert begun.wait(5)

        host.stop()

    assert not may_end.is_set()
    may_end.set()
    _until(lambda: all(each.name != "ezgraph-nodes-host" for each in threading.enumerate()))


def test_a_fork_does_not_use_its_parents_connection(graph: RootNode) -> None:
    tree: Any = graph.server
    tree._pid += 1

    with pytest.raises(ContextClosedError, match="inherited by fork"):
        graph["g1"][0].read()
    tree._pid -= 1


def _until(holds: Any) -> None:
    """Wait until something holds, which other threads bring about."""
    end = monotonic() + 10
    never = threading.Event()
    while not holds():
        assert monotonic() < end
        never.wait(0.002)
