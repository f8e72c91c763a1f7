"""Served graphs read directly and through the relay, while hosts die and the broker restarts."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ezgraph import Address, BrokerConfig, GraphServer, sync
from ezgraph.cli import completion
from ezgraph.cli.main import app
from ezgraph.cli.options import Given
from ezgraph.cli.paper import paper
from ezgraph.client.broker_choice import Broker
from ezgraph.errors import NodeHostGoneError
from ezgraph.nodes import ArrayNode, EmptyNode, RemoteTree, RootNode
from ezgraph.nodes.client import Way
from ezgraph.nodes.directory import Directory
from ezgraph.nodes.sources.base import SourceLayout
from ezgraph.protocol.events import Event, GraphWithdrawn, NodeWithdrawn
from tests.integration import node_host
from tests.integration.bus_host import NUMBERS, BusHost
from tests.integration.uninvited.conftest import Tap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

pytestmark = pytest.mark.integration

NAME = "run42"


@contextmanager
def read_from(
    broker: Address, *, is_relayed: bool, name: str = NAME, **options: Any
) -> Iterator[RootNode]:
    """Open a graph on the bus, by those ways alone that are wanted."""
    directory = Directory(Broker((broker,), None, may_start=False))

    def ask() -> Way:
        _, way = directory.find(name)
        wanted = [each for each in way.endpoints if (each.route is not None) == is_relayed]
        return Way(wanted, way.life_s)

    with RemoteTree(ask().endpoints, ask_way=ask, life_s=600.0, **options) as tree:
        yield RootNode(tree)


@pytest.fixture
def served(server: GraphServer) -> Iterator[GraphServer]:
    """A broker, and on it a graph."""
    with sync.GraphContext(server.address, program="acquire") as ctx:
        ctx.serve(node_host.served_graph(), NAME)
        yield server


def test_the_same_numbers_come_directly_and_through_the_relay(served: GraphServer) -> None:
    here = node_host.served_graph()
    for is_relayed in (False, True):
        with read_from(served.address, is_relayed=is_relayed) as graph:
            for _ in range(2):
                np.testing.assert_array_equal(graph["g1"][3].read(), here["g1"][3].read())
            np.testing.assert_array_equal(graph["long"][5:-5:7], here["long"][5:-5:7])
            note = graph["long"].description().note
            assert note.startswith("relayed by 127.0.0.1:") == is_relayed


def test_there_is_no_relay_before_a_graph_is_served(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        assert sync.GraphService(server.address).status().relay_port is None
        ctx.serve(RootNode(), NAME)
        port = sync.GraphService(server.address).status().relay_port

    assert port is not None
    with socket.create_connection(("127.0.0.1", port), 5.0):
        pass


def test_a_host_that_cannot_be_dialled_is_read_through_the_relay_at_once(
    served: GraphServer,
) -> None:
    directory = Directory(Broker((served.address,), None, may_start=False))
    found, way = directory.find(NAME)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = Address("127.0.0.1", taken.getsockname()[1])
    direct, relayed = way.endpoints
    moved = type(direct)(nobody, None, direct.ticket)
    begin = monotonic()

    with directory.tree(found, Way([moved, relayed], way.life_s)) as tree:
        assert RootNode(tree)["g1"][3].read().size == 200

    assert monotonic() - begin < 2.0


@pytest.mark.parametrize("is_relayed", [False, True], ids=["directly", "relayed"])
def test_nothing_of_what_is_read_passes_the_socket_of_commands(
    server: GraphServer, is_relayed: bool
) -> None:
    array = np.random.default_rng(0).integers(0, 256, 32 << 20, dtype="u1")
    tap = Tap(server.address)
    try:
        with sync.GraphContext(tap.address, program="acquire") as ctx:
            ctx.serve(RootNode(edges={"bulk": ArrayNode(array)}), NAME)
            with read_from(server.address, is_relayed=is_relayed) as graph:
                np.testing.assert_array_equal(graph["bulk"].read(), array)
            assert len(tap.up) < 64 << 10
    finally:
        tap.close()


# --- hosts that die ---


@pytest.mark.parametrize("is_relayed", [False, True], ids=["directly", "relayed"])
def test_a_host_killed_in_mid_read_is_followed_by_its_replica(
    server: GraphServer, is_relayed: bool
) -> None:
    with (
        BusHost(server.address, NAME, "stuck") as stuck,
        BusHost(server.address, NAME, "whole"),
        read_from(server.address, is_relayed=is_relayed) as graph,
    ):
        node = graph["numbers"]
        threading.Thread(target=stuck.kill_when_stuck).start()

        np.testing.assert_array_equal(node.read(), NUMBERS)


def test_a_host_killed_in_mid_read_without_a_replica_is_a_typed_error_in_time(
    server: GraphServer,
) -> None:
    with (
        BusHost(server.address, NAME, "stuck") as stuck,
        sync.GraphContext(server.address) as ctx,
        read_from(server.address, is_relayed=True, grace_s=1.0) as graph,
    ):
        threading.Thread(target=stuck.kill_when_stuck).start()
        begin = monotonic()

        with pytest.raises(NodeHostGoneError):
            graph["numbers"].read(timeout=20.0)

        assert monotonic() - begin < 10.0
        bodies = ctx.subscribe(("node", NAME), after_seq=0)
        gone = (event.body for event in bodies if isinstance(event, Event))
        assert sum(type(next(gone)) is NodeWithdrawn for _ in range(5)) == 2
        assert type(next(gone)) is GraphWithdrawn
        assert ctx.nodes.names() == []


# --- a broker that restarts ---


def test_a_read_goes_on_while_the_broker_restarts(tmp_path: Path) -> None:
    class Slow:
        """A source whose chunks come when they are let."""

        dtype = np.dtype("f8")

        def __init__(self) -> None:
            self.may_go_on = threading.Event()
            self.is_half = threading.Event()

        def layout(self) -> Any:
            return SourceLayout((100, 1000), (1, 1000))

        def read(self, part: tuple[slice, ...]) -> Any:
            if part[0].start == 50:
                self.is_half.set()
                assert self.may_go_on.wait(20.0)
            return np.full((1, 1000), part[0].start, "f8")

        def stamp(self) -> None:
            return None

    source = Slow()
    root = RootNode(edges={"numbers": ArrayNode(source)})
    config = BrokerConfig(Address("127.0.0.1", 0), backend=f"sqlite:///{tmp_path}/journal.db")
    server = GraphServer(config=config, run_in="process").start()
    address = server.address
    try:
        with sync.GraphContext(address, program="acquire") as ctx:
            ctx.serve(root, NAME)
            found: dict[bool, Any] = {}
            with (
                read_from(address, is_relayed=False) as direct,
                read_from(address, is_relayed=True, grace_s=10.0, timeout=20.0) as relayed,
            ):
                nodes = {False: direct["numbers"], True: relayed["numbers"]}

                def read(is_relayed: bool) -> None:
                    found[is_relayed] = nodes[is_relayed].read()

                readers = [threading.Thread(target=read, args=(each,)) for each in nodes]
                for reader in readers:
                    reader.start()
                assert source.is_half.wait(10.0)
                server.kill()
                server = GraphServer(
                    address, backend=config.backend, run_in="process"
                ).start()
                source.may_go_on.set()
                for reader in readers:
                    reader.join(20.0)
    finally:
        server.stop()

    expected = np.repeat(np.arange(100.0), 1000).reshape(100, 1000)
    for is_relayed in (False, True):
        np.testing.assert_array_equal(found[is_relayed], expected)


# --- the command line ---


def nodes(server: GraphServer, *words: str) -> Result:
    """Run ``ezgraph nodes`` in this process, as in a pipe."""
    paper.cache_clear()
    return CliRunner().invoke(app, ["-a", str(server.address), "nodes", *words])


def test_served_graphs_are_listed_and_read_by_name(served: GraphServer, tmp_path: Path) -> None:
    with sync.GraphContext(served.address) as ctx:
        ctx.serve(RootNode(edges={"a/b": EmptyNode()}), "of 2/day")
        listed = nodes(served, "ls").stdout.splitlines()
        records = json.loads(nodes(served, "ls", "--json").stdout)
        below = nodes(served, "ls", "of 2%2Fday").stdout

    assert [line.split("  ")[0] for line in listed] == ["graph", "of 2/day", "run42"]
    assert "acquire[" in listed[2]
    assert [(each["name"], each["nodes"]) for each in records] == [("of 2/day", 2), (NAME, 9)]
    assert "a%2Fb" in below
    assert "long  ArrayNode float64 (1000000,)" in nodes(served, "tree", NAME).stdout
    assert "shape   (1000000,)" in nodes(served, "info", f"{NAME}/long").stdout
    assert nodes(served, "get", f"{NAME}/long", "[10:13]").stdout == "10.0\n11.0\n12.0\n"
    assert nodes(served, "export", f"{NAME}/g1", str(tmp_path / "g1.h5")).exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["info", "run41"], 1, "served are: run42"),
        (["info", "run42/nobody"], 1, "has no edge 'nobody'"),
        (["info", "/long"], 2, "names no graph"),
    ],
)
def test_what_is_not_served_is_said_with_what_is(
    served: GraphServer, words: list[str], code: int, says: str
) -> None:
    done = nodes(served, *words)

    assert (done.exit_code, done.stdout) == (code, "")
    assert says in done.stderr


def test_without_a_broker_the_code_is_that_of_every_command() -> None:
    words = ["-a", "127.0.0.1:1", "--timeout", "0.3", "nodes", "ls"]

    assert CliRunner().invoke(app, words).exit_code == 3


class Typed:
    """What the shell has so far, as Typer hands it over."""

    def __init__(self, server: GraphServer) -> None:
        self.params = {"address": str(server.address)}
        self.parent = None
        self.obj = Given()
        self.meta: dict[str, object] = {}


def test_names_are_completed_and_then_what_is_below(served: GraphServer) -> None:
    typed: Any = Typed(served)

    assert completion.node_paths(typed, "r") == ["run42", "run42/g1", "run42/long", "run42/stuck"]
    assert completion.node_paths(typed, "run42/g1/") == [f"run42/g1/{n}" for n in range(5)]
    assert completion.node_paths(typed, "x") == []
