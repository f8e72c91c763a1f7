"""Graphs that are served on a bus and read through it: by name, by roles, as long as they last."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import weakref
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq

from ezgraph import GraphContext, GraphServer, sync
from ezgraph.client.blocking import run
from ezgraph.config import Address, BrokerConfig, Limits
from ezgraph.errors import (
    AddressCollisionError,
    AddressInUseError,
    ContextClosedError,
    DeadlineError,
    EzGraphError,
    ForbiddenError,
    InvalidCommandError,
    KeyFileError,
    NodeError,
    NodeHostGoneError,
    NoSessionError,
    NotAdmittedError,
    TicketNeededError,
    UnknownLabelError,
)
from ezgraph.graph.serving import Hosting, Listening, ServedGraph, ThreadKeeper
from ezgraph.keys.keyring import Keyring
from ezgraph.keys.trusted import revoke
from ezgraph.nodes import ArrayNode, EmptyNode, NodeServer, RemoteTree, RootNode
from ezgraph.nodes.directory import Directory
from ezgraph.nodes.endpoint import Endpoint
from ezgraph.protocol.commands import AnnounceNodes, FindGraph
from ezgraph.protocol.events import Event
from ezgraph.protocol.replies import Refusal
from ezgraph.testing import NumpyTestNode
from ezgraph.wire.tickets import PREAMBLE, ticket_bytes
from tests.integration import served_program

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from ezgraph.protocol.served import FoundGraph

pytestmark = pytest.mark.integration

NUMBERS = np.tile(np.arange(10), 20)
PATIENCE_S = 5.0


def graph(**edges: Any) -> RootNode:
    """A graph with a node of 200 numbers in 20 parts, and with these edges."""
    leaves = {number: NumpyTestNode() for number in range(5)}
    return RootNode(edges={"g1": EmptyNode(edges=leaves), **edges})


@pytest.fixture(scope="module")
def broker() -> Iterator[GraphServer]:
    with GraphServer() as running:
        yield running


@pytest.fixture
def rig(broker: GraphServer) -> Iterator[sync.GraphContext]:
    with sync.GraphContext(broker.address, program="rig.py") as ctx:
        yield ctx


@pytest.fixture
def reader(broker: GraphServer) -> Iterator[sync.GraphContext]:
    with sync.GraphContext(broker.address, program="reader.py") as ctx:
        yield ctx


def story(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def in_loop(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return in_loop


def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so."""
    gave_up, never = monotonic() + PATIENCE_S, threading.Event()
    while not is_so():
        assert monotonic() < gave_up, "it never was so"
        never.wait(0.01)


def kinds(ctx: sync.GraphContext, name: str) -> list[str]:
    return [event.kind for event in ctx.events(("node", name))]


# --- the same words, here and there ---


