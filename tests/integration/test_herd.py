"""A herd comes back: the broker is killed and started again, and every session resumes in time.

The sessions are real ones, with a keep-alive thread each, in a few processes; what was measured
is printed (``pytest -s``). Their program stands at the end of this file.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

import ezgraph
from ezgraph import GraphContext, GraphServer, sync

if TYPE_CHECKING:
    from collections.abc import Iterator

resource = pytest.importorskip("resource", reason="bounds on descriptors are set the POSIX way")
pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """A session takes three connections: five hundred of them exceed what shells allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Group:
    """A process with many sessions."""

    def __init__(self, stack: ExitStack, address: str, *words: float) -> None:
        """Start it; ``words``: which group it is, how many sessions, and their TTL."""
        self._process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, __file__, address, *map(str, words)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self._process.kill)

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._process.args!r} ended"
        return json.loads(line)

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize(
    ("groups", "count", "ttl_s"),
    [
        pytest.param(2, 30, 2.0, id="60 sessions"),
        pytest.param(4, 125, 6.0, id="500 sessions", marks=pytest.mark.soak),
    ],
)
def test_a_herd_that_comes_back_to_a_restarted_broker_resumes_and_none_expires(
    tmp_path: Path, groups: int, count: int, ttl_s: float
) -> None:
    backend, total = f"sqlite:///{tmp_path / 'rig.db'}", groups * count
    with ExitStack() as stack:
        first = stack.enter_context(GraphServer(backend=backend, run_in="process"))
        address = first.address
        herd = [Group(stack, str(address), number, count, ttl_s) for number in range(groups)]
        ids = sorted(each for group in herd for each in group.hear())
        first.kill()
        second = GraphServer(address, backend=backend, run_in="process")

        stack.enter_context(second)
        serving = monotonic()
        for group in herd:
            group.tell("call")
        back = [each for group in herd for each in group.hear()]
        for group in herd:
            group.tell("once a lease has had time to run out")
        still = [each for group in herd for each in group.hear()]
        with sync.GraphContext(address) as ctx:
            kinds = [event.kind for event in ctx.events(timeout=30)]
            snapshot = ctx.snapshot()
            mine = ctx.session_id
        for group in herd:
            group.tell("end")
            group.hear()

    assert [each for each in [*back, *still] if each["error"]] == []
    assert sorted(snapshot.sessions.keys() - {mine}) == ids
    assert "SessionClosed" not in kinds
    assert len(snapshot.edge_owners) == 2 * total
    took = max(each["at"] for each in back) - serving
    sys.stdout.write(
        f"{total} sessions: all back {took:.2f} s after the broker served again "
        f"({total / max(took, 0.001):,.0f}/s), none expired\n"
    )
    assert took < ttl_s


# --- the program ---


async def call(ctx: GraphContext, topic: str) -> dict[str, Any]:
    error = ""
    try:
        await ctx.connect(topic, "in", timeout=30)
    except ezgraph.EzGraphError as raised:
        error = repr(raised)
    return {"at": monotonic(), "error": error}


async def be_group(address: str, number: int, count: int, ttl_s: float) -> None:
    contexts = [GraphContext(address, ttl_s=ttl_s) for _ in range(count)]
    names = [f"{number}/{each}" for each in range(count)]
    for ctx in contexts:
        await ctx.open(timeout=30)
    say([ctx.session_id for ctx in contexts])
    for turn, pause_s in (("first", 0.0), ("second", ttl_s + 0.5)):
        await heard()
        await asyncio.sleep(pause_s)
        calls = (
            call(ctx, f"{name}/{turn}") for ctx, name in zip(contexts, names, strict=True)
        )
        say(await asyncio.gather(*calls))
    await heard()
    for ctx in contexts:
        await ctx.close()
    say({})


async def heard() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(be_group(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
