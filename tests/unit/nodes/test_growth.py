"""Nodes that grow, and those who follow them: complete, or told."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from ezgraph.errors import CompactedError, DeadlineError, DivergedError, NodeError, NodeIndexError
from ezgraph.nodes import ArrayNode, BaseNode, EmptyNode, GenericNode, NodeServer, RootNode
from ezgraph.nodes.following import Follower
from ezgraph.protocol.nodes import GrowthReport
from ezgraph.testing import NumpyTestNode


def served(node: BaseNode) -> Any:
    return RootNode(NodeServer(RootNode(edges={"n": node})))["n"]


BOTH = pytest.mark.parametrize("at", ["here", "there"])


def reader(at: str, node: BaseNode) -> Any:
    return node if at == "here" else served(node)


# --- the rule ---


def test_a_follower_gets_every_partition_after_the_one_it_names() -> None:
    follower = Follower("n", 2)

    ready = follower.heard(GrowthReport(0, 6, True, "i"))
    for number in ready:
        follower.took(number)
    more = follower.heard(GrowthReport(0, 8, True, "i"))
    for number in more:
        follower.took(number)
    end = follower.heard(GrowthReport(0, 8, False, "i"))

    assert (list(ready), list(more), list(end)) == ([3, 4, 5], [6, 7], [])
    assert follower.is_finished


def test_what_is_appended_last_before_the_end_is_delivered_before_it() -> None:
    follower = Follower("n", -1)

    ready = follower.heard(GrowthReport(0, 1, False, "i"))

    assert list(ready) == [0]
    assert not follower.is_finished


def test_a_follower_from_now_on_gets_nothing_older() -> None:
    follower = Follower("n", None)

    assert list(follower.heard(GrowthReport(0, 6, True, "i"))) == []
    assert list(follower.heard(GrowthReport(0, 7, True, "i"))) == [6]


def test_a_follower_whose_next_partition_was_dropped_is_told_where_to_go_on() -> None:
    follower = Follower("n", 2)

    with pytest.raises(CompactedError, match=r"partitions 3 to 4 of node 'n' .* after=4") as caught:
        follower.heard(GrowthReport(5, 9, True, "i"))

    assert caught.value.floor == 5
    assert list(Follower("n", 4).heard(GrowthReport(5, 9, True, "i"))) == [5, 6, 7, 8]


def test_a_follower_of_a_node_that_was_made_anew_is_told() -> None:
    follower = Follower("n", -1)
    follower.heard(GrowthReport(0, 1, True, "first"))
    follower.took(0)

    with pytest.raises(DivergedError, match="was made anew since partition 0"):
        follower.heard(GrowthReport(0, 5, True, "second"))
    with pytest.raises(DivergedError, match="has had 5 partitions, so none is after 7"):
        Follower("n", 7).heard(GrowthReport(0, 5, True, "second"))


# --- nodes ---


@BOTH
def test_a_node_that_does_not_grow_is_followed_to_its_end(at: str) -> None:
    node = reader(at, NumpyTestNode())

    followed = list(node.follow(after=17))

    assert [number for number, _ in followed] == [18, 19]
    assert followed[0].value == list(range(10))
    assert list(node.follow()) == []


@BOTH
def test_rows_appended_while_followed_come_in_order_each_once(at: str) -> None:
    node = ArrayNode.growing("f4", (2,))
    copy = reader(at, node)
    blocks = [np.full((n % 3 + 1, 2), n, "f4") for n in range(50)]

    def acquire() -> None:
        for block in blocks:
            node.append(block)
        node.finish()

    thread = threading.Thread(target=acquire)
    thread.start()
    followed = list(copy.follow(after=-1, timeout=10.0))
    thread.join()

    assert [number for number, _ in followed] == list(range(50))
    for block, (_, found) in zip(blocks, followed, strict=True):
        np.testing.assert_array_equal(found, block)
    np.testing.assert_array_equal(copy[:], np.concatenate(blocks))
    assert copy.shape == (sum(map(len, blocks)), 2)


@BOTH
def test_partitions_of_any_kind_may_be_appended_and_followed(at: str) -> None:
    node = GenericNode(data=[])
    node.grow()
    copy = reader(at, node)
    first = copy.follow()

    node.append({"event": 1})
    node.append({"event": 2})

    assert [next(first).value for _ in range(2)] == [{"event": 1}, {"event": 2}]
    assert copy.read() == [{"event": 1}, {"event": 2}]
    node.append({"event": 3})
    assert copy.read()[-1] == {"event": 3}
    node.finish()
    assert [each.value for each in first] == [{"event": 3}]


@BOTH
def test_a_reader_sees_the_rows_there_are_at_the_time(at: str) -> None:
    node = ArrayNode.growing("i8")
    copy = reader(at, node)

    sizes = []
    for _ in range(3):
        node.append(np.arange(4))
        sizes.append((len(copy), int(copy[-1]), copy[::3].tolist()[-1], copy.chunk_count))

    assert sizes == [(4, 3, 3, 1), (8, 3, 2, 2), (12, 3, 1, 3)]
    assert "growing" in copy.summary()


def test_blocks_of_one_length_need_no_list_of_bounds() -> None:
    node = ArrayNode.growing("i8")
    for _ in range(3):
        node.append(np.arange(4))
    node.append(np.arange(2))
    layout = node.description().layout

    assert layout is not None
    assert (layout.chunks, layout.bounds) == ((4,), None)
    node.append(np.arange(3))
    layout = node.description().layout
    assert layout is not None
    assert layout.bounds == (0, 4, 8, 12, 14, 17)
    assert node[:].tolist() == [*[0, 1, 2, 3] * 3, 0, 1, 0, 1, 2]


@BOTH
def test_old_rows_are_dropped_beyond_what_is_kept_and_who_asks_for_them_is_told(at: str) -> None:
    node = ArrayNode.growing("i8", keep_bytes=10 * 4 * 8)
    copy = reader(at, node)
    for number in range(25):
        node.append(np.full(4, number))

    assert copy[60:].tolist() == [n for n in range(15, 25) for _ in range(4)]
    for late in (lambda: copy[59], lambda: copy[:], lambda: list(copy.follow(after=13))):
        with pytest.raises(CompactedError) as caught:
            late()
        assert caught.value.floor == 15
    assert next(copy.follow(after=14)).value.tolist() == [15] * 4


@BOTH
def test_a_follower_that_is_overtaken_on_its_way_is_told(at: str) -> None:
    node = ArrayNode.growing("i8", keep_bytes=2 * 8)
    copy = reader(at, node)
    node.append(np.array([0]))
    followed = copy.follow(after=-1)
    assert next(followed).value.tolist() == [0]

    for number in range(1, 6):
        node.append(np.array([number]))

    with pytest.raises(CompactedError, match=r"partitions 1 to 3 .* after=3"):
        next(followed)


def test_a_block_larger_than_a_chunk_may_be_makes_several() -> None:
    node = ArrayNode.growing("u1", (1 << 20,))

    number = node.append(np.ones((100, 1 << 20), "u1"))

    assert number == 1
    assert node.chunks == (64, 1 << 20)
    assert node[:, 0].sum() == 100


def test_a_reader_that_waits_longer_than_it_said_is_told() -> None:
    node = ArrayNode.growing("i8")

    with pytest.raises(DeadlineError, match=r"nothing was appended to node .* after partition -1"):
        next(node.follow(after=-1, timeout=0.01))


def test_what_cannot_be_appended_is_refused_and_changes_nothing() -> None:
    node = ArrayNode.growing("i4", (2,))
    node.append([[1, 2]])

    with pytest.raises(NodeIndexError, match=r"its shape must be \(n, \*\(2,\)\)"):
        node.append(np.zeros((3, 3), "i4"))
    with pytest.raises(NodeIndexError, match="without rows"):
        node.append(np.zeros((0, 2), "i4"))
    with pytest.raises(TypeError, match="without loss"):
        node.append(np.full((1, 2), 0.5))
    with pytest.raises(TypeError, match="without loss"):
        node.append([[1 << 40, 1]])
    with pytest.raises(NodeError, match="is a copy and cannot be appended to"):
        served(node).append([[1, 2]])
    with pytest.raises(NodeError, match=r"make one with ArrayNode.growing"):
        ArrayNode(np.zeros(3)).append([1.0])
    with pytest.raises(NodeError, match="has no data"):
        EmptyNode().append(1)
    node.finish()
    with pytest.raises(NodeError, match="is finished"):
        node.append([[1, 2]])
    assert node[:].tolist() == [[1, 2]]


def test_what_was_appended_is_a_copy_that_nobody_can_change() -> None:
    node = ArrayNode.growing("f8")
    block = np.zeros(3)
    node.append(block)
    block[:] = 7

    chunk = node.read_chunk(0)

    assert chunk.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="read-only"):
        chunk[0] = 1


def test_waiting_listeners_are_told_and_may_leave() -> None:
    node = GenericNode(data=[])
    told: list[int] = []

    def listener() -> None:
        told.append(len(node.data))

    node.growth.listen(listener)
    node.growth.listen(listener)
    node.append(1)
    node.growth.ignore(listener)
    node.append(2)

    assert told == [1]
