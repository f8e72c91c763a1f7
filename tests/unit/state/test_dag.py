"""What `DAG` promises, one sentence each."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ezgraph.errors import CyclicException
from ezgraph.state import dag as dag_module
from ezgraph.state.dag import DAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ezgraph.state.dag import Owner

Edge = tuple[str, str]


def wired(*edges: str, owner: Owner = None) -> DAG:
    """Return a DAG with edges written as ``"a b"``."""
    dag = DAG()
    for edge in edges:
        start, end = edge.split()
        dag.add_edge(start, end, owner)
    return dag


def ring(count: int) -> DAG:
    """Return a chain of ``count`` topics that lacks one edge, the last to the first, to be a loop.

    It is built from its last edge to its first.
    """
    return wired(*reversed([f"t{i} t{i + 1}" for i in range(count - 1)]))


def topics_in_order(dag: DAG) -> list[str]:
    topics = []
    topic = dag._order.following(None)
    while topic is not None:
        topics.append(topic)
        topic = dag._order.following(topic)
    return topics


def assert_every_edge_points_forward(dag: DAG) -> None:
    topics = topics_in_order(dag)
    place = {topic: index for index, topic in enumerate(topics)}

    assert place.keys() == dag._order.label.keys() == dag.nodes
    labels = [dag._order.label[topic] for topic in topics]
    assert labels == sorted(set(labels))
    assert all(place[start] < place[end] for start, end in dag.edge_owners)


def test_a_new_edge_changes_the_topology() -> None:
    dag = DAG()

    assert dag.add_edge("a", "b")

    assert dag.graph == {"a": {"b"}, "b": set()}
    assert dag.invgraph == {"a": set(), "b": {"a"}}
    assert dag.edge_owners == {("a", "b"): {None}}
    assert dag.nodes == {"a", "b"}


def test_a_further_owner_of_an_edge_is_recorded_and_changes_no_topology() -> None:
    dag = wired("a b")

    assert not dag.add_edge("a", "b", "session-1")

    assert dag.owners("a", "b") == {None, "session-1"}
    assert dag.graph == {"a": {"b"}, "b": set()}


def test_the_same_owner_again_changes_nothing() -> None:
    dag = wired("a b", owner="session-1")

    assert not dag.add_edge("a", "b", "session-1")

    assert dag == wired("a b", owner="session-1")


def test_two_edges_between_the_same_topics_in_one_direction_are_one() -> None:
    dag = wired("a b", "a b", "a c")

    assert dag.graph["a"] == {"b", "c"}
    assert len(dag.edge_owners) == 2


def test_a_refused_edge_names_the_loop_and_the_way_out() -> None:
    dag = wired("a b", "b c")

    with pytest.raises(CyclicException) as refusal:
        dag.add_edge("c", "a")

    assert str(refusal.value) == (
        "edge 'c' -> 'a' would close the loop c -> a -> b -> c; disconnect one of these edges first"
    )


def test_a_self_loop_is_refused() -> None:
    dag = DAG()

    with pytest.raises(CyclicException, match="'a' -> 'a' would close the loop a -> a; connect"):
        dag.add_edge("a", "a")

    assert dag == DAG()
    assert dag.nodes == set()


def test_the_edge_back_is_refused() -> None:
    dag = wired("a b")

    with pytest.raises(CyclicException, match="b -> a -> b"):
        dag.add_edge("b", "a")


def test_the_message_names_a_shortest_loop_and_the_same_one_each_time() -> None:
    forward = ["a b", "b c", "c d", "a x", "x d", "a y", "y d"]

    messages = set()
    for edges in (forward, forward[::-1]):
        with pytest.raises(CyclicException) as refusal:
            wired(*edges).add_edge("d", "a")
        messages.add(str(refusal.value).split(";")[0])

    assert messages == {"edge 'd' -> 'a' would close the loop d -> a -> x -> d"}


def test_the_message_of_a_long_loop_names_its_ends_and_stays_short() -> None:
    dag = ring(2_000)

    with pytest.raises(CyclicException) as refusal:
        dag.add_edge("t1999", "t0")

    message = str(refusal.value)
    assert "loop t1999 -> t0 -> t1 -> t2" in message
    assert "-> (1985 more) ->" in message
    assert "t1998 -> t1999; disconnect" in message
    assert len(message) < 300


@pytest.mark.parametrize("count", [2, 3, 16, 17])
def test_the_message_of_a_loop_spells_its_topics_out_or_counts_them(count: int) -> None:
    dag = ring(count)

    with pytest.raises(CyclicException) as refusal:
        dag.add_edge(f"t{count - 1}", "t0")

    spelt = str(refusal.value).split("the loop ")[1].split(";")[0].split(" -> ")
    left_out = sum(int(part[1:].split()[0]) - 1 for part in spelt if part.startswith("("))
    assert len(spelt) + left_out == count + 1


def test_nothing_is_left_behind_by_a_refused_edge() -> None:
    dag = wired("a b", "b c", owner="session-1")
    before = dag.copy()

    with pytest.raises(CyclicException):
        dag.add_edge("c", "a", "session-2")
    with pytest.raises(CyclicException):
        dag.add_edge("new", "new", "session-2")

    assert dag == before
    assert (dag.graph, dag.invgraph) == (before.graph, before.invgraph)
    assert dag.edges_of("session-2") == ()
    assert dag.nodes == {"a", "b", "c"}
    assert topics_in_order(dag) == topics_in_order(before)


def test_a_refused_edge_may_be_added_once_the_loop_is_open() -> None:
    dag = wired("a b", "b c")
    with pytest.raises(CyclicException):
        dag.add_edge("c", "a")

    dag.remove_edge("a", "b")

    assert dag.add_edge("c", "a")
    assert dag.path("b", "a") == ["b", "c", "a"]


def test_a_further_owner_of_an_edge_is_never_refused() -> None:
    dag = wired("a b", "b c", "a c")

    assert not dag.add_edge("a", "c", "session-1")


def test_an_edge_goes_with_its_last_owner() -> None:
    dag = wired("a b", owner="session-1")
    dag.add_edge("a", "b", "session-2")

    assert not dag.remove_edge("a", "b", "session-1")
    assert dag.graph == {"a": {"b"}, "b": set()}
    assert dag.remove_edge("a", "b", "session-2")

    assert dag == DAG()


def test_removing_an_edge_that_is_not_there_is_fine() -> None:
    dag = wired("a b")

    assert not dag.remove_edge("a", "c")
    assert not dag.remove_edge("b", "a")
    assert not dag.remove_edge("x", "y", "session-1")

    assert dag == wired("a b")
    assert dag.nodes == {"a", "b"}


def test_who_does_not_hold_an_edge_cannot_remove_it() -> None:
    dag = wired("a b", owner="session-1")

    assert not dag.remove_edge("a", "b", "session-2")
    assert not dag.remove_edge("a", "b")

    assert dag == wired("a b", owner="session-1")


def test_a_persistent_edge_outlives_the_sessions_that_held_it_too() -> None:
    dag = wired("a b")
    dag.add_edge("a", "b", "session-1")

    assert dag.remove_owner("session-1") == []

    assert dag == wired("a b")


def test_topics_without_an_edge_are_forgotten() -> None:
    dag = wired("a b", "b c")

    dag.remove_edge("a", "b")
    assert dag.nodes == set(dag.invgraph) == {"b", "c"}
    dag.remove_edge("b", "c")

    assert (dag.graph, dag.invgraph, dag.edge_owners) == ({}, {}, {})


def test_removing_an_owner_takes_its_edges_and_names_those_that_went() -> None:
    dag = wired("c d", "a b", "b c", owner="session-1")
    dag.add_edge("b", "c", "session-2")

    assert dag.remove_owner("session-1") == [("a", "b"), ("c", "d")]

    assert dag == wired("b c", owner="session-2")
    assert dag.edges_of("session-1") == ()


def test_removing_an_owner_of_nothing_removes_nothing() -> None:
    dag = wired("a b")

    assert dag.remove_owner("session-1") == []

    assert dag == wired("a b")


def test_persistent_edges_have_an_owner_like_any_other() -> None:
    dag = wired("a b", "c d")
    dag.add_edge("c", "d", "session-1")

    assert dag.edges_of(None) == (("a", "b"), ("c", "d"))
    assert dag.remove_owner(None) == [("a", "b")]


def test_nothing_is_kept_of_an_owner_who_is_gone() -> None:
    dag = wired("a b", owner="session-1")

    dag.remove_owner("session-1")

    assert dag._edges_by_owner == {}
    assert dag._order.label == {}
    assert dag._order.following(None) is None


def test_the_edges_of_an_owner_are_sorted() -> None:
    dag = wired("b a", "c b", "c a", owner="session-1")
    dag.add_edge("x", "y")

    assert dag.edges_of("session-1") == (("b", "a"), ("c", "a"), ("c", "b"))


def test_nobody_holds_an_edge_that_is_not_there() -> None:
    assert DAG().owners("a", "b") == frozenset()


def test_upstream_and_downstream_start_with_the_topic_and_go_breadth_first() -> None:
    dag = wired("a c", "a b", "c d", "b e", "d f", "e f")

    assert dag.downstream("a") == ["a", "b", "c", "e", "d", "f"]
    assert dag.upstream("f") == ["f", "d", "e", "c", "b", "a"]
    assert dag.downstream("f") == ["f"]


def test_an_unknown_topic_reaches_itself_and_stays_unknown() -> None:
    dag = wired("a b")

    assert dag.upstream("x") == dag.downstream("x") == dag.path("x", "x") == ["x"]
    assert dag.path("x", "a") is None
    assert dag.path("a", "x") is None
    assert dag.would_close("x", "a") is None

    assert dag.nodes == set(dag.invgraph) == {"a", "b"}


def test_a_path_is_a_shortest_one() -> None:
    dag = wired("a b", "b c", "c d", "a x", "x d")

    assert dag.path("a", "d") == ["a", "x", "d"]
    assert dag.path("d", "a") is None
    assert dag.path("b", "x") is None
    assert dag.path("a", "a") == ["a"]


def test_a_path_is_looked_for_between_its_ends_only() -> None:
    dag = wired("a b", "b c", "b a1", "b a2", "a1 a3", "a2 a3")
    looked_at: list[str] = []

    class WatchedLinks(dict[str, set[str]]):
        def __getitem__(self, topic: str) -> set[str]:
            looked_at.append(topic)
            return super().__getitem__(topic)

    dag.graph = WatchedLinks(dag.graph)

    assert dag.path("a", "c") == ["a", "b", "c"]
    assert looked_at == ["a", "b"]
    assert dag.path("c", "a") is None
    assert looked_at == ["a", "b"]


def test_would_close_names_the_loop_from_where_the_edge_starts() -> None:
    dag = wired("a b", "b c")

    assert dag.would_close("c", "a") == ["c", "a", "b", "c"]
    assert dag.would_close("b", "a") == ["b", "a", "b"]
    assert dag.would_close("a", "a") == ["a", "a"]
    assert dag.would_close("x", "x") == ["x", "x"]
    assert dag.would_close("a", "c") is None
    assert dag.would_close("a", "b") is None


def test_would_close_changes_nothing() -> None:
    dag = wired("c d", "a b")
    before = dag.copy()

    assert dag.would_close("d", "a") is None
    assert dag.would_close("b", "c") is None

    assert dag == before
    assert topics_in_order(dag) == topics_in_order(before)


def test_what_would_close_found_is_not_believed_after_a_change() -> None:
    dag = wired("c d", "a b", "x y")
    assert dag.would_close("b", "c") is None

    dag.add_edge("d", "a")

    assert dag.would_close("b", "c") == ["b", "c", "d", "a", "b"]
    with pytest.raises(CyclicException):
        dag.add_edge("b", "c")


def test_what_would_close_found_for_one_edge_is_not_used_for_another() -> None:
    dag = wired("a b", "c d", "e f")
    first, second, *_, last = topics_in_order(dag)
    assert dag.would_close(last, first) is None

    assert dag.would_close(second, first) == [second, first, second]
    assert dag.would_close(last, first) is None
    assert dag.add_edge(first, last)

    assert_every_edge_points_forward(dag)


def test_what_would_close_found_is_not_used_after_a_topic_of_it_is_gone() -> None:
    dag = wired("c d", "c e", "a b", "b f")
    assert dag.would_close("b", "c") is None

    dag.remove_edge("a", "b")

    assert dag.add_edge("b", "c")
    assert_every_edge_points_forward(dag)


def test_equality_is_that_of_content_whatever_the_past() -> None:
    dag = wired("a b", "b c", "x a")

    other = wired("b c", "x a", "c d", "a b")
    other.remove_edge("c", "d")

    assert dag == other
    assert dag != wired("a b", "b c")
    assert dag != wired("a b", "b c", "x a", owner="session-1")
    assert dag != dag.graph


def test_a_copy_is_equal_and_lives_on_its_own() -> None:
    dag = wired("a b", "b c")
    copy = dag.copy()
    assert copy == dag

    copy.add_edge("c", "d", "session-1")
    copy.add_edge("a", "b", "session-1")
    copy.remove_edge("b", "c")

    assert dag == wired("a b", "b c")
    assert copy.would_close("c", "a") is None


def test_its_repr_tells_its_size() -> None:
    assert repr(wired("a b", "b c")) == "<DAG topics=3 edges=2>"


def test_topics_crowding_at_one_place_of_the_order_find_room() -> None:
    dag = wired("m n", "m z")

    for i in range(2_000):  # each pair is moved to the same place, right before m
        dag.add_edge(f"x{i}", f"y{i}")
        dag.add_edge(f"y{i}", "m")

    assert_every_edge_points_forward(dag)


def chain(count: int) -> list[Edge]:
    return list(pairwise(f"t{i}" for i in range(count + 1)))


def reversed_chain(count: int) -> list[Edge]:
    return chain(count)[::-1]


def shuffled_chain(count: int) -> list[Edge]:
    return shuffled(chain(count))


def layered(count: int) -> list[Edge]:
    edges = [
        (f"l{layer}_{i}", f"l{layer + 1}_{j}")
        for layer in range(count // 100 + 1)
        for i in range(10)
        for j in range(10)
    ]
    return shuffled(edges[:count])


def star_out(count: int) -> list[Edge]:
    return [("hub", f"t{i}") for i in range(count)]


def star_in(count: int) -> list[Edge]:
    return [(f"t{i}", "hub") for i in range(count)]


def random_dag(count: int) -> list[Edge]:
    rng = random.Random(3)
    edges: set[tuple[int, int]] = set()
    while len(edges) < count:
        start, end = sorted(rng.sample(range(count // 3), 2))
        edges.add((start, end))
    return shuffled((f"t{start}", f"t{end}") for start, end in sorted(edges))


def two_chains(count: int) -> list[Edge]:
    third = count // 3
    return [
        *((f"a{i}", f"a{i + 1}") for i in range(third)),
        *((f"b{i}", f"b{i + 1}") for i in range(third)),
        *shuffled((f"b{i}", f"a{i}") for i in range(third)),
    ]


def chains_joined_last_to_first(count: int) -> list[Edge]:
    edges = chain(count)
    joints = edges[9::10]
    del edges[9::10]
    return edges + joints[::-1]


def tributaries(count: int) -> list[Edge]:
    """Many small graphs, joined to the start of a long chain."""
    third = count // 3
    pairs = [(f"x{i}", f"y{i}") for i in range(third)]
    return [*chain(third), *pairs, *((f"y{i}", "t0") for i in range(third))]


def outlets(count: int) -> list[Edge]:
    """Many small graphs, joined to the end of a long chain."""
    third = count // 3
    pairs = [(f"x{i}", f"y{i}") for i in range(third)]
    return [*pairs, *chain(third), *((f"t{third}", f"x{i}") for i in range(third))]


def near_neighbours(count: int) -> list[Edge]:
    """Random edges that skip no more than a few topics."""
    rng = random.Random(9)
    edges: set[tuple[int, int]] = set()
    while len(edges) < count:
        start = rng.randrange(count // 3)
        edges.add((start, start + rng.randint(1, 20)))
    return shuffled((f"t{start}", f"t{end}") for start, end in sorted(edges))


def shuffled(edges: Iterable[Edge]) -> list[Edge]:
    result = list(edges)
    random.Random(7).shuffle(result)
    return result


class CountingLabels(dict[str, int]):
    """Labels that count how often one is written."""

    written = 0

    def __setitem__(self, topic: str, label: int) -> None:
        self.written += 1
        super().__setitem__(topic, label)


def steps_to_build(edges: list[Edge], monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many edges were looked at and labels written while ``edges`` were added."""
    looked_at = 0
    explore: Callable[..., Iterator[tuple[float, str]]] = dag_module._explore

    def counting_explore(*args: object, **kwargs: object) -> Iterator[tuple[float, str]]:
        nonlocal looked_at
        for place in explore(*args, **kwargs):
            looked_at += 1
            yield place

    dag = DAG()
    labels = CountingLabels()
    dag._order.label = labels
    with monkeypatch.context() as patched:
        patched.setattr(dag_module, "_explore", counting_explore)
        for start, end in edges:
            assert dag.would_close(start, end) is None
            assert dag.add_edge(start, end)
    assert_every_edge_points_forward(dag)
    return looked_at + labels.written


@pytest.mark.parametrize(
    "shape",
    [
        chain,
        reversed_chain,
        shuffled_chain,
        layered,
        star_out,
        star_in,
        random_dag,
        two_chains,
        chains_joined_last_to_first,
        tributaries,
        outlets,
        near_neighbours,
    ],
)
def test_ten_times_the_edges_cost_little_more_than_ten_times_the_steps(
    shape: Callable[[int], list[Edge]], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = steps_to_build(shape(600), monkeypatch)
    many = steps_to_build(shape(6_000), monkeypatch)

    assert many < 20 * few  # n log n gives about 14, a quadratic algorithm 100; no chance in it


def test_deciding_and_then_adding_searches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    search = DAG._search

    def counting_search(self: DAG, from_topic: str, to_topic: str) -> object:
        searches.append((from_topic, to_topic))
        return search(self, from_topic, to_topic)

    monkeypatch.setattr(DAG, "_search", counting_search)
    dag = wired("c d", "a b")
    start, end = ("b", "c") if topics_in_order(dag)[0] == "c" else ("d", "a")

    assert dag.would_close(start, end) is None
    assert dag.add_edge(start, end)

    assert searches == [(start, end)]
