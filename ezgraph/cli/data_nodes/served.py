"""How commands reach the nodes that programs serve, and read them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ezgraph.config import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ezgraph.cli.options import Target
    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.directory import Directory
    from ezgraph.nodes.kinds import RootNode
    from ezgraph.protocol.nodes import Label


@contextmanager
def graph_at(address: str, broker: Target) -> Iterator[RootNode]:
    """Open what a program serves at an address, without a broker.

    Raises:
        ConfigError: that is no address.
        NodeHostGoneError: nobody serves nodes there.
    """
    from ezgraph.nodes import RemoteTree, RootNode
    from ezgraph.nodes.client import GRACE_S

    patience_s = _patience_s(broker)
    with RemoteTree(address, timeout=patience_s, grace_s=min(GRACE_S, patience_s / 2)) as tree:
        yield RootNode(tree)


@contextmanager
def graph_named(name: str, broker: Target) -> Iterator[RootNode]:
    """Open a graph that is served on the bus.

    Raises:
        UnknownLabelError: nobody serves it.
        BrokerUnreachableError: no broker answered in time.
        ForbiddenError: this key's role does not reach that far.
        NodeHostGoneError: who serves it cannot be reached.
    """
    from ezgraph.nodes import RootNode

    directory = _directory(broker)
    found, way = directory.find(name)
    with directory.tree(found, way) as tree:
        tree.timeout = _patience_s(broker)
        yield RootNode(tree)


def graph_records(broker: Target) -> list[dict[str, Any]]:
    """Return the graphs that are served on the bus, in order of their names.

    Raises:
        BrokerUnreachableError: no broker answered in time.
        ForbiddenError: this key's role does not reach that far.
    """
    return [
        {
            "name": each.name,
            "root_uid": each.root_uid,
            "nodes": each.nodes,
            "hosts": [
                {"by": host.by, "owner": host.owner, "endpoints": host.endpoints}
                for host in each.hosts
            ],
            "relay_port": each.relay_port,
        }
        for each in _directory(broker).found()
    ]


def _directory(broker: Target) -> Directory:
    from ezgraph.client.broker_choice import Broker
    from ezgraph.nodes.directory import Directory

    meant = Broker(broker.addresses, broker.keys, may_start=False)
    return Directory(meant, timeout=broker.timeout_s)


def _patience_s(broker: Target) -> float:
    """Return how long a read may be silent: longer than a broker, unless a time was given."""
    return broker.timeout_s if broker.timeout_given else DEFAULT_TIMEOUT_S


def descend(root: BaseNode, labels: Sequence[Label]) -> tuple[BaseNode, list[Label]]:
    """Return the node that labels lead to, and the labels as they are there.

    Digits mean the text if there is such a label, and the integer if not: so that ``probe/3`` can
    be typed without quotes.

    Raises:
        UnknownLabelError: one leads nowhere.
    """
    node = root
    found: list[Label] = []
    for label in labels:
        meant = label
        if isinstance(label, str) and label not in node.edges:
            meant = _integer(label, node)
        node = node.child(meant)
        found.append(meant)
    return node, found


def _integer(label: str, node: BaseNode) -> Label:
    digits = label.removeprefix("-")
    is_short = digits.isascii() and digits.isdigit() and len(digits) < 100
    return int(label) if is_short and int(label) in node.edges else label


def read_part(node: BaseNode, index: tuple[Any, ...] | None, title: str) -> Any:  # noqa: ANN401
    """Return (a part of) what a node has: an array or item, an Arrow table, else what it reads.

    Raises:
        NodeError: it has no data, or not what the index needs.
    """
    from ezgraph.nodes.array import ArrayNode
    from ezgraph.nodes.base import Dataless
    from ezgraph.nodes.exporting import array_of, joined
    from ezgraph.nodes.progress_bar import progress_bar
    from ezgraph.nodes.table import TableNode

    if isinstance(node, ArrayNode):
        with progress_bar(title) as bar:
            return node.read(... if index is None else index, progress=bar)
    if isinstance(node, TableNode):
        return _rows(node, index)
    if isinstance(node, Dataless):
        return array_of(node)  # which says that it has none
    found = node.read()
    if index is None:
        return found
    return _indexed(node, joined(node, found), index)


def _indexed(node: BaseNode, array: Any, index: tuple[Any, ...]) -> Any:  # noqa: ANN401
    from ezgraph.errors import NodeIndexError

    try:
        return array[index]
    except IndexError as error:
        raise NodeIndexError(
            f"the data of node {node.uid!r} ({node.summary()}) has shape {array.shape}: {error}"
        ) from error


def _rows(node: Any, index: tuple[Any, ...] | None) -> Any:  # noqa: ANN401
    from ezgraph.errors import NodeIndexError

    table = node.arrow()
    if index is None or index == (...,):
        return table
    match index:
        case (slice() as part,):
            return table.take(list(range(table.num_rows))[part])
        case (int(row),) if -table.num_rows <= row < table.num_rows:
            return table.slice(row % table.num_rows, 1)
    raise NodeIndexError(
        f"a table of {table.num_rows} rows has no part {index!r}: give a row, or START:STOP"
    )
