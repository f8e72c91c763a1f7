"""A child that holds many sessions, renews them, and counts the heartbeats that were not answered.

Heartbeats come every third of the TTL, as from a real client, spread evenly over that time. A
heartbeat is missed if its answer is not there when the next one is due.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ezgraph.bench.bare import BareSession
from ezgraph.bench.children import Child, answer, be, say
from ezgraph.config import Address, parse_address
from ezgraph.errors import DeadlineError, EzGraphError

if TYPE_CHECKING:
    from collections.abc import Iterator

_JOINED_AT_ONCE = 50
_JOIN_S = 20.0


class Crowd:
    """The child, as its parent sees it."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def __repr__(self) -> str:
        return f"<Crowd {self._child!r}>"

    def beats(self) -> int:
        """Return how many heartbeats were answered since this was asked last.

        Raises:
            EzGraphError: some were not.
        """
        said = self._child.ask()
        if said["missed"]:
            raise EzGraphError(f"{said['missed']} of {said['beats']} heartbeats were not answered")
        return int(said["beats"])


@contextmanager
def crowd(address: object, count: int, *, ttl_s: float) -> Iterator[Crowd]:
    """A crowd of ``count`` sessions at a broker, for the length of a ``with``."""
    with Child("ezgraph.bench.crowd", str(address), str(count), str(ttl_s)) as child:
        if not child.said["sessions"] == count:
            raise EzGraphError(f"{child!r} holds {child.said['sessions']} sessions, not {count}")
        yield Crowd(child)


class _Beats:
    """Renews the sessions, one after the other, for ever."""

    def __init__(self, sessions: list[BareSession], ttl_s: float) -> None:
        self._sessions = sessions
        self._pause_s = ttl_s / 3 / len(sessions)
        self._beats = self._missed = 0

    async def beat(self) -> None:
        due = time.perf_counter()
        for session in itertools.cycle(self._sessions):
            self._missed += not session.renew()
            self._beats += 1
            due += self._pause_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def hand_over(self, _request: dict[str, Any]) -> dict[str, Any]:
        said = {"beats": self._beats, "missed": self._missed}
        self._beats = self._missed = 0
        return said


async def _main(address: Address, count: int, ttl_s: float) -> None:
    allow_descriptors()
    sessions: list[BareSession] = []
    while len(sessions) < count:
        few = range(min(_JOINED_AT_ONCE, count - len(sessions)))
        sessions += [BareSession(address.host, address.port, ttl_s) for _ in few]
        await _joined(sessions[-len(few) :])
    beats = _Beats(sessions, ttl_s)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(beats.beat())
        say(sessions=len(sessions))
        await answer(beats.hand_over)
        task.cancel()
    for session in sessions:
        session.leave()


def allow_descriptors() -> None:
    """Open as many files as this user may: a session takes two, and shells allow 1,024."""
    with suppress(ImportError):  # where descriptors have no such bound
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _joined(sessions: list[BareSession]) -> None:
    """Wait until all are welcome."""
    until = time.perf_counter() + _JOIN_S
    while sessions := [session for session in sessions if not session.is_answered()]:
        if time.perf_counter() > until:
            raise DeadlineError(f"{len(sessions)} sessions were not welcomed within {_JOIN_S:g} s")
        await asyncio.sleep(0.002)


if __name__ == "__main__":
    be(_main(parse_address(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
