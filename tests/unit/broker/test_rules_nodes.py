"""Served graphs: who serves a name, who may join, what is announced, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.broker.core import BrokerCore
from ezgraph.config import BrokerConfig, Limits
from ezgraph.protocol.commands import (
    AnnounceNodes,
    FindGraph,
    Goodbye,
    ListClients,
    Revert,
    ServeGraph,
    WithdrawGraph,
)
from ezgraph.protocol.events import (
    EndReason,
    Event,
    GraphServed,
    GraphWithdrawn,
    NodeAnnounced,
    NodeWithdrawn,
    ProcessClosed,
    SessionClosed,
)
from ezgraph.protocol.replies import Done, Serving
from ezgraph.protocol.served import NodeCard
from ezgraph.state.graph import GraphState
from ezgraph.verify.ownership import OwnershipCheck, state_lacks

if TYPE_CHECKING:
    from tests.unit.broker.conftest import Desk

ALICE, BOB, GUEST, PROCESS = b"alice", b"bob", b"guest", b"process"
SERVE = ServeGraph("run", "root", "i1", ["127.0.0.1:4000"])
LIMITS = Limits(
    max_leases=10,
    max_graphs_per_lease=2,
    max_announced_nodes_per_lease=4,
    max_announced_nodes_per_command=3,
    max_endpoints_per_graph=2,
    max_path_labels=2,
    max_path_characters=5,
    max_summary_characters=4,
)


def card(uid: str, *path: str | int, **more: Any) -> NodeCard:
    return NodeCard(uid, list(path), **{"depth": len(path), "class_name": "lab.Node", **more})


def added(*cards: NodeCard, name: str = "run") -> AnnounceNodes:
    return AnnounceNodes(name, list(cards))


@pytest.fixture
def joined(desk: Desk) -> Desk:
    """A broker with two sessions, a guest and a process."""
    for peer, kind in ((ALICE, "session"), (BOB, "session"), (GUEST, "guest")):
        desk.join(peer, kind)
    desk.join(PROCESS, "process")
    return desk


@pytest.fixture
def narrow(joined: Desk) -> Desk:
    """The same with few of everything."""
    joined.core._config = BrokerConfig(limits=LIMITS)
    return joined


def owner_of(desk: Desk, peer: bytes) -> str:
    connection = desk.core.connection_of(peer)
    assert connection is not None
    return connection.lease.client


def uids(desk: Desk, name: str = "run") -> set[str]:
    return set(desk.state.served.nodes_of(name))


# --- serving ---


@pytest.mark.parametrize("peer", [ALICE, PROCESS])
def test_a_session_or_a_process_serves_a_graph_and_is_given_a_secret_that_is_in_no_event(
    joined: Desk, peer: bytes
) -> None:
    outcome = joined.outcome(peer, SERVE)

    assert isinstance(outcome.reply, Serving)
    assert len(outcome.reply.ticket_secret) == 32
    (event,) = outcome.events
    owner = owner_of(joined, peer)
    assert event.body == GraphServed("run", "root", owner, "i1", ["127.0.0.1:4000"])
    assert event.key == ("node", "run", "root")
    assert outcome.reply.ticket_secret not in repr(event).encode()
    assert repr(outcome.reply.ticket_secret) not in repr(outcome.reply)


def test_a_guest_serves_nothing(joined: Desk) -> None:
    assert joined.refusal(GUEST, SERVE).code == "invalid_command"
    assert joined.refusal(GUEST, WithdrawGraph("run")).code == "invalid_command"


def test_saying_it_again_makes_no_event_and_gives_the_same_secret(joined: Desk) -> None:
    first = joined.ask(ALICE, SERVE)
    joined.bodies(ALICE, added(card("root"), card("n", "n")))

    again = joined.outcome(ALICE, SERVE)

    assert again.events == ()
    assert isinstance(first, Serving)
    assert isinstance(again.reply, Serving)
    assert again.reply.ticket_secret == first.ticket_secret
    assert joined.bodies(ALICE, added(card("root"), card("n", "n"))) == []


def test_secrets_differ_by_graph_by_owner_and_by_host_and_not_by_run_of_the_broker(
    joined: Desk,
) -> None:
    secret = joined.core.admission.ticket_secret
    other = BrokerCore(
        GraphState(), joined.core.admission._cluster, BrokerConfig(), joined.core.admission._ids,
        events_port=1, floor=1,
    )  # fmt: skip

    found = {
        secret("run", "s", "i"), secret("run2", "s", "i"), secret("run", "s2", "i"),
        secret("run", "s", "i2"), secret("runs", "", "i"), secret("run", "si", ""),
    }  # fmt: skip

    assert len(found) == 6
    assert other.admission.ticket_secret("run", "s", "i") == secret("run", "s", "i")


def test_a_repeated_request_is_answered_alike_also_when_only_its_transaction_is_known(
    joined: Desk,
) -> None:
    first = joined.ask(ALICE, SERVE, request_id=900)
    lease = joined.core.connection_of(ALICE).lease  # type: ignore[union-attr]
    assert joined.ask(ALICE, SERVE, request_id=900) == first

    kept = lease.answers.export("alice")
    assert (kept.requests[-1], kept.seqs[-1]) == (900, joined.state.seq)
    lease.answers.remember(900, Done(joined.state.seq))  # as after a restart
    outcome = joined.outcome(ALICE, SERVE, request_id=900)

    assert outcome.events == ()
    assert outcome.reply == first


def test_another_graph_under_that_name_is_refused_and_the_holder_named(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)

    refusal = joined.refusal(BOB, replace(SERVE, root_uid="other"))

    assert refusal.code == "address_collision"
    assert "demo.py[42]@rig ada" in refusal.message
    assert owner_of(joined, ALICE) in refusal.message


def test_who_serves_the_same_root_joins_and_what_was_announced_goes_with_the_last(
    joined: Desk,
) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root"), card("n", "n")))
    joined.bodies(BOB, replace(SERVE, incarnation="i2", endpoints=["127.0.0.1:4001"]))
    assert joined.bodies(BOB, added(card("root"))) == []

    alice, bob = owner_of(joined, ALICE), owner_of(joined, BOB)
    assert joined.bodies(ALICE, WithdrawGraph("run")) == [
        GraphWithdrawn("run", "root", alice, is_last=False)
    ]
    assert uids(joined) == {"root", "n"}
    assert joined.bodies(BOB, WithdrawGraph("run")) == [
        NodeWithdrawn("run", "n"),
        NodeWithdrawn("run", "root"),
        GraphWithdrawn("run", "root", bob, is_last=True),
    ]
    assert len(joined.state.served) == 0
    assert not joined.state.served.nodes


def test_a_host_made_anew_begins_afresh_unless_others_serve_the_graph_too(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root")))

    bodies = joined.bodies(ALICE, replace(SERVE, incarnation="i2"))
    assert [type(each) for each in bodies] == [NodeWithdrawn, GraphWithdrawn, GraphServed]
    assert uids(joined) == set()

    joined.ask(ALICE, added(card("root")))
    joined.ask(BOB, SERVE)
    assert [type(each) for each in joined.bodies(ALICE, replace(SERVE, incarnation="i3"))] == [
        GraphServed
    ]
    assert uids(joined) == {"root"}
    assert joined.refusal(ALICE, replace(SERVE, root_uid="r2")).code == "address_collision"


def test_another_root_or_endpoint_of_the_same_host_is_told(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root")))

    moved = joined.bodies(ALICE, replace(SERVE, endpoints=[]))
    assert [type(each) for each in moved] == [GraphServed]
    assert uids(joined) == {"root"}

    bodies = joined.bodies(ALICE, replace(SERVE, root_uid="r2"))
    assert [type(each) for each in bodies] == [NodeWithdrawn, GraphWithdrawn, GraphServed]


def test_a_graph_that_announces_no_longer_withdraws_its_nodes(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root")))

    bodies = joined.bodies(ALICE, replace(SERVE, announces=False))

    assert [type(each) for each in bodies] == [NodeWithdrawn, GraphServed]
    assert joined.refusal(ALICE, added(card("root"))).code == "invalid_command"


def test_several_graphs_are_served_by_one_and_by_several(joined: Desk) -> None:
    for peer, name in ((ALICE, "a"), (ALICE, "b"), (BOB, "c")):
        joined.ask(peer, replace(SERVE, name=name))

    assert joined.state.served.of_owner(owner_of(joined, ALICE)) == ["a", "b"]
    assert list(joined.state.snapshot().graphs) == ["a", "b", "c"]
    assert joined.state.snapshot().graphs["c"].owners == [owner_of(joined, BOB)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"root_uid": ""},
        {"name": "\ud800"},
        {"name": "n" * 4000},
        {"incarnation": ""},
        {"incarnation": "i" * 301},
        {"public_key": b"short"},
        {"endpoints": ["nowhere"]},
        {"endpoints": ["127.0.0.1:0"]},
        {"endpoints": ["tcp://127.0.0.1:4000"]},
        {"endpoints": ["h" * 400 + ":1"]},
        {"endpoints": ["127.0.0.1:70000"]},
    ],
)
def test_what_lies_outside_the_grammar_is_refused(joined: Desk, wrong: dict[str, Any]) -> None:
    assert joined.refusal(ALICE, replace(SERVE, **wrong)).code == "invalid_command"


# --- announcing ---


def test_only_what_is_new_is_announced_and_only_what_is_there_withdrawn(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    bodies = joined.bodies(ALICE, added(card("root"), card("n", "a", 3, summary="f4 (2,)")))
    assert bodies[1] == NodeAnnounced("run", "n", ["a", 3], 2, "lab.Node", "f4 (2,)")

    again = AnnounceNodes("run", [card("root"), card("m", "m")], ["n", "never"])

    assert joined.bodies(ALICE, again) == [
        NodeWithdrawn("run", "n"), NodeAnnounced("run", "m", ["m"], 1, "lab.Node"),
    ]  # fmt: skip
    assert joined.bodies(ALICE, added(card("m", "other"))) == [
        NodeAnnounced("run", "m", ["other"], 1, "lab.Node")
    ]


def test_only_who_serves_a_graph_announces_its_nodes(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)

    assert joined.refusal(BOB, added(card("root"))).code == "not_owner"
    assert joined.refusal(BOB, WithdrawGraph("run")).code == "not_owner"
    assert joined.refusal(ALICE, added(card("root"), name="none")).code == "not_owner"
    assert joined.bodies(BOB, WithdrawGraph("none")) == []


@pytest.mark.parametrize(
    ("command", "limit"),
    [
        (added(*map(card, "abcd")), "max_announced_nodes_per_command"),
        (added(card("a", 1, 2, 3)), "max_path_labels"),
        (added(card("a", "long", "er")), "max_path_characters"),
        (added(card("a", summary="12345")), "max_summary_characters"),
        (added(card("a", class_name="c" * 301)), "class name"),
        (replace(SERVE, endpoints=["a:1", "b:1", "c:1"]), "max_endpoints_per_graph"),
    ],
)
def test_what_one_command_may_say_is_bounded(narrow: Desk, command: Any, limit: str) -> None:
    narrow.ask(ALICE, SERVE)

    refusal = narrow.refusal(ALICE, command)

    assert refusal.code == "limit"
    assert limit in refusal.message


def test_what_a_lease_may_serve_and_announce_is_bounded(narrow: Desk) -> None:
    for name in "ab":
        narrow.ask(ALICE, replace(SERVE, name=name))
    assert "max_graphs_per_lease" in narrow.refusal(ALICE, replace(SERVE, name="c")).message
    assert narrow.bodies(ALICE, replace(SERVE, name="b")) == []

    narrow.ask(ALICE, added(*map(card, "123"), name="a"))
    narrow.ask(ALICE, added(card("4"), name="b"))
    refusal = narrow.refusal(ALICE, added(card("5"), name="b"))
    assert "max_announced_nodes_per_lease" in refusal.message
    assert narrow.bodies(ALICE, AnnounceNodes("b", [card("5")], ["4"]))
    assert narrow.bodies(ALICE, AnnounceNodes("a", [], ["1"]))


@pytest.mark.parametrize(
    "command",
    [
        added(card("a"), card("a")),
        AnnounceNodes("run", [card("a")], ["a"]),
        added(card("")),
        added(card("a", "x", depth=0)),
        added(card("a", 1 << 70)),
        added(card("a", "x" * 1001)),
    ],
)
def test_cards_outside_the_grammar_are_refused(joined: Desk, command: AnnounceNodes) -> None:
    joined.ask(ALICE, SERVE)
    if command.added[0].path == [1 << 70]:
        assert joined.bodies(ALICE, command)  # a label may be any integer
    else:
        assert joined.refusal(ALICE, command).code in ("invalid_command", "limit")


# --- the end ---


@pytest.mark.parametrize("peer", [ALICE, PROCESS])
def test_what_a_lease_serves_ends_with_it_in_one_transaction_an_event_for_each(
    joined: Desk, peer: bytes
) -> None:
    joined.ask(peer, SERVE)
    joined.ask(peer, added(card("root"), card("n", "n")))
    before = fold(joined)

    outcome = joined.outcome(peer, Goodbye())

    kinds = [type(event.body) for event in outcome.events]
    closed = SessionClosed if peer == ALICE else ProcessClosed
    assert kinds == [NodeWithdrawn, NodeWithdrawn, GraphWithdrawn, closed]
    assert len({event.txn_first for event in outcome.events}) == 1
    assert list(OwnershipCheck().before(before, outcome.events)) == []
    assert list(state_lacks(joined.state)) == []


def fold(desk: Desk) -> GraphState:
    return GraphState.fold(desk.events, epoch=1, seq=desk.state.seq)


def test_an_end_that_forgets_a_graph_or_a_node_is_found(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root"), card("n", "n")))
    before = fold(joined)
    events = joined.outcome(ALICE, Goodbye()).events

    def findings(*left_out: int) -> str:
        some = [each for number, each in enumerate(events) if number not in left_out]
        return str([finding.what for finding in OwnershipCheck().before(before, some)])

    assert "nodes served by" in findings(0)
    assert "graphs served by" in findings(2)


def test_what_outlives_who_serves_it_is_found(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root")))
    served = joined.state.served
    del joined.state.sessions[owner_of(joined, ALICE)]
    assert any("outlive who serves them" in each for each in state_lacks(joined.state))

    served.hosts.clear()
    assert any("outlive their graphs" in each for each in state_lacks(joined.state))


def test_a_crash_and_a_revert_end_it_too_and_a_late_one_is_told_what_it_lost(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root")))
    joined.ask(BOB, replace(SERVE, name="b"))
    assert [type(each) for each in joined.bodies(BOB, Revert())] == [GraphWithdrawn]
    client = owner_of(joined, ALICE)

    over = joined.pass_time(7.0)

    (ending,) = [each for each in over if each[-1].body == SessionClosed(client, EndReason.EXPIRED)]
    assert [type(event.body) for event in ending[:-1]] == [NodeWithdrawn, GraphWithdrawn]
    lost = joined.core.admission.ended.get(client)
    assert lost is not None
    assert lost.graphs == ["run"]
    assert str(lost) == "1 served graph (run)"


def test_a_listing_says_who_serves_what(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)

    listed = joined.core.list_clients(joined.now)

    assert {each.id: each.graphs for each in listed.clients}[owner_of(joined, ALICE)] == ["run"]


def test_finding_is_a_read_for_everybody(joined: Desk) -> None:
    for peer in (ALICE, PROCESS, GUEST):
        outcome = joined.outcome(peer, FindGraph())
        assert (outcome.read, outcome.events) == (FindGraph(), ())
    assert joined.outcome(ALICE, ListClients()).read is not None


# --- the state ---


def test_the_live_events_fold_to_the_same_state_as_the_whole_history(joined: Desk) -> None:
    from ezgraph.protocol.events import slot_of

    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root"), card("n", "n")))
    joined.ask(BOB, replace(SERVE, incarnation="i2"))
    joined.ask(ALICE, replace(SERVE, endpoints=[]))
    joined.ask(ALICE, AnnounceNodes("run", [], ["n"]))
    joined.ask(PROCESS, replace(SERVE, incarnation="i3"))
    joined.ask(PROCESS, replace(SERVE, name="gone"))
    joined.ask(PROCESS, WithdrawGraph("gone"))
    live: dict[tuple[str, ...], Event] = {}
    for event in joined.events:
        slot, is_filled = slot_of(event.body)
        live.pop(slot, None)
        if is_filled:
            live[slot] = event

    folded = GraphState.fold(live.values(), epoch=1, seq=joined.state.seq)

    assert folded.fingerprint() == joined.state.fingerprint()
    owners = [owner_of(joined, peer) for peer in (BOB, ALICE, PROCESS)]
    for state in (joined.state, folded):
        assert [each.served.owner for each in state.served.hosts_of("run")] == owners
    assert folded.content_fingerprint() == joined.state.content_fingerprint()


def test_states_that_differ_in_a_host_or_a_node_have_other_fingerprints(joined: Desk) -> None:
    joined.ask(ALICE, SERVE)
    joined.ask(ALICE, added(card("root")))
    before = joined.state.fingerprint()
    cards = joined.state.served.nodes["run"]

    was, cards["root"] = cards["root"], replace(cards["root"], summary="other")
    assert joined.state.fingerprint() != before
    cards["root"] = was
    assert joined.state.fingerprint() == before
