"""What ``ezgraph nodes get`` writes: data as text, CSV, JSON or ``.npy``, to a file or not."""

from __future__ import annotations

import csv
import sys
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ezgraph.cli.as_json import dumps
from ezgraph.cli.data_nodes.formats import Format
from ezgraph.cli.paper import is_terminal, paper, say
from ezgraph.cli.words import count, inner
from ezgraph.errors import NodeDtypeError
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_ROWS = 10_000
_TABLE_AXES = 2
_TEXT_ITEMS = 1_000
_TEXT_ROWS = 20


def write(found: Any, kind: Format | None, output: Path | None) -> None:  # noqa: ANN401
    """Write data to a file, which is there when it is whole, or to the output.

    Raises:
        NodeDtypeError: it has no such form.
        ConfigError: the file cannot be written.
    """
    if output is not None and kind is not None:
        _write_file(found, kind, output)
    elif kind is None:
        _show(found)
    elif kind is Format.NPY:
        _write_npy(found, sys.stdout.buffer)
    elif kind is Format.CSV:
        _write_csv(found, sys.stdout)
    else:
        say(dumps(_listed(found)))


def _write_file(found: Any, kind: Format, output: Path) -> None:  # noqa: ANN401
    from ezgraph.nodes.exporting import written_whole

    with written_whole(output) as part:
        if kind is Format.NPY:
            with part.open("wb") as file:
                _write_npy(found, file)
            return
        with part.open("w", newline="", encoding="utf-8") as text:
            if kind is Format.CSV:
                _write_csv(found, text)
            else:
                text.write(dumps(_listed(found)) + "\n")


def _write_npy(found: Any, file: IO[bytes]) -> None:  # noqa: ANN401
    np.lib.format.write_array(file, _array(found, "a .npy"), allow_pickle=False)


def _array(found: Any, what: str) -> NDArray[Any]:  # noqa: ANN401
    if isinstance(found, np.ndarray | np.generic):
        return np.asarray(found)
    raise NodeDtypeError(f"{type(found).__name__} is no array, and so {what} cannot hold it")


# --- for people ---


def _show(found: Any) -> None:  # noqa: ANN401
    """Write what somebody at a terminal can look at, or the next program in a pipe can read."""
    if is_terminal():
        _show_short(found)
    elif _has_rows(found):
        _write_csv(found, sys.stdout)
    else:
        say(dumps(_listed(found)))


def _show_short(found: Any) -> None:  # noqa: ANN401
    if isinstance(found, np.ndarray | np.generic):
        array = np.asarray(found)
        paper().line((f"{array.dtype} {array.shape}", "dim"))
        text = np.array2string(array, threshold=_TEXT_ITEMS)
    elif _is_table(found):
        _show_table(found)
        return
    else:
        text = dumps(found, indent=2)
    for line in text.splitlines():
        say(visible(line))


def _show_table(table: Any) -> None:  # noqa: ANN401
    shown = table.slice(0, _TEXT_ROWS)
    rows = [[inner(value) for value in row.values()] for row in shown.to_pylist()]
    paper().line((f"{count(table.num_rows, 'row')}, {count(table.num_columns, 'column')}", "dim"))
    paper().table([visible(name) for name in table.column_names], rows)
    if table.num_rows > len(rows):
        paper().line((f"… and {table.num_rows - len(rows):,} more", "dim"))


# --- rows ---


def _is_table(found: Any) -> bool:  # noqa: ANN401
    return hasattr(found, "to_pylist") and hasattr(found, "column_names")


def _has_rows(found: Any) -> bool:  # noqa: ANN401
    if isinstance(found, np.ndarray | np.generic):
        return found.ndim <= _TABLE_AXES and _is_plain(found.dtype)
    return _is_table(found)


def _is_plain(dtype: np.dtype[Any]) -> bool:
    fields = [dtype] if dtype.fields is None else [dtype[name] for name in dtype.names or ()]
    return all(each.kind in "biufcmMU" and not each.shape for each in fields)


def _listed(found: Any) -> Any:  # noqa: ANN401
    return found.to_pylist() if _is_table(found) else found


def _write_csv(found: Any, file: IO[str]) -> None:  # noqa: ANN401
    if not _has_rows(found):
        what = f"{found.dtype} {found.shape}" if hasattr(found, "dtype") else type(found).__name__
        raise NodeDtypeError(
            f"CSV has rows of numbers or texts, and this is {what}; take a part of it, or "
            f"--format json or npy"
        )
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows(_table_rows(found) if _is_table(found) else _array_rows(np.asarray(found)))
    file.flush()


def _table_rows(table: Any) -> Iterator[Iterable[Any]]:  # noqa: ANN401
    yield table.column_names
    for batch in table.to_batches(max_chunksize=_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _array_rows(array: NDArray[Any]) -> Iterator[Iterable[Any]]:
    if array.dtype.names:
        yield array.dtype.names
        columns = [np.atleast_1d(array[name]) for name in array.dtype.names]
        for start in range(0, len(columns[0]), _ROWS):
            part = (each[start : start + _ROWS].astype(str) for each in columns)
            yield from zip(*part, strict=True)
        return
    rows = array.reshape(-1, 1) if array.ndim < _TABLE_AXES else array
    for start in range(0, len(rows), _ROWS):
        yield from rows[start : start + _ROWS].astype(str)
