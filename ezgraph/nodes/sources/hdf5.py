"""Datasets of HDF5 files (NWB files are such), for which the extra ``hdf5`` is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ezgraph.errors import NodeDtypeError
from ezgraph.extras import extra
from ezgraph.nodes.array import ArrayNode
from ezgraph.nodes.kinds import EmptyNode, GenericNode
from ezgraph.nodes.sources.base import SourceLayout, WatchedFile, read_without_steps
from ezgraph.wire.arrays import spell_dtype

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from ezgraph.nodes.base import BaseNode

_TEXT_ROWS = 10_000


class HDF5File:
    """An HDF5 file, open for reading until it is closed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        h5py = extra("h5py", "hdf5", "serving HDF5 and NWB files")
        self.watched = WatchedFile(path)
        self.opened: Any = h5py.File(self.watched.path, "r")

    def __repr__(self) -> str:
        return f"<HDF5File {self.watched.path} {'open' if self.opened else 'closed'}>"

    def close(self) -> None:
        """Close it; whoever reads one of its nodes then gets an error that says so."""
        self.opened.close()


class HDF5Source:
    """A dataset, in the chunks the file has it in.

    Args:
        file: the file, or where it is.
        dataset: its name in there, such as ``"acquisition/eeg/data"``.

    Raises:
        OSError, KeyError: no such file or dataset.
        MissingExtraError: h5py is not installed.
    """

    def __init__(self, file: HDF5File | str | os.PathLike[str], dataset: str) -> None:
        self._file = file if isinstance(file, HDF5File) else HDF5File(file)
        self._name = dataset
        self._dataset: Any = self._file.opened[dataset]
        self.dtype: np.dtype[Any] = self._dataset.dtype

    def __repr__(self) -> str:
        return f"<HDF5Source {self._file.watched.path} {self._name!r} {self.dtype}>"

    def layout(self) -> SourceLayout:
        """Return the shape it has now, and its own chunks if it has any."""
        return SourceLayout(tuple(self._dataset.shape), self._dataset.chunks)

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part, freshly read."""
        self._file.watched.stamp()
        return read_without_steps(self._dataset, part)

    def stamp(self) -> Hashable | None:
        """Return what changes with the file."""
        return self._file.watched.stamp()

    def close(self) -> None:
        """Close the file, for all its nodes."""
        self._file.close()


def hdf5_tree(path: str | os.PathLike[str]) -> BaseNode:
    """Return a node for each group and dataset of an HDF5 or NWB file, attributes as their meta.

    Datasets of text are nodes with lists of texts. One that cannot be served (references, items of
    any length) is a node without data whose meta says why, as ``not_served``.

    Raises:
        OSError: no such file.
        MissingExtraError: h5py is not installed.
    """
    file = HDF5File(path)
    root = EmptyNode(meta=_attributes(file.opened))
    made: dict[Any, BaseNode] = {file.opened.id: root}
    waiting: list[tuple[BaseNode, Any]] = [(root, file.opened)]
    while waiting:
        node, group = waiting.pop()
        for label in group:
            item = group.get(label)
            if item is None:
                continue  # a link that leads nowhere
            if item.id not in made:
                made[item.id] = _node_of(file, item)
                if hasattr(item, "keys"):
                    waiting.append((made[item.id], item))
            node.edges[label] = made[item.id]
    return root


def _node_of(file: HDF5File, item: Any) -> BaseNode:  # noqa: ANN401
    meta = _attributes(item)
    if hasattr(item, "keys"):
        return EmptyNode(meta=meta)
    if item.shape is None:
        return EmptyNode(meta={**meta, "not_served": "the dataset has no shape (it is empty)"})
    h5py = extra("h5py", "hdf5", "serving HDF5 and NWB files")
    if h5py.check_string_dtype(item.dtype) is not None:
        return _TextNode(item, meta)
    try:
        return ArrayNode(HDF5Source(file, item.name), meta=meta)
    except NodeDtypeError as error:
        return EmptyNode(meta={**meta, "not_served": str(error)})


class _TextNode(GenericNode):
    """A dataset of text, of one axis at most: lists of so many texts each."""

    def __init__(self, dataset: Any, meta: Any) -> None:  # noqa: ANN401
        super().__init__(meta=meta)
        self._dataset = dataset

    @property
    def info(self) -> dict[str, str]:
        """Readers know it as a plain generic node."""
        return {
            "module": GenericNode.__module__,
            "class": GenericNode.__qualname__,
            "version": self.version,
        }

    def load_data(self) -> None:
        """Read all of it: texts are few beside samples."""
        found = self._dataset.asstr()[()]
        texts = np.asarray(found, dtype=object).reshape(-1).tolist()
        starts = range(0, len(texts), _TEXT_ROWS)
        self.data = [texts[start : start + _TEXT_ROWS] for start in starts]


def _attributes(item: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the attributes as values the bus carries."""
    found = {}
    for name in item.attrs:
        try:
            found[str(name)] = _carried(item.attrs[name])
        except (OSError, TypeError) as error:
            found[str(name)] = f"(cannot be read: {error})"
    return found


def _carried(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.hasobject and _are_texts(value) else _checked(value)
    return value if isinstance(value, str | bytes | int | float | bool | complex) else repr(value)


def _are_texts(value: NDArray[Any]) -> bool:
    return all(isinstance(each, str | bytes) for each in value.reshape(-1))


def _checked(value: NDArray[Any]) -> Any:  # noqa: ANN401
    try:
        spell_dtype(value.dtype)
    except NodeDtypeError:
        return repr(value)
    return value
