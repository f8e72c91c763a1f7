"""Nodes as files: an array as ``.npy``, a table as ``.parquet``, a graph as ``.h5`` or ``.zarr``.

Arrays are written a chunk at a time, so one may be larger than memory. A file appears under its
name when it is whole; what fails leaves nothing behind.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ezgraph.errors import ConfigError, EzGraphError, NodeDtypeError, NodeError
from ezgraph.extras import extra
from ezgraph.nodes.array import ArrayNode
from ezgraph.nodes.base import BaseNode, Dataless
from ezgraph.nodes.export_trees import HDF5Store, ZarrStore, write_tree
from ezgraph.nodes.table import TableNode
from ezgraph.wire.arrays import spell_dtype

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ezgraph.nodes.reading import Progress

_ZARR_MARKS = (".zgroup", ".zarray", "zarr.json")


def export(
    node: BaseNode,
    path: str | os.PathLike[str],
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a node to a file of the kind that the name's suffix says.

    ``.npy``: an array. ``.parquet``: a table. ``.h5``, ``.hdf5``, ``.zarr``: a node and all below
    it, meta as attributes (see `ezgraph.nodes.export_trees`).

    Args:
        node: a node, here or a copy.
        path: where to; its folder is there.
        replace: put it in the place of what is there.
        progress: called with the bytes of arrays that are written, and those that will be.

    Raises:
        ConfigError: no such suffix or folder, or there is something of that name.
        NodeError: the node has no data of that kind, or the file cannot be written.
        MissingExtraError: what writes such files is not installed.
    """
    target = Path(path)
    write = writer_for(target)
    check_free(target, replace=replace)
    with written_whole(target) as part:
        try:
            write(node, part, progress or (lambda _, __: None))
        except EzGraphError:
            raise
        except (OSError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise NodeError(
                f"{_called(node)} cannot be written as {target.suffix}: {type(error).__name__}: "
                f"{error}"
            ) from error


def writer_for(path: Path) -> Callable[[BaseNode, Path, Progress], None]:
    """Return what writes files of a name.

    Raises:
        ConfigError: nothing does.
    """
    writers: dict[str, Callable[[BaseNode, Path, Progress], None]] = {
        ".npy": _write_npy,
        ".parquet": _write_parquet,
        ".h5": _write_hdf5,
        ".hdf5": _write_hdf5,
        ".zarr": _write_zarr,
    }
    try:
        return writers[path.suffix.lower()]
    except KeyError:
        raise ConfigError(
            f"{path.name!r} does not say what kind of file it is to be: give it one of the "
            f"suffixes {', '.join(writers)}"
        ) from None


def check_free(path: Path, *, replace: bool) -> None:
    """Refuse to write over what is not to be replaced.

    Raises:
        ConfigError: there is something of that name, or its folder is not there.
    """
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{str(path)!r} cannot be written: there is no folder for it")
    if path.is_dir() and (not replace or not any((path / each).exists() for each in _ZARR_MARKS)):
        raise ConfigError(f"{str(path)!r} is a folder; choose another name")
    if path.exists() and not replace:
        raise ConfigError(f"{str(path)!r} exists; choose another name, or replace it (--replace)")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place beside a file, moved to it at the end unless that failed."""
    try:
        room = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=".ezgraph-"))
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error}") from error
    try:
        part = room / path.name
        yield part
        if path.is_dir():
            path.rename(room / "before")
        part.replace(path)
    finally:
        shutil.rmtree(room, ignore_errors=True)


# --- the kinds ---


def _write_npy(node: BaseNode, path: Path, progress: Progress) -> None:
    if not isinstance(node, ArrayNode) or not node.nbytes:
        whole = array_of(node)
        np.save(path, whole, allow_pickle=False)
        progress(whole.nbytes, whole.nbytes)
        return
    shape = node.shape
    file = np.lib.format.open_memmap(path, mode="w+", dtype=node.dtype, shape=shape)
    done = 0
    for place, chunk in node.placed_chunks():
        file[place] = chunk
        done += chunk.nbytes
        progress(done, file.nbytes)
    file.flush()


def _write_parquet(node: BaseNode, path: Path, progress: Progress) -> None:
    if not isinstance(node, TableNode):
        raise NodeError(
            f"{_called(node)} is no table, and a .parquet file has one; export arrays as .npy, "
            f".h5 or .zarr"
        )
    table = node.arrow()
    extra("pyarrow.parquet", "tables", "writing .parquet files").write_table(table, path)
    progress(table.nbytes, table.nbytes)


def _write_hdf5(node: BaseNode, path: Path, progress: Progress) -> None:
    with HDF5Store(path) as store:
        write_tree(node, store, array_of, progress)


def _write_zarr(node: BaseNode, path: Path, progress: Progress) -> None:
    with ZarrStore(path) as store:
        write_tree(node, store, array_of, progress)


# --- data as an array ---


def array_of(node: BaseNode) -> NDArray[Any]:
    """Return the data of a node as one array; partitions that are arrays are joined.

    Raises:
        NodeDtypeError: it is no array: a table, values of other kinds, or none.
    """
    if isinstance(node, Dataless):
        raise NodeDtypeError(f"{_called(node)} has no data; name a node below it")
    if isinstance(node, TableNode):
        raise NodeDtypeError(f"{_called(node)} is a table and no array; export it as .parquet")
    found = node.read()
    return np.asarray(found) if isinstance(node, ArrayNode) else joined(node, found)


def joined(node: BaseNode, found: Any) -> NDArray[Any]:  # noqa: ANN401 - what its `read` gave
    """Return what a node of any kind has read as an array.

    Raises:
        NodeDtypeError: it is none.
    """
    try:
        whole = _joined(found) if isinstance(found, list | tuple) else np.asarray(found)
        spell_dtype(whole.dtype)
    except (NodeDtypeError, ValueError, TypeError) as error:
        raise NodeDtypeError(f"the data of {_called(node)} is no array: {error}") from error
    return whole


def _joined(partitions: Sequence[Any]) -> NDArray[Any]:
    parts = [np.asarray(each) for each in partitions]
    if parts and all(each.ndim for each in parts):
        return np.concatenate(parts)
    return np.asarray(partitions)


def _called(node: BaseNode) -> str:
    return f"node {node.uid!r} ({node.summary()})"
