"""A graph of nodes in one file: groups for nodes, datasets for arrays, attributes for meta.

A node without data is a group. The items of an array that leads to other nodes stand beside these,
as ``_data``. A table is a group with a dataset for each column. A node reached again is a link to
where it is first (soft in HDF5; Zarr has none: there the group's attribute ``ezgraph_links`` says
``{label: path}``). Labels are escaped as in `ezgraph.protocol.key_text`; integers are just digits.
`hdf5_tree` and `zarr_tree` read these files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from ezgraph.errors import NodeDtypeError, NodeError
from ezgraph.extras import extra
from ezgraph.nodes.array import ArrayNode
from ezgraph.nodes.base import Dataless
from ezgraph.nodes.table import TableNode
from ezgraph.nodes.walking import walk
from ezgraph.protocol.key_text import escaped
from ezgraph.protocol.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from ezgraph.nodes.base import BaseNode
    from ezgraph.nodes.reading import Progress
    from ezgraph.protocol.nodes import Label

_DATA = "_data"
_LINKS = "ezgraph_links"
_NUMBERS = (bool, int, float)


class Store(Protocol):
    """A file that holds groups and arrays. Paths have no slash at either end; ``""``: the file."""

    def group(self, path: str, meta: Mapping[str, Any]) -> None:
        """Make a group."""
        ...

    def array(self, path: str, form: Form, meta: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Make an array, and return what takes its items: ``made[slices] = items``."""
        ...

    def link(self, group: str, name: str, to: str) -> None:
        """Have an item of a group be what is elsewhere."""
        ...


