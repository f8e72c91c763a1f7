"""The blocking shell: polls in the caller's thread, nothing else runs.

Its methods are coroutines that never suspend, so that what is built on a session is written once
for both shells; `run` drives such a coroutine to its end. A lock makes calls from several threads
take turns.
"""

from __future__ import annotations

import select
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import zmq

from ezgraph.client.shell import Shell
from ezgraph.client.sockets import NOBLOCK, ClientSockets, readable, receive
from ezgraph.client.watch import Phase, Watch
from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import ContextClosedError, DeadlineError, EzGraphError
from ezgraph.protocol.commands import Command, Sync

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from ezgraph.client.engine import ClientEngine, Feed, Result
    from ezgraph.client.resumption import ResumeToken
    from ezgraph.clock import Clock
    from ezgraph.config import Address, ClientKeys
    from ezgraph.names import Key
    from ezgraph.protocol.replies import Reply
    from ezgraph.state.graph import GraphState

T = TypeVar("T")
_SLICE_MS = 100
_ATTENDED_SLICE_MS = 20
_GIVE_WAY_S = 0.002
_TICK_S = 0.25
_DRAIN = 1_000


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("a blocking session's coroutine suspended")


class Session(Shell):
    """A lease on a broker, used from plain threads; see `ezgraph.client.shell.Shell`."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        kind: str = "session",
        program: str | None = None,
        ttl_s: float | None = None,
        patience_s: float = 60.0,
        resume: ResumeToken | None = None,
        keys: ClientKeys | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            addresses,
            kind=kind,
            program=program,
            ttl_s=ttl_s,
            patience_s=patience_s,
            resume=resume,
            keys=keys,
            clock=clock,
        )
        self._lock = threading.RLock()
        self._waiting = 0
        self._is_attended = False
        self._never = threading.Event()
        self._receive_ms = -1
        self._tick_at = 0.0

    # --- opening and closing ---

    async def open(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:  # noqa: ASYNC109
        """Join the broker; see `ezgraph.client.aio.Session.open`."""
        if self._sockets is not None:
            return  # it is open
        self._receive_ms = -1
        _, engine = self._make_engine()
        engine.start()
        try:
            await self.call(Sync(), timeout=timeout)
        except BaseException:
            self._shut()
            raise
        self._start_keepalive()

    async def reopen(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> bool:  # noqa: ASYNC109
        """Open a new lease in place of a lost one; see `ezgraph.client.shell.Shell.reopen`."""
        deadline = Deadline(timeout, self._clock)
        self._take_turn(timeout)
        try:
            return await self._reopen(deadline.left())
        finally:
            self._lock.release()

    def _shut(self) -> None:
        with self._lock:
            if self._sockets is None or self._engine is None:
                return
            sockets, self._sockets = self._sockets, None
            if self._keepalive is not None:
                self._keepalive.stop()
            sockets.close(flush=self.welcome is not None)
            self._engine.close()

    # --- calls ---

    def _take_turn(self, timeout: float) -> None:
        """Wait until no other thread uses this client; `_lock` is held then."""
        self._waiting += 1
        try:
            is_ours = self._lock.acquire(timeout=max(0.0, timeout))
        finally:
            self._waiting -= 1
        if not is_ours:
            raise DeadlineError(
                f"this call had no turn within {timeout:g} s: another thread waits in a call on "
                f"the same client, at {self.address}; open a client of its own for each thread"
            )

    async def call(self, command: Command, *, timeout: float = DEFAULT_TIMEOUT_S) -> Reply:  # noqa: ASYNC109
        """Return the broker's reply; see `ezgraph.client.shell.Shell.call`."""
        results: list[Result] = []
        deadline = self._clock.monotonic() + timeout
        self._take_turn(timeout)
        try:
            engine = self._open_engine()
            engine.submit(command, deadline=deadline, on_result=results.append)
            engine.flush()
            while not results:
                self._receive_one(engine, timeout)
        finally:
            self._lock.release()
        result = results[0]
        if isinstance(result, EzGraphError):
            raise result
        return result

    async def fetch_state(
        self, rooms: Sequence[str] = (), *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> tuple[GraphState, int]:
        """Return the state (or some rooms of it) at one seq, and the floor."""
        results: list[tuple[GraphState | EzGraphError, int]] = []
        deadline = self._clock.monotonic() + timeout
        self._take_turn(timeout)
        try:
            engine = self._open_engine()
            engine.pull_snapshot(list(rooms), deadline, lambda *each: results.append(each))
            while not results:
                self._receive_one(engine, timeout)
        finally:
            self._lock.release()
        state, floor = results[0]
        if isinstance(state, EzGraphError):
            raise state
        return state, floor

    def watch(
        self,
        prefix: Key = (),
        after: int | None = None,
        *,
        start_with_snapshot: bool = False,
        with_state: bool = True,
    ) -> Subscription:
        """Return a subscription to everything under ``prefix``; it begins at once.

        See `ezgraph.client.watch.Watch`.
        """
        watch = Watch(
            prefix, after, start_with_snapshot=start_with_snapshot, with_state=with_state
        )
        return Subscription(self, watch)

    async def until(self, reached: Callable[[], bool], *, timeout: float, what: str) -> None:  # noqa: ASYNC109
        """Return when ``reached()`` is true; see `ezgraph.client.aio.Session.until`."""
        self.check_owner()
        deadline = self._clock.monotonic() + timeout
        while not reached():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise self._late(what, timeout)
            self.pump(min(left, self._slice_s))

    def _open_engine(self) -> ClientEngine:
        self._moved = self._clock.monotonic()
        return super()._open_engine()

    # --- waiting, in the caller's thread ---

    def _receive_one(self, engine: ClientEngine, timeout: float) -> None:
        """Wait for one reply; when none comes for a moment, see what is overdue."""
        sockets = self._sockets
        if sockets is None:
            raise ContextClosedError("this client was closed while the call waited")
        wait_ms = min(_SLICE_MS, max(1, int(timeout * 1000)))
        if sockets.dealer_changed or wait_ms != self._receive_ms:
            sockets.dealer_changed = False
            sockets.dealer.set(zmq.RCVTIMEO, wait_ms)
            self._receive_ms = wait_ms
        try:
            message = receive(sockets.dealer)
        except zmq.Again:
            self._heed_keepalive(engine)
            self._drain_events(engine, sockets)  # else watchers nobody looked at seem unheard
            engine.tick()
        else:
            engine.take_replies(message)

    @property
    def _slice_s(self) -> float:
        """How long a thread may keep the sockets to itself while it waits."""
        return (_ATTENDED_SLICE_MS if self._is_attended else _SLICE_MS) / 1000

    def attend(self, stopping: threading.Event) -> None:
        """Take replies whenever some arrive, until ``stopping``, for a thread that does only this.

        So what is handed to a process comes in while its program does something else.
        """
        self._is_attended = True
        while not stopping.is_set():
            with self._lock:
                sockets = self._sockets
                fd = None if sockets is None else int(sockets.dealer.FD)
            if fd is None:
                stopping.wait(_SLICE_MS / 1000)
                continue
            with suppress(OSError, ValueError):  # the socket was replaced meanwhile
                select.select([fd], [], [], _SLICE_MS / 1000)
            if self._lock.acquire(timeout=_SLICE_MS / 1000):
                try:
                    self._take_replies_in_passing()
                finally:
                    self._lock.release()

    def _take_replies_in_passing(self) -> None:
        sockets, engine = self._sockets, self._engine
        if sockets is not None and engine is not None:
            self._drain_replies(engine, sockets)
            due = engine.next_due()
            if due is not None and due <= self._clock.monotonic():
                engine.tick()

    def pump(self, wait_s: float) -> None:
        """Take what has arrived on both sockets, waiting up to ``wait_s`` for the first of it."""
        if self._waiting:
            self._never.wait(_GIVE_WAY_S)  # a lock that is given back is not passed on by itself
        if not self._lock.acquire(timeout=max(0.0, wait_s)):
            return  # another thread takes what arrives, for everybody
        try:
            engine, sockets = self._open_engine(), self._sockets
            if sockets is None:
                return
            sockets.dealer_changed = False
            self._receive_ms = -1
            poller = zmq.Poller()
            poller.register(sockets.dealer, zmq.POLLIN)
            poller.register(sockets.sub, zmq.POLLIN)
            ready = dict(poller.poll(int(wait_s * 1000)))
            if sockets.sub in ready:
                self._drain_events(engine, sockets)
            if sockets.dealer in ready:
                self._drain_replies(engine, sockets)
            now, due = self._clock.monotonic(), engine.next_due()
            if now >= self._tick_at or (due is not None and due <= now):
                self._tick_at = now + _TICK_S
                engine.tick()
        finally:
            self._lock.release()

    def _drain_events(self, engine: ClientEngine, sockets: ClientSockets) -> None:
        for _ in range(_DRAIN):
            if not readable(sockets.sub):
                return
            engine.take_publication(receive(sockets.sub, NOBLOCK))

    def _drain_replies(self, engine: ClientEngine, sockets: ClientSockets) -> None:
        for _ in range(_DRAIN):
            if not readable(sockets.dealer):
                return
            engine.take_replies(receive(sockets.dealer, NOBLOCK))

    # --- for subscriptions ---

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed ``watch`` whenever the caller waits; ``on_ready`` is called when it has items."""
        self._take_turn(DEFAULT_TIMEOUT_S)
        try:
            return self._open_engine().open_feed(watch, on_ready)
        finally:
            self._lock.release()

    def serve_feed(self, feed: Feed) -> None:
        """Look at a watcher again after its items were taken."""
        with self._lock:
            if self._engine is not None and self._sockets is not None:
                self._engine.serve(feed)

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        with self._lock:
            if self._engine is not None and self._sockets is not None:
                self._engine.close_feed(feed)


class Subscription:
    """What a watcher delivers, in order: ``Event | Progress | Compacted``. An iterator.

    It takes from the socket while the caller waits in it; nothing is lost in between.
    """

    def __init__(self, session: Session, watch: Watch) -> None:
        self.watch = watch
        self._session = session
        self._closed = False
        self._feed = session.open_feed(watch, _nothing)

    def __repr__(self) -> str:
        return f"<blocking Subscription {self.watch!r}>"

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        """Return the next item; wait for it as long as the broker is heard."""
        item = self.next_within(None)
        if item is None:
            raise StopAsyncIteration
        return item

    def next_within(self, wait_s: float | None) -> Any:  # noqa: ANN401
        """Return the next item, or None when the time is over or the subscription closed."""
        ready, clock = self.watch.ready, self._session._clock  # noqa: SLF001
        deadline = None if wait_s is None else clock.monotonic() + wait_s
        while not ready:
            if self._closed:
                return None
            if self.watch.phase is Phase.FAILED:
                raise self.watch.error or ContextClosedError("this subscription has ended")
            left = self._session._slice_s  # noqa: SLF001
            if deadline is not None:
                left = min(left, deadline - clock.monotonic())
                if left <= 0:
                    return None
            self._session.pump(left)
        return self._pop()

    def take_arrived(self) -> Any:  # noqa: ANN401
        """Return the next item if it is there already, else None; do not wait."""
        if not self.watch.ready and not self._closed:
            self._session.pump(0.0)
        return self._pop() if self.watch.ready else None

    def _pop(self) -> Any:  # noqa: ANN401
        ready = self.watch.ready
        item = ready.popleft()
        if not ready and self.watch.phase is Phase.READING:
            self._session.serve_feed(self._feed)
        return item

    async def aclose(self) -> None:
        """End the subscription."""
        if not self._closed:
            self._closed = True
            self._session.close_feed(self._feed)


def _nothing() -> None:
    """The consumer polls; nobody has to be told."""
