"""The notebook that was the model: the same words, here and at a reader."""

from __future__ import annotations

import numpy as np
import pytest

from ezgraph.nodes import EmptyNode, NodeFactory, NodeServer, RootNode
from ezgraph.testing import NumpyTestNode

NUMBERS = np.tile(np.arange(10), 20)


def test_the_same_200_numbers_here_at_a_reader_and_at_its_second_read(graph: RootNode) -> None:
    copy = RootNode(NodeServer(graph))

    here = graph["g1"][3].read()
    there = copy["g1"][3].read()
    again = copy["g1"][3].read()

    assert here.shape == (200,)
    for found in (here, there, again):
        np.testing.assert_array_equal(found, NUMBERS)


def test_a_copy_has_every_partition_and_the_meta(graph: RootNode) -> None:
    node = RootNode(NodeServer(graph))["g1"][3]

    node.load_data()
    node.load_meta()

    assert len(node.data) == 20
    assert list(node.data) == [list(range(10))] * 20
    assert node.meta == {"field1": "testing"}


def test_a_copy_is_of_the_right_class_and_knows_its_labels(graph: RootNode) -> None:
    copy = RootNode(NodeServer(graph))

    assert type(copy["g1"]) is EmptyNode
    assert type(copy["g1"][3]) is NumpyTestNode
    assert list(copy["g1"].keys()) == [0, 1, 2, 3, 4]
    assert copy["g1"][3].uid == graph["g1"][3].uid
    assert copy["g1"][3].info == graph["g1"][3].info
    assert set(graph["g1"][3].info) == {"module", "class", "version"}


def test_a_node_that_two_labels_lead_to_is_one_object_at_both_ends(graph: RootNode) -> None:
    copy = RootNode(NodeServer(graph))

    assert graph["g2"]["shared"] is graph["g1"][3]
    assert copy["g2"]["shared"] is copy["g1"][3]
    assert copy["g2"]["back"][3] is copy["g1"][3]


def test_an_edge_is_a_uid_until_its_node_is_asked_for_and_the_node_after(graph: RootNode) -> None:
    copy = RootNode(NodeServer(graph))

    before = copy.edges["g1"]
    node = copy["g1"]

    assert before == graph["g1"].uid
    assert copy.edges["g1"] is node


@pytest.mark.parametrize("kind", [RootNode, EmptyNode])
@pytest.mark.parametrize("call", ["read", "load_meta", "load_data"])
def test_who_has_no_data_warns_and_gives_none(kind: type, call: str) -> None:
    node = kind()

    with pytest.warns(UserWarning, match="no data to read") as warned:
        given = getattr(node, call)()

    assert given is None
    said = f"This is a {kind.__name__}, it has no data to read."
    assert [str(each.message) for each in warned] == [said]
    assert warned[0].filename == __file__


def test_copies_without_data_warn_likewise_and_ask_nobody(graph: RootNode) -> None:
    copy = RootNode(NodeServer(graph))

    with pytest.warns(UserWarning, match="This is a EmptyNode, it has no data to read."):
        assert copy["g1"].read() is None
    with pytest.warns(UserWarning, match="This is a RootNode, it has no data to read."):
        copy.load_data()


def test_the_meta_of_a_node_without_data_arrives_without_a_warning() -> None:
    root = RootNode(meta={"lab": "3"}, edges={"day": EmptyNode(meta={"date": "2026-01-02"})})

    copy = RootNode(NodeServer(root))

    assert copy.meta == {"lab": "3"}
    assert copy["day"].meta == {"date": "2026-01-02"}
    assert list(copy["day"].data) == []


def test_a_factory_gives_each_answer_by_itself(graph: RootNode) -> None:
    server, factory = NodeServer(graph), NodeFactory()
    leaf = graph["g1"][3]

    assert factory.get_root(server) == graph.uid
    assert factory.get_edges(server, graph.uid) == {"g1": graph["g1"].uid, "g2": graph["g2"].uid}
    assert factory.get_info(server, leaf.uid)["class"] == "NumpyTestNode"
    assert factory.get_meta(server, leaf.uid) == {"field1": "testing"}
    assert factory.get_data(server, leaf.uid, 19) == list(range(10))
    assert type(factory.produce(server, leaf.uid)) is NumpyTestNode
