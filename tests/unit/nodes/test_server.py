"""The graph a server answers for: listed requests, on listed nodes, for those who may."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph.errors import (
    EzGraphError,
    ForbiddenError,
    LimitError,
    MalformedMessageError,
    NodeError,
    NodeIndexError,
    NodeRequestError,
    NodeSourceError,
    UnknownNodeError,
)
from ezgraph.nodes import (
    ArrayNode,
    BaseNode,
    EmptyNode,
    GenericNode,
    NodeFactory,
    NodeLimits,
    NodeServer,
    RootNode,
)
from ezgraph.testing import NumpyTestNode
from ezgraph.wire import values

if TYPE_CHECKING:
    from ezgraph.nodes.server import GraphChange


def ask(server: NodeServer, request: str, uid: str | None = None, **kwargs: Any) -> Any:
    """Return a decoded answer."""
    return values.unpack(server.request({"request": request, "uid": uid, "kwargs": kwargs}))


def test_the_listed_requests_are_answered_in_bytes(graph: RootNode) -> None:
    server = NodeServer(graph)
    leaf = graph["g1"][3]

    assert ask(server, "send_info", leaf.uid)["class"] == "NumpyTestNode"
    assert ask(server, "send_edges", graph.uid) == {"g1": graph["g1"].uid, "g2": graph["g2"].uid}
    assert ask(server, "send_meta", leaf.uid) == {"field1": "testing"}
    assert ask(server, "send_data", leaf.uid, index=19) == list(range(10))
    assert isinstance(server.request({"request": "send_root"}), bytes)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"request": "send_secrets", "uid": "r"}, "nodes answer no request 'send_secrets', only"),
        ({"request": "__class__", "uid": "r"}, "nodes answer no request '__class__'"),
        ({"request": "read", "uid": "r"}, "nodes answer no request 'read'"),
        ({"request": ["send_info"], "uid": "r"}, "nodes answer no request"),
        ({"uid": "r"}, "nodes answer no request None"),
        ({"request": "send_info"}, "needs the uid of a node, not None"),
        ({"request": "send_info", "uid": 3}, "needs the uid of a node, not 3"),
        ({"request": "send_info", "uid": "r", "kwargs": [1]}, "are no mapping"),
        ({"request": "send_info", "uid": "r", "kwargs": {1: 2}}, "are no mapping"),
        ({"request": "send_info", "uid": "r", "eval": "1"}, "not ['eval']"),
        ({"request": "send_info", "uid": "r", "kwargs": {"self": 1}}, "no keyword 'self'"),
        ({"request": "send_data", "uid": "r"}, "needs index"),
        ({"request": "send_data", "uid": "r", "kwargs": {"index": [0]}}, "needs index"),
        ({"request": "send_edges", "uid": "r", "kwargs": {"start": -1}}, "start=-1"),
        ({"request": "send_edges", "uid": "r", "kwargs": {"limit": "all"}}, "limit='all'"),
        ({"request": "send_growth", "uid": "r", "kwargs": {"after": "x"}}, "after='x'"),
        ({"request": "send_fingerprints", "uid": "r"}, "indexes=None"),
        ({"request": "send_fingerprints", "uid": "r", "kwargs": {"indexes": [0]}}, "no chunks"),
        ({"request": "send_matches", "uid": "r", "kwargs": {"prefix": "r"}}, "prefix='r'"),
        ({"request": "send_matches", "uid": "r", "kwargs": {"query": "x == 3"}}, "is no query"),
        ("send_info", "is no request"),
        (None, "is no request"),
    ],
)
def test_what_is_outside_the_vocabulary_is_refused_and_said(message: Any, why: str) -> None:
    server = NodeServer(RootNode(uid="r"))

    with pytest.raises(NodeRequestError) as caught:
        server.request(message)

    assert why in str(caught.value)
    assert ask(server, "send_edges", "r") == {}


@pytest.mark.parametrize(
    ("request_name", "kwargs"),
    [
        ("send_growth", {"after": 0, "wait_s": 31.0}),
        ("send_growth", {"after": 0, "wait_s": float("nan")}),
        ("send_growth", {"after": 0, "wait_s": -1}),
        ("send_fingerprints", {"indexes": [0] * 10_001}),
    ],
)
def test_what_asks_for_too_much_at_once_is_refused(
    request_name: str, kwargs: dict[str, Any]
) -> None:
    server = NodeServer(RootNode(uid="r"))

    with pytest.raises(LimitError):
        ask(server, request_name, "r", **kwargs)


def test_an_unknown_uid_says_what_to_do() -> None:
    with pytest.raises(UnknownNodeError, match=r"no node 'x' is served here; .*refresh\(\)"):
        ask(NodeServer(RootNode()), "send_info", "x")


def test_a_server_without_a_graph_says_so_and_takes_one_later(graph: RootNode) -> None:
    server = NodeServer()
    with pytest.raises(NodeError, match=r"serves no graph yet: give it one with load_graph"):
        server.request({"request": "send_root"})

    server.load_graph(graph)

    assert NodeFactory().get_root(server) == graph.uid


# --- shapes of graphs ---


def chain(length: int) -> RootNode:
    root = RootNode()
    node: BaseNode = root
    for _ in range(length):
        following = EmptyNode()
        node.edges = {"next": following}
        node = following
    return root


def test_a_chain_of_ten_thousand_nodes_is_served_and_walked() -> None:
    root = chain(10_000)
    server = NodeServer(root)
    node: BaseNode = RootNode(server)

    depth = 0
    while node.edges:
        node = node["next"]
        depth += 1

    assert depth == 10_000
    assert len(server.nodes()) == 10_001


def test_cycles_are_legal_and_come_back_to_the_same_object() -> None:
    root, group = RootNode(), EmptyNode()
    root.edges = {"g": group, "self": root}
    group.edges = {"up": root}

    copy = RootNode(NodeServer(root))

    assert copy["g"]["up"] is copy
    assert copy["self"]["self"] is copy
    assert root["g"]["up"]["g"] is group


def test_two_nodes_with_one_uid_are_refused_and_what_was_served_before_stays() -> None:
    root = RootNode(uid="r", edges={"a": EmptyNode("a")})
    server = NodeServer(root)

    with pytest.raises(NodeError, match="two nodes have the uid 'x'"):
        server.load_graph(RootNode(edges={1: EmptyNode("x"), 2: EmptyNode("x")}))

    assert set(server.nodes()) == {"r", "a"}


def test_a_copy_cannot_be_served_again() -> None:
    copy = RootNode(NodeServer(RootNode(uid="r")))

    for root in (copy, RootNode(edges={"far": copy})):
        with pytest.raises(NodeError, match="is a copy of a node that is served elsewhere"):
            NodeServer(root)


def test_many_edges_come_in_pages() -> None:
    root = RootNode(edges={number: EmptyNode() for number in range(2_500)})
    server = NodeServer(root, limits=NodeLimits(max_edges=1_000))

    copy = RootNode(server)

    assert list(copy.keys(limit=3)) == [0, 1, 2]
    assert len(copy.edges) == 2_500
    assert copy[2_499].uid == root[2_499].uid


# --- a graph that changes ---


def test_nodes_that_come_and_go_while_served_are_seen() -> None:
    root = RootNode(edges={"old": NumpyTestNode()})
    server = NodeServer(root)
    copy = RootNode(server)
    old, old_copy = root["old"], copy["old"]
    told: list[GraphChange] = []
    server.on_change = told.append

    root.edges["new"] = EmptyNode(edges={"inner": NumpyTestNode()})
    del root.edges["old"]

    assert copy["new"]["inner"].read().size == 200
    assert list(copy.keys()) == ["new"]
    with pytest.raises(UnknownNodeError):
        old_copy.read()
    assert told[0].removed == [old]
    assert told[0].added == [root["new"], root["new"]["inner"]]


def test_edges_assigned_deep_in_the_graph_are_seen(graph: RootNode) -> None:
    server = NodeServer(graph)

    graph["g1"][0].edges = {"late": NumpyTestNode()}

    assert RootNode(server)["g1"][0]["late"].read().size == 200


def test_a_change_that_cannot_be_served_is_told_until_it_is_mended() -> None:
    root = RootNode(uid="r", edges={"a": EmptyNode("a")})
    server = NodeServer(root)

    root.edges["b"] = EmptyNode("a")
    for _ in range(2):
        with pytest.raises(NodeError, match="two nodes have the uid 'a'"):
            ask(server, "send_info", "r")
    del root.edges["b"]

    assert ask(server, "send_edges", "r") == {"a": "a"}


def test_requests_and_changes_from_several_threads_get_along() -> None:
    root = RootNode(uid="r", edges={number: EmptyNode() for number in range(2_000)})
    server = NodeServer(root)
    failed: list[BaseException] = []

    def change(name: str) -> None:
        while any(thread.is_alive() for thread in readers):
            labels = [f"{name}{number}" for number in range(50)]
            for label in labels:
                root.edges[label] = EmptyNode()
            for label in labels:
                del root.edges[label]

    def read() -> None:
        try:
            for _ in range(20):
                assert len(ask(server, "send_edges", "r")) >= 2_000
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    changers = [threading.Thread(target=change, args=(name,)) for name in "ab"]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    for thread in (*readers, *changers):
        thread.start()
    for thread in (*readers, *changers):
        thread.join()
    sys.setswitchinterval(interval)

    assert failed == []
    assert len(ask(server, "send_edges", "r")) == 2_000


# --- who may see what ---


def test_who_may_not_see_a_node_neither_finds_nor_reads_it() -> None:
    secret = NumpyTestNode(uid="secret", meta={"x": 1}, edges={"deep": EmptyNode("deep")})
    root = RootNode(uid="r", edges={"open": EmptyNode("open", meta={"x": 1}), "secret": secret})

    def may_see(asker: str | None, node: BaseNode) -> bool:
        return asker == "anna" or node.uid != "secret"

    server = NodeServer(root, may_see=may_see)

    class As:
        def __init__(self, asker: str) -> None:
            self.asker = asker

        def request(self, message: Any, /) -> bytes:
            return server.request(message, asker=self.asker)

    anna, bert = RootNode(As("anna")), RootNode(As("bert"))
    assert list(anna.keys()) == ["open", "secret"]
    assert list(bert.keys()) == ["open"]
    assert len(bert.edges) == len(bert) == 1
    assert [node.uid for node in anna.search()] == ["r", "open", "secret", "deep"]
    assert [node.uid for node in bert.search()] == ["r", "open"]
    assert list(bert.search(prefix="secret")) == []
    for request in ("send_info", "send_meta", "send_edges", "send_node", "send_tree"):
        with pytest.raises(ForbiddenError, match="'bert' may not see node 'secret'"):
            server.request({"request": request, "uid": "secret", "kwargs": {}}, asker="bert")


def test_a_search_tells_nothing_of_what_may_not_be_seen_nor_of_ways_through_it() -> None:
    known = EmptyNode("open")
    secret = EmptyNode("secret", edges={"way": known})
    known.edges["back"] = secret
    root = RootNode(uid="r", edges={"open": known, "secret": secret})
    server = NodeServer(root, may_see=lambda _, node: node.uid != "secret")
    copy = RootNode(server)

    assert [each.description().labels for each in copy.search()] == [1, 0]
    assert list(copy.search(prefix=["secret", "way"])) == []
    assert list(copy.search(prefix=["open"])) == [copy["open"]]


# --- nodes that fail ---


class Broken(GenericNode):
    """Fails in ways that nobody foresaw."""

    def load_data(self) -> None:
        raise ZeroDivisionError("its own code")

    def load_meta(self) -> None:
        self.meta = {"thread": threading.Lock()}


def test_a_node_that_fails_is_a_typed_error_with_name_and_cause_and_the_server_lives_on() -> None:
    broken = Broken(uid="b")
    server = NodeServer(RootNode(edges={"b": broken, "ok": NumpyTestNode()}))
    copy = RootNode(server)

    with pytest.raises(NodeSourceError, match=r"node 'b' \(Broken\) failed .*DivisionError: its"):
        copy["b"].read()
    with pytest.raises(NodeSourceError, match=r"node 'b' answered 'send_meta' with what cannot"):
        _ = copy["b"].meta
    assert copy["ok"].read().size == 200


def test_every_error_of_nodes_keeps_its_class_on_the_way() -> None:
    from ezgraph.errors import from_code

    kinds: list[type[EzGraphError]] = [NodeError, *NodeError.__subclasses__()]

    assert [type(from_code(kind.code, "why")) for kind in kinds] == kinds
    assert isinstance(from_code("node_index", "why"), IndexError)
    assert str(from_code("unknown_label", "why")) == "why"


def test_an_answer_that_is_not_what_was_asked_for_is_malformed() -> None:
    class Liar:
        def request(self, message: Any, /) -> bytes:
            return values.pack(["lies"])

    with pytest.raises(MalformedMessageError):
        RootNode(Liar())
    with pytest.raises(MalformedMessageError, match="'send_edges' was answered by list"):
        NodeFactory().get_edges(Liar(), "r")


def test_what_is_no_server_is_refused() -> None:
    with pytest.raises(NodeError, match="is nothing that serves nodes"):
        RootNode(object())  # type: ignore[arg-type]


def test_parts_of_chunks_are_bounded_by_the_chunk() -> None:
    node = ArrayNode(np.zeros((4, 6)), chunks=(2, 3), uid="a")
    server = NodeServer(RootNode(edges={"a": node}))
    good = [[0, 2, 1], [1, 3, 2]]
    assert ask(server, "send_data", "a", index=3, part=good).shape == (2, 1)

    for bad in (
        [[0, 3, 1], [0, 3, 1]],
        [[0, 2, 0], [0, 3, 1]],
        [[1, 1, 1], [0, 3, 1]],
        [[-1, 2, 1], [0, 3, 1]],
        [[0, 2, 1]],
        [[0, 2], [0, 3]],
        [[0, 2, True], [0, 3, 1]],
        [[0, 2, 1 << 70], [0, 3, 1]],
        "all",
        7,
        [None, None],
    ):
        with pytest.raises(NodeIndexError, match="is none of a chunk of shape"):
            ask(server, "send_data", "a", index=3, part=bad)
    for index in (4, -1, 1 << 70):
        with pytest.raises(NodeIndexError, match="has no partition"):
            ask(server, "send_data", "a", index=index)
