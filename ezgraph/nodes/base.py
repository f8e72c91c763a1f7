"""What every node is: an identity, edges, meta, data in partitions, here or at a server.

The same class stands at both ends. Where it was made with its data it *serves*: ``load_meta`` and
``load_data``, which each type writes, fetch these from where they are when somebody first asks.
What `NodeFactory` makes for a reader is a *copy*: it has a server, and there the very same calls
ask the server instead, whatever the type wrote (`_at_the_server`). So ``read``, written once on top
of ``data``, gives the same at both ends.

Edges are followed one at a time and never recursively: nodes may be shared, and may form cycles
and chains of any length.
"""

from __future__ import annotations

import functools
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ezgraph._version import __version__
from ezgraph.errors import NodeError, NodeIndexError, NodeRequestError, UnknownLabelError
from ezgraph.ids import RandomIds
from ezgraph.nodes.edges import Edges
from ezgraph.nodes.following import Follower, followed
from ezgraph.nodes.growth import Growth
from ezgraph.nodes.vocabulary import check_keywords
from ezgraph.protocol.nodes import (
    GrowthReport,
    Label,
    NodeDescription,
    NodeOpening,
    NodeVerb,
    Partition,
    check_label,
    check_uid,
)

if TYPE_CHECKING:
    from ezgraph.nodes.factory import AnyServer, NodeFactory
    from ezgraph.nodes.query import Query
    from ezgraph.nodes.searching import Found

T = TypeVar("T", bound=Callable[..., Any])
_PAGE = 10_000


class Dataless:
    """Marks types that have no data, here or anywhere: their loading is theirs at a reader too."""


