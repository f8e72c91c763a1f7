"""Edges on a running bus: who may make and remove them, and what others see of it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from ezgraph import (
    DAG,
    CyclicException,
    Edge,
    ForeignEdgeError,
    InvalidCommandError,
    MalformedMessageError,
    UnknownEdgeError,
    sync,
)
from ezgraph.protocol.events import EdgeConnected, EdgeDisconnected

if TYPE_CHECKING:
    from ezgraph import GraphServer

pytestmark = pytest.mark.integration


def test_a_connected_edge_is_in_the_snapshot_with_its_owner(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        seq = ctx.connect("b", "c")
        ctx.connect("a", "c")

        snapshot = ctx.snapshot()

        assert (snapshot.seq, snapshot.epoch) == (seq + 1, 1)
        assert snapshot.graph == {"a": ["c"], "b": ["c"], "c": []}
        assert list(snapshot.graph) == ["a", "b", "c"]
        assert list(snapshot.edge_owners.items()) == [
            (Edge("a", "c"), [ctx.session_id]),
            (Edge("b", "c"), [ctx.session_id]),
        ]
        assert snapshot.sessions[ctx.session_id].edges == [Edge("a", "c"), Edge("b", "c")]


def test_the_dag_comes_with_owners_and_answers_questions_on_its_own(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        ctx.connect("a", "b")
        ctx.connect("b", "c")
        sync.GraphService(server.address).connect("a", "b")

        dag = ctx.dag()

        assert isinstance(dag, DAG)
        assert dag.edge_owners == {("a", "b"): {None, ctx.session_id}, ("b", "c"): {ctx.session_id}}
        assert dag.downstream("a") == ["a", "b", "c"]
        assert dag == sync.GraphService(server.address).dag()


def test_connecting_what_one_holds_already_changes_nothing(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        seq = ctx.connect("a", "b")

        assert ctx.connect("a", "b") == seq
        assert len(ctx.events(("edge",))) == 1


def test_only_the_first_and_the_last_owner_of_an_edge_change_the_topology(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as first, sync.GraphContext(server.address) as second:
        for each in (first, second):
            each.connect("a", "b")
        for each in (first, second):
            each.disconnect("a", "b")

        bodies = [event.body for event in first.events(("edge",))]

        assert bodies == [
            EdgeConnected("a", "b", first.session_id, topology_changed=True),
            EdgeConnected("a", "b", second.session_id, topology_changed=False),
            EdgeDisconnected("a", "b", first.session_id, topology_changed=False),
            EdgeDisconnected("a", "b", second.session_id, topology_changed=True),
        ]


def test_an_edge_event_says_who_caused_it_and_why(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        ctx.connect("a", "b", reason="amplifier 2 replaced")

        (event,) = ctx.events(("edge", "a", "b"))

        source = event.source
        assert (source.session_id, source.reason) == (ctx.session_id, "amplifier 2 replaced")
        assert (source.host, source.pid) == (socket.gethostname(), os.getpid())
        assert event.key == ("edge", "a", "b")
        assert event.wall_time > 1.7e9
        assert ctx.events(("session",))[0].source.reason is None


def test_disconnecting_an_edge_of_another_session_says_who_holds_it(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as owner, sync.GraphContext(server.address) as other:
        before = owner.connect("a", "b")

        with pytest.raises(ForeignEdgeError) as refused:
            other.disconnect("a", "b")

        message = str(refused.value)
        assert f"session {owner.session_id} (" in message
        assert f"on {socket.gethostname()}, pid {os.getpid()})" in message
        assert "only who holds it can disconnect it" in message
        assert other.sync() == before


def test_a_persistent_edge_belongs_to_no_session(server: GraphServer) -> None:
    service = sync.GraphService(server.address)
    with sync.GraphContext(server.address) as ctx:
        service.connect("a", "b")
        ctx.connect("b", "c")

        with pytest.raises(ForeignEdgeError, match="but by persistent"):
            ctx.disconnect("a", "b")
        with pytest.raises(
            ForeignEdgeError, match=f"by persistent but by session {ctx.session_id}"
        ):
            service.disconnect("b", "c")
        assert ctx.snapshot().edge_owners[Edge("a", "b")] == ["persistent"]

    assert service.dag().graph == {"a": {"b"}, "b": set()}
    service.disconnect("a", "b")
    assert service.dag().graph == {}


def test_disconnecting_what_is_not_connected_is_an_error(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx, pytest.raises(UnknownEdgeError) as refused:
        ctx.disconnect("a", "b")

    assert "no edge 'a' -> 'b'" in str(refused.value)
    assert "ezgraph ls edges" in str(refused.value)


def test_a_cycle_is_refused_with_the_loop_it_would_close(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx, sync.GraphContext(server.address) as other:
        ctx.connect("a", "b")
        before = ctx.connect("b", "c")

        with pytest.raises(CyclicException, match="c -> a -> b -> c"):
            other.connect("c", "a")
        with pytest.raises(CyclicException, match="a -> a"):
            other.connect("a", "a")

        assert ctx.sync() == before
        assert ctx.snapshot().graph == {"a": ["b"], "b": ["c"], "c": []}


@pytest.mark.parametrize("topic", ["SYS/A/OUT", "100 %", "µV ⚡", "a\nb", " ", "\x00"])
def test_any_text_is_a_topic(server: GraphServer, topic: str) -> None:
    with sync.GraphContext(server.address) as ctx:
        ctx.connect(topic, "end")

        assert ctx.snapshot().graph[topic] == ["end"]
        (event,) = ctx.events(("edge", topic))
        assert event.key == ("edge", topic, "end")


@pytest.mark.parametrize("topic", ["", "x" * 5000])
def test_a_topic_outside_the_grammar_is_refused_by_name(server: GraphServer, topic: str) -> None:
    with sync.GraphContext(server.address) as ctx:
        before = ctx.sync()

        with pytest.raises(InvalidCommandError, match=r"segment '' of key|at most 4096 are"):
            ctx.connect(topic, "b")

        assert ctx.sync() == before


def test_a_topic_that_is_no_text_at_all_is_refused(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        before = ctx.sync()

        with pytest.raises(MalformedMessageError, match="surrogates not allowed"):
            ctx.connect("\ud800", "b")
        with pytest.raises(MalformedMessageError, match="to_topic: expected text, got 3"):
            ctx.connect("a", 3)  # type: ignore[arg-type]

        assert ctx.sync() == before
