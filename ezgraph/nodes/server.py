"""A graph of nodes, answered for: the listed requests, on listed nodes, for those who may.

A node is listed if the root leads to it. The graph may change at any time: an edge that comes or
goes marks the list as old, and the next request makes it anew (iteratively, whatever its shape).
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from ezgraph.errors import (
    EzGraphError,
    ForbiddenError,
    LimitError,
    NodeError,
    NodeRequestError,
    NodeSourceError,
    UnknownNodeError,
)
from ezgraph.nodes.gate import Reader
from ezgraph.nodes.query import check_query
from ezgraph.nodes.searching import match_page
from ezgraph.nodes.vocabulary import check_keywords
from ezgraph.nodes.walking import children, tree_rows, walk
from ezgraph.protocol.nodes import (
    NodeOpening,
    NodeRequest,
    NodeVerb,
    TreePage,
    check_label,
    parse_request,
)
from ezgraph.wire.nodes import encode_answer
from ezgraph.wire.relaying import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ezgraph.nodes.base import BaseNode
    from ezgraph.protocol.nodes import NodeDescription

    MaySee = Callable[[str | None, BaseNode], bool]
    Asker = str | Reader | None


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bounds on what one request may ask for, and one host hold. Sizes in bytes."""

    max_request_bytes: int = MAX_REQUEST_BYTES
    max_edges: int = 50_000
    max_rows: int = 10_000
    max_indexes: int = 10_000
    max_wait_s: float = 30.0
    max_waiting_requests: int = 256
    max_unsent_bytes: int = 128 << 20
    max_peers: int = 1_000


class GraphChange(NamedTuple):
    """Which nodes came and which went, as they were."""

    added: list[BaseNode]
    removed: list[BaseNode]


@contextmanager
def blaming(who: str, verb: NodeVerb) -> Iterator[None]:
    """Have whatever fails, of all that others have written, be an error that says of which node.

    Raises:
        NodeSourceError: it failed; what is an error of ours already passes.
    """
    try:
        yield
    except EzGraphError:
        raise
    except Exception as error:
        raise NodeSourceError(
            f"{who} failed at {verb.value!r}: {type(error).__name__}: {error}"
        ) from error