def test_the_same_200_numbers_here_and_through_the_bus_and_again(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    here = graph()
    with rig.serve(here, "run42"):
        there = reader.nodes["run42"]
        for _ in range(2):
            for number in range(5):
                assert np.array_equal(here["g1"][number].read(), NUMBERS)
                assert np.array_equal(there["g1"][number].read(), NUMBERS)
        assert there["g1"][3].meta == here["g1"][3].meta == {"field1": "testing"}
        assert reader.nodes["run42"] is there
        assert reader.open_graph("run42") is there


@story
async def test_in_coroutines_nothing_blocks_the_loop(broker: GraphServer) -> None:
    here = graph()
    async with (
        GraphContext(broker.address) as serving,
        GraphContext(broker.address, replica=True) as reading,
        await serving.serve(here, name="async") as served,
    ):
        there = await reading.open_graph("async")

        assert np.array_equal(await asyncio.to_thread(there["g1"][3].read), NUMBERS)
        assert "async" in repr(served)
        here.edges["new"] = EmptyNode("new")
        subscription = reading.subscribe(("node", "async", "new"), after_seq=0)
        async with asyncio.timeout(PATIENCE_S):
            event = await anext(each async for each in subscription if isinstance(each, Event))
        assert event.kind == "NodeAnnounced"
        await subscription.aclose()
        await served.stop()
        with pytest.raises(UnknownLabelError, match="no graph 'async' is served"):
            await reading.open_graph("async")


def test_several_graphs_are_served_and_listed_by_name(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    with rig.serve(graph(), "a"), rig.serve(graph(), "b"), reader.serve(graph(), "c"):
        nodes = reader.nodes

        assert nodes.names() == list(nodes) == ["a", "b", "c"]
        assert (len(nodes), "b" in nodes, "d" in nodes) == (3, True, False)
        assert {name: root["g1"][0].read().size for name, root in nodes.items()} == dict.fromkeys(
            "abc", 200
        )
        assert [each.nodes for each in nodes.found()] == [7, 7, 7]
        html = nodes._repr_html_()
        assert "3 graphs served" in html
        assert "rig.py" in html
        with pytest.raises(UnknownLabelError, match=r"3 graphs are served.*\(a, b, c\)"):
            RootNode(reader)
    with pytest.raises(KeyError, match="served are: none"):
        reader.nodes["a"]


def test_a_context_or_the_brokers_address_is_enough_where_one_graph_is_served(
    broker: GraphServer, rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    with rig.serve(graph(), "only"):
        for server in (reader, str(broker.address), broker.address):
            root = RootNode(server)
            assert np.array_equal(root["g1"][3].read(), NUMBERS)
            tree: Any = root.server
            tree.close()


def test_an_array_and_its_growth_are_followed_through_the_bus(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    rows = ArrayNode.growing("f4", (2,))
    with rig.serve(graph(rows=rows, long=ArrayNode(np.arange(100_000.0))), "run"):
        there = reader.nodes["run"]
        assert np.array_equal(there["long"][500:90_000:7], np.arange(100_000.0)[500:90_000:7])
        followed = iter(there["rows"].follow(after=-1))
        rows.append(np.ones((3, 2), "f4"))
        assert next(followed).value.shape == (3, 2)


# --- nodes come and go ---


def test_nodes_that_come_and_go_are_read_at_once_and_announced_together(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    here = graph()
    with rig.serve(here, "run"):
        there = reader.nodes["run"]
        known = len(reader.events(("node", "run")))
        for number in range(50):
            here["g1"].edges[f"n{number}"] = EmptyNode(f"n{number}")
        there["g1"].refresh()
        assert there["g1"]["n7"].uid == "n7"

        until(lambda: len(reader.events(("node", "run"))) >= known + 50)
        del here["g1"].edges["n7"]
        until(lambda: len(reader.events(("node", "run"))) > known + 50)

    events = reader.events(("node", "run"))[known:]
    assert [each.key[2] for each in events[:50]] == [f"n{number}" for number in range(50)]
    assert {each.txn_last for each in events[:50]} <= {each.txn_last for each in events}
    assert len({each.txn_last for each in events[:50]}) <= 3  # gathered, not one by one
    assert (events[50].kind, events[50].key[2]) == ("NodeWithdrawn", "n7")


@story
async def test_a_node_that_fails_while_it_is_announced_is_announced_later(
    broker: GraphServer,
) -> None:
    class Odd(EmptyNode):
        failures = 0

        @property  # type: ignore[misc]
        def edges(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise ValueError("its own code")
            return super().edges

    odd = Odd("odd")
    here = RootNode(edges={"odd": odd})
    async with GraphContext(broker.address) as serving, await serving.serve(here, "odd"):
        odd.failures = 1
        here.edges["x"] = EmptyNode("x")

        subscription = serving.subscribe(("node", "odd", "x"), after_seq=0)
        async with asyncio.timeout(PATIENCE_S):
            event = await anext(each async for each in subscription if isinstance(each, Event))
        await subscription.aclose()

    assert (event.kind, odd.failures) == ("NodeAnnounced", 0)


def test_nodes_hold_on_to_nothing_of_where_they_were_served_before(
    rig: sync.GraphContext,
) -> None:
    here = graph()
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(AddressInUseError),
    ):
        rig.serve(here, "run", port=taken.getsockname()[1])
    served = rig.serve(here, "run")
    server = weakref.ref(served.server)

    served.stop()
    del served
    gc.collect()

    assert server() is None
    assert here._listeners == here["g1"]._listeners == ()


def test_a_graph_may_be_served_without_announcing_its_nodes(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    before = len(kinds(reader, "quiet"))
    with rig.serve(graph(), "quiet", announce=False):
        assert np.array_equal(reader.nodes["quiet"]["g1"][3].read(), NUMBERS)
        assert kinds(reader, "quiet")[before:] == ["GraphServed"]


def test_more_nodes_than_may_be_announced_are_served_all_the_same() -> None:
    limits = Limits(max_announced_nodes_per_lease=10)
    config = BrokerConfig(address=Address("127.0.0.1", 0), limits=limits)
    here = graph()
    with GraphServer(config=config) as server, sync.GraphContext(server.address) as ctx:
        ctx.serve(here, "run")
        assert kinds(ctx, "run").count("NodeAnnounced") == 7
        for number in range(20):
            here.edges[number] = NumpyTestNode()

        until(lambda: kinds(ctx, "run")[-1] == "GraphServed")

        assert kinds(ctx, "run").count("NodeWithdrawn") == 7
        assert np.array_equal(ctx.nodes["run"][19].read(), NUMBERS)


# --- who has a name, and until when ---


def test_a_name_that_is_taken_is_refused_and_nothing_is_left(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    with rig.serve(graph(), "run"):
        with pytest.raises(AddressCollisionError, match=r"'run' is served by rig.py"):
            reader.serve(graph(), "run")
        with pytest.raises(InvalidCommandError, match="serves a graph 'run' already"):
            rig.serve(graph(), "run")
        before = threading.active_count()
        with pytest.raises(AddressCollisionError):
            reader.serve(graph(), "run")
        assert threading.active_count() <= before
    with reader.serve(graph(), "run") as served:
        assert served.name == "run"
    for wrong in ("text", 3, None):
        with pytest.raises(InvalidCommandError, match="is no node"):
            reader.serve(wrong, "run")  # type: ignore[arg-type]


def test_a_graph_that_could_not_be_announced_is_not_left_half_served(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    session: Any = rig._context._active()

    async def call(command: Any, timeout: float) -> Any:  # noqa: ASYNC109
        if isinstance(command, AnnounceNodes):
            raise DeadlineError("as where the line is slow")
        return await session.call(command, timeout=timeout)

    hosting = Hosting(graph(), "half", call, Listening("127.0.0.1", "127.0.0.1", is_secure=False))
    served = ServedGraph(hosting, ThreadKeeper(hosting), lambda _: None)
    with pytest.raises(DeadlineError):
        run(served.begin(timeout=PATIENCE_S))

    assert kinds(reader, "half") == ["GraphServed", "GraphWithdrawn"]


@story
async def test_one_name_is_served_once_also_where_two_begin_at_once(broker: GraphServer) -> None:
    async with GraphContext(broker.address) as ctx:
        begun = await asyncio.gather(
            *(ctx.serve(graph(), "once") for _ in range(3)), return_exceptions=True
        )

        assert [type(each) for each in begun].count(InvalidCommandError) == 2
        assert (await ctx.snapshot()).graphs.keys() >= {"once"}


def test_what_is_served_ends_with_the_session_an_event_for_each_and_readers_are_told(
    broker: GraphServer, reader: sync.GraphContext
) -> None:
    with sync.GraphContext(broker.address) as rig:
        served = rig.serve(graph(), "run")
        there: Any = reader.nodes["run"]
        there.server._line._grace_s = 0.2
        seq = reader.sync()
        address = served.address
    events = reader.events((), seq)

    ended = [each.kind for each in events]
    assert ended == [*["NodeWithdrawn"] * 7, "GraphWithdrawn", "SessionClosed"]
    assert len({each.txn_first for each in events}) == 1
    with pytest.raises(UnknownLabelError):
        reader.nodes["run"]
    with pytest.raises(NodeHostGoneError):
        there["g1"].refresh()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as free:
        free.bind(address.endpoint)  # nobody listens there any more


def test_a_program_that_is_killed_serves_no_longer(reader: sync.GraphContext) -> None:
    with served_by_another(reader.address, "killed") as program:
        there = reader.nodes["killed"]
        assert np.array_equal(there["g1"][3].read(), NUMBERS)
        seq = reader.sync()

        program.kill()

        until(lambda: "SessionClosed" in [each.kind for each in reader.events((), seq)])
        ended = [each.kind for each in reader.events((), seq)]
        assert ended == [*["NodeWithdrawn"] * 7, "GraphWithdrawn", "SessionClosed"]
        assert "killed" not in reader.nodes


@contextmanager
def served_by_another(
    address: Address, name: str, uid: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A program of its own that serves a graph."""
    root = Path(served_program.__file__).parents[2]
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.served_program", str(address), name, uid],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline().strip() == "served"
        yield program
    finally:
        program.kill()
        program.wait(10)
        for pipe in (program.stdin, program.stdout):
            if pipe is not None:
                pipe.close()


def test_the_rest_is_read_from_who_serves_the_same_graph(reader: sync.GraphContext) -> None:
    with served_by_another(reader.address, "twice", "same") as one:
        there = reader.nodes["twice"]
        with served_by_another(reader.address, "twice", "same"):
            found, way = reader.nodes.directory.find("twice")
            assert len(found.hosts) == 2
            there.server.renew(way)  # type: ignore[union-attr]

            one.kill()

            assert np.array_equal(there["g1"][3].read(), NUMBERS)
            assert reader.nodes["twice"]["g1"][0].read().size == 200


def test_a_graph_that_is_served_anew_is_opened_anew(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    with rig.serve(graph(), "run"):
        first = reader.nodes["run"]
    with rig.serve(graph(extra=NumpyTestNode()), "run"):
        second = reader.nodes["run"]

        assert second is not first
        assert np.array_equal(second["extra"].read(), NUMBERS)


def test_a_revert_stops_serving(rig: sync.GraphContext, reader: sync.GraphContext) -> None:
    rig.serve(graph(), "run")
    rig.revert()

    assert "run" not in reader.nodes.names()
    with rig.serve(graph(), "run"):
        assert "run" in reader.nodes.names()


def test_a_session_that_is_taken_over_serves_its_graph_from_the_new_program(
    reader: sync.GraphContext,
) -> None:
    with served_by_another(reader.address, "handed") as program:
        reader.nodes["handed"]
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("token\n")
        program.stdin.flush()
        from ezgraph.client.resumption import ResumeToken

        token = ResumeToken.parse(program.stdout.readline().strip())
        program.kill()
        with sync.GraphContext(reader.address, resume=token) as heir:
            heir.serve(graph(own=NumpyTestNode()), "handed")

            (host,) = reader.nodes.directory.find("handed")[0].hosts
            assert host.owner == heir.session_id
            assert np.array_equal(reader.nodes["handed"]["own"].read(), NUMBERS)


def test_who_serves_through_a_restart_is_read_meanwhile_and_found_after_it(tmp_path: Path) -> None:
    backend = f"sqlite:///{tmp_path}/rig.db"
    here = graph(long=ArrayNode(np.arange(200_000.0), chunks=(1_000,)))
    server = GraphServer(backend=backend).start()
    address = server.address
    with sync.GraphContext(address) as rig, sync.GraphContext(address) as reader:
        rig.serve(here, "run")
        there = reader.nodes["run"]

        server.stop()
        assert np.array_equal(there["long"][:], np.arange(200_000.0))  # bulk never passes it
        assert reader.nodes["run"] is there
        with GraphServer(address, backend=backend):
            here.edges["new"] = NumpyTestNode("new")
            rig.redeclare()

            with sync.GraphContext(address) as other:
                assert np.array_equal(other.nodes["run"]["new"].read(), NUMBERS)
                until(lambda: kinds(other, "run").count("NodeAnnounced") == 9)
                assert kinds(other, "run").count("GraphServed") == 1


def test_what_a_lost_session_served_is_declared_again_in_the_new_one() -> None:
    here = graph()
    server = GraphServer().start()
    address = server.address
    with sync.GraphContext(address) as rig:
        rig.serve(here, "run")
        server.stop()
        with GraphServer(address), sync.GraphContext(address) as reader:
            with pytest.raises(EzGraphError):  # another history: nothing of it is known
                rig.sync()
            rig.redeclare()

            assert np.array_equal(reader.nodes["run"]["g1"][3].read(), NUMBERS)
            assert kinds(reader, "run").count("NodeAnnounced") == 7


def test_what_was_opened_closes_with_its_context(
    broker: GraphServer, rig: sync.GraphContext
) -> None:
    with rig.serve(graph(), "run"):
        with sync.GraphContext(broker.address) as reader:
            there = reader.nodes["run"]["g1"]
        with pytest.raises(ContextClosedError):
            there[3].read()
        with pytest.raises(NoSessionError):
            reader.nodes["run"]
        with pytest.raises(NoSessionError):
            reader.serve(graph(), "other")


# --- who may read what ---


class Admitted:
    """A broker with keys, and contexts of those it admits."""

    def __init__(self, folder: Path) -> None:
        self._ring = ring = Keyring(folder)
        ring.add_role("some", {"read": ["node/run/root", "node/run/open*"]})
        ring.add_role("other", {"read": ["node/other/"]})
        for name, role in (
            ("rig", "operator"), ("watcher", "observer"), ("owner", "owner:run"),
            ("some", "some"), ("other", "other"),
        ):  # fmt: skip
            ring.admit(name, role)
        self.server = GraphServer(config=ring.config()).start()
        self.address = self.server.address

    def join(self, name: str) -> sync.GraphContext:
        return sync.GraphContext(self.address, keys=self._ring.keys(name, self.address))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admitted]:
    lab = Admitted(tmp_path_factory.mktemp("keys"))
    yield lab
    lab.server.stop()


def secret_graph() -> RootNode:
    inner = EmptyNode("hidden", edges={"n": NumpyTestNode("open-but-below")})
    return RootNode(
        uid="root", edges={"a": NumpyTestNode("open-a"), "b": NumpyTestNode("b"), "h": inner}
    )


def test_a_role_reads_what_its_prefixes_allow_node_by_node(lab: Admitted) -> None:
    with lab.join("rig") as rig, lab.join("some") as some, lab.join("watcher") as watcher:
        rig.serve(secret_graph(), "run")
        everything, part = watcher.nodes["run"], some.nodes["run"]

        assert set(everything.keys()) == {"a", "b", "h"}
        assert np.array_equal(everything["b"].read(), NUMBERS)
        assert np.array_equal(part["a"].read(), NUMBERS)
        assert set(part.keys()) == {"a"}
        tree = part.server.request({"request": "send_tree", "uid": "root"})  # type: ignore[union-attr]
        assert (tree.count(b"NumpyTestNode"), tree.count(b"open-a")) == (1, 1)
        for uid in ("b", "hidden"):
            for verb in ("send_node", "send_meta", "send_edges", "send_growth"):
                with pytest.raises(ForbiddenError, match="key 'some' may not see node"):
                    part.server.request({"request": verb, "uid": uid})  # type: ignore[union-attr]
        assert everything.description().labels == 3
        assert part.description().labels == 1
        announced = {each.key[2] for each in some.events(("node",))}
        assert announced == {"root", "open-a", "open-but-below"}
        assert some.nodes.found()[0].nodes is None


def test_who_may_read_nothing_of_a_graph_does_not_find_it(lab: Admitted) -> None:
    with lab.join("rig") as rig, lab.join("other") as other:
        rig.serve(secret_graph(), "run")

        assert other.nodes.names() == []
        with pytest.raises(ForbiddenError, match="may not read node/run"):
            other.nodes["run"]
        assert other.snapshot().graphs == {}
        assert [each.graphs for each in other.clients()] == []


def test_a_role_says_who_may_serve_what(lab: Admitted) -> None:
    with lab.join("watcher") as watcher, lab.join("owner") as owner:
        with pytest.raises(ForbiddenError, match="may not serve node/run"):
            watcher.serve(graph(), "run")
        owner.serve(graph(), "run")
        owner.serve(graph(), "run/of/today")
        with pytest.raises(ForbiddenError, match="may not serve node/running"):
            owner.serve(graph(), "running")


def test_the_program_may_allow_less_than_the_roles_do(lab: Admitted) -> None:
    with lab.join("rig") as rig, lab.join("watcher") as watcher, lab.join("owner") as owner:
        rig.serve(
            secret_graph(), "run", may_see=lambda who, node: who == "owner" or node.uid != "b"
        )

        assert set(watcher.nodes["run"].keys()) == {"a", "h"}
        assert set(owner.nodes["run"].keys()) == {"a", "b", "h"}


def endpoint(found: FoundGraph, ticket: bytes | None) -> Endpoint:
    host, port = found.hosts[0].endpoints[0].split(":")
    return Endpoint(Address(host, int(port)), found.hosts[0].public_key, ticket)


def refusal(found: FoundGraph, ticket: bytes | None) -> EzGraphError:
    """How the host refuses who shows this."""
    with RemoteTree([endpoint(found, ticket)], timeout=PATIENCE_S) as tree:
        with pytest.raises(EzGraphError) as refused:
            tree.request({"request": "send_root"})
        return refused.value


def test_a_host_admits_only_who_shows_its_own_ticket(lab: Admitted) -> None:
    with lab.join("rig") as rig, lab.join("watcher") as watcher:
        rig.serve(secret_graph(), "run")
        rig.serve(secret_graph(), "run2")
        one, two = watcher.nodes.found()
        good = PREAMBLE + one.hosts[0].ticket
        forged = PREAMBLE + ticket_bytes(b"guessed" * 4, "rig", ["/"], 1e12)

        with RemoteTree([endpoint(one, good)]) as tree:
            assert RootNode(tree)["b"].read().size == 200
        assert isinstance(refusal(one, None), TicketNeededError)
        assert isinstance(refusal(one, forged), TicketNeededError)
        assert isinstance(refusal(one, PREAMBLE), TicketNeededError)
        assert isinstance(refusal(one, good[:-1] + b"\0"), ForbiddenError)
        assert isinstance(refusal(one, PREAMBLE + two.hosts[0].ticket), TicketNeededError)
        assert isinstance(refusal(one, b"nothing of ours"), TicketNeededError)
        with RemoteTree([endpoint(one, good)]) as tree:  # and it lives on
            assert tree.request({"request": "send_root"})


def test_one_who_has_a_ticket_does_not_lend_it_to_who_comes_after(lab: Admitted) -> None:
    """A reader may choose its routing id, and so take that of one who has left."""
    with lab.join("rig") as rig, lab.join("watcher") as watcher:
        rig.serve(secret_graph(), "run")
        (found,) = watcher.nodes.found()
        shown = [PREAMBLE + found.hosts[0].ticket]
        assert b"ticket_needed" not in raw_answer(found, b"taken", shown)
        for _ in range(10):  # most come in on the same descriptor, too
            raw_answer(found, b"taken", shown)
            assert b"ticket_needed" in raw_answer(found, b"taken", [])


def raw_answer(found: FoundGraph, routing_id: bytes, before: list[bytes]) -> bytes:
    """What a host answers to a raw reader under this id, which leaves then.

    As long as the one before is not gone altogether, who has its id is not heard at all.
    """
    answers: list[bytes] = []
    gave_up = monotonic() + PATIENCE_S
    while not answers and monotonic() < gave_up:
        answers = raw_answers(found, routing_id, before)
    assert answers, "no answer"
    return answers[0]


def raw_answers(found: FoundGraph, routing_id: bytes, before: list[bytes]) -> list[bytes]:
    from ezgraph.wire.nodes import request_frame

    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.ROUTING_ID, routing_id)
        dealer.set(zmq.LINGER, 0)
        dealer.connect(f"tcp://{found.hosts[0].endpoints[0]}")
        asked = request_frame(7, {"request": "send_meta", "uid": "b"}, takes_frames=False)
        for frame in (*before, asked):
            dealer.send(frame)
        return dealer.recv_multipart()[:1] if dealer.poll(200) else []


def test_a_ticket_that_runs_out_is_renewed_by_the_reader_and_refused_to_another(
    tmp_path: Path,
) -> None:
    config = BrokerConfig(address=Address("127.0.0.1", 0), limits=Limits(ticket_life_s=0.3))
    with (
        GraphServer(config=config) as server,
        sync.GraphContext(server.address) as rig,
        sync.GraphContext(server.address) as reader,
    ):
        rig.serve(graph(), "run")
        there, (found,) = reader.nodes["run"], reader.nodes.found()
        tree: Any = there.server
        first = tree._tickets.shown
        ticket = PREAMBLE + found.hosts[0].ticket
        with RemoteTree([endpoint(found, ticket)]) as other:
            assert other.request({"request": "send_root"})
            until(lambda: _is_refused(other))

            for number in range(5):
                assert np.array_equal(there["g1"][number].read(), NUMBERS)
            assert tree._tickets.shown > first
        assert "ran out" in str(refusal(found, ticket))


def _is_refused(tree: RemoteTree) -> bool:
    try:
        tree.request({"request": "send_root"})
    except TicketNeededError:
        return True
    return False


def test_a_request_refused_in_mid_read_for_its_ticket_is_asked_again_once(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    served = rig.serve(graph(long=ArrayNode(np.arange(50_000.0), chunks=(100,))), "run")
    there: Any = reader.nodes["run"]
    gate: Any = served._served._hosting._gate
    chunks = there["long"].read_chunks()
    next(chunks)

    gate._shown.clear()  # forgotten, as by a host with very many readers
    assert sum(1 for _ in chunks) == 499

    asked: list[int] = []
    directory = Directory(reader.nodes.directory._broker)
    found, way = directory.find("run")
    bad = [Endpoint(each.address, each.server_key, PREAMBLE) for each in way.endpoints]

    def ask_way() -> Any:
        asked.append(1)
        return way._replace(endpoints=bad)

    with (
        RemoteTree(bad, ask_way=ask_way, life_s=600.0) as tree,
        pytest.raises(TicketNeededError),
    ):
        tree.request({"request": "send_root"})
    assert asked == [1]
    assert found.name == "run"
    served.stop()


def test_a_revoked_reader_reads_on_until_its_ticket_runs_out_and_gets_no_other(
    tmp_path: Path,
) -> None:
    ring = Keyring(tmp_path)
    for name in ("rig", "reader"):
        ring.admit(name)
    config = ring.config(limits=Limits(ticket_life_s=0.6))
    with GraphServer(config=config) as server:
        keys = {name: ring.keys(name, server.address) for name in ("rig", "reader")}
        with (
            sync.GraphContext(server.address, keys=keys["rig"]) as rig,
            sync.GraphContext(server.address, keys=keys["reader"]) as reader,
        ):
            rig.serve(graph(), "run")
            there = reader.nodes["run"]
            tree: Any = there.server
            tree._tickets._ask_way = lambda: reader.nodes.directory.find("run", 0.5)[1]
            revoked_at = monotonic()
            revoke(ring.trusted, "reader", at=datetime.now(UTC))

            assert np.array_equal(there["g1"][3].read(), NUMBERS)
            with pytest.raises((NotAdmittedError, TicketNeededError)):
                read_until(revoked_at + PATIENCE_S, there["g1"])
            assert monotonic() - revoked_at > 0.5
            assert np.array_equal(rig.nodes["run"]["g1"][3].read(), NUMBERS)


def read_until(end: float, node: Any) -> None:
    while monotonic() < end:
        node.refresh()


def test_outside_loopback_what_is_read_is_encrypted_and_the_key_is_told_by_the_broker(
    rig: sync.GraphContext, reader: sync.GraphContext
) -> None:
    where = Listening("127.0.0.1", "127.0.0.1", is_secure=True)
    session: Any = rig._context._active()

    async def call(command: Any, timeout: float) -> Any:  # noqa: ASYNC109
        return await session.call(command, timeout=timeout)

    hosting = Hosting(secret_graph(), "secure", call, where)
    served = ServedGraph(hosting, ThreadKeeper(hosting), lambda _: None)
    run(served.begin(timeout=PATIENCE_S))
    try:
        (found,) = reader.nodes.found()
        assert found.hosts[0].public_key == hosting.public_key
        assert np.array_equal(reader.nodes["secure"]["b"].read(), NUMBERS)
        plain = Endpoint(hosting.address, None, PREAMBLE + found.hosts[0].ticket)
        with RemoteTree([plain], grace_s=0.2, timeout=2.0) as tree, pytest.raises(EzGraphError):
            tree.request({"request": "send_root"})
        other = Endpoint(hosting.address, b"\1" * 32, PREAMBLE + found.hosts[0].ticket)
        with RemoteTree([other], grace_s=0.2, timeout=2.0) as tree, pytest.raises(EzGraphError):
            tree.request({"request": "send_root"})
    finally:
        run(served.stop())


# --- a broker with a graph of its own ---


def test_a_server_with_a_graph_answers_without_being_started() -> None:
    here = graph()
    server = GraphServer(here)

    told = server.request({"request": "send_info", "uid": here.uid, "kwargs": {}})

    assert b"RootNode" in told
    there = RootNode(server)
    for _ in range(2):
        assert np.array_equal(there["g1"][3].read(), NUMBERS)
    server.load_graph(graph(more=NumpyTestNode()))
    assert np.array_equal(RootNode(server)["more"].read(), NUMBERS)
    with pytest.raises(NodeError, match="has no graph of nodes"):
        GraphServer().request({"request": "send_root"})
    with pytest.raises(NodeError, match="is no node"):
        GraphServer(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("run_in", ["thread", "process"])
def test_a_server_with_a_graph_serves_it_on_its_bus_while_it_runs(run_in: Any) -> None:
    here = graph()
    with GraphServer(here, run_in=run_in) as server, sync.GraphContext(server.address) as ctx:
        assert ctx.nodes.names() == ["root"]
        assert np.array_equal(ctx.nodes["root"]["g1"][3].read(), NUMBERS)
        assert np.array_equal(RootNode(server)["g1"][3].read(), NUMBERS)
        server.load_graph(graph(more=NumpyTestNode()))
        until(lambda: kinds(ctx, "root").count("NodeAnnounced") == 15)
        assert np.array_equal(ctx.open_graph("root")["more"].read(), NUMBERS)
    assert server.request({"request": "send_root"})
    server.start()
    assert server.running
    server.stop()


def test_a_server_that_asks_for_keys_serves_its_graph_with_those_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EZGRAPH_KEYS", raising=False)
    ring = Keyring(tmp_path)
    ring.admit("rig")
    ring.admit("watcher", "observer")
    with pytest.raises(KeyFileError, match="say GraphServer"):
        GraphServer(graph(), config=ring.config()).start()
    with pytest.raises(ForbiddenError, match="may not serve node/root"):
        GraphServer(graph(), config=ring.config(), keys=ring.secret_file("watcher")).start()
    server = GraphServer(graph(), config=ring.config(), keys=ring.secret_file("rig"))
    with server, sync.GraphContext(
        server.address, keys=ring.keys("watcher", server.address)
    ) as watcher:
        assert np.array_equal(watcher.nodes["root"]["g1"][3].read(), NUMBERS)


def test_an_address_in_the_place_of_the_root_is_still_one() -> None:
    with GraphServer("127.0.0.1:0") as one, GraphServer(("127.0.0.1", 0)) as two:
        assert one.address != two.address
        with sync.GraphContext(one.address) as ctx:
            assert ctx.nodes.names() == []
        one.load_graph(graph())
        with sync.GraphContext(one.address) as ctx:
            assert ctx.nodes.names() == ["root"]


def test_a_server_whose_session_was_lost_serves_its_graph_in_another() -> None:
    here = graph()
    server = GraphServer(here).start()
    session: Any = server._own._session
    try:
        with sync.GraphContext(server.address) as ctx:
            was = session.client_id
            session._engine.core.lose(Refusal("session_expired", "as after a night of sleep"))
            here.edges["new"] = NumpyTestNode()  # so that the bus is to be told of something

            until(lambda: session.client_id not in (was, None))
            until(lambda: session.client_id in [h.owner for h in ctx.nodes.found()[0].hosts])
            assert np.array_equal(ctx.nodes["root"]["new"].read(), NUMBERS)
    finally:
        server.stop()


def test_a_server_in_another_program_is_no_root_of_nodes(reader: sync.GraphContext) -> None:
    with pytest.raises(NodeError, match="nothing that serves nodes"):
        RootNode(object())  # type: ignore[arg-type]
    assert reader._context._session is not None
    reply = run(reader._context._session.call(FindGraph(""), timeout=PATIENCE_S))
    assert getattr(reply, "graphs", None) == []
    assert NodeServer(graph(), name="x").name == "x"
