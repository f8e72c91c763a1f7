"""Which way a graph is read."""

from __future__ import annotations

import pytest

from ezgraph.config import Address, ClientKeys
from ezgraph.errors import NodeHostGoneError
from ezgraph.nodes.directory import way_to
from ezgraph.protocol.served import FoundGraph, FoundHost
from ezgraph.wire.relaying import read_relay_frame
from ezgraph.wire.tickets import PREAMBLE

KEY = b"k" * 32
HERE, THERE = Address("127.0.0.1", 25979), Address("10.0.0.1", 25979)


def host(owner: str, *endpoints: str, key: bytes | None = KEY) -> FoundHost:
    return FoundHost(owner, "rig.py", f"i-{owner}", list(endpoints), key, owner.encode())


def graph(*hosts: FoundHost, relay_port: int | None = None) -> FoundGraph:
    return FoundGraph("run", "root", 1, list(hosts), 600.0, relay_port)


def test_hosts_are_dialled_themselves_in_order_each_with_its_key_and_ticket() -> None:
    found = graph(host("a", "10.0.0.2:1", "10.0.0.3:2"), host("b", "10.0.0.4:3", key=None))

    way = way_to(found, THERE)

    assert [str(each.address) for each in way.endpoints] == [
        "10.0.0.2:1", "10.0.0.3:2", "10.0.0.4:3",
    ]  # fmt: skip
    assert [each.server_key for each in way.endpoints] == [KEY, KEY, None]
    assert [each.opening for each in way.endpoints[1:]] == [[PREAMBLE + b"a"], [PREAMBLE + b"b"]]
    assert way.life_s == 600.0


def test_a_loopback_address_is_only_dialled_by_who_dials_the_broker_there() -> None:
    found = graph(host("a", "127.0.0.1:1", key=None), host("b", "10.0.0.4:3"))

    assert len(way_to(found, HERE).endpoints) == 2
    assert [str(each.address) for each in way_to(found, THERE).endpoints] == ["10.0.0.4:3"]


def test_the_brokers_host_passes_on_where_nothing_else_is_left() -> None:
    found = graph(host("a", "127.0.0.1:1"), relay_port=25981)

    keys = ClientKeys("anna", b"p" * 32, b"s" * 32, {THERE: KEY})
    (relayed,) = way_to(found, THERE, keys).endpoints

    assert relayed.address == Address("10.0.0.1", 25981)
    assert (relayed.server_key, relayed.pair) == (KEY, (keys.public, keys.secret))
    assert relayed.note == "relayed by 10.0.0.1:25981"
    route, ticket = relayed.opening
    assert read_relay_frame(route) == ("run", "a")
    assert ticket == PREAMBLE + b"a"


def test_no_way_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NodeHostGoneError, match=r"at 127.0.0.1:1, which.*serve it with host"):
        way_to(graph(host("a", "127.0.0.1:1")), THERE)
    with pytest.raises(NodeHostGoneError, match="nowhere"):
        way_to(graph(), HERE)