class NodeServer:
    """Answers requests about the nodes of a graph, in this program.

    Args:
        root: where the graph begins; may also come later, by `load_graph`.
        name: what the graph is called.
        may_see: whether an asker (the name of its key; None: this program) may see a node. What it
            may not see is in no list of edges it gets, and refused when it asks for the uid.
        limits: bounds.
    """

    def __init__(
        self,
        root: BaseNode | None = None,
        *,
        name: str = "",
        may_see: MaySee = lambda _, __: True,
        limits: NodeLimits | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or NodeLimits()
        self.on_change: Callable[[GraphChange], None] = lambda _: None
        self._may_see = may_see
        self._lock = threading.RLock()
        self._root: BaseNode | None = None
        self._nodes: dict[str, BaseNode] = {}
        self._is_old = False
        self._listeners: tuple[Callable[[], None], ...] = ()
        if root is not None:
            self.load_graph(root)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<NodeServer{name} nodes={len(self._nodes)}>"

    # --- the graph ---

    @property
    def root(self) -> BaseNode:
        """Where the graph begins.

        Raises:
            NodeError: none was loaded yet.
        """
        if self._root is None:
            raise NodeError(f"{self!r} serves no graph yet: give it one with load_graph(root)")
        return self._root

    def load_graph(self, root: BaseNode) -> None:
        """Serve the graph that begins at ``root``, in place of what was served before.

        Raises:
            NodeError: two nodes in it have one uid, or a node is itself a copy. Nothing changed.
        """
        with self._lock:
            self._take(_listed(root))
            self._root = root
        self._tell()

    def _take(self, nodes: dict[str, BaseNode]) -> None:
        before, self._nodes = self._nodes, nodes
        self._is_old = False
        added = [node for uid, node in nodes.items() if before.get(uid) is not node]
        removed = [node for uid, node in before.items() if nodes.get(uid) is not node]
        for node in removed:
            node.ignore_edges(self._mark_old)
        for node in added:
            node.listen_to_edges(self._mark_old)
        if added or removed:
            self.on_change(GraphChange(added, removed))

    def release(self) -> None:
        """Be told by the nodes of what comes and goes no longer; what is listed stays so.

        Who serves no more calls it: else the nodes hold on to this server for as long as they live.
        """
        with self._lock:
            for node in self._nodes.values():
                node.ignore_edges(self._mark_old)

    def _mark_old(self) -> None:
        self._is_old = True
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever nodes may have come or gone, in the thread that did it."""
        if listener not in self._listeners:
            self._listeners = (*self._listeners, listener)

    def ignore(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        self._listeners = tuple(each for each in self._listeners if each != listener)

    def nodes(self) -> Mapping[str, BaseNode]:
        """Return uid to node, as the graph is now.

        Raises:
            NodeError: as `load_graph` does; what was listed before stays so.
        """
        with self._lock:
            if self._is_old:
                self._is_old = False  # what changes while the list is made marks it again
                self._take_again()
            return self._nodes

    def _take_again(self) -> None:
        try:
            nodes = _listed(self.root)
        except NodeError:
            self._is_old = True
            raise
        was_marked = self._is_old
        self._take(nodes)
        self._is_old = was_marked

    def node(self, uid: str | None, asker: Asker = None) -> BaseNode:
        """Return a node; None: the root.

        Raises:
            UnknownNodeError: no such node is listed.
            ForbiddenError: the asker may not see it.
        """
        nodes = self.nodes()
        node = self.root if uid is None else nodes.get(uid)
        if node is None:
            raise UnknownNodeError(
                f"no node {uid!r} is served here; it was removed, or never was: ask its parent for "
                f"its edges again (refresh())"
            )
        if not self._sees(asker, node):
            who = asker if isinstance(asker, Reader) else repr(asker or "this program")
            raise ForbiddenError(
                f"{who} may not see node {node.uid!r}; its role does not reach that far"
            )
        return node

    def _sees(self, asker: Asker, node: BaseNode) -> bool:
        """Whether an asker may see a node: by its ticket, if it has shown one, and by `may_see`."""
        if isinstance(asker, Reader):
            return asker.may_read(node.uid) and self._may_see(asker.who, node)
        return self._may_see(asker, node)

    # --- answers ---

    def request(self, message: Mapping[str, Any], /, *, asker: Asker = None) -> bytes:
        """Return the encoded answer to a request (`ezgraph.protocol.nodes`).

        Raises:
            NodeRequestError: it is no listed request, or has other keywords.
            UnknownNodeError, ForbiddenError: as `node` does.
            NodeSourceError: what is behind the node failed, or gave what cannot be sent.
        """
        request = parse_request(message)
        return self.encoded(request, self.answer(request, asker))

    def encoded(self, request: NodeRequest, answer: object) -> bytes:
        """Return an answer as bytes.

        Raises:
            NodeSourceError: the node gave what cannot be sent.
        """
        try:
            return encode_answer(answer)
        except EzGraphError as error:
            raise NodeSourceError(
                f"node {request.uid!r} answered {request.verb.value!r} with what cannot be sent: "
                f"{error}"
            ) from error

    def answer(self, request: NodeRequest, asker: Asker = None) -> object:
        """Return the answer, before it is encoded; raises as `request` does."""
        with blaming(f"node {request.uid!r}", request.verb):
            node = self.node(request.uid, asker)
        with blaming(f"node {node.uid!r} ({type(node).__name__})", request.verb):
            check_keywords(node, request.verb, request.kwargs)
            return self._answer(node, request, asker)

    def _answer(self, node: BaseNode, request: NodeRequest, asker: Asker) -> object:
        kwargs = request.kwargs
        match request.verb:
            case NodeVerb.ROOT | NodeVerb.NODE:
                edges = self._edges(node, asker, 0, self.limits.max_edges)
                return NodeOpening(self._described(node, asker), edges)
            case NodeVerb.INFO:
                return node.send_info(**kwargs)
            case NodeVerb.EDGES:
                start, limit = self._range(kwargs, self.limits.max_edges)
                return self._edges(node, asker, start, limit)
            case NodeVerb.META:
                return node.send_meta(**kwargs)
            case NodeVerb.DATA:
                return _data(node, kwargs)
            case NodeVerb.FINGERPRINTS:
                return node.send_fingerprints(self._indexes(kwargs))
            case NodeVerb.GROWTH:
                return node.growth_report(*self._wait(kwargs))
            case NodeVerb.TREE:
                start, limit = self._range(kwargs, self.limits.max_rows)
                rows = tree_rows(walk(node, self._visible_to(asker)), start, limit)
                return TreePage(rows, is_last=len(rows) < limit)
            case NodeVerb.MATCHES:
                return self._matches(node, kwargs, asker)
            case _:
                assert_never(request.verb)
        raise AssertionError(request.verb)

    def growth(self, request: NodeRequest, asker: Asker) -> tuple[BaseNode, int | None, float]:
        """Return node, partition and wait of a checked request for growth; nothing is waited for.

        Raises:
            NodeError, ForbiddenError: as `answer` does.
        """
        node = self.node(request.uid, asker)
        check_keywords(node, request.verb, request.kwargs)
        return node, *self._wait(request.kwargs)

    def _visible_to(self, asker: Asker) -> Callable[[BaseNode], bool]:
        return lambda node: self._sees(asker, node)

    def _edges(self, node: BaseNode, asker: Asker, start: int, limit: int) -> dict[Any, str]:
        visible = self._visible_to(asker)
        seen = {label: child.uid for label, child in children(node) if visible(child)}
        if start == 0 and len(seen) <= limit:
            return seen
        return dict(list(seen.items())[start : start + limit])

    def _described(self, node: BaseNode, asker: Asker) -> NodeDescription:
        visible = self._visible_to(asker)
        labels = sum(1 for _, child in children(node) if visible(child))
        return replace(node.description(), labels=labels)

    # --- keywords ---

    def _range(self, kwargs: Mapping[str, Any], most: int) -> tuple[int, int]:
        start = _natural(kwargs.get("start", 0), "start")
        return start, min(most, _natural(kwargs.get("limit", most), "limit"))

    def _indexes(self, kwargs: Mapping[str, Any]) -> list[int]:
        indexes = kwargs.get("indexes")
        if not isinstance(indexes, list):
            raise NodeRequestError(f"indexes={indexes!r:.100} is no list of chunk numbers")
        if len(indexes) > self.limits.max_indexes:
            raise LimitError(
                f"{len(indexes)} chunks at once; at most {self.limits.max_indexes} are answered"
            )
        return [_natural(each, "an index") for each in indexes]

    def _wait(self, kwargs: Mapping[str, Any]) -> tuple[int | None, float]:
        after, wait_s = kwargs.get("after"), kwargs.get("wait_s", 0.0)
        if after is not None and type(after) is not int:
            raise NodeRequestError(f"after={after!r:.100} is no number of a partition")
        if type(wait_s) not in (int, float) or not 0 <= wait_s <= self.limits.max_wait_s:
            raise LimitError(
                f"wait_s={wait_s!r:.100} is not between 0 and {self.limits.max_wait_s:g} seconds"
            )
        return after, float(wait_s)

    def _matches(self, node: BaseNode, kwargs: Mapping[str, Any], asker: Asker) -> object:
        prefix = kwargs.get("prefix", [])
        if not isinstance(prefix, list) or len(prefix) > self.limits.max_rows:
            raise NodeRequestError(f"prefix={prefix!r:.100} is no list of labels")
        return match_page(
            node,
            check_query(kwargs.get("query")),
            [check_label(label) for label in prefix],
            after=_natural(kwargs.get("start", 0), "start"),
            may_enter=self._visible_to(asker),
            described=lambda found: self._described(found, asker),
        )


def _data(node: BaseNode, kwargs: Mapping[str, Any]) -> object:
    rest = dict(kwargs)
    index = rest.pop("index", None)
    if type(index) is not int:
        raise NodeRequestError(f"'send_data' needs index, the number of a partition, not {index!r}")
    return node.send_data(index, **rest)


def _natural(number: object, what: str) -> int:
    if type(number) is not int or number < 0:
        raise NodeRequestError(f"{what}={number!r:.100} is no number from 0 on")
    return number


def _listed(root: BaseNode) -> dict[str, BaseNode]:
    """Return uid to node of a graph.

    Raises:
        NodeError: two nodes have one uid, or one is a copy.
    """
    nodes: dict[str, BaseNode] = {}
    _refuse_copies(root)
    for step in walk(root, _refuse_copies):
        other = nodes.setdefault(step.node.uid, step.node)
        if other is not step.node:
            raise NodeError(
                f"two nodes have the uid {other.uid!r}: {other!r} and {step.node!r}; a uid is the "
                f"identity of one node: leave it out, and each gets its own"
            )
    return nodes


def _refuse_copies(node: BaseNode) -> bool:
    if node.server is not None:
        raise NodeError(
            f"{node!r} is a copy of a node that is served elsewhere; it cannot be served again: "
            f"read it and serve the result, or let readers ask its own server"
        )
    return True
