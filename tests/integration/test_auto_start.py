"""Finding a broker or starting one: by address, variable or default; with somebody there or not."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Literal

import pytest

from ezgraph import (
    Address,
    BrokerUnreachableError,
    ConfigError,
    DeadlineError,
    GraphContext,
    GraphServer,
    GraphService,
    sync,
)
from ezgraph.config import ADDRESS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

Named = Literal["argument", "variable", "default"]


@pytest.fixture
def free() -> Address:
    """An address where nobody listens; the port after it is free too."""
    with GraphServer() as server:
        return server.address


@pytest.fixture(params=["argument", "variable", "default"])
def named(request: pytest.FixtureRequest, free: Address, monkeypatch: pytest.MonkeyPatch) -> Named:
    """How the address ``free`` is named: the other two ways lead nowhere."""
    how: Named = request.param
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    if how == "argument":
        monkeypatch.setenv(ADDRESS_VARIABLE, "127.0.0.1:1")
    elif how == "variable":
        monkeypatch.setenv(ADDRESS_VARIABLE, str(free))
    else:
        monkeypatch.setattr("ezgraph.config.DEFAULT_PORT", free.port)
    return how


def argument(named: Named, free: Address) -> Address | None:
    return free if named == "argument" else None


@pytest.mark.parametrize("auto_start", [None, True, False])
def test_a_broker_that_is_there_is_used(
    named: Named, free: Address, auto_start: bool | None
) -> None:
    with GraphServer(free), sync.GraphContext(argument(named, free), auto_start) as ctx:
        assert ctx.address == free
        assert "own broker" not in repr(ctx)
        ctx.connect("a", "b")

        assert sync.GraphService(free).dag().graph == {"a": {"b"}, "b": set()}


def test_with_nobody_there_a_broker_is_started_only_if_neither_address_nor_variable_is_given(
    named: Named, free: Address
) -> None:
    ctx = sync.GraphContext(argument(named, free))

    if named == "default":
        with ctx:
            assert ctx.address == free
            assert "with its own broker" in repr(ctx)
            assert ctx.connect("a", "b") == 2
    else:
        with pytest.raises(BrokerUnreachableError, match=str(free)):
            ctx.open(timeout=0.4)
    nobody_listens(free)


@pytest.mark.parametrize("auto_start", [True, False])
def test_auto_start_overrides_both_ways(named: Named, free: Address, auto_start: bool) -> None:
    ctx = sync.GraphContext(argument(named, free), auto_start=auto_start)

    if auto_start:
        with ctx:
            assert ctx.address == free
            assert "with its own broker" in repr(ctx)
    else:
        with pytest.raises(BrokerUnreachableError, match=str(free)):
            ctx.open(timeout=0.4)
    nobody_listens(free)


def nobody_listens(address: Address) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(tuple(address)) != 0


def test_a_second_context_uses_the_broker_that_the_first_has_started(
    free: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    monkeypatch.setattr("ezgraph.config.DEFAULT_PORT", free.port)

    async def scenario() -> None:
        async with GraphContext() as first:
            await first.connect("a", "b")
            async with GraphContext() as second, GraphContext(free) as third:
                for ctx in (second, third):
                    assert "own broker" not in repr(ctx)
                    assert (await ctx.snapshot()).graph == {"a": ["b"], "b": []}
                assert await GraphService().ensure() is None
            assert len(await first.clients()) == 1

    asyncio.run(scenario())
    nobody_listens(free)


def test_the_broker_stops_with_the_context_that_started_it(
    free: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    monkeypatch.setattr("ezgraph.config.DEFAULT_PORT", free.port)
    with sync.GraphContext() as starter:
        other = sync.GraphContext(free).open()
        starter.close()

        nobody_listens(free)
        with pytest.raises(DeadlineError, match=f"no answer from {free}"):
            other.connect("a", "b", timeout=0.3)
        other.close()


def test_contexts_opened_at_the_same_moment_share_one_broker(
    free: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    monkeypatch.setattr("ezgraph.config.DEFAULT_PORT", free.port)
    contexts = [sync.GraphContext() for _ in range(4)]
    openers = [threading.Thread(target=each.open) for each in contexts]

    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()

    try:
        assert len(contexts[0].clients()) == 4
        assert sum("own broker" in repr(each) for each in contexts) == 1
    finally:
        for each in sorted(contexts, key=lambda each: "own broker" in repr(each)):
            each.close()


def test_a_stranger_on_the_port_is_not_taken_for_a_broker(
    free: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    monkeypatch.setattr("ezgraph.config.DEFAULT_PORT", free.port)
    with listener(free), pytest.raises(BrokerUnreachableError) as told:
        sync.GraphContext().open(timeout=0.8)

    assert str(free) in str(told.value)


def listener(address: Address) -> socket.socket:
    """A program that listens, and says nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(tuple(address))
    sock.listen()
    return sock


def test_the_variable_may_name_several_addresses(
    free: Address, monkeypatch: pytest.MonkeyPatch, server: GraphServer
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, f"{free}, {server.address}")

    with sync.GraphContext() as ctx:
        assert ctx.address == server.address
    assert f"{free},{server.address}" in repr(sync.ProcessControlClient())
    assert f"{free},{server.address}" in repr(sync.GraphService())


@pytest.mark.parametrize("text", ["localhost", ":", "a:b", "host:70000", "127.0.0.1:1,,"])
def test_a_variable_that_names_no_address_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, text)

    with pytest.raises(ConfigError, match="address"):
        sync.GraphContext().open(timeout=0.3)


def test_an_empty_variable_counts_as_none(free: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "")
    monkeypatch.setattr("ezgraph.config.DEFAULT_PORT", free.port)

    with sync.GraphContext() as ctx:
        assert ctx.address == free


def test_a_broker_started_for_a_context_that_then_fails_to_open_is_stopped(
    free: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Iterator[None]:
        raise RuntimeError("no replica today")

    monkeypatch.setattr("ezgraph.graph.context.Replica", refuse)
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    monkeypatch.setattr("ezgraph.config.DEFAULT_PORT", free.port)

    with pytest.raises(RuntimeError, match="no replica today"):
        sync.GraphContext(replica=True).open()

    nobody_listens(free)
