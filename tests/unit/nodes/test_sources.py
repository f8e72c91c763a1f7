"""Arrays in files: each with its own chunks, and errors that say what became of the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph.errors import NodeDtypeError, NodeSourceError
from ezgraph.nodes import (
    ArrayNode,
    EmptyNode,
    GenericNode,
    HDF5Source,
    MemorySource,
    NodeServer,
    NpySource,
    RootNode,
    ZarrSource,
    hdf5_tree,
    zarr_tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ezgraph.nodes import BaseNode

ARRAY = np.arange(240, dtype="<f4").reshape(20, 3, 4)


def copy_of(node: BaseNode) -> Any:
    return RootNode(NodeServer(RootNode(edges={"n": node, "ok": EmptyNode("ok")})))["n"]


@pytest.mark.parametrize(
    "array",
    [
        ARRAY,
        np.asfortranarray(ARRAY),
        np.array(3.5),
        np.zeros((0, 3)),
        np.zeros((3, 0), order="F"),
        np.array([(1, b"a"), (2, b"b")], np.dtype([("n", ">u2"), ("ü", "S1")])),
        np.array(["2026-01-02"], "M8[D]"),
    ],
)
def test_npy_files_are_read_by_parts(array: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    node = ArrayNode(NpySource(tmp_path / "a.npy"))
    index = (slice(1, None, 2),) * min(array.ndim, 2)

    for each in (node, copy_of(node)):
        assert (each.shape, each.dtype) == (array.shape, array.dtype)
        assert each.read().tobytes() == array.tobytes()
        assert each[index].tobytes() == array[index].tobytes()
        assert each[...].shape == array.shape


def test_of_a_large_npy_file_only_the_rows_needed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.arange(1_000_000.0))
    node = ArrayNode(NpySource(tmp_path / "a.npy"))
    read: list[int] = []
    preadv = os.preadv

    def counting(*args: Any) -> int:
        read.append(preadv(*args))
        return read[-1]

    monkeypatch.setattr(os, "preadv", counting)

    found = node[500_000:501_000]

    assert found[0] == 500_000
    assert sum(read) == 8_000


def test_an_npy_file_of_python_objects_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(NodeDtypeError, match=r"holds Python objects .* pickle is not read"):
        NpySource(tmp_path / "a.npy")


def test_what_is_no_npy_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NpySource(tmp_path / "none.npy")
    for content in (b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", b"junk" * 9):
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises((ValueError, SyntaxError)):
            NpySource(tmp_path / "bad.npy")


def vanish(path: Path) -> None:
    path.unlink()


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


BREAKING = pytest.mark.parametrize(
    ("breaks", "cause"),
    [(vanish, "is gone"), (shrink, "has shrunk from"), (replace, "was replaced by another file")],
)


def check_breaks(node: ArrayNode, path: Path, breaks: Callable[[Path], None], cause: str) -> None:
    """Break a served file; readers get an error that names node and cause, the server lives on."""
    copy = copy_of(node)
    assert copy[0].tobytes() == ARRAY[0].tobytes()

    breaks(path)

    for each in (node, copy):
        with pytest.raises(NodeSourceError) as caught:
            each.read()
        said = str(caught.value)
        assert cause in said
        assert node.uid in said
        assert path.name in said
    assert copy.server.request({"request": "send_info", "uid": "ok"})


@BREAKING
def test_an_npy_file_that_breaks_while_served_is_a_typed_error(
    breaks: Callable[[Path], None], cause: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", ARRAY)

    check_breaks(ArrayNode(NpySource(tmp_path / "a.npy")), tmp_path / "a.npy", breaks, cause)


def test_an_npy_file_that_ends_too_soon_is_a_typed_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAY)
    shrink(tmp_path / "a.npy")

    node = ArrayNode(NpySource(tmp_path / "a.npy"))

    with pytest.raises(NodeSourceError, match="ends before item"):
        node.read()


# --- HDF5 and NWB ---


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.attrs["lab"] = "3"
        file.attrs["channels"] = np.array([1, 2])
        group = file.create_group("acquisition")
        eeg = group.create_dataset("eeg", data=ARRAY, chunks=(7, 2, 4))
        eeg.attrs["unit"] = "µV"
        group["plain"] = ARRAY[0]
        group["rate"] = 250.0
        group["same"] = h5py.SoftLink("/acquisition/eeg")
        group["nowhere"] = h5py.SoftLink("/nothing")
        group["names"] = ["C3", "Cz"]
        group["title"] = "first run"
        group["empty"] = h5py.Empty("f")
        ragged = [np.arange(2), np.arange(3)]
        group.create_dataset("ragged", data=ragged, dtype=h5py.vlen_dtype(int))
        group["up"] = file
    return tmp_path / "run.h5"


def test_an_hdf5_dataset_is_served_in_its_own_chunks(hdf5: Path) -> None:
    source = HDF5Source(hdf5, "acquisition/eeg")
    node = ArrayNode(source)

    for each in (node, copy_of(node)):
        assert each.chunks == (7, 2, 4)
        assert each.read().tobytes() == ARRAY.tobytes()
        assert each[1:18:3, ::-1, 2].tobytes() == ARRAY[1:18:3, ::-1, 2].tobytes()
    source.close()


def test_an_hdf5_file_becomes_a_graph(hdf5: Path) -> None:
    graph = RootNode(NodeServer(hdf5_tree(hdf5)))
    inner = graph["acquisition"]

    assert graph.meta["lab"] == "3"
    assert graph.meta["channels"].tolist() == [1, 2]
    assert inner["eeg"].meta == {"unit": "µV"}
    assert inner["eeg"][3:5].tobytes() == ARRAY[3:5].tobytes()
    assert inner["same"] is inner["eeg"]
    assert inner["rate"][()] == 250.0
    assert type(inner["names"]) is GenericNode
    assert inner["names"].read() == [["C3", "Cz"]]
    assert inner["title"].read() == [["first run"]]
    assert "no shape" in inner["empty"].meta["not_served"]
    assert "Python objects" in inner["ragged"].meta["not_served"]
    assert inner["up"].uid == graph.uid
    assert "nowhere" not in inner


@BREAKING
def test_an_hdf5_file_that_breaks_while_served_is_a_typed_error(
    breaks: Callable[[Path], None], cause: str, hdf5: Path
) -> None:
    source = HDF5Source(hdf5, "acquisition/eeg")

    check_breaks(ArrayNode(source), hdf5, breaks, cause)
    source.close()


def test_a_closed_hdf5_file_is_a_typed_error(hdf5: Path) -> None:
    source = HDF5Source(hdf5, "acquisition/eeg")
    node = ArrayNode(source)
    source.close()

    with pytest.raises(NodeSourceError, match=f"node '{node.uid}'"):
        node.read()


def test_an_nwb_file_is_served_like_any_hdf5_file(tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")
    import datetime as dt

    file = pynwb.NWBFile(
        session_description="a session",
        identifier="id",
        session_start_time=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    )
    samples = np.arange(1_000.0).reshape(500, 2)
    series = pynwb.TimeSeries(name="eeg", data=samples, unit="V", rate=250.0)
    file.add_acquisition(series)
    with pynwb.NWBHDF5IO(tmp_path / "run.nwb", "w") as io:
        io.write(file)

    graph = RootNode(NodeServer(hdf5_tree(tmp_path / "run.nwb")))

    eeg = graph["acquisition"]["eeg"]
    assert eeg["data"].meta["unit"] == "V"
    assert eeg["data"][100:200, 1].tobytes() == samples[100:200, 1].tobytes()
    assert graph["session_description"].read() == [["a session"]]


# --- Zarr ---


@pytest.fixture
def store(tmp_path: Path) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "run.zarr"), mode="w")
    group.attrs["lab"] = "3"
    inner = group.create_group("acquisition")
    eeg = inner.create_array("eeg", shape=ARRAY.shape, chunks=(7, 2, 4), dtype=ARRAY.dtype)
    eeg[...] = ARRAY
    eeg.attrs["unit"] = "µV"
    return tmp_path / "run.zarr"


def test_a_zarr_store_becomes_a_graph_with_its_own_chunks(store: Path) -> None:
    tree = zarr_tree(store)

    for graph in (tree, RootNode(NodeServer(tree))):
        eeg = graph["acquisition"]["eeg"]
        assert graph.meta == {"lab": "3"}
        assert eeg.meta == {"unit": "µV"}
        assert eeg.chunks == (7, 2, 4)
        assert eeg.read().tobytes() == ARRAY.tobytes()
        assert eeg[1:18:3, ::-1, 2].tobytes() == ARRAY[1:18:3, ::-1, 2].tobytes()


def test_a_zarr_array_that_is_gone_is_a_typed_error(store: Path) -> None:
    node = ArrayNode(ZarrSource(store / "acquisition" / "eeg"))

    check_breaks(node, store / "acquisition" / "eeg" / "zarr.json", vanish, "is gone")


def test_an_open_zarr_array_is_served_too_and_a_folder_without_one_refused(store: Path) -> None:
    zarr = pytest.importorskip("zarr")
    opened = zarr.open_array(str(store / "acquisition" / "eeg"), mode="r")

    assert ArrayNode(ZarrSource(opened))[3].tobytes() == ARRAY[3].tobytes()
    with pytest.raises(FileNotFoundError, match="no Zarr array"):
        ZarrSource(store.parent)


# --- memory ---


def test_an_array_that_nobody_can_write_to_is_stable_and_no_other() -> None:
    array = np.zeros(3)
    view = array.view()
    view.flags.writeable = False
    constant = np.zeros(3)
    constant.flags.writeable = False

    assert MemorySource(array).stamp() is None
    assert MemorySource(view).stamp() is None
    assert MemorySource(constant).stamp() is not None
    assert MemorySource(constant[::2]).stamp() is not None
    assert MemorySource([1, 2]).read((slice(0, 1, 1),)).tolist() == [1]


def test_a_file_written_twice_within_a_tick_of_its_clock_is_not_taken_for_unchanged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5))
    node = ArrayNode(NpySource(path))
    tick = path.stat().st_mtime_ns
    before = node.send_fingerprints([0])

    np.save(path, np.arange(5) + 1)
    os.utime(path, ns=(tick, tick))

    assert node.send_fingerprints([0]) != before


def test_a_file_that_was_not_changed_for_a_while_is_hashed_once(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5))
    os.utime(path, ns=(10**18, 10**18))
    source = NpySource(path)

    assert source.stamp() == source.stamp()
