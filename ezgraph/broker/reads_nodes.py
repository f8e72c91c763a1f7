"""Where served graphs are, and tickets for their hosts. Pure.

Who asks is told of the graphs of which it may read something, whatever part that is; the ticket
that comes along says which part.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.protocol.events import in_words
from ezgraph.protocol.replies import Graphs
from ezgraph.protocol.served import ROOM, FoundGraph, FoundHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.protocol.commands import FindGraph
    from ezgraph.protocol.roles import ReadScope
    from ezgraph.state.nodes import HostEntry, NodesState

    TicketFor = Callable[[str, str, str], bytes]

GRAPHS_PER_REPLY = 100
EXAMINED_PER_REPLY = 1_000


class Vouching(NamedTuple):
    """Who asks: what it may read, and how tickets are made for it, which are good for so long.

    ``ticket_for(name, owner, incarnation)`` is for one host.
    """

    scope: ReadScope
    ticket_for: TicketFor
    life_s: float
    relay_port: int | None


def find(served: NodesState, command: FindGraph, seq: int, vouching: Vouching) -> Graphs:
    """Return the graph that was asked for, or one page of all."""
    if (name := command.name) is not None:
        is_there = _is_there(served, name, vouching)
        return Graphs(seq, [_found(served, name, vouching)] if is_there else [])
    found: list[FoundGraph] = []
    names, last = served.names_after(command.after), None
    for name in islice(names, EXAMINED_PER_REPLY):
        if _is_there(served, name, vouching):
            found.append(_found(served, name, vouching))
        last = name
        if len(found) >= GRAPHS_PER_REPLY:
            break
    is_all = next(names, None) is None
    return Graphs(seq, found, None if is_all else last)


def _is_there(served: NodesState, name: str, vouching: Vouching) -> bool:
    return bool(served.hosts_of(name)) and vouching.scope.touches((ROOM, name))


def _found(served: NodesState, name: str, vouching: Vouching) -> FoundGraph:
    hosts = served.hosts_of(name)
    is_told = vouching.scope.has((ROOM, name))
    return FoundGraph(
        name,
        hosts[0].served.root_uid,
        len(served.nodes_of(name)) if is_told else None,
        [_host(entry, vouching) for entry in _each_once(hosts)],
        vouching.life_s,
        vouching.relay_port,
    )


def _each_once(hosts: list[HostEntry]) -> list[HostEntry]:
    """Return each host as it was told of last.

    One whose session was lost is told of again in another, and takes that one's tickets; until the
    broker has given up the lost one, it stands there twice.
    """
    return list({entry.served.incarnation: entry for entry in hosts}.values())


def _host(entry: HostEntry, vouching: Vouching) -> FoundHost:
    told = entry.served
    return FoundHost(
        told.owner,
        in_words(entry.source),
        told.incarnation,
        told.endpoints,
        told.public_key,
        vouching.ticket_for(told.name, told.owner, told.incarnation),
    )
