"""`DAG` against a model that could not be simpler: owned edges, searched from end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import CyclicException
from ezgraph.state.dag import DAG

if TYPE_CHECKING:
    from ezgraph.state.dag import Owner

Edge = tuple[str, str]
Step = tuple[str, str, str, "Owner"]

TOPICS = "abcdefgh"
topics = st.sampled_from(TOPICS)
owners = st.sampled_from([None, "session-1", "session-2"])
edges = st.tuples(topics, topics)


@dataclass
class Model:
    """Which owners hold which edge; everything else is worked out anew for each question."""

    edge_owners: dict[Edge, set[Owner]] = field(default_factory=dict)

    def reaches(self, start: str, goal: str) -> bool:
        seen, waiting = set(), [start]
        while waiting:
            topic = waiting.pop()
            if topic not in seen:
                seen.add(topic)
                waiting += [end for begin, end in self.edge_owners if begin == topic]
        return goal in seen

    def add_edge(self, start: str, end: str, owner: Owner) -> bool | None:
        """Return what `DAG.add_edge` must, None for a refusal."""
        is_new = (start, end) not in self.edge_owners
        if is_new and self.reaches(end, start):
            return None
        self.edge_owners.setdefault((start, end), set()).add(owner)
        return is_new

    def remove_edge(self, start: str, end: str, owner: Owner) -> bool:
        holders = self.edge_owners.get((start, end), set())
        if owner not in holders:
            return False
        holders.remove(owner)
        if not holders:
            del self.edge_owners[start, end]
        return not holders

    def remove_owner(self, owner: Owner) -> list[Edge]:
        return [edge for edge in sorted(self.edge_owners) if self.remove_edge(*edge, owner)]

    def graph(self) -> dict[str, set[str]]:
        known = {topic for edge in self.edge_owners for topic in edge}
        return {
            topic: {end for begin, end in self.edge_owners if begin == topic} for topic in known
        }

    def invgraph(self) -> dict[str, set[str]]:
        graph = self.graph()
        return {topic: {begin for begin in graph if topic in graph[begin]} for topic in graph}


steps = st.one_of(
    st.tuples(st.just("add"), topics, topics, owners),
    st.tuples(st.just("decide and add"), topics, topics, owners),
    st.tuples(st.just("decide"), topics, topics, owners),
    st.tuples(st.just("remove"), topics, topics, owners),
    st.tuples(st.just("remove owner"), topics, topics, owners),
)


def add_edge(dag: DAG, start: str, end: str, owner: Owner) -> bool | None:
    try:
        return dag.add_edge(start, end, owner)
    except CyclicException:
        return None


def take(step: Step, dag: DAG, model: Model) -> None:
    """Do the same to both and compare the answers."""
    name, start, end, owner = step
    match name:
        case "add":
            assert add_edge(dag, start, end, owner) == model.add_edge(start, end, owner)
        case "decide":
            assert_same_verdict(dag, model, start, end)
        case "decide and add":
            assert_same_verdict(dag, model, start, end)
            assert add_edge(dag, start, end, owner) == model.add_edge(start, end, owner)
        case "remove":
            assert dag.remove_edge(start, end, owner) == model.remove_edge(start, end, owner)
        case "remove owner":
            assert dag.remove_owner(owner) == model.remove_owner(owner)
        case _:
            raise AssertionError(name)


def assert_same_verdict(dag: DAG, model: Model, start: str, end: str) -> None:
    loop = dag.would_close(start, end)

    assert (loop is not None) == model.reaches(end, start)
    if loop is not None:
        assert loop[0] == loop[-1] == start
        assert loop[1] == end
        assert all(edge in model.edge_owners for edge in pairwise(loop[1:]))


def assert_same_content(dag: DAG, model: Model) -> None:
    assert dag.edge_owners == model.edge_owners
    assert dag.graph == model.graph()
    assert dag.invgraph == model.invgraph()
    assert dag.graph.keys() == dag.invgraph.keys() == dag.nodes
    for owner in (None, "session-1", "session-2"):
        held = [edge for edge in model.edge_owners if owner in model.edge_owners[edge]]
        assert dag.edges_of(owner) == tuple(sorted(held))


def assert_order_is_topological(dag: DAG) -> None:
    label = dag._order.label
    walked = []
    topic = dag._order.following(None)
    while topic is not None:
        walked.append(topic)
        topic = dag._order.following(topic)

    assert set(walked) == label.keys() == dag.nodes
    assert len(set(label.values())) == len(label)
    assert walked == sorted(label, key=label.__getitem__)
    assert all(label[start] < label[end] for start, end in dag.edge_owners)


@given(st.lists(steps, max_size=60))
def test_any_sequence_of_changes_ends_as_the_model_says(sequence: list[Step]) -> None:
    dag, model = DAG(), Model()

    for step in sequence:
        take(step, dag, model)

        assert_same_content(dag, model)
        assert_order_is_topological(dag)


@given(st.permutations([(a, b) for a in TOPICS for b in TOPICS if a < b]))
def test_the_edges_of_a_complete_dag_fit_in_any_sequence(sequence: list[Edge]) -> None:
    dag = DAG()

    assert all(dag.add_edge(*edge) for edge in sequence)

    assert_order_is_topological(dag)
    for start, end in sequence:
        assert dag.would_close(end, start) == [end, start, end]


@given(st.lists(edges), topics, topics)
def test_paths_and_reach_agree_with_the_model(wanted: list[Edge], start: str, goal: str) -> None:
    dag, model = DAG(), Model()
    for edge in wanted:
        take(("add", *edge, None), dag, model)

    path = dag.path(start, goal)

    assert (path is not None) == model.reaches(start, goal)
    assert (goal in dag.downstream(start)) == (start in dag.upstream(goal)) == (path is not None)
    if path is not None:
        assert (path[0], path[-1]) == (start, goal)
        assert all(edge in model.edge_owners for edge in pairwise(path))
        assert len(set(path)) == len(path)


@given(st.lists(edges), topics, topics)
def test_two_dags_of_equal_content_answer_alike_whatever_their_past(
    wanted: list[Edge], start: str, end: str
) -> None:
    dag = DAG()
    for edge in wanted:
        add_edge(dag, *edge, None)
    other = DAG()
    for edge in reversed(dag.edge_owners):
        other.add_edge(*edge)

    assert dag == other == dag.copy()
    assert dag.would_close(start, end) == other.would_close(start, end)
    assert dag.path(start, end) == other.path(start, end)
    assert dag.downstream(start) == other.downstream(start)


@given(st.lists(st.tuples(topics, topics, owners)), topics, topics)
def test_a_refused_edge_leaves_no_trace(
    wanted: list[tuple[str, str, Owner]], start: str, end: str
) -> None:
    dag = DAG()
    for begin, goal, owner in wanted:
        add_edge(dag, begin, goal, owner)
    before = dag.copy()

    if add_edge(dag, start, end, "session-3") is None:
        assert dag == before
        assert (dag.graph, dag.invgraph) == (before.graph, before.invgraph)
        assert dag._order.label == before._order.label
        assert dag.edges_of("session-3") == ()
