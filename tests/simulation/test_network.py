"""The simulated network behaves as the sockets do; else what runs on it would prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph.config import Address
from ezgraph.testing.network import BrokerPort, Cable, CommandLink, EventLink, Network

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS, EVENTS = Address("b", 1), Address("b", 2)


class Bench:
    """A port, a DEALER and a SUB on a network."""

    def __init__(self, seed: int = 0) -> None:
        self.network = Network(seed)
        self.port = BrokerPort(self.network, lambda: None)
        self.network.bind(self.port, COMMANDS, EVENTS)
        self.replies: list[Sequence[bytes]] = []
        self.dealer = CommandLink(self.network, self.replies.append)
        self.dealer.dial(COMMANDS)
        self.sub, self.received = self.subscriber()

    def subscriber(self) -> tuple[EventLink, list[Sequence[bytes]]]:
        received: list[Sequence[bytes]] = []
        sub = EventLink(self.network, received.append)
        sub.listen(EVENTS)
        self.network.run(0.1)
        return sub, received

    def passed_up(self) -> list[bytes]:
        self.network.run(1.0)
        messages = list(self.port.subscriptions)
        self.port.subscriptions.clear()
        return messages


def test_requests_and_replies_arrive_in_order() -> None:
    bench = Bench()

    for n in range(50):
        bench.dealer.send([b"%d" % n])
    bench.network.run(1.0)
    peer = bench.port.requests[0].peer
    for n in range(50):
        bench.port.send_reply([peer, b"%d" % n])
    bench.network.run(1.0)

    assert [arrival.message for arrival in bench.port.requests] == [[b"%d" % n] for n in range(50)]
    assert bench.replies == [[b"%d" % n] for n in range(50)]


def test_a_new_connection_has_a_new_routing_id_and_gets_what_waited() -> None:
    bench = Bench()
    bench.dealer.send([b"before"])
    bench.network.run(1.0)

    bench.dealer.send([b"lost on the wire"])
    bench.dealer.cut()
    bench.dealer.send([b"waited"])
    bench.network.run(1.0)

    old, new = bench.port.requests
    assert old.peer != new.peer
    assert new.message == [b"waited"]
    bench.port.send_reply([old.peer, b"too late"])
    bench.network.run(1.0)
    assert bench.replies == []


def test_events_go_to_prefixes_of_bytes_in_order() -> None:
    bench = Bench()
    bench.sub.subscribe(b"edge/a")
    bench.network.run(1.0)

    for topic in [b"edge/a/", b"edge/", b"edge/ab/", b"x"]:
        bench.port.publish([topic])
    bench.network.run(1.0)

    assert bench.received == [[b"edge/a/"], [b"edge/ab/"]]


def test_every_subscription_is_passed_up_and_only_the_last_unsubscription() -> None:
    bench = Bench()
    other, _ = bench.subscriber()

    bench.sub.subscribe(b"a")
    other.subscribe(b"a")
    assert bench.passed_up() == [b"\x01a", b"\x01a"]
    bench.sub.unsubscribe(b"a")
    assert bench.passed_up() == []
    other.close()
    assert bench.passed_up() == [b"\x00a"]


def test_a_subscription_counts_before_the_broker_has_read_it() -> None:
    bench = Bench()
    bench.sub.subscribe(b"a")
    bench.network.run(1.0)
    assert len(bench.port.subscriptions) == 1

    bench.port.publish([b"a"])
    bench.network.run(1.0)

    assert bench.received == [[b"a"]]


def test_a_reconnect_subscribes_again() -> None:
    bench = Bench()
    bench.sub.subscribe(b"a")
    bench.sub.subscribe(b"b")
    bench.passed_up()

    bench.sub.cut()
    bench.port.publish([b"a", b"while away"])

    assert {b"\x01a", b"\x01b"} <= set(bench.passed_up())
    bench.port.publish([b"a", b"again"])
    bench.network.run(1.0)
    assert bench.received == [[b"a", b"again"]]


def test_beyond_the_high_water_mark_messages_are_dropped() -> None:
    bench = Bench()
    bench.sub.subscribe(b"a")
    bench.network.run(1.0)
    bench.sub.high_water_mark = 3

    for n in range(10):
        bench.port.publish([b"a", b"%d" % n])
    bench.network.run(1.0)

    assert bench.received == [[b"a", b"0"], [b"a", b"1"], [b"a", b"2"]]
    assert bench.sub.dropped == 7


def test_what_a_dead_broker_had_sent_may_still_arrive_and_what_it_had_not_read_is_gone() -> None:
    arrived = 0
    for seed in range(30):
        bench = Bench(seed)
        bench.dealer.send([b"q"])
        bench.network.run(1.0)
        (arrival,) = bench.port.requests
        bench.port.send_reply([arrival.peer, b"answer"])
        bench.network.unbind(bench.port)
        bench.dealer.send([b"unread"])
        bench.network.run(1.0)
        arrived += len(bench.replies)
        assert not bench.port.requests

    assert 0 < arrived < 30


def test_one_seed_is_one_course_of_events() -> None:
    courses = []
    for _ in range(2):
        bench = Bench(5)
        for n in range(20):
            bench.dealer.send([b"%d" % n])
        bench.dealer.cut()
        bench.network.run(1.0)
        courses.append((bench.network.random.random(), bench.port.requests))

    assert courses[0] == courses[1]


def test_a_pulled_cable_holds_everything_back_and_tells_nobody() -> None:
    bench = Bench()
    bench.sub.subscribe(b"a")
    bench.network.run(1.0)
    bench.port.monitor.clear()

    bench.dealer.block(2.0)
    bench.sub.block(2.0)
    for n in range(3):
        bench.dealer.send([b"%d" % n])
        bench.port.publish([b"a", b"%d" % n])
    bench.network.run(1.9)
    assert not bench.port.requests
    assert bench.received == []
    bench.network.run(1.0)

    assert [arrival.message for arrival in bench.port.requests] == [[b"%d" % n] for n in range(3)]
    assert bench.received == [[b"a", b"%d" % n] for n in range(3)]
    assert not bench.port.monitor


def test_a_cable_pulled_in_one_direction_lets_the_other_pass() -> None:
    bench = Bench()
    bench.dealer.send([b"first"])
    bench.network.run(1.0)
    (first,) = bench.port.requests

    bench.dealer.block(5.0, "up")
    bench.dealer.send([b"second"])
    bench.port.send_reply([first.peer, b"answer"])
    bench.network.run(1.0)

    assert bench.replies == [[b"answer"]]
    assert len(bench.port.requests) == 1


def test_the_cable_of_a_host_serves_all_its_connections() -> None:
    network, cable = Network(), Cable()
    port = BrokerPort(network, lambda: None)
    network.bind(port, COMMANDS, EVENTS)
    dealer = CommandLink(network, lambda _: None, cable=cable)
    other = CommandLink(network, lambda _: None)
    for link in (dealer, other):
        link.dial(COMMANDS)
    network.run(0.1)

    cable.pull(network.now + 1.0, "both")
    dealer.send([b"held"])
    other.send([b"not held"])
    network.run(0.5)

    assert [arrival.message for arrival in port.requests] == [[b"not held"]]
    network.run(1.0)
    assert [arrival.message for arrival in port.requests] == [[b"not held"], [b"held"]]


def test_no_connection_is_made_while_the_cable_is_pulled() -> None:
    bench = Bench()
    bench.port.monitor.clear()

    bench.dealer.block(3.0)
    bench.dealer.cut()
    bench.network.run(2.9)
    assert not bench.port.monitor
    bench.network.run(1.0)

    assert sorted(what for what, _ in bench.port.monitor) == ["accepted", "disconnected"]


@pytest.mark.parametrize(("here_s", "there_s"), [(1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
def test_the_ends_of_a_half_open_connection_notice_when_they_are_told_to(
    here_s: float, there_s: float
) -> None:
    bench = Bench()
    bench.dealer.send([b"before"])
    bench.network.run(1.0)
    bench.port.monitor.clear()
    noticed: dict[str, float] = {}
    start = bench.network.now

    bench.dealer.cut(here_s=here_s, there_s=there_s)
    bench.dealer.send([b"lost"])
    for _ in range(300):
        bench.network.run(0.01)
        for what, _fd in bench.port.monitor:
            noticed.setdefault(what, bench.network.now - start)
    bench.dealer.send([b"after"])
    bench.network.run(1.0)

    assert noticed["disconnected"] == pytest.approx(there_s, abs=0.03)
    assert here_s <= noticed["accepted"] <= here_s + 0.35
    assert [arrival.message for arrival in bench.port.requests] == [[b"before"], [b"after"]]


def test_a_descriptor_is_given_out_again_at_once() -> None:
    bench = Bench()
    bench.dealer.cut()
    bench.network.run(1.0)

    said = list(bench.port.monitor)

    assert [what for what, _ in said] == ["accepted", "disconnected", "accepted"]
    assert len({fd for _, fd in said}) == 1


def test_requests_are_repeated_on_the_same_connection_when_told_to() -> None:
    bench = Bench()

    bench.dealer.repeat_for(0.1)
    bench.dealer.send([b"a"])
    bench.network.run(0.2)
    bench.dealer.send([b"b"])
    bench.network.run(2.0)

    messages = [arrival.message for arrival in bench.port.requests]
    assert sorted(map(list, messages)) == [[b"a"], [b"a"], [b"b"]]
    assert len({arrival.peer for arrival in bench.port.requests}) == 1
