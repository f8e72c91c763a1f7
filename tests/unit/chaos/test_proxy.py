"""The cable: what is sent comes through, later or not at all, as its faults say."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from ezgraph.chaos.proxy import GOOD, PULLED, Cable, Faults, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="loopback has the one address 127.0.0.1 outside Linux"
)

BROKER, CLIENT = "127.0.0.1", "127.0.0.2"
SOON_S = 5.0
QUIET_S = 0.15


@dataclass
class Far:
    """The far end: a server that keeps what it hears from each connection."""

    port: int
    heard: list[bytearray] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not reached():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


@asynccontextmanager
async def far_end() -> AsyncIterator[Far]:
    far = Far(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        far.heard.append(heard)
        far.writers.append(writer)
        how = "end"
        try:
            while chunk := await reader.read(65536):
                heard.extend(chunk)
        except ConnectionResetError:
            how = "reset"
        far.ended.append(how)

    server = await asyncio.start_server(serve, BROKER, 0)
    far.port = server.sockets[0].getsockname()[1]
    try:
        yield far
    finally:
        server.close()
        for writer in far.writers:
            writer.transport.abort()


async def dial(cable: Cable, far: Far) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(cable.host, far.port)


def with_cable(body: Callable[[Cable, Far], Awaitable[None]]) -> None:
    async def main() -> None:
        async with far_end() as far:
            async with Cable(CLIENT, BROKER, [far.port], rng=random.Random(1)) as cable:
                await body(cable, far)
            assert cable.links == 0

    asyncio.run(main())


def close_all(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.transport.abort()


def test_a_good_cable_carries_both_ways_and_passes_each_end_on() -> None:
    async def body(cable: Cable, far: Far) -> None:
        reader, writer = await dial(cable, far)
        writer.write(b"up" * 100_000)
        await until(lambda: len(far.heard) == 1 and len(far.heard[0]) == 200_000)
        far.writers[0].write(b"down")
        assert await reader.readexactly(4) == b"down"

        writer.write_eof()
        await until(lambda: far.ended == ["end"])
        far.writers[0].write(b"after")
        far.writers[0].close()
        assert await reader.read() == b"after"

        await until(lambda: cable.links == 0)
        close_all(writer)

    with_cable(body)


def test_a_delayed_cable_keeps_the_order_and_the_bytes() -> None:
    async def body(cable: Cable, far: Far) -> None:
        loop = asyncio.get_running_loop()
        await cable.suffer(Faults(delay_s=0.2, jitter_s=0.1))
        _, writer = await dial(cable, far)
        began = loop.time()
        for number in range(200):
            writer.write(bytes([number]))
            await asyncio.sleep(0)
        await until(lambda: bool(far.heard) and len(far.heard[0]) == 200)

        assert loop.time() - began >= 0.2
        assert bytes(far.heard[0]) == bytes(range(200))
        close_all(writer)

    with_cable(body)


def test_a_throttled_cable_lets_so_many_bytes_through_in_a_second() -> None:
    async def body(cable: Cable, far: Far) -> None:
        loop = asyncio.get_running_loop()
        await cable.suffer(Faults(bytes_per_s=20_000))
        _, writer = await dial(cable, far)
        began = loop.time()
        writer.write(b"x" * 10_000)
        await until(lambda: bool(far.heard) and len(far.heard[0]) == 10_000)
        took = loop.time() - began

        assert 0.4 <= took < 2.0
        close_all(writer)

    with_cable(body)


@pytest.mark.parametrize("way", list(Way))
def test_a_cable_that_is_silent_one_way_carries_the_other(way: Way) -> None:
    async def body(cable: Cable, far: Far) -> None:
        reader, writer = await dial(cable, far)
        await until(lambda: len(far.writers) == 1)
        got = bytearray()

        async def listen() -> None:
            while chunk := await reader.read(1000):
                got.extend(chunk)

        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen())
            await cable.suffer(Faults(silent=frozenset({way})))
            writer.write(b"up")
            far.writers[0].write(b"down")
            heard, silent = (far.heard[0], got) if way is Way.DOWN else (got, far.heard[0])
            await until(lambda: len(heard) > 0)
            await asyncio.sleep(QUIET_S)
            assert silent == b""

            await cable.heal()
            await until(lambda: (bytes(far.heard[0]), bytes(got)) == (b"up", b"down"))
            listening.cancel()
        close_all(writer)

    with_cable(body)


def test_a_pulled_cable_hides_the_end_of_a_client_and_new_connections_too() -> None:
    async def body(cable: Cable, far: Far) -> None:
        _, writer = await dial(cable, far)
        await until(lambda: len(far.writers) == 1)
        await cable.suffer(PULLED)
        close_all(writer)
        _, second = await dial(cable, far)
        second.write(b"late")
        await asyncio.sleep(QUIET_S)
        assert far.ended == []
        assert len(far.writers) == 1

        await cable.heal()
        await until(lambda: len(far.heard) == 2 and bytes(far.heard[1]) == b"late")
        await until(lambda: len(far.ended) == 1)
        close_all(second)

    with_cable(body)


@pytest.mark.parametrize(("with_reset", "how"), [(True, "reset"), (False, "end")])
def test_a_cut_ends_both_ends(with_reset: bool, how: str) -> None:
    async def body(cable: Cable, far: Far) -> None:
        reader, writer = await dial(cable, far)
        await until(lambda: len(far.writers) == 1)

        assert cable.cut(with_reset=with_reset) == 1

        await until(lambda: far.ended == [how])
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert cable.links == 0
        close_all(writer)

    with_cable(body)


def test_a_half_open_connection_leaves_one_end_in_ignorance_until_it_is_healed() -> None:
    async def body(cable: Cable, far: Far) -> None:
        reader, writer = await dial(cable, far)
        await until(lambda: len(far.writers) == 1)

        assert cable.half_open(lost=Way.UP) == 1

        await until(lambda: len(far.ended) == 1)
        writer.write(b"is anybody there")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await reader.read()
        await cable.heal()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        close_all(writer)

    with_cable(body)


def test_the_clients_end_can_be_the_lost_one() -> None:
    async def body(cable: Cable, far: Far) -> None:
        reader, writer = await dial(cable, far)
        await until(lambda: len(far.writers) == 1)

        cable.half_open(lost=Way.DOWN)

        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert far.ended == []
        await cable.heal()
        await until(lambda: len(far.ended) == 1)
        close_all(writer)

    with_cable(body)


def test_a_cable_that_refuses_takes_no_connection_until_it_is_healed() -> None:
    async def body(cable: Cable, far: Far) -> None:
        _, before = await dial(cable, far)
        await cable.suffer(Faults(refuses=True))
        with pytest.raises(ConnectionRefusedError):
            await dial(cable, far)

        await cable.heal()

        _, after = await dial(cable, far)
        await until(lambda: len(far.writers) == 2)
        assert cable.faults == GOOD
        close_all(before, after)

    with_cable(body)


def test_without_a_broker_behind_it_a_connection_is_reset() -> None:
    async def main() -> None:
        async with far_end() as far:
            port = far.port
        async with Cable(CLIENT, BROKER, [port], rng=random.Random(1)) as cable:
            reader, writer = await asyncio.open_connection(CLIENT, port)
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            await until(lambda: cable.links == 0)
            close_all(writer)

    asyncio.run(main())


def test_what_a_slow_reader_does_not_take_stays_in_bounded_memory() -> None:
    async def body(cable: Cable, far: Far) -> None:
        reader, writer = await dial(cable, far)
        await until(lambda: len(far.writers) == 1)
        size = 64 << 20
        far.writers[0].write(b"x" * size)
        await asyncio.sleep(QUIET_S)
        waiting = sum(
            wire._size for link in cable._links for wire in link._wires.values()
        )
        assert waiting < 4 << 20

        got = 0
        while got < size:
            got += len(await reader.read(1 << 20))
        assert got == size
        close_all(writer)

    with_cable(body)
