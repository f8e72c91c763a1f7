"""How a reader gets what a server has: typed answers, and nodes of the right class.

A server is anything with ``request(message) -> bytes``; one that can do more (`RemoteTree`: many
requests in flight) is asked for more at once.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast
from weakref import WeakValueDictionary

from ezgraph.errors import MalformedMessageError, NodeError
from ezgraph.nodes.base import BaseNode
from ezgraph.nodes.registry import registered
from ezgraph.protocol.nodes import (
    GrowthReport,
    Label,
    MatchPage,
    NodeOpening,
    NodeVerb,
    TreePage,
)
from ezgraph.wire import codec, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ezgraph.config import AddressLike
    from ezgraph.nodes.directory import Nodes
    from ezgraph.nodes.query import Query

T = TypeVar("T")


@lru_cache(maxsize=16)
def _decoder_of(kind: Any) -> Callable[[bytes], Any]:  # noqa: ANN401 - a type of message
    return codec.decoder_of(kind)



class AnyServer(Protocol):
    """What answers requests about nodes (`ezgraph.protocol.nodes`)."""

    def request(self, message: Mapping[str, Any], /) -> bytes:
        """Return the encoded answer.

        Raises:
            NodeError: it was refused, or what is behind the node failed.
            ForbiddenError: the asker may not see the node.
        """
        ...


class ManyAtOnce(Protocol):
    """A server that takes several requests at once; what `request` raises, it raises too."""

    def request_many(self, messages: Iterable[Mapping[str, Any]], /) -> list[bytes]:
        """Return the encoded answers, in order."""
        ...


class Context(Protocol):
    """Who is on a bus on which graphs are served, such as a `GraphContext`."""

    @property
    def nodes(self) -> Nodes:
        """The served graphs, by name."""
        ...


ServerLike: TypeAlias = "AnyServer | Context | AddressLike"


def as_server(server: ServerLike) -> AnyServer:
    """Return a server as it is, or that of the one graph on a bus.

    ``server`` is a server, or a context, or the address of a broker.

    Raises:
        NodeError: it is none of these.
        UnknownLabelError: on that bus no graph is served, or several are; names them.
    """
    if isinstance(server, str | tuple):
        from ezgraph.client.broker_choice import choose_broker
        from ezgraph.nodes.directory import Directory

        directory = Directory(choose_broker(server, None))
        return directory.tree(*directory.find(directory.only()))
    if callable(getattr(server, "request", None)):
        return cast("AnyServer", server)
    from ezgraph.nodes.directory import Nodes

    nodes = getattr(server, "nodes", None)
    if isinstance(nodes, Nodes):
        return nodes.tree(nodes.directory.only())
    raise NodeError(
        f"{server!r} is nothing that serves nodes: give a GraphServer, a NodeServer, a RemoteTree, "
        f"an open GraphContext, or the address of a broker"
    )


def message_of(verb: NodeVerb, uid: str | None = None, **kwargs: object) -> dict[str, Any]:
    """Return a request as servers take it."""
    return {"request": verb.value, "uid": uid, "kwargs": kwargs}


class NodeFactory:
    """Makes copies of the nodes of servers; of each node one, however it is reached."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[tuple[int, str], BaseNode] = WeakValueDictionary()
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<NodeFactory nodes={len(self._made)}>"

    # --- answers ---

    def get_root(self, server: AnyServer) -> str:
        """Return the uid of the server's root."""
        return self.open_root(server).description.uid

    def get_info(self, server: AnyServer, uid: str) -> dict[str, str]:
        """Return where the class of a node comes from."""
        return self._value(server, message_of(NodeVerb.INFO, uid), dict)

    def get_edges(
        self, server: AnyServer, uid: str, *, start: int = 0, limit: int | None = None
    ) -> dict[Label, str]:
        """Return label to uid, from edge number ``start`` on."""
        asked = {} if limit is None else {"start": start, "limit": limit}
        return self._value(server, message_of(NodeVerb.EDGES, uid, **asked), dict)

    def get_meta(self, server: AnyServer, uid: str) -> Any:  # noqa: ANN401
        """Return the meta of a node."""
        return values.unpack(server.request(message_of(NodeVerb.META, uid)))

    def get_data(self, server: AnyServer, uid: str, index: int, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return a partition of a node."""
        return values.unpack(server.request(message_of(NodeVerb.DATA, uid, index=index, **kwargs)))

    def get_partitions(self, server: AnyServer, uid: str, wanted: Sequence[int]) -> list[Any]:
        """Return several partitions, asked for at once where the server takes that."""
        if not hasattr(server, "request_many"):
            return [self.get_data(server, uid, index) for index in wanted]
        many = cast("ManyAtOnce", server)
        messages = (message_of(NodeVerb.DATA, uid, index=index) for index in wanted)
        return [values.unpack(each) for each in many.request_many(messages)]

    def get_growth(
        self, server: AnyServer, uid: str, *, after: int | None = None, wait_s: float = 0.0
    ) -> GrowthReport:
        """Return how far a node has grown; see `BaseNode.growth_report`."""
        asked: dict[str, Any] = {} if after is None else {"after": after, "wait_s": wait_s}
        return self._message(server, message_of(NodeVerb.GROWTH, uid, **asked), GrowthReport)

    def get_tree(self, server: AnyServer, uid: str, *, start: int, limit: int) -> TreePage:
        """Return rows of the tree below a node."""
        asked = message_of(NodeVerb.TREE, uid, start=start, limit=limit)
        return self._message(server, asked, TreePage)

    def get_matches(
        self,
        server: AnyServer,
        uid: str,
        query: Query | None,
        *,
        prefix: Sequence[Label],
        start: int,
    ) -> MatchPage:
        """Return nodes whose meta fits, from position ``start`` of the walk on."""
        spelled = None if query is None else query.spelled
        asked = message_of(
            NodeVerb.MATCHES, uid, query=spelled, prefix=list(prefix), start=start
        )
        return self._message(server, asked, MatchPage)

    def open_root(self, server: AnyServer) -> NodeOpening:
        """Return what the server's root is, and its edges, by one request."""
        return self._opening(server, message_of(NodeVerb.ROOT))

    def open_node(self, server: AnyServer, uid: str) -> NodeOpening:
        """Return what a node is, and its edges, by one request."""
        return self._opening(server, message_of(NodeVerb.NODE, uid))

    def _opening(self, server: AnyServer, message: dict[str, Any]) -> NodeOpening:
        opening = self._message(server, message, NodeOpening)
        note = getattr(server, "note", "")  # a RemoteTree says how it is reached
        if not note:
            return opening
        return replace(opening, description=replace(opening.description, note=note))

    def _message(self, server: AnyServer, message: dict[str, Any], kind: type[T]) -> T:
        decoded: T = _decoder_of(cast("Any", kind))(server.request(message))
        return decoded

    def _value(self, server: AnyServer, message: dict[str, Any], kind: type[T]) -> T:
        value = values.unpack(server.request(message))
        if not isinstance(value, kind):
            raise MalformedMessageError(
                f"{message['request']!r} was answered by {type(value).__name__}"
            )
        return value

    # --- nodes ---

    def produce(self, server: AnyServer, uid: str) -> BaseNode:
        """Return the copy of a node: of its own class if that is registered here, else generic."""
        known = self._made.get((id(server), uid))  # while a node lives, so does its server
        if known is not None:
            return known
        return self.produce_from(server, self.open_node(server, uid))

    def produce_from(self, server: AnyServer, opening: NodeOpening) -> BaseNode:
        """Return the copy of a node that was opened."""
        described = opening.description
        with self._lock:
            known = self._made.get((id(server), described.uid))
            if known is not None:
                return known
            kind = _class_of(described.module, described.name)
            node = _copy(kind, server, described.uid)
            return self.adopt(node, opening)

    def adopt(self, node: BaseNode, opening: NodeOpening) -> BaseNode:
        """Have a copy know what it is, and who made it."""
        with self._lock:
            node._factory = self  # noqa: SLF001 - a copy and its factory are one
            node._take_opening(opening)  # noqa: SLF001
            self._made[id(node.server), node.uid] = node
        return node


def _class_of(module: str, name: str) -> type[BaseNode]:
    from ezgraph.nodes.kinds import GenericNode

    try:
        return registered(module, name) or GenericNode
    except Exception as error:  # noqa: BLE001 - an installed package that is broken
        warnings.warn(
            f"the class {module}.{name} is installed, but cannot be loaded ({error!r}); "
            f"its nodes are generic",
            stacklevel=4,
        )
        return GenericNode


def _copy(kind: type[BaseNode], server: AnyServer, uid: str) -> BaseNode:
    """Return a bare copy; a class whose constructor takes no server is not asked to construct."""
    if _constructs_copies(kind):
        return kind(uid=uid, server=server)
    node = kind.__new__(kind)
    BaseNode.__init__(node, uid, server=server)
    return node


@lru_cache(maxsize=256)
def _constructs_copies(kind: type[BaseNode]) -> bool:
    try:
        inspect.signature(kind).bind(uid="", server=None)
    except TypeError:
        return False
    return True
