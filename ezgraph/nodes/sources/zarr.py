"""Arrays of Zarr stores, for which the extra ``zarr`` is needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ezgraph.errors import NodeDtypeError
from ezgraph.extras import extra
from ezgraph.nodes.array import ArrayNode
from ezgraph.nodes.kinds import EmptyNode
from ezgraph.nodes.sources.base import SourceLayout, WatchedFile, read_without_steps

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from ezgraph.nodes.base import BaseNode

_DESCRIPTIONS = ("zarr.json", ".zarray")


class ZarrSource:
    """An array of a Zarr store, in the store's chunks.

    Zarr takes a chunk that is not in the store for one full of the fill value, so a lost chunk
    cannot be told from one never written; a lost array can.

    Args:
        where: a `zarr.Array`, or the folder it is in.

    Raises:
        MissingExtraError: Zarr is not installed.
        FileNotFoundError: there is no array.
    """

    def __init__(self, where: Any) -> None:  # noqa: ANN401 - an array of any version of Zarr
        self._watched: WatchedFile | None = None
        if isinstance(where, str | os.PathLike):
            self._watched = WatchedFile(_description_in(os.fspath(where)))
            zarr = extra("zarr", "zarr", "serving Zarr stores")
            where = zarr.open_array(os.fspath(where), mode="r")
        self._array: Any = where
        self.dtype: np.dtype[Any] = np.dtype(where.dtype)

    def __repr__(self) -> str:
        place = self._watched.path if self._watched else getattr(self._array, "name", "")
        return f"<ZarrSource {place} {self.dtype} {tuple(self._array.shape)}>"

    def layout(self) -> SourceLayout:
        """Return the shape, and the store's chunks."""
        return SourceLayout(tuple(self._array.shape), tuple(self._array.chunks))

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part, freshly read."""
        if self._watched is not None:
            self._watched.stamp()
        return read_without_steps(self._array, part)

    def stamp(self) -> Hashable | None:
        """Return None: chunks may be written at any time, and nothing says so."""
        return None


def zarr_tree(path: str | os.PathLike[str]) -> BaseNode:
    """Return a node for each group and array of a Zarr store, and their attributes as meta.

    Raises:
        MissingExtraError: Zarr is not installed.
        FileNotFoundError: there is no store.
    """
    zarr = extra("zarr", "zarr", "serving Zarr stores")
    opened = zarr.open(os.fspath(path), mode="r")
    root = _node_of(opened, os.fspath(path))
    waiting = [] if hasattr(opened, "dtype") else [(root, opened)]
    while waiting:
        node, group = waiting.pop()
        for label, item in group.members():
            child = _node_of(item, os.path.join(os.fspath(path), *item.path.split("/")))
            node.edges[str(label)] = child
            if not hasattr(item, "dtype"):
                waiting.append((child, item))
    return root


def _node_of(item: Any, folder: str) -> BaseNode:  # noqa: ANN401
    meta = dict(item.attrs)
    if not hasattr(item, "dtype"):
        return EmptyNode(meta=meta)
    try:
        return ArrayNode(ZarrSource(folder), meta=meta)
    except NodeDtypeError as error:
        return EmptyNode(meta={**meta, "not_served": str(error)})


def _description_in(folder: str) -> str:
    for name in _DESCRIPTIONS:
        if os.path.exists(found := os.path.join(folder, name)):
            return found
    raise FileNotFoundError(f"{folder} has neither {' nor '.join(_DESCRIPTIONS)}: no Zarr array")
