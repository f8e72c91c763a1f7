"""Served graphs, found by name through the broker."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ezgraph.client.blocking import Session, run
from ezgraph.config import DEFAULT_TIMEOUT_S, Address, is_loopback, parse_address
from ezgraph.errors import (
    BrokerUnreachableError,
    EzGraphError,
    MalformedMessageError,
    NodeHostGoneError,
    UnknownLabelError,
)
from ezgraph.nodes.client import RemoteTree, Way
from ezgraph.nodes.endpoint import Endpoint
from ezgraph.nodes.factory import message_of
from ezgraph.nodes.kinds import RootNode
from ezgraph.protocol.commands import FindGraph
from ezgraph.protocol.nodes import NodeVerb
from ezgraph.protocol.replies import Graphs
from ezgraph.wire.relaying import relay_frame
from ezgraph.wire.tickets import PREAMBLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ezgraph.client.broker_choice import Broker
    from ezgraph.config import ClientKeys
    from ezgraph.protocol.served import FoundGraph

    Ask = Callable[[FindGraph, float], Awaitable[object]]


async def find_graph(ask: Ask, name: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> FoundGraph:  # noqa: ASYNC109
    """Return where a graph is served, with tickets for the asker.

    Raises:
        UnknownLabelError: nobody serves it.
        ForbiddenError: the asker's role does not reach that far.
    """
    found = (await _page(ask, FindGraph(name), timeout)).graphs
    if not found:
        names = [each.name for each in await find_graphs(ask, timeout=timeout)]
        raise UnknownLabelError(
            f"no graph {name!r} is served on this bus; served are: {_shown(names)}"
        )
    return found[0]


async def find_graphs(ask: Ask, *, timeout: float = DEFAULT_TIMEOUT_S) -> list[FoundGraph]:  # noqa: ASYNC109
    """Return all served graphs of which the asker may read something, in order of their names."""
    found: list[FoundGraph] = []
    command: FindGraph | None = FindGraph()
    while command is not None:
        page = await _page(ask, command, timeout)
        found += page.graphs
        command = None if page.next_after is None else FindGraph(after=page.next_after)
    return found


async def _page(ask: Ask, command: FindGraph, timeout: float) -> Graphs:  # noqa: ASYNC109
    reply = await ask(command, timeout)
    if not isinstance(reply, Graphs):
        raise MalformedMessageError(
            f"FindGraph was answered with {type(reply).__name__}; is the broker of this version?"
        )
    return reply


def _shown(names: list[str]) -> str:
    return (", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")) or "none"


_SHOWN = 8


def way_to(found: FoundGraph, broker: Address, keys: ClientKeys | None = None) -> Way:
    """Return how a graph is read by who has reached the broker at ``broker``.

    First where its hosts can be dialled themselves, then through the broker's host, if that passes
    on what it is asked: there ``keys`` are shown, as they are to the broker. A host that listens on
    loopback only is dialled by who dials the broker there too: elsewhere it would be another
    program.

    Raises:
        NodeHostGoneError: there is no way.
    """
    is_local = is_loopback(broker.host)
    endpoints = [
        Endpoint(address, host.public_key, PREAMBLE + host.ticket)
        for host in found.hosts
        for address in map(parse_address, host.endpoints)
        if is_local or not is_loopback(address.host)
    ]
    if found.relay_port is not None:
        relay = Address(broker.host, found.relay_port)
        plain = Endpoint(relay, note=f"relayed by {relay}")
        if keys is not None:
            pair = keys.public, keys.secret
            plain = replace(plain, server_key=keys.brokers.get(broker), pair=pair)
        endpoints += [
            replace(
                plain,
                ticket=PREAMBLE + host.ticket,
                route=relay_frame(found.name, host.owner),
            )
            for host in found.hosts
        ]
    if not endpoints:
        where = ", ".join(text for host in found.hosts for text in host.endpoints) or "nowhere"
        raise NodeHostGoneError(
            f"graph {found.name!r} is served at {where}, which cannot be dialled from here, and "
            f"the broker at {broker} passes nothing on; serve it with host= an address of that "
            f"computer"
        )
    return Way(endpoints, found.ticket_life_s)


class Directory:
    """Asks the broker where graphs are served, in short sessions of its own. Thread-safe.

    ``broker`` is where the broker is, and with which keys it is asked.
    """

    def __init__(self, broker: Broker, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._broker = broker
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<Directory of tcp://{','.join(map(str, self._broker.addresses))}>"

    def found(self) -> list[FoundGraph]:
        """Return all that is served and may be read, at least in part, in order of the names."""
        with self._asking(self.timeout) as (ask, _):
            return run(find_graphs(ask, timeout=self.timeout))

    def find(self, name: str, timeout: float | None = None) -> tuple[FoundGraph, Way]:
        """Return where a graph is served, and how it is read from here.

        Raises:
            UnknownLabelError: nobody serves it.
            ForbiddenError: the asker's role does not reach that far.
            NodeHostGoneError: there is no way to who serves it.
        """
        patience = self.timeout if timeout is None else timeout
        with self._asking(patience) as (ask, address):
            found = run(find_graph(ask, name, timeout=patience))
        return found, self.way(found, address)

    def way(self, found: FoundGraph, address: Address) -> Way:
        """Return how a graph is read by who has reached the broker at an address."""
        return way_to(found, address, self._broker.keys)

    def tree(self, found: FoundGraph, way: Way) -> RemoteTree:
        """Return what reads a graph that was found, and keeps its tickets fresh."""
        name = found.name
        return RemoteTree(
            way.endpoints,
            timeout=self.timeout,
            ask_way=lambda: self.find(name)[1],
            life_s=way.life_s,
        )

    def only(self) -> str:
        """Return the name of the one graph that is served.

        Raises:
            UnknownLabelError: there is none, or there are several; names them.
        """
        names = [each.name for each in self.found()]
        if len(names) != 1:
            raise UnknownLabelError(
                f"{len(names)} graphs are served on this bus ({_shown(names)}), and one was to be "
                f"opened; name it: ctx.nodes[NAME]"
            )
        return names[0]

    @contextmanager
    def _asking(self, timeout: float) -> Iterator[tuple[Ask, Address]]:
        session = Session(self._broker.addresses, kind="guest", keys=self._broker.keys)
        run(session.open(timeout=timeout))
        try:
            yield lambda command, within: session.call(command, timeout=within), session.address
        finally:
            run(session.close())


@dataclass
class _Opened:
    """A graph that was opened here."""

    incarnation: str
    root_uid: str
    tree: RemoteTree
    root: RootNode

    def is_still_served(self) -> bool:
        """Ask its host whether the graph is still the one that was opened."""
        if not self.tree.is_connected:
            return False
        try:
            self.tree.request(message_of(NodeVerb.INFO, self.root_uid))
        except EzGraphError:
            return False
        return True


class Nodes(Mapping[str, RootNode]):
    """The graphs of data nodes that are served on the bus, by name: ``ctx.nodes["run42"]``.

    Each is a `RootNode`, the same object as long as the graph is the same one. They are looked up
    in the caller's thread; in coroutines use ``await ctx.open_graph("run42")``.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._opened: dict[str, _Opened] = {}
        self._turns: dict[str, threading.Lock] = {}

    def __repr__(self) -> str:
        return f"<Nodes {self.directory!r} open={sorted(self._opened)}>"

    def names(self) -> list[str]:
        """Return what is served and may be read, at least in part, sorted."""
        return [each.name for each in self.found()]

    def found(self) -> list[FoundGraph]:
        """Return the same with who serves each, and how many nodes are announced."""
        return self.directory.found()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __getitem__(self, name: str) -> RootNode:
        """Return the root of a served graph.

        Raises:
            UnknownLabelError: nobody serves it (a `KeyError`, too).
            ForbiddenError: the role of this key does not reach that far.
            NodeHostGoneError: who serves it cannot be reached.
        """
        return self._open(name).root

    def open(self, name: str, *, timeout: float) -> RootNode:
        """Return the same; ``timeout`` seconds for each question to the broker."""
        return self._open(name, timeout).root

    def tree(self, name: str) -> RemoteTree:
        """Return what the graph of that name is read with; raises as ``nodes[name]``."""
        return self._open(name).tree

    def _open(self, name: str, timeout: float | None = None) -> _Opened:
        with self._turn(name):
            opened = self._opened.get(name)
            if opened is not None and opened.is_still_served():
                return opened
            try:
                found, way = self.directory.find(name, timeout)
            except BrokerUnreachableError:
                if opened is None:
                    raise
                return opened  # what it knows may still be read
            return self._take(found, way)

    def open_found(self, found: FoundGraph, way: Way) -> RootNode:
        """Return the root of a graph that was found; the one there is, if it is still the same."""
        with self._turn(found.name):
            return self._take(found, way).root

    def _turn(self, name: str) -> threading.Lock:
        """Return the lock of who opens this graph; others are opened meanwhile."""
        with self._lock:
            if os.getpid() != self._pid:  # what was opened before a fork is the parent's
                self._opened, self._turns, self._pid = {}, {}, os.getpid()
            return self._turns.setdefault(name, threading.Lock())

    def _take(self, found: FoundGraph, way: Way) -> _Opened:
        opened = self._opened.get(found.name)
        what = found.incarnation, found.root_uid
        if opened is not None and (opened.incarnation, opened.root_uid) == what:
            opened.tree.renew(way)
            return opened
        tree = self.directory.tree(found, way)
        try:
            root = RootNode(tree)
        except BaseException:
            tree.close()
            raise
        made = self._opened[found.name] = _Opened(*what, tree, root)
        return made

    def close(self) -> None:
        """End the connections to the hosts. What was read stays; copies can read no more."""
        with self._lock:
            opened, self._opened = list(self._opened.values()), {}
        for each in opened:
            each.tree.close()

    def _repr_html_(self) -> str:
        from ezgraph.nodes.faces import graphs_html

        return graphs_html(self.found())
