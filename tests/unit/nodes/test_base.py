"""Nodes of a serving side: identity, edges, loading, what they send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import numpy as np
import pytest

from ezgraph.errors import NodeError, NodeIndexError, NodeRequestError, UnknownLabelError
from ezgraph.nodes import ArrayNode, BaseNode, EmptyNode, GenericNode, NodeServer, RootNode
from ezgraph.testing import NumpyTestNode
from tests.unit.nodes.conftest import CountingNode

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_a_uid_is_a_new_uuid_unless_it_is_given() -> None:
    first, second, named = EmptyNode(), EmptyNode(), EmptyNode("eeg/1")

    assert UUID(first.uid) != UUID(second.uid)
    assert UUID(first.uid).version == 4
    assert named.uid == "eeg/1"


@pytest.mark.parametrize("uid", ["", 7, "x" * 5_000, "\ud800", b"uid"])
def test_a_uid_that_is_no_part_of_a_key_is_refused(uid: Any) -> None:
    with pytest.raises(NodeRequestError, match="is no uid of a node"):
        EmptyNode(uid)


def test_base_nodes_are_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        BaseNode()  # type: ignore[abstract]


def test_nothing_is_loaded_until_it_is_asked_for_and_then_once() -> None:
    node = CountingNode()
    assert node.loads == []

    first, second = node.send_data(0), node.send_data(2)
    meta, again = node.send_meta(), node.meta

    assert (first, second) == ({"number": 0}, {"number": 2})
    assert meta == again == {"count": 3}
    assert node.loads == ["data", "meta"]


def test_meta_is_had_without_the_data_also_by_a_reader() -> None:
    node = CountingNode()
    copy = RootNode(NodeServer(RootNode(edges={"n": node})))["n"]

    assert copy.meta == {"count": 3}
    assert node.loads == ["meta"]


def test_a_copy_does_not_run_the_loading_its_class_wrote() -> None:
    node = CountingNode(partitions=5)
    copy = RootNode(NodeServer(RootNode(edges={"n": node})))["n"]

    copy.load_data()
    copy.load_meta()

    assert copy.loads == []
    assert copy.read() == node.read()
    assert copy.meta == {"count": 5}


def test_meta_and_data_may_be_given_or_set() -> None:
    node = GenericNode(meta={"a": 1}, data=[[1], [2]])
    node.meta = {"b": 2}
    node.data = [[3]]

    assert (node.send_meta(), node.send_data(0), node.read()) == ({"b": 2}, [3], [[3]])


def test_what_a_node_sends_of_itself() -> None:
    child = EmptyNode()
    node = NumpyTestNode(edges={"a": child, 1: child})

    assert node.send_info() == {
        "module": "ezgraph.testing.nodes",
        "class": "NumpyTestNode",
        "version": NumpyTestNode.version,
    }
    assert node.send_edges() == {"a": child.uid, 1: child.uid}
    assert node.send_edges(start=1, limit=1) == {1: child.uid}
    assert node.send_meta() == {"field1": "testing"}
    assert node.send_data(19) == list(range(10))


@pytest.mark.parametrize("index", [20, -1, True, 1.0, "0", None])
def test_a_partition_that_is_not_there_is_an_index_error(index: Any) -> None:
    with pytest.raises(NodeIndexError, match=r"has no partition .* it has 20, numbered from 0"):
        NumpyTestNode().send_data(index)


def test_a_keyword_that_a_type_does_not_take_is_refused_by_name() -> None:
    with pytest.raises(NodeRequestError, match=r"takes no keyword 'scale'; it may have: index"):
        NumpyTestNode().send_data(0, scale=2)


class ScalingNode(NumpyTestNode):
    """Understands one keyword more, and says so."""

    keywords: ClassVar[Mapping[str, frozenset[str]]] = {"send_data": frozenset({"scale"})}

    def send_data(self, index: int, **kwargs: Any) -> Any:
        scale = kwargs.pop("scale", 1)
        return [scale * number for number in super().send_data(index, **kwargs)]


def test_a_type_may_take_more_keywords_and_says_which() -> None:
    node = ScalingNode()
    server = NodeServer(RootNode(edges={"n": node}))

    copy = RootNode(server)["n"]
    scaled = copy._makers.get_data(server, node.uid, 1, scale=3)

    assert scaled == [3 * number for number in range(10)]


# --- edges ---


@pytest.mark.parametrize("label", [1.5, None, True, b"a", ("a",), "x" * 1_001])
def test_labels_are_text_or_integers(label: Any) -> None:
    with pytest.raises(NodeRequestError, match="label"):
        EmptyNode(edges={label: EmptyNode()})
    with pytest.raises(NodeRequestError, match="label"):
        EmptyNode()[label]


def test_an_integer_of_any_type_is_the_same_label() -> None:
    child = EmptyNode()
    node = EmptyNode(edges={np.int16(3): child})

    assert node[3] is child
    assert node[np.int64(3)] is child


def test_an_edge_leads_to_a_node_and_to_nothing_else() -> None:
    with pytest.raises(NodeRequestError, match=r"leads to ndarray, which is no node; wrap"):
        EmptyNode(edges={"a": np.zeros(3)})  # type: ignore[dict-item]
    with pytest.raises(NodeRequestError, match="leads to str"):
        EmptyNode().edges["a"] = "a uid, which only a copy has"


def test_an_unknown_label_is_a_key_error_that_names_those_there_are() -> None:
    node = EmptyNode(edges={"eeg": EmptyNode(), 4: EmptyNode()})

    with pytest.raises(KeyError) as caught:
        node["ecg"]

    assert isinstance(caught.value, UnknownLabelError)
    assert str(caught.value) == (
        f"node {node.uid!r} (EmptyNode) has no edge 'ecg', only <Edges 'eeg', 4>"
    )


def test_a_node_is_a_mapping_of_its_edges_and_true() -> None:
    child = EmptyNode()
    node = EmptyNode(edges={"a": child, "b": child})

    assert list(node) == ["a", "b"]
    assert list(node.items()) == [("a", child), ("b", child)]
    assert list(node.keys(1)) == ["b"]
    assert list(node.keys(limit=1)) == ["a"]
    assert ("a" in node, "c" in node, len(node)) == (True, False, 2)
    assert EmptyNode()


def test_a_copy_without_a_uid_is_refused() -> None:
    with pytest.raises(NodeError, match="is a copy: give its uid too"):
        EmptyNode(server=NodeServer(RootNode()))


def test_every_node_says_what_it_is_in_a_line() -> None:
    root = RootNode(uid="r", edges={"a": ArrayNode(np.zeros((2, 3), "f4"), uid="a")})
    server = NodeServer(root)
    copy = RootNode(server)

    assert repr(root) == "<RootNode 'r' 1 edges>"
    assert repr(root["a"]) == "<ArrayNode float32 (2, 3) 'a'>"
    assert repr(copy) == "<RootNode 'r' 1 edges at <NodeServer nodes=2>>"
    assert repr(copy["a"]) == "<ArrayNode float32 (2, 3) 'a' at <NodeServer nodes=2>>"
    assert "\n" not in repr(root.edges) + repr(root.growth) + repr(copy._makers)


class Cautious(CountingNode):
    """Loads as many write it: only what is None."""

    def load_data(self) -> None:
        self.loads.append("data")
        if self.data is None:
            self.data = [1, 2]


def test_while_it_loads_a_node_sees_what_there_is_so_far() -> None:
    node = Cautious()

    assert node.read() == [1, 2]
    assert node.send_meta() == {"count": 3}
    assert node.loads == ["data", "meta"]


def test_loading_again_keeps_what_was_given() -> None:
    for node in (GenericNode(meta={"a": 1}, data=[[1]]), ArrayNode([1, 2], meta={"a": 1})):
        node.load_meta()
        node.load_data()

        assert node.meta == {"a": 1}
        assert len(node.data) == 1
