"""A live copy of the broker's state, kept by the same `apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ezgraph.client.watch import Compacted, Phase, Progress, Watch
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import EzGraphError, NoSessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ezgraph.client.engine import Feed
    from ezgraph.state.graph import GraphState


class FeedingSession(Protocol):
    """What a replica needs of a session; both shells have it."""

    def check_owner(self) -> None:
        """Refuse to be used after a fork."""
        ...

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed a watcher."""
        ...

    def serve_feed(self, feed: Feed) -> None:
        """Look at a watcher again."""
        ...

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        ...

    async def until(self, reached: Callable[[], bool], *, timeout: float, what: str) -> None:  # noqa: ASYNC109
        """Wait."""
        ...


class Replica:
    """The state of the rig, following the broker. ``await replica`` to have it caught up first.

    ``state`` is always that at one seq: whole transactions are applied in one stroke. It belongs
    to the session's event loop (or, in the blocking form, moves while the caller waits); do not
    change it.
    """

    def __init__(self, session: FeedingSession) -> None:
        self._session = session
        self.restart()

    def restart(self) -> None:
        """Begin anew with a snapshot, after the session was opened anew."""
        self._state: GraphState | None = None
        self._complete = 0
        self._watch = Watch((), start_with_snapshot=True)
        self._feed = self._session.open_feed(self._watch, self._absorb)

    def __repr__(self) -> str:
        return f"<Replica {self._state!r} {self._watch.phase.value}>"

    @property
    def state(self) -> GraphState:
        """The state at `seq`.

        Raises:
            NoSessionError: the first snapshot has not arrived; await the replica first.
            EzGraphError: the replica has ended, and why.
        """
        self._raise_failure()
        if self._state is None:
            raise NoSessionError("the replica is still fetching its snapshot; await it first")
        return self._state

    @property
    def seq(self) -> int:
        """The seq of `state`; 0 before the first snapshot."""
        return self._state.seq if self._state else 0

    def fingerprint(self) -> str:
        """Return the content hash of the state; equal to the broker's at the same seq."""
        return self.state.fingerprint()

    def __await__(self) -> Generator[object, None, Replica]:
        return self.ready().__await__()

    async def ready(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> Replica:  # noqa: ASYNC109
        """Return the replica when it has its first snapshot and has caught up with it."""
        self._session.check_owner()
        await self._session.until(
            lambda: self._failed or (self._state is not None and self._watch.phase is Phase.LIVE),
            timeout=timeout,
            what="the first snapshot of the replica",
        )
        self._raise_failure()
        return self

    async def reach(self, seq: int, *, timeout: float = DEFAULT_TIMEOUT_S) -> Replica:  # noqa: ASYNC109
        """Return the replica when it has everything up to ``seq``."""
        self._session.check_owner()
        await self._session.until(
            lambda: self._failed or (self._state is not None and self._complete >= seq),
            timeout=timeout,
            what=f"seq {seq} in the replica",
        )
        self._raise_failure()
        return self

    def close(self) -> None:
        """Follow the broker no longer."""
        self._session.close_feed(self._feed)

    @property
    def _failed(self) -> bool:
        return self._watch.phase is Phase.FAILED

    def _raise_failure(self) -> None:
        self._session.check_owner()
        if self._failed:
            raise self._watch.error or EzGraphError("the replica has ended")

    def _absorb(self) -> None:
        ready = self._watch.ready
        while ready:
            item = ready.popleft()
            if isinstance(item, Compacted):
                self._state = item.snapshot
            elif not isinstance(item, Progress) and self._state is not None:
                self._state.apply(item)
            # Numbers that a restore has skipped are told by progress alone.
            at = item.snapshot.seq if isinstance(item, Compacted) else item.seq
            self._complete = max(self._complete, at)
        if self._watch.phase is Phase.READING:
            self._session.serve_feed(self._feed)
