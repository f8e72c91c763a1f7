"""Table nodes: a pandas frame or an Arrow table, for which the extra ``tables`` is needed.

Partitions are record batches in Arrow's own stream format, so every type of column arrives as it
was, text and times included, and nothing is pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ezgraph.errors import MalformedMessageError, NodeDtypeError, NodeRequestError
from ezgraph.extras import extra
from ezgraph.nodes.base import BaseNode
from ezgraph.nodes.factory import message_of
from ezgraph.nodes.grid import CHUNK_BYTES, MAX_CHUNK_BYTES
from ezgraph.nodes.registry import register
from ezgraph.nodes.vocabulary import check_keywords
from ezgraph.protocol.nodes import NodeVerb
from ezgraph.wire import values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ezgraph.nodes.factory import AnyServer

_KIND = b"ezgraph.table"
_PANDAS, _ARROW = b"pandas", b"arrow"


@register
class TableNode(BaseNode):
    """A table. ``read()`` gives what it was made of: a pandas frame, or an Arrow table.

    Args:
        table: a `pandas.DataFrame` or `pyarrow.Table`.
        rows: how many rows a partition has; None: those of Arrow's batches, at most about 8 MiB.
        uid, edges, meta, server: as of every node.

    Raises:
        NodeDtypeError: a column holds Python objects that Arrow has no type for.
        MissingExtraError: pyarrow (or pandas) is not installed.
    """

    keywords: ClassVar[Mapping[str, frozenset[str]]] = {"send_data": frozenset({"columns"})}

    def __init__(
        self,
        table: Any = None,  # noqa: ANN401 - of packages that need not be installed
        *,
        rows: int | None = None,
        uid: str | None = None,
        edges: Mapping[Any, BaseNode | str] | None = None,
        meta: Any = None,  # noqa: ANN401
        server: AnyServer | None = None,
    ) -> None:
        super().__init__(uid, edges, meta, server=server)
        self._table: Any = None
        if server is None:
            self._table = _as_arrow(table)
            self._rows = rows if rows is not None else _rows_for(self._table)

    def summary(self) -> str:
        """Return class, and how large it is where that is known."""
        if self._table is None:
            return self.info["class"]
        rows, columns = self._table.num_rows, self._table.num_columns
        return f"{self.info['class']} {rows} rows, {columns} columns"

    def load_meta(self) -> None:
        """Have the given meta, else the names of the columns."""
        self.meta = self._meta or {"columns": list(self._table.column_names)}

    def load_data(self) -> None:
        """Have the batches as partitions; one without rows if there are none."""
        batches = self._table.to_batches(max_chunksize=self._rows)
        self.data = batches or [_batch_without_rows(self._table)]

    def read(self, columns: Sequence[str] | None = None) -> Any:  # noqa: ANN401
        """Return the table, or only some of its columns: no others are fetched.

        Raises:
            NodeRequestError: there is no such column.
        """
        whole = self.arrow(columns)
        kept = dict(whole.schema.metadata or {})
        kind = kept.pop(_KIND, _ARROW)
        whole = whole.replace_schema_metadata(kept or None)
        return whole.to_pandas() if kind == _PANDAS else whole

    def arrow(self, columns: Sequence[str] | None = None) -> Any:  # noqa: ANN401
        """Return the table, or some of its columns, as an Arrow table whatever it was made of.

        Raises as `read` does.
        """
        if self.server is None:
            parts = [self.send_data(index, **_named(columns)) for index in range(len(self.data))]
        else:
            parts = self._fetched_parts(columns)
        return _whole(parts)

    def _fetched_parts(self, columns: Sequence[str] | None) -> list[bytes]:
        home, report = self._home, self.growth_report()
        asked = [
            message_of(NodeVerb.DATA, self.uid, index=index, **_named(columns))
            for index in range(report.partitions)
        ]
        many = getattr(home, "request_many", None)
        answers = [home.request(each) for each in asked] if many is None else many(asked)
        return [values.unpack(each) for each in answers]

    def send_data(self, index: int, **kwargs: Any) -> bytes:  # noqa: ANN401
        """Return partition ``index`` as a stream of Arrow; ``columns``: only those."""
        check_keywords(self, NodeVerb.DATA, {"index": index, **kwargs})
        batches = self.data
        self._check_partition(index, len(batches))
        columns = kwargs.get("columns")
        return _stream(batches[index], columns)


def _named(columns: Sequence[str] | None) -> dict[str, Any]:
    return {} if columns is None else {"columns": list(columns)}


def _as_arrow(table: Any) -> Any:  # noqa: ANN401
    """Return an Arrow table that remembers what it was made of."""
    arrow = extra("pyarrow", "tables", "serving tables")
    kind = _ARROW
    if not isinstance(table, arrow.Table):
        extra("pandas", "tables", "serving tables")
        kind = _PANDAS
        try:
            table = arrow.Table.from_pandas(table)
        except (arrow.ArrowException, AttributeError, TypeError) as error:
            raise NodeDtypeError(f"this table cannot be served: {error}") from error
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _KIND: kind})


def _rows_for(table: Any) -> int:  # noqa: ANN401
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    return max(1, min(CHUNK_BYTES, MAX_CHUNK_BYTES) // int(row_bytes))


def _stream(batch: Any, columns: object) -> bytes:  # noqa: ANN401
    arrow = extra("pyarrow", "tables", "serving tables")
    if columns is not None:
        batch = batch.select(_known(columns, batch.schema.names))
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _known(columns: object, names: Sequence[str]) -> list[str]:
    wanted: list[Any] = list(columns) if isinstance(columns, list | tuple) else [columns]
    if unknown := [each for each in wanted if each not in names]:
        raise NodeRequestError(
            f"the table has no columns {unknown!r:.200}, only {', '.join(names)!r:.500}"
        )
    return wanted


def _whole(parts: Sequence[object]) -> Any:  # noqa: ANN401
    arrow = extra("pyarrow", "tables", "reading tables")
    try:
        tables = [arrow.ipc.open_stream(part).read_all() for part in parts]
        return arrow.concat_tables(tables)
    except (arrow.ArrowException, TypeError, ValueError) as error:
        raise MalformedMessageError(f"what came is no table: {error}") from error


def _batch_without_rows(table: Any) -> Any:  # noqa: ANN401
    """Return a batch that still says what the columns are, and their categories."""
    arrow = extra("pyarrow", "tables", "serving tables")
    columns = [column.combine_chunks() for column in table.columns]
    return arrow.RecordBatch.from_arrays(columns, schema=table.schema)
