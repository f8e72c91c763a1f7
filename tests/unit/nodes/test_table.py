"""Tables arrive as what they were made of, every type of column among them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ezgraph.errors import MalformedMessageError, NodeDtypeError, NodeRequestError
from ezgraph.nodes import NodeServer, RootNode, TableNode
from ezgraph.wire import values

pandas = pytest.importorskip("pandas")
arrow = pytest.importorskip("pyarrow")


def frame() -> Any:
    return pandas.DataFrame(
        {
            "time": [0.0, 0.5, 1.0, 1.5, 2.0],
            "text": ["a", "ä", None, "", "日本"],
            "when": pandas.to_datetime(["2026-01-02"] * 5, utc=True),
            "kind": pandas.Categorical(["x", "y", "x", "x", "y"]),
        },
        index=pandas.Index([10, 20, 30, 40, 50], name="trial"),
    )


def both(node: TableNode) -> tuple[TableNode, TableNode]:
    return node, RootNode(NodeServer(RootNode(edges={"t": node})))["t"]


def test_a_pandas_frame_is_one_again_index_and_all() -> None:
    for node in both(TableNode(frame(), rows=2)):
        pandas.testing.assert_frame_equal(node.read(), frame())
        assert len(node.data) == 3
        assert node.meta == {"columns": ["time", "text", "when", "kind", "trial"]}


def test_an_arrow_table_is_one_again_with_its_own_batches() -> None:
    batches = [
        arrow.RecordBatch.from_pydict({"n": [1, 2], "at": [dt.time(1), None]}),
        arrow.RecordBatch.from_pydict({"n": [3], "at": [dt.time(2)]}),
    ]
    table = arrow.Table.from_batches(batches)
    for node in both(TableNode(table)):
        assert node.read().equals(table)
        assert node.read().schema.metadata is None
        assert len(node.data) == 2


def test_only_the_columns_asked_for_are_fetched() -> None:
    for node in both(TableNode(frame())):
        assert list(node.read(columns=["text"]).columns) == ["text"]
        with pytest.raises(NodeRequestError, match="has no columns"):
            node.read(columns=["text", "none"])


def test_a_table_without_rows_keeps_its_columns() -> None:
    for node in both(TableNode(frame()[:0])):
        pandas.testing.assert_frame_equal(node.read(), frame()[:0])


def test_a_column_of_python_objects_is_refused() -> None:
    with pytest.raises(NodeDtypeError, match="this table cannot be served"):
        TableNode(pandas.DataFrame({"a": [object(), 1]}))
    with pytest.raises(NodeDtypeError, match="this table cannot be served"):
        TableNode([1, 2, 3])


def test_what_comes_in_place_of_a_table_is_malformed() -> None:
    server = NodeServer(RootNode(edges={"t": TableNode(frame(), uid="t")}))

    class Liar:
        def request(self, message: Any, /) -> bytes:
            lie = message["request"] == "send_data"
            return values.pack(b"no table") if lie else server.request(message)

    with pytest.raises(MalformedMessageError, match="what came is no table"):
        RootNode(Liar())["t"].read()
