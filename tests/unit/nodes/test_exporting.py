"""Nodes as files: what is written is what was there, and nothing is left of what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph.errors import ConfigError, NodeDtypeError, NodeError
from ezgraph.nodes import (
    ArrayNode,
    BaseNode,
    EmptyNode,
    GenericNode,
    NodeServer,
    RootNode,
    TableNode,
    hdf5_tree,
    zarr_tree,
)
from ezgraph.nodes.exporting import export
from ezgraph.testing import NumpyTestNode

if TYPE_CHECKING:
    from pathlib import Path

h5py = pytest.importorskip("h5py")
pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("zarr")

ARRAYS = [
    np.arange(24.0).reshape(4, 6),
    np.arange(24, dtype=">i2").reshape(2, 3, 4),
    np.float64(3.5),
    np.zeros((0, 3)),
    np.array(["2026-11-28T20:00", "NaT"], dtype="M8[ms]"),
    np.array(["über", "", "x"]),
    np.array([b"ab", b"c"]),
    np.array([(1, 2.5), (3, 4.5)], dtype=[("n", "i4"), ("x", "f8")]),
    np.array([True, False]),
]


def graph() -> RootNode:
    """A graph with everything: arrays, tables, shared nodes, a cycle, all kinds of labels."""
    root = RootNode(meta={"rig": "A", "dims": ["time", "channel"], "gains": [1, 2.5], "deep": {}})
    eeg = ArrayNode(np.arange(60.0).reshape(20, 3), chunks=(7, 2), meta={"rate_hz": 360.0})
    probe = EmptyNode(edges={3: eeg, "a/b": NumpyTestNode(), ".": EmptyNode(), "": EmptyNode()})
    eeg.edges = {"marks": ArrayNode(np.arange(5))}
    probe.edges["up"] = root
    table = TableNode(pd.DataFrame({"n": [1, 2], "name": ["x", "y"]}))
    root.edges = {"probe": probe, "same": eeg, "table": table, "values": GenericNode()}
    return root


def copied(node: BaseNode) -> BaseNode:
    return RootNode(NodeServer(RootNode(edges={"it": node}))).child("it")


@pytest.mark.parametrize("array", ARRAYS, ids=lambda each: f"{each.dtype}{each.shape}")
@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr"])
def test_an_array_of_any_kind_is_written_and_is_the_same(
    array: Any, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"it.{suffix}"
    node = copied(ArrayNode(array, chunks=(2,) * array.ndim if array.size else None))

    export(EmptyNode(edges={"x": node}) if suffix != "npy" else node, path)

    if suffix == "npy":
        found = np.load(path)
        assert found.dtype == array.dtype
    elif suffix == "h5":
        read = hdf5_tree(path)["x"]
        is_text = array.dtype.kind in "SU"  # which `hdf5_tree` serves as lists
        found = np.asarray(read.data[0] if is_text else read.read())
        array = array.astype(str) if is_text else array
    else:
        found = zarr_tree(path)["x"].read()
        assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("read", [hdf5_tree, zarr_tree])
def test_a_graph_is_written_whole_shared_nodes_and_cycles_included(
    read: Any, tmp_path: Path
) -> None:
    path = tmp_path / ("it.h5" if read is hdf5_tree else "it.zarr")
    told: list[tuple[int, int]] = []

    export(copied(graph()), path, progress=lambda *far: told.append(far))

    found = read(path)
    probe, eeg = found["probe"], found["same"]
    assert set(found.edges) == {"probe", "same", "table", "values"}
    assert set(probe.edges) >= {"a%2Fb", "%2E"}
    np.testing.assert_array_equal(eeg["_data"].read(), np.arange(60.0).reshape(20, 3))
    np.testing.assert_array_equal(eeg["marks"].read(), np.arange(5))
    assert eeg.meta == {"rate_hz": 360.0}
    assert probe["a%2Fb"].read().tolist() == list(range(10)) * 20
    assert found["table"]["n"].read().tolist() == [1, 2]
    assert list(found.meta["dims"]) == ["time", "channel"]
    assert list(found.meta["gains"]) == [1, 2.5]
    if read is hdf5_tree:
        assert (probe["3"], probe["up"]) == (eeg, found)
    else:
        assert probe.meta["ezgraph_links"] == {"3": "same", "up": ""}
    assert told[-1] == (60 * 8 + 5 * 8, 60 * 8 + 5 * 8)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_chunks_in_the_file_are_those_of_the_node(tmp_path: Path) -> None:
    export(graph(), tmp_path / "it.h5")

    with h5py.File(tmp_path / "it.h5") as file:
        assert file["same/_data"].chunks == (7, 2)


def test_a_table_is_written_as_parquet_and_is_the_same(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1, None], "at": pd.to_datetime(["2026-01-01", "2026-01-02"])})

    export(copied(TableNode(frame)), tmp_path / "it.parquet")

    pd.testing.assert_frame_equal(pq.read_table(tmp_path / "it.parquet").to_pandas(), frame)


@pytest.mark.parametrize(
    ("node", "name", "error", "says"),
    [
        (EmptyNode(), "it.npy", NodeDtypeError, "has no data"),
        (ArrayNode(np.zeros(3)), "it.parquet", NodeError, "no table"),
        (ArrayNode(np.zeros(3)), "it.mat", ConfigError, r"suffixes \.npy"),
        (GenericNode(data=[{"a": 1}, "x"]), "it.h5", NodeDtypeError, "no array"),
        (
            EmptyNode(edges={3: EmptyNode(), "3": EmptyNode()}),
            "it.zarr",
            NodeError,
            "would both be named '3'",
        ),
        (
            EmptyNode(edges={"t": TableNode(pd.DataFrame({"n": [b"x", None]}))}),
            "it.h5",
            NodeDtypeError,
            "column 'n'",
        ),
        (ArrayNode(np.zeros(3)), "no/it.npy", ConfigError, "no folder"),
    ],
)
def test_what_cannot_be_written_is_an_error_and_leaves_nothing_behind(
    node: BaseNode, name: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        export(node, tmp_path / name)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr"])
def test_what_is_there_is_replaced_only_if_that_is_said(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"it.{suffix}"
    export(ArrayNode(np.zeros(3)), path)

    with pytest.raises(ConfigError, match="choose another name"):
        export(ArrayNode(np.ones(3)), path)
    export(ArrayNode(np.ones(3)), path, replace=True)

    root = np.load(path) if suffix == "npy" else None
    if root is None:
        root = (hdf5_tree if suffix == "h5" else zarr_tree)(path)["_data"].read()
    assert root.tolist() == [1.0] * 3
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_no_store_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "it.zarr").mkdir()
    (tmp_path / "it.zarr" / "thesis.tex").write_text("years of work")

    with pytest.raises(ConfigError, match="is a folder"):
        export(ArrayNode(np.ones(3)), tmp_path / "it.zarr", replace=True)

    assert (tmp_path / "it.zarr" / "thesis.tex").exists()
