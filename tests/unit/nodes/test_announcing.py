"""What the bus is told of a graph's nodes."""

from __future__ import annotations

from time import monotonic

from ezgraph.broker import rules_nodes
from ezgraph.config import Limits
from ezgraph.nodes import EmptyNode, RootNode
from ezgraph.nodes.announcing import Announcements, cards_of
from ezgraph.protocol.commands import AnnounceNodes, ServeGraph
from ezgraph.protocol.events import Event, GraphServed, Source
from ezgraph.protocol.served import NodeCard
from ezgraph.state.nodes import NodesState
from ezgraph.wire import codec

LIMITS = Limits()


def tell(
    announcements: Announcements, cards: dict[str, NodeCard], most: int = 100
) -> list[AnnounceNodes]:
    commands = list(announcements.owed(cards, most))
    for command in commands:
        announcements.told(command)
    return commands


def test_each_node_has_a_card_with_the_first_way_to_it() -> None:
    shared = EmptyNode("shared")
    root = RootNode(uid="r", edges={"a": EmptyNode("a", edges={3: shared}), "b": shared})
    shared.edges["back"] = root

    cards = cards_of(root, LIMITS)

    assert list(cards) == ["r", "a", "shared"]
    assert cards["shared"] == NodeCard(
        "shared", ["b"], 1, "ezgraph.nodes.kinds.EmptyNode", "EmptyNode"
    )
    assert cards["r"].path == []


def test_cards_of_a_chain_of_ten_thousand_are_cut_and_taken_by_a_broker_and_quickly_made() -> None:
    root = node = EmptyNode("n0")
    for number in range(1, 10_000):
        node.edges["next"] = node = EmptyNode(f"n{number}")

    began = monotonic()
    cards = cards_of(root, LIMITS)
    took_s = monotonic() - began

    assert len(cards) == 10_000
    assert (len(cards["n9999"].path), cards["n9999"].depth) == (LIMITS.max_path_labels, 9_999)
    assert took_s < 2.0
    served = NodesState()
    (told,) = rules_nodes.serve(served, ServeGraph("run", "n0", "i", []), "s", limits=LIMITS)
    assert isinstance(told, GraphServed)
    served.serve(Event(1, 1, 0, 1, 1, 0.0, 0.0, (), Source(), None, told), told)
    some = AnnounceNodes("run", list(cards.values())[-1000:])
    assert len(rules_nodes.announce(served, some, "s", limits=LIMITS)) == 1000


def test_a_card_fits_whatever_a_node_says_of_itself() -> None:
    class Chatty(EmptyNode):
        def summary(self) -> str:
            return "\ud800" + "x" * 5_000

    class Broken(EmptyNode):
        def summary(self) -> str:
            raise OSError("the disk is gone")

    long = "l" * 900
    root = RootNode(
        uid="r", edges={"c": Chatty("c"), long: Broken("b", edges={long: EmptyNode("deep")})}
    )
    root.edges["\ud800"] = EmptyNode("odd label", edges={"x": EmptyNode("below")})
    root.edges["odd"] = odd = EmptyNode("odd uid")
    odd.uid = "\ud800"

    cards = cards_of(root, LIMITS)

    assert len(cards["c"].summary) == LIMITS.max_summary_characters
    assert "the disk is gone" in cards["b"].summary
    assert (cards["deep"].path, cards["deep"].depth) == ([long], 2)
    assert (cards["below"].path, cards["below"].depth) == ([], 2)
    assert "\ud800" not in cards
    assert codec.decode(codec.encode(AnnounceNodes("run", list(cards.values()))), AnnounceNodes)


def test_only_changes_are_told_in_commands_of_bounded_size() -> None:
    announcements = Announcements("run")
    cards = {uid: NodeCard(uid, [uid], 1, "lab.Node") for uid in "abcde"}

    assert [len(each.added) for each in tell(announcements, cards, 2)] == [2, 2, 1]
    assert tell(announcements, cards) == []
    del cards["a"]
    cards["b"] = NodeCard("b", ["elsewhere"], 1, "lab.Node")
    cards["f"] = NodeCard("f", ["f"], 1, "lab.Node")
    assert tell(announcements, cards) == [
        AnnounceNodes("run", [], ["a"]), AnnounceNodes("run", [cards["b"], cards["f"]], []),
    ]  # fmt: skip


def test_a_command_that_failed_is_owed_again() -> None:
    announcements = Announcements("run")
    cards = {uid: NodeCard(uid, [uid], 1, "lab.Node") for uid in "abcd"}
    first, *_ = announcements.owed(cards, 2)
    announcements.told(first)

    assert [[each.uid for each in command.added] for command in announcements.owed(cards, 2)] == [
        ["c", "d"]
    ]


def test_after_doubt_all_is_told_again_and_what_is_gone_since_is_withdrawn() -> None:
    announcements = Announcements("run")
    cards = {uid: NodeCard(uid, [uid], 1, "lab.Node") for uid in "ab"}
    tell(announcements, cards)

    announcements.doubt()
    del cards["a"]

    assert tell(announcements, cards) == [
        AnnounceNodes("run", [], ["a"]), AnnounceNodes("run", [cards["b"]], []),
    ]  # fmt: skip
    assert tell(announcements, cards) == []
