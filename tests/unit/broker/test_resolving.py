"""Names of hosts are looked up once, elsewhere, and forgotten after a while."""

from __future__ import annotations

import threading

import pytest

from ezgraph.broker.relaying.resolving import Resolver


class Server:
    """A name server that counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_asked = threading.Semaphore(0)

    def look_up(self, host: str) -> str:
        self.asked.append(host)
        try:
            if host == "nobody":
                raise OSError("unknown")
            return "10.0.0.7"
        finally:
            self.is_asked.release()


def known(resolver: Resolver, host: str, now: float) -> str | None:
    """What is said once the name was looked up."""
    for _ in range(1_000):
        if "asking=0" in repr(resolver):
            return resolver.address_of(host, now)
        threading.Event().wait(0.005)
    raise AssertionError(f"{resolver!r} is still asking")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0"])
def test_digits_need_no_name_server(host: str) -> None:
    server = Server()

    assert Resolver(server.look_up).address_of(host, 0.0) == host
    assert server.asked == []


@pytest.mark.parametrize(("host", "address"), [("lab", "10.0.0.7"), ("nobody", None)])
def test_a_name_is_looked_up_once_and_again_after_a_while(host: str, address: str | None) -> None:
    server = Server()
    resolver = Resolver(server.look_up)

    assert resolver.address_of(host, 0.0) is None
    assert [known(resolver, host, now) for now in (0.0, 10.0, 29.0)] == [address] * 3
    assert server.asked == [host]
    assert resolver.address_of(host, 31.0) is None
    assert known(resolver, host, 31.0) == address
    assert server.asked == [host] * 2


def test_so_many_names_are_looked_up_at_a_time() -> None:
    may_go_on = threading.Event()
    resolver = Resolver(lambda host: host if may_go_on.wait(10.0) else "")

    for number in range(20):
        assert resolver.address_of(f"host{number}", 0.0) is None

    assert "asking=8" in repr(resolver)
    may_go_on.set()
    assert known(resolver, "host0", 1.0) == "host0"