class BaseNode(ABC):
    """A node of a graph of data. Subclasses write ``read``, ``load_meta`` and ``load_data``.

    Args:
        uid: its identity, kept by every copy; None: a new one.
        edges: label (text or integer) to node; copied, and may be assigned or changed later.
        meta: what is said about the data, of values the bus carries; None: ``load_meta`` knows.
        data: the partitions, in order; None: ``load_data`` knows.
        server: where the node is, if this is a copy.

    Attributes:
        keywords: for each request, such as ``"send_data"``, the further keywords this type takes.
        version: of the type; a reader sees it in ``info``.
    """

    keywords: ClassVar[Mapping[str, frozenset[str]]] = {}
    version: ClassVar[str] = __version__

    def __init__(
        self,
        uid: str | None = None,
        edges: Mapping[Any, BaseNode | str] | None = None,
        meta: Any = None,  # noqa: ANN401 - whatever values the bus carries
        data: Sequence[Any] | None = None,
        server: AnyServer | None = None,
    ) -> None:
        if server is not None and uid is None:
            raise NodeError(f"a {type(self).__name__} with a server is a copy: give its uid too")
        self.uid = RandomIds().node_uid() if uid is None else check_uid(uid)
        self.server = server
        self._lock = threading.RLock()
        self._loading: set[str] = set()
        self._meta = meta
        self._data: Sequence[Any] | None = None if data is None else list(data)
        self._described: NodeDescription | None = None
        self._factory: NodeFactory | None = None
        self._growth: Growth | None = None
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._edges_known = server is None or edges is not None
        self._edges = self._made_edges(edges or {})

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**kwargs)
        for name, instead in _AT_THE_SERVER.items():
            if name in vars(cls) and not issubclass(cls, Dataless):
                setattr(cls, name, _at_the_server(vars(cls)[name], instead))

    def __repr__(self) -> str:
        where = "" if self.server is None else f" at {self.server!r}"
        edges = f"{len(self._edges)} edges" if self._edges_known else "edges unread"
        return f"<{type(self).__name__} {self.uid!r} {edges}{where}>"

    def _repr_html_(self) -> str:
        from ezgraph.nodes.faces import node_html

        return node_html(self)

    # --- what each type writes ---

    @abstractmethod
    def read(self) -> Any:  # noqa: ANN401
        """Return the data as the Python object it is, from ``self.data``."""

    @abstractmethod
    def load_meta(self) -> Any:  # noqa: ANN401
        """Set ``self.meta``. Called once, when it is first needed; of a copy it asks the server."""
        self._meta = self._makers.get_meta(self._home, self.uid)
        return self._meta

    @abstractmethod
    def load_data(self) -> Any:  # noqa: ANN401
        """Set ``self.data``, an ordered list of partitions. Called likewise."""
        self._data = self._fetched_data()
        return None

    def summary(self) -> str:
        """Return what this node is, in a few words, for listings. Loads nothing."""
        return self.info["class"]

    # --- what it is ---

    @property
    def info(self) -> dict[str, str]:
        """Where its class comes from: ``module``, ``class``, ``version``."""
        if self.server is not None:
            known = self.description()
            return {"module": known.module, "class": known.name, "version": known.version}
        kind = type(self)
        return {"module": kind.__module__, "class": kind.__qualname__, "version": self.version}

    @property
    def meta(self) -> Any:  # noqa: ANN401
        """What is said about the data; loaded when first asked for, without the data."""
        return self._loaded("_meta", self._load_own_meta)

    @meta.setter
    def meta(self, meta: Any) -> None:  # noqa: ANN401
        self._meta = meta

    @property
    def data(self) -> Any:  # noqa: ANN401 - a sequence; to `load_data`, what is there so far
        """The partitions, in order; loaded when first asked for."""
        loaded = self._loaded("_data", self._load_own_data)
        if isinstance(loaded, list) and self._described is not None and self._described.is_growing:
            loaded += self._fetched_data(len(loaded))
        return loaded

    @data.setter
    def data(self, data: Sequence[Any] | None) -> None:
        self._data = data

    def _load_own_meta(self) -> None:
        self.load_meta()
        if self._meta is None:
            self._meta = {}

    def _load_own_data(self) -> None:
        self.load_data()
        if self._data is None:
            self._data = []

    def _loaded(self, name: str, load: Callable[[], object]) -> Any:  # noqa: ANN401
        """Return an attribute that is loaded once; while it is being loaded, what it is so far."""
        if getattr(self, name) is None:
            with self._lock:
                if getattr(self, name) is None and name not in self._loading:
                    with self._busy_with(name):
                        load()
        return getattr(self, name)

    @contextmanager
    def _busy_with(self, name: str) -> Iterator[None]:
        self._loading.add(name)
        try:
            yield
        finally:
            self._loading.discard(name)

    # --- edges ---

    @property
    def edges(self) -> Edges:
        """Label to node; at a reader to the uid of a node until that is first asked for."""
        if not self._edges_known:
            self.refresh()
        return self._edges

    @edges.setter
    def edges(self, edges: Mapping[Any, BaseNode | str]) -> None:
        self._edges = self._made_edges(edges)
        self._edges_known = True
        self._edges_changed()

    def _made_edges(self, edges: Mapping[Any, BaseNode | str]) -> Edges:
        kinds = BaseNode if self.server is None else (BaseNode, str)
        return Edges(edges, lambda target: isinstance(target, kinds), self._edges_changed)

    def _edges_changed(self) -> None:
        for listener in self._listeners:
            listener()

    def listen_to_edges(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever an edge comes or goes, in the thread that changes it."""
        if listener not in self._listeners:
            self._listeners = (*self._listeners, listener)

    def ignore_edges(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        self._listeners = tuple(each for each in self._listeners if each != listener)

    def __getitem__(self, label: Any) -> Any:  # noqa: ANN401 - an array node takes indices too
        return self.child(label)

    def child(self, label: Label) -> BaseNode:
        """Return the node an edge leads to; the same object whatever edge leads to it.

        Raises:
            UnknownLabelError: there is no such edge, at the server neither.
        """
        label = check_label(label)
        if label not in self.edges and self.server is not None:
            self.refresh()
        if label not in self._edges:
            raise UnknownLabelError(
                f"node {self.uid!r} ({self.summary()}) has no edge {label!r}, only {self._edges!r}"
            )
        target = self._edges[label]
        if isinstance(target, str):
            target = self._makers.produce(self._home, target)
            self._edges.remember(label, target)
        return target

    def __contains__(self, label: object) -> bool:
        return label in self.edges

    def __iter__(self) -> Iterator[Any]:
        return self.keys()

    def __len__(self) -> int:
        return len(self.edges)

    def __bool__(self) -> bool:
        return True

    def keys(self, start: int = 0, limit: int | None = None) -> Iterator[Label]:
        """Return the labels from number ``start`` on, at most ``limit``, as they are now.

        At a reader they come in pages, so the first are there before the last are fetched.
        """
        if self.server is None:
            stop = None if limit is None else start + limit
            yield from (label for label, _ in islice(self._edges.pairs(), start, stop))
            return
        stop = sys.maxsize if limit is None else start + limit
        while start < stop:
            size = min(_PAGE, stop - start)
            page = self._makers.get_edges(self._home, self.uid, start=start, limit=size)
            if not page:
                return
            yield from page
            start += len(page)

    def items(self) -> Iterator[tuple[Label, BaseNode]]:
        """Return each label with its node."""
        for label in self.keys():
            yield label, self.child(label)

    def refresh(self) -> NodeDescription:
        """Ask the server anew what this node is, its edges, its meta; remembered nodes stay."""
        if self.server is not None:
            self._take_opening(self._makers.open_node(self._home, self.uid))
            self._meta = None
        return self.description()

    def _take_opening(self, opening: NodeOpening) -> None:
        self._described = opening.description
        edges = dict(opening.edges)
        while len(edges) < opening.description.labels:
            page = self._makers.get_edges(self._home, self.uid, start=len(edges), limit=_PAGE)
            if not page:
                break
            edges.update(page)
        self._edges.take_over(edges)
        self._edges_known = True

    # --- a copy's way to its server ---

    @property
    def _home(self) -> AnyServer:
        if self.server is None:
            raise NodeError(
                f"{self!r} has no server to ask, and its type does not say how to load it"
            )
        return self.server

    @property
    def _makers(self) -> NodeFactory:
        from ezgraph.nodes.factory import NodeFactory

        if self._factory is None:
            self._factory = NodeFactory()
        return self._factory

    def _fetched_data(self, start: int = 0) -> Sequence[Any]:
        report = self.growth_report()
        wanted = range(max(start, report.first_partition), report.partitions)
        return self._makers.get_partitions(self._home, self.uid, wanted)

    # --- what the serving side answers ---

    def description(self) -> NodeDescription:
        """Return what this node is, without its data."""
        if self.server is not None:
            return self._described or self.refresh()
        return self._own_description()

    def _own_description(self) -> NodeDescription:
        info = self.info
        return NodeDescription(
            uid=self.uid,
            module=info["module"],
            name=info["class"],
            version=info["version"],
            labels=len(self._edges),
            partitions=None if self._data is None else len(self._data),
            first_partition=0,
            is_growing=self.growth.is_open,
            is_stable=False,
            incarnation=self.growth.incarnation,
        )

    def send_info(self, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
        """Return ``info``."""
        check_keywords(self, NodeVerb.INFO, kwargs)
        return self.info

    def send_edges(self, start: int = 0, limit: int | None = None) -> dict[Label, str]:
        """Return label to uid, from edge number ``start`` on, at most ``limit`` of them."""
        stop = None if limit is None else start + limit
        return {
            label: target if isinstance(target, str) else target.uid
            for label, target in islice(self.edges.pairs(), start, stop)
        }

    def send_meta(self, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the meta, loaded before if it was not yet."""
        check_keywords(self, NodeVerb.META, kwargs)
        return self.meta

    def send_data(self, index: int, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return partition ``index``; the data is loaded at first use.

        Raises:
            NodeIndexError: there is no such partition.
        """
        check_keywords(self, NodeVerb.DATA, {"index": index, **kwargs})
        partitions = self.data
        self._check_partition(index, len(partitions))
        return partitions[index]

    def send_fingerprints(self, indexes: Sequence[int]) -> list[bytes]:  # noqa: ARG002
        """Return the fingerprints of some chunks, as far as they can be said soon.

        Raises:
            NodeRequestError: this type of node has none.
        """
        raise NodeRequestError(f"a {type(self).__name__} has no chunks, and so no fingerprints")

    def _check_partition(self, index: object, count: int) -> None:
        if type(index) is not int or not 0 <= index < count:
            raise NodeIndexError(
                f"node {self.uid!r} has no partition {index!r}: it has {count}, numbered from 0"
            )

    # --- growing, and following what grows ---

    @property
    def growth(self) -> Growth:
        """Whether the data may still grow, and who waits for that."""
        if self._growth is None:
            with self._lock:
                if (growth := self._growth) is None:
                    growth = self._growth = Growth()
                return growth
        return self._growth

    def grow(self) -> None:
        """Say that partitions will be appended: who follows waits for them until `finish`."""
        self._refuse_copy("grow")
        self.growth.is_open = True

    def append(self, partition: Any) -> int:  # noqa: ANN401
        """Append a partition and return its number. Who follows is told at once."""
        self._refuse_copy("be appended to")
        self.growth.is_open = True
        with self._lock:
            partitions = self.data
            if not isinstance(partitions, list):
                partitions = self._data = list(partitions)
            partitions.append(partition)
            number = len(partitions) - 1
        self.growth.tell()
        return number

    def finish(self) -> None:
        """Say that nothing more will be appended: who follows comes to an end."""
        self.growth.is_open = False
        self.growth.tell()

    def _refuse_copy(self, what: str) -> None:
        if self.server is not None:
            raise NodeError(f"{self!r} is a copy and cannot {what}: do that where it is served")

    def growth_report(self, after: int | None = None, wait_s: float = 0.0) -> GrowthReport:
        """Return how far the data has grown, once that is beyond ``after`` or ``wait_s`` passed."""
        if self.server is not None:
            return self._makers.get_growth(self._home, self.uid, after=after, wait_s=wait_s)
        if after is not None and wait_s > 0:
            self.growth.wait_for(lambda: self.has_grown(after), wait_s)
        return self._own_growth()

    def has_grown(self, after: int) -> bool:
        """Whether there is a partition after this one, or never will be."""
        report = self._own_growth()
        return report.partitions - 1 > after or not report.is_growing

    def _own_growth(self) -> GrowthReport:
        is_growing = self.growth.is_open  # before the count: what is appended last is not missed
        return GrowthReport(0, len(self.data), is_growing, self.growth.incarnation)

    def partition(self, number: int) -> Any:  # noqa: ANN401
        """Return one partition, fetched by itself.

        Raises:
            NodeIndexError: there is no such partition.
        """
        if self.server is None:
            return self.send_data(number)
        return self._makers.get_data(self._home, self.uid, number)

    def partitions(self, numbers: range) -> Iterator[Partition]:
        """Return partitions of these numbers, in order."""
        for number in numbers:
            yield Partition(number, self.partition(number))

    def follow(
        self, after: int | None = None, *, timeout: float | None = None
    ) -> Iterator[Partition]:
        """Return each partition after number ``after``, in order, each once, as they come.

        ``after`` -1: all from the first on; None: those appended from now on. It ends when the
        node is finished.

        Raises:
            CompactedError: some that come next were dropped to make room; ``floor`` is the first
                that is there.
            DivergedError: the node was made anew.
            DeadlineError: nothing came for ``timeout`` seconds (None: it may take any time).
            NodeHostGoneError: its server went away.
        """
        follower = Follower(self.uid, after)
        ready = follower.heard(self.growth_report())  # "from now on" is from this call on
        return followed(self, follower, ready, timeout)

    # --- looking around ---

    def tree(self, *, depth: int = 20, lines: int = 500) -> None:
        """Print the nodes below, at most so deep and so many; what is left out is said."""
        from ezgraph.nodes.faces import print_tree

        print_tree(self, depth=depth, lines=lines)

    def search(self, query: Query | None = None, *, prefix: Sequence[Label] | Label = ()) -> Found:
        """Return the nodes at and below here whose meta fits, with the first way to each.

        ``query`` is made of `ezgraph.nodes.meta`, as in ``meta.subject == "rat 7"``; ``prefix``:
        only those whose way begins with these labels. The search is made where the nodes are.
        """
        from ezgraph.nodes.searching import search

        return search(self, query, prefix)


# --- what copies do instead of what their type wrote ---

_AT_THE_SERVER: dict[str, Callable[[BaseNode], Any]] = {
    "load_meta": BaseNode.load_meta,
    "load_data": BaseNode.load_data,
}


def _at_the_server(own: T, instead: Callable[[BaseNode], Any]) -> T:
    """Return the method a type wrote, which for a copy asks the server instead."""

    @functools.wraps(own)
    def load(self: BaseNode, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if self.server is not None:
            return instead(self)
        return own(self, *args, **kwargs)

    return load  # type: ignore[return-value]
