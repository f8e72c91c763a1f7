"""G2 with real sockets: whatever was dropped on the way, a watcher has every event, in order, once.

Subscribers are stopped (SIGSTOP) until the broker has dropped most of what was for them; the
connection of a subscriber is cut by a proxy. What was measured is printed: ``pytest -s``.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import pytest

import ezgraph
from ezgraph import (
    ComponentMetadata,
    DynamicSettingsMetadata,
    Event,
    GraphContext,
    GraphMetadata,
    GraphServer,
    Progress,
    sync,
)
from ezgraph.client.aio import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.config import Address

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
RARE = ("edge", "rare")
WAIT_S = 120.0


def rig(components: int) -> GraphMetadata:
    """Many components: registered or reverted, each makes two events of one transaction."""
    dynamic = DynamicSettingsMetadata(enabled=False)
    return GraphMetadata(
        components={
            f"RIG/U{n}": ComponentMetadata(
                f"RIG/U{n}", f"U{n}", "m.Unit", "m.Settings", (None, {"gain": n}), dynamic
            )
            for n in range(components)
        }
    )


@contextmanager
def broker(folder: Path, *, high_water_mark: int) -> Iterator[tuple[str, int]]:
    """A broker process; gives its address and pid."""
    config = folder / "broker.toml"
    config.write_text(f"insecure = false\n[limits]\nhigh_water_mark = {high_water_mark}\n")
    command = ["-m", "ezgraph", "serve", "--json", "--address", "127.0.0.1:0"]
    options = ["--backend", f"sqlite:///{folder / 'rig.db'}", "--config", str(config)]
    with started([*command, *options]) as process:
        said = hear(process)
        yield said["address"], said["pid"]
        process.terminate()


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def hear(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"{process.args!r} ended"
    return json.loads(line)


class Stopped:
    """A subscriber in a process of its own, stopped once it is welcome."""

    def __init__(self, stack: ExitStack, address: str, prefix: tuple[str, ...]) -> None:
        self.process = stack.enter_context(started([__file__, address, *prefix]))
        hear(self.process)
        os.kill(self.process.pid, signal.SIGSTOP)
        stack.callback(self.process.kill)

    def go_on(self, goal: int) -> None:
        os.kill(self.process.pid, signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{goal}\n")
        self.process.stdin.close()


def told(what: str) -> None:
    """Say a line: of the report, or of what a subscriber's process has found."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def command_p99_ms(address: str, count: int = 300) -> float:
    """How long one command in a hundred takes at least."""
    times = []
    with sync.GraphContext(address) as ctx:
        for n in range(count):
            begun = time.perf_counter()
            (ctx.disconnect if n % 2 else ctx.connect)("probe/out", "probe/in")
            times.append((time.perf_counter() - begun) * 1000)
    return quantiles(times, n=100)[98]


def make_events(address: str, goal: int, components: int) -> tuple[list[int], int]:
    """Make events until there are ``goal``; return those under `RARE`, and the last of all."""
    rare = []
    metadata = rig(components)
    with sync.GraphContext(address, ttl_s=60) as ctx:
        head = 0
        while head < goal:
            ctx.register_metadata(metadata, timeout=WAIT_S)
            rare.append(ctx.connect("rare", f"in{head}"))
            head = ctx.revert(timeout=WAIT_S)
            rare.append(next(e.seq for e in ctx.events(RARE, rare[-1])))
    return rare, sync.GraphService(address).sync()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("events", "high_water_mark", "components"),
    [
        pytest.param(40_000, 1_000, 2_000, id="40,000 events"),
        pytest.param(200_000, 100_000, 5_000, id="200,000 events", marks=pytest.mark.soak),
    ],
)
def test_stopped_subscribers_get_everything_in_order_once_and_cost_others_nothing(
    tmp_path: Path, events: int, high_water_mark: int, components: int
) -> None:
    with ExitStack() as stack:
        address, pid = stack.enter_context(broker(tmp_path, high_water_mark=high_water_mark))
        p99_before = command_p99_ms(address)
        everything = [Stopped(stack, address, ()) for _ in range(2)]
        filtered = Stopped(stack, address, RARE)
        memory_before = resident_mib(pid)

        rare, goal = make_events(address, events, components)
        memory, p99 = resident_mib(pid), command_p99_ms(address)
        begun = time.monotonic()
        for each in (*everything, filtered):
            each.go_on(goal)
        found = [hear(each.process) for each in (*everything, filtered)]
        took = time.monotonic() - begun

    *whole, part = found
    for each in whole:
        assert each["seqs"] == [[1, goal]], "not every event, in order, once"
        assert each["requests"] > goal / 300 / 2, "nothing was dropped: nothing was tested"
    assert [seq for first, last in part["seqs"] for seq in range(first, last + 1)] == rare
    told(
        f"{goal:,} events to 3 stopped subscribers (high-water mark {high_water_mark:,}): "
        f"caught up in {took:.1f} s; broker {memory_before:.0f} -> {memory:.0f} MiB; "
        f"p99 of others' commands {p99_before:.1f} ms before, {p99:.1f} ms with the backlog"
    )
    assert p99 < max(5 * p99_before, 100.0)
    assert memory - memory_before < 40 + 3 * high_water_mark * 1_000 / (1 << 20)


