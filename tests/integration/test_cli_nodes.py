"""``ezgraph nodes``: what is there, what it is, its data and files of it; and what goes wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ezgraph.cli import completion
from ezgraph.cli.main import app
from ezgraph.cli.paper import paper
from ezgraph.nodes import (
    ArrayNode,
    EmptyNode,
    GenericNode,
    NodeHost,
    NodeServer,
    RootNode,
    TableNode,
    zarr_tree,
)
from ezgraph.testing import NumpyTestNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

h5py = pytest.importorskip("h5py")
pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("zarr")
pytestmark = pytest.mark.integration

EEG = np.arange(3_000, dtype="f4").reshape(1_000, 3) / 8
MARKS = np.array([(1, 2.5), (3, 4.5)], dtype=[("n", "i4"), ("x", "f8")])
TABLE = pd.DataFrame({"t": [0.5, 1.5, 2.5], "what": ["go", "stop", "go"]})
HOSTILE = "evil\x1b[31m/x"


def graph() -> RootNode:
    meta = {"rate_hz": 1000.0, "dims": ["time", "channel"]}
    root = RootNode(uid="root", meta={"rig": "A"})
    root.edges = {
        "eeg": ArrayNode(EEG, uid="eeg", meta=meta),
        "probe": EmptyNode(edges={3: NumpyTestNode(), HOSTILE: EmptyNode(), "4": EmptyNode()}),
        "marks": ArrayNode(MARKS),
        "events": TableNode(TABLE),
        "cube": ArrayNode(np.zeros((2, 2, 2))),
        "notes": GenericNode(data=["first", {"a": 1}]),
        "many": EmptyNode(edges={number: EmptyNode() for number in range(1_200)}),
    }
    return root


@pytest.fixture(scope="module")
def host() -> Iterator[NodeHost]:
    with NodeHost(NodeServer(graph())) as running:
        yield running


def nodes(host: NodeHost, command: str, *words: object) -> Result:
    """Run ``ezgraph nodes`` in this process, as in a pipe."""
    paper.cache_clear()
    at = ["--at", str(host.address)]
    return CliRunner().invoke(app, ["nodes", command, *at, *map(str, words)])


def told(host: NodeHost, command: str, *words: object) -> str:
    done = nodes(host, command, *words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.splitlines())
    return done.stdout


def as_json(host: NodeHost, command: str, *words: object) -> Any:
    return json.loads(told(host, command, *words, "--json"))


# --- what is there ---


def test_the_edges_of_a_node_are_listed_and_can_be_typed(host: NodeHost) -> None:
    listed = [line.split() for line in told(host, "ls", "probe").splitlines()]
    found = as_json(host, "ls")

    assert [words[0] for words in listed] == ["label", "[3]", "evil%1B[31m%2Fx", "4"]
    assert found[0] == {"label": "eeg", "uid": "eeg", "summary": "ArrayNode float32 (1000, 3)"}
    assert [each["label"] for each in as_json(host, "ls", "probe")] == [3, HOSTILE, "4"]
    for typed in ("probe/[3]", "probe/3", "probe/evil%1B[31m%2Fx", "probe/4", "probe/", ""):
        assert told(host, "info", typed)
    assert "NumpyTestNode" in told(host, "info", "probe/3")
    assert "EmptyNode" in told(host, "info", "probe/4")


def test_many_edges_come_in_pages(host: NodeHost) -> None:
    first = told(host, "ls", "many").splitlines()
    rest = told(host, "ls", "many", "--start", 1_000).splitlines()

    assert (len(first), len(rest)) == (1_002, 201)
    assert first[-1] == "… and 200 more; --start 1000 shows the next"
    assert rest[1].startswith("[1000] ")
    assert len(as_json(host, "ls", "many")) == 1_200
    assert [each["label"] for each in as_json(host, "ls", "many", "--limit", 2)] == [0, 1]
    assert told(host, "ls", "many", "--start", 5_000) == "no edges from number 5,000 on\n"
    assert told(host, "ls", "eeg") == "no edges\n"


def test_the_tree_is_shown_as_far_as_is_wanted(host: NodeHost) -> None:
    whole = told(host, "tree")
    rows = as_json(host, "tree", "probe")

    assert "├─ eeg  ArrayNode float32 (1000, 3)" in whole
    assert "more than 500 lines" in whole
    assert told(host, "tree", "--lines", 3).count("\n") == 4
    assert [row["label"] for row in rows] == [None, 3, HOSTILE, "4"]
    assert [row["parent"] for row in rows] == [-1, 0, 0, 0]


def test_a_node_is_described_without_its_data(host: NodeHost) -> None:
    said = told(host, "info", "eeg")
    record = as_json(host, "info", "eeg")

    for line in ("dtype   float32", "shape   (1000, 3)", "size    11.7 KiB", "rate_hz  1000.0"):
        assert line in said
    assert (record["nbytes"], record["dtype"]) == (EEG.nbytes, "float32")
    assert record["layout"]["shape"] == [1000, 3]
    assert record["meta"] == {"rate_hz": 1000.0, "dims": ["time", "channel"]}
    assert as_json(host, "info")["meta"] == {"rig": "A"}


# --- data ---


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("[10:20, ::2]", np.s_[10:20, ::2]),
        ("10:20,::2", np.s_[10:20, ::2]),
        ("-3:", np.s_[-3:]),
        ("::-100", np.s_[::-100]),
        ("..., 1", np.s_[..., 1]),
        ("[7, 2]", np.s_[7, 2]),
        ("[3:3]", np.s_[3:3]),
    ],
)
def test_a_part_is_what_numpy_would_give(host: NodeHost, typed: str, index: Any) -> None:
    assert as_json(host, "get", "eeg", typed) == EEG[index].tolist()


def test_data_comes_as_csv_in_a_pipe_and_as_what_was_asked_for(host: NodeHost) -> None:
    assert told(host, "get", "eeg", ":2") == "0.0,0.125,0.25\n0.375,0.5,0.625\n"
    assert told(host, "get", "eeg", ":2,1") == "0.125\n0.5\n"
    assert told(host, "get", "marks") == "n,x\n1,2.5\n3,4.5\n"
    assert told(host, "get", "events") == "t,what\n0.5,go\n1.5,stop\n2.5,go\n"
    assert told(host, "get", "events", "::-2") == "t,what\n2.5,go\n0.5,go\n"
    assert as_json(host, "get", "events", "-1") == [{"t": 2.5, "what": "go"}]
    assert as_json(host, "get", "cube") == [[[0.0] * 2] * 2] * 2
    assert json.loads(told(host, "get", "cube", "[0]", "-f", "json")) == [[0.0] * 2] * 2
    assert as_json(host, "get", "notes") == ["first", {"a": 1}]
    assert as_json(host, "get", "probe/3", "8:12") == [8, 9, 0, 1]


def test_data_goes_to_a_file_of_the_kind_that_its_name_says(
    host: NodeHost, tmp_path: Path
) -> None:
    for name in ("part.npy", "part.csv", "part.json"):
        assert told(host, "get", "eeg", "[5:9]", "-o", tmp_path / name) == ""

    np.testing.assert_array_equal(np.load(tmp_path / "part.npy"), EEG[5:9])
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "part.csv", delimiter=","), EEG[5:9])
    assert json.loads((tmp_path / "part.json").read_text()) == EEG[5:9].tolist()
    assert nodes(host, "get", "eeg", "-o", tmp_path / "part.npy").exit_code == 2
    assert told(host, "get", "eeg", "-o", tmp_path / "part.npy", "--replace") == ""
    assert np.load(tmp_path / "part.npy").shape == EEG.shape
    assert sorted(each.name for each in tmp_path.iterdir()) == ["part.csv", "part.json", "part.npy"]


def test_nodes_are_exported(host: NodeHost, tmp_path: Path) -> None:
    for where, name in (("eeg", "e.npy"), ("events", "t.parquet"), ("probe", "p.h5")):
        assert told(host, "export", where, tmp_path / name).startswith(str(tmp_path / name))
    size = as_json(host, "export", "probe", tmp_path / "p.zarr")["size_bytes"]

    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), EEG)
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / "t.parquet").to_pandas(), TABLE)
    with h5py.File(tmp_path / "p.h5") as file:
        assert file["3"][:].tolist() == list(range(10)) * 20
    assert zarr_tree(tmp_path / "p.zarr")["3"].read().shape == (200,)
    written = [each.stat().st_size for each in (tmp_path / "p.zarr").rglob("*") if each.is_file()]
    assert size == sum(written) > 0


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["info", "nobody"], 1, "has no edge 'nobody'"),
        (["info", "eeg/[3"], 2, "no integer label"),
        (["get", "eeg", "import os"], 2, "is no slice"),
        (["get", "eeg", "5000"], 1, "out of range"),
        (["get", "events", "[:, 1]"], 1, "give a row"),
        (["get", "probe/3", "500"], 1, "out of bounds"),
        (["get", "probe"], 1, "has no data"),
        (["get", "notes", "[0]"], 1, "is no array"),
        (["get", "notes", "-f", "npy"], 1, "no array"),
        (["get", "cube", "-f", "csv"], 1, "CSV has rows"),
        (["get", "eeg", "-o", "part.mat"], 2, ".npy, .csv or .json"),
        (["get", "eeg", "-o", "no/part.npy"], 2, "no folder"),
        (["export", "eeg", "it.mat"], 2, "suffixes .npy"),
        (["export", "events", "it.npy"], 1, "is a table"),
        (["ls", "--limit", "0"], 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_goes_wrong_is_one_line_and_a_code(
    host: NodeHost, words: list[str], code: int, says: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    done = nodes(host, *words)

    assert (done.exit_code, done.stdout) == (code, "")
    assert says in done.stderr
    assert not says or done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_where_nobody_serves_nodes_is_said_in_time() -> None:
    words = ["nodes", "tree", "--at", "127.0.0.1:1", "--timeout", "0.2"]
    done = CliRunner().invoke(app, words)

    assert done.exit_code == 1
    assert "see whether it runs" in done.stderr


def test_without_a_graph_it_is_said_what_to_name() -> None:
    done = CliRunner().invoke(app, ["nodes", "tree"])

    assert done.exit_code == 2
    assert "ezgraph nodes ls" in done.stderr


# --- completion ---


class Typed:
    """What the shell has so far, as Typer hands it over."""

    def __init__(self, **params: object) -> None:
        self.params = params
        self.parent = None
        self.obj = None
        self.meta: dict[str, object] = {}


def test_labels_are_offered_and_below_the_only_one_what_it_leads_to(host: NodeHost) -> None:
    def offered(incomplete: str) -> list[str]:
        typed: Any = Typed(at=str(host.address))
        return completion.node_paths(typed, incomplete)

    assert offered("e") == ["eeg", "events"]
    assert offered("pr") == ["probe", "probe/3", "probe/4"]  # the other is not safe in a shell
    assert offered("probe/3") == ["probe/3"]
    assert offered("nobody/") == []
