"""Questions about meta, prefixes of ways, the printed tree, the faces in notebooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ezgraph.errors import MalformedMessageError, NodeRequestError
from ezgraph.nodes import ArrayNode, BaseNode, EmptyNode, NodeServer, RootNode, meta
from ezgraph.nodes.faces import tree_text
from ezgraph.nodes.query import check_query, matches
from ezgraph.nodes.searching import EXAMINED
from ezgraph.nodes.walking import tree_rows, walk
from ezgraph.protocol.nodes import MatchPage, TreePage
from ezgraph.testing import NumpyTestNode
from ezgraph.wire import codec


def rats() -> RootNode:
    root = RootNode(uid="root")
    for day in (1, 2):
        group = EmptyNode(f"day{day}", meta={"day": day})
        for name, rate in (("eeg", 1000.0), ("ecg", 250.0)):
            about = {"rate": rate, "who": {"rat": day, "tags": ["ok", name]}}
            group.edges[name] = ArrayNode(np.zeros(3), uid=f"{name}{day}", meta=about)
        root.edges[day] = group
    return root


BOTH = pytest.mark.parametrize("at", ["here", "there"])


def graph_at(at: str, root: RootNode | None = None) -> RootNode:
    root = root or rats()
    return root if at == "here" else RootNode(NodeServer(root))


@BOTH
@pytest.mark.parametrize(
    ("query", "found"),
    [
        (meta.day == 2, ["day2"]),
        (meta.rate > 500, ["eeg1", "eeg2"]),
        (meta.rate >= 250, ["eeg1", "ecg1", "eeg2", "ecg2"]),
        (meta.rate < 500, ["ecg1", "ecg2"]),
        (meta.rate <= 250, ["ecg1", "ecg2"]),
        (meta.rate != 250, ["eeg1", "eeg2"]),
        (meta.who.rat == 1, ["eeg1", "ecg1"]),
        (meta["who"]["tags"][1] == "ecg", ["ecg1", "ecg2"]),
        (meta.who.tags.contains("eeg"), ["eeg1", "eeg2"]),
        (meta.day.exists(), ["day1", "day2"]),
        ((meta.rate > 500) & (meta.who.rat == 2), ["eeg2"]),
        ((meta.day == 1) | (meta.who.rat == 2), ["day1", "eeg2", "ecg2"]),
        (~meta.rate.exists(), ["root", "day1", "day2"]),
        (meta.rate == "fast", []),
        (meta.rate > "fast", []),
        (meta.who.rat.deeper == 1, []),
        (meta.who.tags[7] == 1, []),
    ],
)
def test_nodes_are_found_by_what_they_say(at: str, query: Any, found: list[str]) -> None:
    assert [node.uid for node in graph_at(at).search(query)] == found


@BOTH
def test_a_prefix_of_the_way_narrows_the_search(at: str) -> None:
    graph = graph_at(at)

    assert [node.uid for node in graph.search(prefix=1)] == ["day1", "eeg1", "ecg1"]
    found = graph.search(meta.rate > 500, prefix=(2,))
    assert found.paths == [(2, "eeg")]
    assert graph.search(prefix=(2, "ecg")).paths == [(2, "ecg")]
    assert graph.search(prefix="nowhere") == []
    assert graph[2].search(meta.rate > 500).paths == [("eeg",)]


@BOTH
def test_what_is_found_are_the_nodes_of_the_graph(at: str) -> None:
    graph = graph_at(at)

    found = graph.search(meta.rate > 500)

    assert found[0] is graph[1]["eeg"]
    assert type(found[0]) is ArrayNode
    assert "eeg1" in found._repr_html_()


@BOTH
def test_a_search_in_a_graph_with_shared_nodes_and_cycles_finds_each_once(at: str) -> None:
    shared = EmptyNode("shared", meta={"x": 3})
    root = RootNode(uid="r", edges={"a": EmptyNode("a"), "b": shared})
    root["a"].edges = {"s": shared, "up": root}

    found = graph_at(at, root).search(meta.x == 3)

    assert found.paths == [("b",)]


def test_a_long_search_at_a_server_goes_on_from_answer_to_answer() -> None:
    count = 2 * EXAMINED + 100
    root = RootNode(edges={n: EmptyNode(meta={"n": n}) for n in range(count)})
    asked: list[str] = []
    server = NodeServer(root)

    class Counting:
        def request(self, message: Any, /) -> bytes:
            asked.append(message["request"])
            return server.request(message)

    found = RootNode(Counting()).search(meta.n >= count - 3)

    assert found.paths == [(count - 3,), (count - 2,), (count - 1,)]
    assert asked.count("send_matches") == 3


def test_meta_that_cannot_be_compared_does_not_fit() -> None:
    held = {"array": np.arange(3), "none": None}

    assert not matches((meta.array == 1).spelled, held)
    assert not matches((meta.none > 1).spelled, held)
    assert matches((meta.none == None).spelled, held)  # noqa: E711
    assert not matches((meta.x == 1).spelled, ["no mapping"])


def test_a_question_is_no_answer() -> None:
    with pytest.raises(NodeRequestError, match=r"join questions with & \| ~"):
        bool(meta.x == 3 and meta.y == 4)


def deep(levels: int) -> list[Any]:
    query = (meta.x == 1).spelled
    for _ in range(levels):
        query = ["not", query]
    return query


def wide(parts: int) -> list[Any]:
    query = (meta.x == 1).spelled
    level = [query] * parts
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [["or", *pair] for pair in pairs] + level[len(level) // 2 * 2 :]
    return level[0]


def test_queries_from_the_wire_are_bounded_and_checked() -> None:
    assert check_query(None) is None
    assert check_query(deep(10)) is not None
    assert check_query(wide(90)) is not None
    for bad in (deep(30), wide(500), "x", [], ["=="], ["is", ["x"], 3], ["==", "x", 3]):
        with pytest.raises(NodeRequestError):
            check_query(bad)
    with pytest.raises(NodeRequestError):
        check_query(["==", [["x"]], 3])


# --- the tree ---

TREE = """\
RootNode
├─ [1]  EmptyNode
│  ├─ eeg  ArrayNode float64 (3,)
│  └─ ecg  ArrayNode float64 (3,)
└─ [2]  EmptyNode
   ├─ eeg  ArrayNode float64 (3,)
   └─ ecg  ArrayNode float64 (3,)
