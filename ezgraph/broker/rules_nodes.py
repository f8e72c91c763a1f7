"""Rules for served graphs of data nodes: who serves which name, and what is announced. Pure.

A name is served by whoever says so first; others may join if what they serve has the same root.
Saying again what is so already makes no event, so that a client may say all of it after whatever
has happened: after a broker's restart, or with another lease. A host that was made anew (another
``incarnation``) and is the only one begins afresh: what was announced before is withdrawn with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.config import parse_address
from ezgraph.errors import (
    AddressCollisionError,
    ConfigError,
    InvalidCommandError,
    InvalidKeyError,
    LimitError,
    NodeRequestError,
    NotOwnerError,
)
from ezgraph.names import topic_of
from ezgraph.protocol.events import (
    Body,
    GraphServed,
    GraphWithdrawn,
    NodeAnnounced,
    NodeWithdrawn,
    in_words,
)
from ezgraph.protocol.nodes import check_label
from ezgraph.protocol.served import ROOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ezgraph.config import Limits
    from ezgraph.protocol.commands import AnnounceNodes, ServeGraph, WithdrawGraph
    from ezgraph.protocol.served import NodeCard
    from ezgraph.state.nodes import HostEntry, NodesState

KEY_BYTES = 32
_MOST_CHARACTERS = 300


def serve(
    served: NodesState, command: ServeGraph, owner: str, *, limits: Limits
) -> tuple[Body, ...]:
    """Decide that the lease ``owner`` serves a graph.

    Raises:
        InvalidCommandError: a field outside the grammar.
        AddressCollisionError: others serve another graph under that name.
        LimitError: it serves too many, or at too many endpoints.
    """
    _refuse_malformed(command, limits)
    mine = served.host(command.name, owner)
    others = [each for each in served.hosts_of(command.name) if each is not mine]
    if others:
        _refuse_another_root(command, others[0])
    names = served.of_owner(owner)
    if mine is None and len(names) >= limits.max_graphs_per_lease:
        raise LimitError(
            f"this client serves {len(names)} graphs, as many as one may here "
            f"(max_graphs_per_lease); withdraw some, or serve one graph with more below its root"
        )
    told = GraphServed(
        command.name,
        command.root_uid,
        owner,
        command.incarnation,
        command.endpoints,
        command.public_key,
        command.announces,
    )
    if mine is None:
        return (told,)
    if mine.served == told:
        return ()
    if others:
        return (told,)
    if (mine.served.root_uid, mine.served.incarnation) != (told.root_uid, told.incarnation):
        return (*_ended(served, command.name, owner), told)
    return (told,) if told.announces else (*_unannounced(served, command.name), told)


def announce(
    served: NodesState, command: AnnounceNodes, owner: str, *, limits: Limits
) -> tuple[Body, ...]:
    """Decide which nodes a graph that ``owner`` serves has from now on.

    Raises:
        InvalidCommandError: a field outside the grammar, a node twice, or a graph whose nodes were
            not to be announced.
        NotOwnerError: it does not serve that graph.
        LimitError: too much in one command or one card, or altogether.
    """
    mine = _own(served, command.name, owner)
    if not mine.served.announces:
        raise InvalidCommandError(
            f"graph {command.name!r} is served without announcing its nodes; serve it with "
            f"announces, then announce them"
        )
    _refuse_malformed_nodes(command, limits)
    nodes = served.nodes_of(command.name)
    removed = [NodeWithdrawn(command.name, uid) for uid in command.removed if uid in nodes]
    added = [
        told
        for told in (_announced(command.name, card) for card in command.added)
        if nodes.get(told.uid) != told
    ]
    count = served.count_of(owner) - len(removed) + sum(told.uid not in nodes for told in added)
    if added and count > limits.max_announced_nodes_per_lease:
        raise LimitError(
            f"{count} nodes would be announced of what this client serves, and that is more than "
            f"{limits.max_announced_nodes_per_lease} (max_announced_nodes_per_lease); serve the "
            f"graph without announcing its nodes (announce=False): they can be read all the same"
        )
    return (*removed, *added)


def withdraw(served: NodesState, command: WithdrawGraph, owner: str) -> tuple[Body, ...]:
    """Decide that ``owner`` serves a graph no longer.

    Raises:
        NotOwnerError: others serve it, and it does not.
    """
    if not served.hosts_of(command.name):
        return ()
    _own(served, command.name, owner)
    return tuple(_ended(served, command.name, owner))


def release_graphs(served: NodesState, owner: str) -> list[Body]:
    """Return the events that end all that a lease serves."""
    return [body for name in served.of_owner(owner) for body in _ended(served, name, owner)]


def _ended(served: NodesState, name: str, owner: str) -> Iterator[Body]:
    """Yield that one lease serves a graph no longer; the nodes go with the last."""
    hosts = served.hosts_of(name)
    is_last = len(hosts) == 1
    if is_last:
        yield from _unannounced(served, name)
    yield GraphWithdrawn(name, hosts[0].served.root_uid, owner, is_last)


def _unannounced(served: NodesState, name: str) -> list[Body]:
    return [NodeWithdrawn(name, uid) for uid in sorted(served.nodes_of(name))]


def _announced(name: str, card: NodeCard) -> NodeAnnounced:
    return NodeAnnounced(name, card.uid, card.path, card.depth, card.class_name, card.summary)


# --- what is refused ---


def _own(served: NodesState, name: str, owner: str) -> HostEntry:
    if (mine := served.host(name, owner)) is not None:
        return mine
    hosts = served.hosts_of(name)
    held = f"{_held_by(hosts[0])} serves it" if hosts else "nobody serves it"
    raise NotOwnerError(f"this client does not serve graph {name!r}, {held}; serve it first")


def _held_by(entry: HostEntry) -> str:
    return f"{in_words(entry.source)} ({entry.served.owner})"


def _refuse_another_root(command: ServeGraph, other: HostEntry) -> None:
    if other.served.root_uid != command.root_uid:
        raise AddressCollisionError(
            f"graph {command.name!r} is served by {_held_by(other)} with the root "
            f"{other.served.root_uid!r}, and yours is {command.root_uid!r}; take another name, or "
            f"stop that program (to serve one graph from several, give its nodes equal uids)"
        )


def _refuse_malformed(command: ServeGraph, limits: Limits) -> None:
    if len(command.name) > _MOST_CHARACTERS:
        raise InvalidCommandError(
            f"a graph's name of {len(command.name)} characters, starting {command.name[:40]!r}; at "
            f"most {_MOST_CHARACTERS} are allowed"
        )
    _check_key(command.name, command.root_uid)
    if not command.incarnation or len(command.incarnation) > _MOST_CHARACTERS:
        raise InvalidCommandError(
            f"an incarnation is a text of 1 to {_MOST_CHARACTERS} characters, not "
            f"{command.incarnation[:40]!r}"
        )
    if command.public_key is not None and len(command.public_key) != KEY_BYTES:
        raise InvalidCommandError(
            f"a public key has {KEY_BYTES} bytes, not {len(command.public_key)}"
        )
    if len(command.endpoints) > limits.max_endpoints_per_graph:
        raise LimitError(
            f"{len(command.endpoints)} endpoints for one host, and it may name "
            f"{limits.max_endpoints_per_graph} here (max_endpoints_per_graph); name those that "
            f"readers can dial"
        )
    for endpoint in command.endpoints:
        _check_endpoint(endpoint)


def _check_endpoint(endpoint: str) -> None:
    try:
        address = parse_address(endpoint)
    except ConfigError as error:
        raise InvalidCommandError(f"endpoint {endpoint[:100]!r}: {error}") from error
    if len(endpoint) > _MOST_CHARACTERS or not address.port or str(address) != endpoint:
        raise InvalidCommandError(
            f"endpoint {endpoint[:100]!r} is no host:port that can be dialled"
        )


def _check_key(name: str, uid: str) -> None:
    try:
        topic_of((ROOM, name, uid))
    except InvalidKeyError as error:
        raise InvalidCommandError(
            f"graph {name[:100]!r}, node {uid[:100]!r} make no key of the bus: {error}"
        ) from error


def _refuse_malformed_nodes(command: AnnounceNodes, limits: Limits) -> None:
    uids = [card.uid for card in command.added] + command.removed
    if len(uids) > limits.max_announced_nodes_per_command:
        raise LimitError(
            f"{len(uids)} nodes in one command, and it may name "
            f"{limits.max_announced_nodes_per_command} (max_announced_nodes_per_command); share "
            f"them between several"
        )
    if twice := _first_twice(uids):
        raise InvalidCommandError(f"node {twice[:100]!r} is named twice in one command")
    for card in command.added:
        _check_card(command.name, card, limits)


def _first_twice(uids: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for uid in uids:
        if uid in seen:
            return uid
        seen.add(uid)
    return None


def _check_card(name: str, card: NodeCard, limits: Limits) -> None:
    _check_key(name, card.uid)
    for what, size, most, limit in (
        ("labels", len(card.path), limits.max_path_labels, "max_path_labels"),
        ("characters of class name", len(card.class_name), _MOST_CHARACTERS, "a fixed bound"),
        (
            "characters of summary",
            len(card.summary),
            limits.max_summary_characters,
            "max_summary_characters",
        ),
        (
            "characters of path",
            sum(len(each) for each in card.path if isinstance(each, str)),
            limits.max_path_characters,
            "max_path_characters",
        ),
    ):
        if size > most:
            raise LimitError(
                f"node {card.uid[:100]!r} is announced with {size} {what}, and {most} are kept "
                f"here ({limit}); cut it"
            )
    if card.depth < len(card.path):
        raise InvalidCommandError(
            f"node {card.uid[:100]!r} is {card.depth} labels from its root, and "
            f"{len(card.path)} of them are given"
        )
    try:
        for label in card.path:
            check_label(label)
    except NodeRequestError as error:
        raise InvalidCommandError(f"node {card.uid[:100]!r}: {error}") from error