# --- many prefixes, and a connection that is cut ---


class Proxy:
    """Forwards 127.0.0.2 to 127.0.0.1, port by port, and cuts what it forwards when told to."""

    def __init__(self, *ports: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._port_of: dict[socket.socket, int] = {}
        self._lock = threading.Lock()
        self._closing = False
        self._closed_ports: set[int] = set()
        self._listeners = [socket.create_server(("127.0.0.2", port)) for port in ports]
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._forward)
        self._thread.start()

    def cut(self, port: int) -> int:
        """End every connection to a port, and take none until `mend`; return how many ended."""
        with self._lock:
            self._closed_ports.add(port)
            ends = [each for each, its_port in self._port_of.items() if its_port == port]
            for each in ends:
                self._end(each)
        return len(ends)

    def mend(self, port: int) -> None:
        with self._lock:
            self._closed_ports.discard(port)

    def close(self) -> None:
        self._closing = True
        self._thread.join(10)
        for each in (*self._listeners, *self._pairs):
            each.close()
        self._selector.close()

    def _forward(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(0.05):
                with self._lock:
                    self._serve(key.fileobj)

    def _serve(self, ready: Any) -> None:
        if ready in self._listeners:
            self._accept(ready)
        elif ready in self._pairs:
            try:
                data = ready.recv(1 << 16)
                self._pairs[ready].sendall(data)
            except OSError:
                data = b""
            if not data:
                self._end(ready)

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        port = listener.getsockname()[1]
        if port in self._closed_ports:
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", port), 5)
        self._port_of[client] = port
        for one, other in ((client, server), (server, client)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _end(self, one: socket.socket) -> None:
        other = self._pairs.get(one)
        for each in (one, other):
            if each is not None and self._pairs.pop(each, None) is not None:
                self._selector.unregister(each)
                self._port_of.pop(each, None)
                each.close()


@contextmanager
def proxied(server: GraphServer) -> Iterator[tuple[Proxy, str, int]]:
    """A proxy before a broker; gives the address to dial, and the port of events."""
    port = server.address.port
    try:
        proxy = Proxy(port, port + 1)
    except OSError as error:
        pytest.skip(f"a second loopback address is needed (Linux has 127.0.0.2): {error}")
    try:
        yield proxy, f"127.0.0.2:{port}", port + 1
    finally:
        proxy.close()


@pytest.fixture
def apart() -> Iterator[GraphServer]:
    with GraphServer(run_in="process") as server:
        yield server


@pytest.mark.parametrize(
    ("count", "is_cut"),
    [
        pytest.param(5_000, False, id="5,000 prefixes"),
        pytest.param(1_000, True, id="1,000 prefixes, cut"),
        pytest.param(5_000, True, id="5,000 prefixes, cut", marks=pytest.mark.soak),
    ],
)
def test_thousands_of_prefixes_on_one_socket_are_all_welcomed_and_served_also_after_a_cut(
    apart: GraphServer, count: int, is_cut: bool
) -> None:
    async def story(proxy: Proxy, address: str, events_port: int, direct: Address) -> None:
        async with GraphContext(address, ttl_s=60) as ctx, GraphContext(direct) as other:
            begun = time.monotonic()
            streams = [ctx.subscribe(("edge", f"t{n}")) for n in range(count)]
            for stream in streams:
                assert isinstance(await anext(aiter(stream)), Progress)
            welcomed = time.monotonic()

            await connect_all(other, [(f"t{n}", "first") for n in range(count)])
            assert await next_keys(streams) == [("edge", f"t{n}", "first") for n in range(count)]
            served = time.monotonic()
            told(
                f"{count:,} prefixes: welcomed in {welcomed - begun:.2f} s, an event for each in "
                f"{served - welcomed:.2f} s"
            )
            if is_cut:
                await cut_and_mend(proxy, events_port, other, streams)

    with proxied(apart) as (proxy, address, events_port):
        asyncio.run(asyncio.wait_for(story(proxy, address, events_port, apart.address), WAIT_S))


async def cut_and_mend(
    proxy: Proxy, events_port: int, other: GraphContext, streams: list[Any]
) -> None:
    """Cut what all streams come on; let something happen under some of them; they learn it."""
    assert proxy.cut(events_port) > 0
    few = range(0, len(streams), 50)
    await connect_all(other, [(f"t{n}", "second") for n in few])
    proxy.mend(events_port)
    mended = time.monotonic()

    found = await next_keys([streams[n] for n in few])

    assert found == [("edge", f"t{n}", "second") for n in few]
    took = time.monotonic() - mended
    told(f"after a cut {len(few)} of {len(streams):,} have what they missed in {took:.2f} s")


async def connect_all(ctx: GraphContext, edges: list[tuple[str, str]]) -> None:
    for start in range(0, len(edges), 500):
        calls = [ctx.connect(*edge, timeout=60) for edge in edges[start : start + 500]]
        await asyncio.gather(*calls)


async def next_keys(streams: list[Any]) -> list[tuple[str, ...]]:
    """Return the key of the next event of each stream."""
    found = []
    for stream in streams:
        async for item in stream:
            if isinstance(item, Event):
                found.append(item.key)
                break
    return found


def test_a_connection_cut_again_and_again_costs_its_watchers_nothing(apart: GraphServer) -> None:
    async def story(proxy: Proxy, address: str, events_port: int, direct: Address) -> None:
        async with GraphContext(address, ttl_s=60) as ctx, GraphContext(direct) as other:
            everything, rare = ctx.subscribe((), 0), ctx.subscribe(RARE, 0)
            made = []
            for n in range(120):
                if n % 20 == 0:
                    proxy.cut(events_port)
                if n % 20 == 5:
                    proxy.mend(events_port)
                start = "rare" if n % 3 == 0 else "often"
                made.append((start, await other.connect(start, f"in{n}")))
                await asyncio.sleep(0.005)
            late = ctx.subscribe((), 0)
            goal = made[-1][1]

            for stream in (everything, late):
                assert await seqs_through(stream, goal) == list(range(1, goal + 1))
            assert await seqs_through(rare, goal) == [s for start, s in made if start == "rare"]

    with proxied(apart) as (proxy, address, events_port):
        asyncio.run(asyncio.wait_for(story(proxy, address, events_port, apart.address), WAIT_S))


async def seqs_through(stream: Any, goal: int) -> list[int]:
    """Return the seqs of what a stream gives until it has everything up to ``goal``."""
    found = []
    async for item in stream:
        if isinstance(item, Event):
            found.append(item.seq)
        if item.seq >= goal:
            break
    return found


# --- the subscriber's process ---


async def follow(address: str, prefix: tuple[str, ...]) -> None:
    async with GraphContext(address, ttl_s=600, patience_s=600) as ctx:
        stream = ctx.subscribe(prefix, 0)
        first = await anext(aiter(stream))  # so it is welcome
        told("{}")
        goal = int(await asyncio.to_thread(sys.stdin.readline))
        seqs = [first.seq] if isinstance(first, Event) else []
        seqs += await seqs_through(stream, goal)
        session = ctx._session
        assert isinstance(session, Session)
        assert session._engine is not None
        told(json.dumps({"seqs": runs(seqs), "requests": session._engine.core._last_id}))


def runs(seqs: list[int]) -> list[list[int]]:
    """Return what is dense as (first, last)."""
    found: list[list[int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return found


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], tuple(sys.argv[2:])))