class Form(NamedTuple):
    """What an array is to be like; ``chunks`` None: it has none of its own."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None


class _Place(NamedTuple):
    """Where a node is to be written: its path, or that of another one (``link``) in ``group``."""

    node: BaseNode
    path: str
    group: str
    name: str
    leads_on: bool
    link: str | None = None


def write_tree(
    node: BaseNode, store: Store, array_of: Callable[[BaseNode], NDArray[Any]], progress: Progress
) -> None:
    """Write a node and all below it.

    Raises:
        NodeError: two edges of a node would have one name.
        NodeDtypeError: what a node holds fits no dataset; names it.
    """
    places = list(_places(node))
    total = sum(map(_size_bytes, places))
    done = 0
    for place in places:
        if place.link is not None:
            store.link(place.group, place.name, place.link)
        elif isinstance(place.node, ArrayNode):
            for written in _write_array(place.node, store, place):
                done += written
                progress(done, total)
        elif isinstance(place.node, TableNode):
            _write_table(place.node, store, place.path)
        else:
            _write_other(place, store, array_of)


def _size_bytes(place: _Place) -> int:
    if place.link is not None or not isinstance(place.node, ArrayNode):
        return 0
    return place.node.nbytes


def _places(start: BaseNode) -> Iterator[_Place]:
    """Return where each node goes; a row of a walk names the row it hangs on."""
    steps = list(walk(start))
    parents = {step.parent for step in steps}
    paths: list[str] = []
    first: dict[int, str] = {}
    taken: set[str] = set()
    for row, step in enumerate(steps):
        group = paths[step.parent] if row else ""
        name = "" if step.label is None else _name_of(step.label)
        path = f"{group}/{name}" if group else name
        if row and path in taken:
            raise NodeError(
                f"two edges at {group or 'the root'!r} would both be named {name!r} in a file: the "
                f"text {name!r} and the integer; give one of them another label"
            )
        taken.add(path)
        paths.append(path)
        link = first.get(id(step.node))
        first.setdefault(id(step.node), path)
        yield _Place(step.node, path, group, name, row in parents, link)


_NAMELESS = "%"
"""What a label without a character is called; in every other name digits follow a ``%``."""


def _name_of(label: Label) -> str:
    """Return what an edge is called in a file; no name is one dot or two, or empty."""
    name = str(label) if isinstance(label, int) else escaped(label, "%/")
    if not name:
        return _NAMELESS
    return name.replace(".", "%2E") if not name.strip(".") else name


def _write_array(node: ArrayNode, store: Store, place: _Place) -> Iterator[int]:
    """Write an array, and return the bytes of each chunk when it is there."""
    form = Form(node.dtype, node.shape, node.chunks if node.nbytes and node.ndim else None)
    path, meta = place.path, _meta_of(node)
    if place.leads_on or not path:
        store.group(path, meta)
        path, meta = f"{path}/{_DATA}".lstrip("/"), {}
    made = store.array(path, form, meta)
    for where, chunk in node.placed_chunks():
        made[where] = chunk
        yield chunk.nbytes


def _write_table(node: TableNode, store: Store, path: str) -> None:
    table = node.arrow()
    store.group(path, _meta_of(node))
    for name, column in zip(table.column_names, table.columns, strict=True):
        items = _column(node, name, column)
        form = Form(items.dtype, items.shape, None)
        store.array(f"{path}/{_name_of(name)}".lstrip("/"), form, {})[...] = items


def _column(node: TableNode, name: str, column: Any) -> NDArray[Any]:  # noqa: ANN401
    items: NDArray[Any] = column.to_numpy()
    if items.dtype.hasobject and all(isinstance(each, str) for each in items):
        items = items.astype(str)
    if items.dtype.hasobject:
        raise NodeDtypeError(
            f"column {name!r} of {node!r} ({column.type}) fits no dataset; export the table by "
            f"itself, as .parquet"
        )
    return items


def _write_other(
    place: _Place, store: Store, array_of: Callable[[BaseNode], NDArray[Any]]
) -> None:
    node, path, meta = place.node, place.path, _meta_of(place.node)
    items = None if isinstance(node, Dataless) or not len(node.data) else array_of(node)
    if items is None or place.leads_on or not path:
        store.group(path, meta)
        path, meta = f"{path}/{_DATA}".lstrip("/"), {}
    if items is not None:
        store.array(path, Form(items.dtype, items.shape, None), meta)[...] = items


def _meta_of(node: BaseNode) -> dict[str, Any]:
    meta = node.meta
    named = meta if isinstance(meta, dict) else {"meta": meta}
    return {str(name): value for name, value in named.items() if value is not None}


# --- HDF5 ---


class HDF5Store:
    """A new HDF5 file. Times are opaque items that h5py reads as times again."""

    def __init__(self, path: Path) -> None:
        self._h5py = extra("h5py", "hdf5", "writing HDF5 files")
        self._file: Any = self._h5py.File(path, "w")

    def __repr__(self) -> str:
        return f"<HDF5Store {self._file!r}>"

    def group(self, path: str, meta: Mapping[str, Any]) -> None:
        """Make a group."""
        self._describe(self._file.require_group(path) if path else self._file, meta)

    def array(self, path: str, form: Form, meta: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Make a dataset."""
        dtype, convert = self._dtype_of(form.dtype)
        made = self._file.create_dataset(path, form.shape, dtype, chunks=form.chunks)
        self._describe(made, meta)
        return _Converting(made, convert)

    def _dtype_of(self, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Return the dtype in the file, and that of items which are given to h5py."""
        if dtype.kind == "U":
            return self._h5py.string_dtype(), np.dtype(object)
        if dtype.kind in "mM":
            return self._h5py.opaque_dtype(dtype), self._h5py.opaque_dtype(dtype)
        return dtype, dtype

    def link(self, group: str, name: str, to: str) -> None:
        """Make a soft link."""
        (self._file[group] if group else self._file)[name] = self._h5py.SoftLink(f"/{to}")

    def _describe(self, item: Any, meta: Mapping[str, Any]) -> None:  # noqa: ANN401
        for name, value in meta.items():
            item.attrs[escaped(name, "")] = self._attribute(value)

    def _attribute(self, value: Any) -> Any:  # noqa: ANN401
        """Return a value as HDF5 has it: numbers, texts and arrays of them; all else as JSON."""
        match value:
            case bool() | float() | complex() | str():
                return value
            case int() if -(2**63) <= value < 2**63:
                return value
            case list() | tuple() if value and all(isinstance(each, str) for each in value):
                return np.array(value, dtype=self._h5py.string_dtype())
            case list() | tuple() if value and all(type(each) in _NUMBERS for each in value):
                numbers = np.asarray(value)
                if not numbers.dtype.hasobject:
                    return numbers
            case np.ndarray() if value.dtype.kind in "biufcS":
                return value
        return json.dumps(plain(value), ensure_ascii=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


class _Converting:
    """A dataset that is given items as its file has them."""

    def __init__(self, dataset: Any, dtype: Any) -> None:  # noqa: ANN401
        self._dataset = dataset
        self._dtype = dtype

    def __setitem__(self, place: Any, items: NDArray[Any]) -> None:  # noqa: ANN401
        if items.size:
            # a copy even of what has the dtype already: only that carries h5py's mark of times
            is_as_it_is = self._dtype == items.dtype and self._dtype.metadata is None
            self._dataset[place] = items if is_as_it_is else items.astype(self._dtype)


# --- Zarr ---


class ZarrStore:
    """A new Zarr store, of format 2, which has every dtype that NumPy has."""

    def __init__(self, path: Path) -> None:
        zarr = extra("zarr", "zarr", "writing Zarr stores")
        self._root: Any = zarr.open_group(str(path), mode="w", zarr_format=2)

    def __repr__(self) -> str:
        return f"<ZarrStore {self._root!r}>"

    def group(self, path: str, meta: Mapping[str, Any]) -> None:
        """Make a group."""
        made = self._root.require_group(path) if path else self._root
        made.attrs.update(plain(meta))

    def array(self, path: str, form: Form, meta: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Make an array."""
        chunks = form.chunks or tuple(max(1, each) for each in form.shape)
        made = self._root.create_array(path, shape=form.shape, dtype=form.dtype, chunks=chunks)
        made.attrs.update(plain(meta))
        return made

    def link(self, group: str, name: str, to: str) -> None:
        """Note where it is."""
        here = self._root[group] if group else self._root
        links = dict(here.attrs.get(_LINKS, {}))
        here.attrs[_LINKS] = {**links, name: to}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Have nothing to close."""
