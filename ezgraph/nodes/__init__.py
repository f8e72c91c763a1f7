"""Data nodes: a graph of arrays and other data, read by the same words here and anywhere else.

``graph["run42"]["eeg"][1000:2000]`` is an array, whether ``graph`` was made in this program or is a
copy of one that another process serves; of the data only the part that is needed moves.

* `BaseNode` is what every node is; `RootNode`, `EmptyNode`, `ArrayNode`, `TableNode`,
  `GenericNode` are kinds of it. A class of your own inherits `BaseNode` and is made known with
  `register` (or the entry point group ``ezgraph.nodes``).
* `NpySource`, `HDF5Source`, `ZarrSource` are where an `ArrayNode` may have its items;
  `hdf5_tree` and `zarr_tree` make a graph of a whole file.
* ``ctx.serve(root, "run42")`` serves a graph to others on the bus, who read it as
  ``ctx.nodes["run42"]``; `GraphServer` is a broker with a graph of its own. Without a bus,
  `NodeServer` answers for a graph in this program, `NodeHost` serves it to others, `RemoteTree` is
  such a graph for a reader: ``RootNode(RemoteTree("lab:4000"))``.
* `meta` makes questions for ``search``: ``graph.search(meta.subject == "rat 7")``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.graph.server import GraphServer
    from ezgraph.nodes.array import ArrayNode
    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.client import RemoteTree
    from ezgraph.nodes.directory import Nodes
    from ezgraph.nodes.factory import NodeFactory
    from ezgraph.nodes.host import NodeHost
    from ezgraph.nodes.kinds import EmptyNode, GenericNode, RootNode
    from ezgraph.nodes.query import Query, meta
    from ezgraph.nodes.registry import register
    from ezgraph.nodes.searching import Found
    from ezgraph.nodes.server import NodeLimits, NodeServer
    from ezgraph.nodes.sources.hdf5 import HDF5File, HDF5Source, hdf5_tree
    from ezgraph.nodes.sources.memory import MemorySource
    from ezgraph.nodes.sources.npy import NpySource
    from ezgraph.nodes.sources.zarr import ZarrSource, zarr_tree
    from ezgraph.nodes.table import TableNode
    from ezgraph.protocol.nodes import NodeDescription, Partition

__all__ = [
    "ArrayNode",
    "BaseNode",
    "EmptyNode",
    "Found",
    "GenericNode",
    "GraphServer",
    "HDF5File",
    "HDF5Source",
    "MemorySource",
    "NodeDescription",
    "NodeFactory",
    "NodeHost",
    "NodeLimits",
    "NodeServer",
    "Nodes",
    "NpySource",
    "Partition",
    "Query",
    "RemoteTree",
    "RootNode",
    "TableNode",
    "ZarrSource",
    "hdf5_tree",
    "meta",
    "register",
    "zarr_tree",
]

_HOME = {
    "ArrayNode": "nodes.array",
    "BaseNode": "nodes.base",
    "EmptyNode": "nodes.kinds",
    "Found": "nodes.searching",
    "GenericNode": "nodes.kinds",
    "GraphServer": "graph.server",
    "HDF5File": "nodes.sources.hdf5",
    "HDF5Source": "nodes.sources.hdf5",
    "MemorySource": "nodes.sources.memory",
    "NodeDescription": "protocol.nodes",
    "NodeFactory": "nodes.factory",
    "NodeHost": "nodes.host",
    "NodeLimits": "nodes.server",
    "NodeServer": "nodes.server",
    "Nodes": "nodes.directory",
    "NpySource": "nodes.sources.npy",
    "Partition": "protocol.nodes",
    "Query": "nodes.query",
    "RemoteTree": "nodes.client",
    "RootNode": "nodes.kinds",
    "TableNode": "nodes.table",
    "ZarrSource": "nodes.sources.zarr",
    "hdf5_tree": "nodes.sources.hdf5",
    "meta": "nodes.query",
    "register": "nodes.registry",
    "zarr_tree": "nodes.sources.zarr",
}


def __getattr__(name: str) -> object:
    """Load a part when it is first named."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ezgraph.{_HOME[name]}"), name)