"""


@BOTH
def test_the_tree_is_printed(at: str, capsys: pytest.CaptureFixture[str]) -> None:
    graph_at(at).tree()

    assert capsys.readouterr().out == TREE


@BOTH
def test_a_node_reached_again_is_said_to_be_and_not_drawn_again(at: str) -> None:
    root = RootNode(edges={"a": EmptyNode(edges={"n": NumpyTestNode()})})
    root["a"].edges["up"] = root

    assert tree_text(graph_at(at, root)) == (
        "RootNode\n└─ a  EmptyNode\n   ├─ n  NumpyTestNode\n   └─ up  RootNode (shown elsewhere)"
    )


@BOTH
def test_what_is_left_out_of_a_tree_is_said(at: str) -> None:
    root = RootNode()
    node: BaseNode = root
    for _ in range(10_000):
        node.edges["next"] = node = EmptyNode()
    many = RootNode(edges={n: EmptyNode() for n in range(3_000)})

    chain = tree_text(graph_at(at, root), depth=3).splitlines()
    crowd = tree_text(graph_at(at, many), lines=10).splitlines()

    assert len(chain) == 5
    assert chain[-1].endswith("… deeper; tree(depth=…) shows more")
    assert len(crowd) == 11
    assert crowd[-1] == "… more than 10 lines; tree(lines=…) shows more"


def test_a_node_that_cannot_be_looked_at_does_not_hide_the_others() -> None:
    class Gone(NumpyTestNode):
        def summary(self) -> str:
            raise OSError("the file is gone")

    root = RootNode(edges={"a": Gone(), "b": EmptyNode()})

    shown = tree_text(RootNode(NodeServer(root)))

    assert "a  Gone (cannot be read: the file is gone)" in shown
    assert "b  EmptyNode" in shown


@BOTH
def test_a_notebook_shows_meta_and_edges_and_escapes_every_text(at: str) -> None:
    root = RootNode(
        meta={"<b>": "<script>alert(1)</script>"}, edges={"<i>": ArrayNode(np.zeros((2, 2)))}
    )

    shown = graph_at(at, root)._repr_html_()

    assert "&lt;i&gt;" in shown
    assert "<script>" not in shown
    assert "<i>" not in shown


def test_a_tree_shows_labels_as_they_are_typed_and_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Ringing(EmptyNode):
        def summary(self) -> str:
            return "ring\x1b]0;owned\x07"

    RootNode(edges={"a/b": Ringing(), "": EmptyNode(), 3: EmptyNode()}).tree()

    assert capsys.readouterr().out.splitlines()[1:] == [
        "├─ a%2Fb  ring\\x1b]0;owned\\x07",
        "├─ []  EmptyNode",
        "└─ [3]  EmptyNode",
    ]


def test_a_server_that_gets_nowhere_is_not_asked_for_ever(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inner = NodeServer(rats())

    class Idle:
        def request(self, message: Any, /) -> bytes:
            match message["request"]:
                case "send_matches":
                    return codec.encode(MatchPage([], 0, is_last=False))
                case "send_tree" if message["kwargs"]["start"]:
                    return codec.encode(TreePage([], is_last=False))
                case "send_tree":
                    return codec.encode(TreePage(tree_rows(walk(rats()), 0, 3), is_last=False))
                case _:
                    return inner.request(message)

    graph = RootNode(Idle())

    with pytest.raises(MalformedMessageError, match="from position 0 on, and got to 0"):
        graph.search(meta.day == 1)
    graph.tree()
    assert len(capsys.readouterr().out.splitlines()) == 3
