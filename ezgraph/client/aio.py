"""The asyncio shell: the sockets' file descriptors, watched by the running event loop.

ZeroMQ's descriptor is edge-triggered: it becomes readable once, and stays silent until what was
waiting has been taken. So the reader drains everything, and looks again after every send.
Nobody cancels a receive; deadlines are timers beside the futures.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ezgraph.client.core import FIRST_RETRY_S
from ezgraph.client.shell import Shell
from ezgraph.client.sockets import NOBLOCK, ClientSockets, readable, receive
from ezgraph.client.watch import Phase, Watch
from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import ContextClosedError, EzGraphError
from ezgraph.protocol.commands import Command, Sync

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.client.engine import Feed, LiveEvents, Result
    from ezgraph.client.resumption import ResumeToken
    from ezgraph.clock import Clock
    from ezgraph.config import Address, ClientKeys
    from ezgraph.names import Key
    from ezgraph.protocol.replies import Reply
    from ezgraph.state.graph import GraphState

_DRAIN = 200


class Session(Shell):
    """A lease on a broker, used from one event loop; see `ezgraph.client.shell.Shell`."""

    _timer: asyncio.TimerHandle | None = None
    _pulse: asyncio.TimerHandle | None = None
    _sending_soon = False

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
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._reopening = asyncio.Lock()

    # --- opening and closing ---

    async def open(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:  # noqa: ASYNC109
        """Join the broker.

        Raises:
            BrokerUnreachableError: nobody answered by the deadline.
            RefusedError: the broker refused the HELLO.
        """
        if self._sockets is not None:
            return  # it is open
        self._loop = asyncio.get_running_loop()
        sockets, engine = self._make_engine()
        self._watch_descriptors(sockets)
        engine.start()
        try:
            await self.call(Sync(), timeout=timeout)
        except BaseException:
            self._shut()
            raise
        self._start_keepalive()
        self._loop_moves()

    async def reopen(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> bool:  # noqa: ASYNC109
        """Open a new lease in place of a lost one; see `ezgraph.client.shell.Shell.reopen`."""
        deadline = Deadline(timeout, self._clock)
        try:
            async with asyncio.timeout(timeout):
                await self._reopening.acquire()
        except TimeoutError:
            raise self._late("what another task began, a new session,", timeout) from None
        try:
            return await self._reopen(deadline.left())
        finally:
            self._reopening.release()

    def _keepalive_has_news(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(self._look_at_keepalive)

    def _look_at_keepalive(self) -> None:
        if self._engine is not None and self._sockets is not None:
            self._heed_keepalive(self._engine)
            self._engine.tick()
            self._after_engine(self._sockets)

    def _loop_moves(self) -> None:
        """Note that the event loop runs, every third of the TTL."""
        if self._sockets is not None and self.welcome is not None:
            self._moved = self._clock.monotonic()
            self._pulse = self._loop.call_later(self.welcome.ttl_s / 3, self._loop_moves)

    def _shut(self) -> None:
        if self._sockets is None or self._engine is None:
            return
        sockets, self._sockets = self._sockets, None
        self._loop.remove_reader(self._dealer_fd)
        self._loop.remove_reader(self._sub_fd)
        for timer in (self._timer, self._pulse):
            if timer is not None:
                timer.cancel()
        self._timer = self._pulse = None
        if self._keepalive is not None:
            self._keepalive.stop()
        sockets.close(flush=self.welcome is not None)
        self._engine.close()
        over = self._engine.core.error or ContextClosedError(
            "this context was closed while the call waited"
        )
        for reached, future in self._waiters:
            if future.done():
                continue
            if reached():
                future.set_result(None)
            else:
                future.set_exception(over)

    # --- calls ---

    async def call(self, command: Command, *, timeout: float = DEFAULT_TIMEOUT_S) -> Reply:  # noqa: ASYNC109
        """Return the broker's reply; see `ezgraph.client.shell.Shell.call`."""
        engine = self._open_engine()
        future: asyncio.Future[Result] = self._loop.create_future()
        deadline = self._clock.monotonic() + timeout
        request_id = engine.submit(command, deadline=deadline, on_result=_resolver(future))
        if engine.in_flight == 1:
            self._send(timeout)
        else:
            self._send_soon(timeout)
        try:
            return _reply_of(await future)
        except asyncio.CancelledError:
            engine.abandon(request_id)
            raise

    async def fetch_state(
        self, rooms: Sequence[str] = (), *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> tuple[GraphState, int]:
        """Return the state (or some rooms of it) at one seq, and the floor."""
        live = await self.fetch_live(rooms, timeout=timeout)
        return live.fold(), live.floor

    async def fetch_live(
        self, rooms: Sequence[str] = (), *, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> LiveEvents:
        """Return the events that make the state (or some rooms of it) at one seq."""
        engine = self._open_engine()
        future: asyncio.Future[LiveEvents | EzGraphError] = self._loop.create_future()

        def take(live: LiveEvents | EzGraphError) -> None:
            if not future.done():
                future.set_result(live)

        engine.pull_live(list(rooms), self._clock.monotonic() + timeout, take)
        self._send(timeout)
        live = await future
        if isinstance(live, EzGraphError):
            raise live
        return live

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
        """Return when ``reached()`` is true, which is looked at whenever something arrived.

        Raises:
            DeadlineError: it was not in ``timeout`` seconds; ``what`` says what was waited for.
        """
        self.check_owner()
        if reached():
            return
        waiter = (reached, self._loop.create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter[1]
        except TimeoutError:
            raise self._late(what, timeout) from None
        finally:
            self._waiters.remove(waiter)

    # --- the event loop ---

    def _watch_descriptors(self, sockets: ClientSockets) -> None:
        self._dealer_fd, self._sub_fd = int(sockets.dealer.FD), int(sockets.sub.FD)
        self._loop.add_reader(self._dealer_fd, self._read_replies)
        self._loop.add_reader(self._sub_fd, self._read_events)
        self._loop.call_soon(self._read_replies)
        self._loop.call_soon(self._read_events)

    def _send_soon(self, timeout: float) -> None:
        """Send when the loop has run what is ready, so that what is asked together leaves so."""
        if not self._sending_soon:
            self._sending_soon = True
            self._loop.call_soon(self._send, timeout)

    def _send(self, timeout: float) -> None:
        """Send, look at the socket again, and see to it that the deadline is kept."""
        self._sending_soon = False
        sockets, engine = self._sockets, self._engine
        if sockets is None or engine is None:
            return
        engine.flush()
        self._after_engine(sockets)
        self._arm(self._loop.time() + min(timeout, FIRST_RETRY_S))

    def _follow_dealer(self, sockets: ClientSockets) -> None:
        sockets.dealer_changed = False
        self._loop.remove_reader(self._dealer_fd)
        self._dealer_fd = int(sockets.dealer.FD)
        self._loop.add_reader(self._dealer_fd, self._read_replies)
        self._loop.call_soon(self._read_replies)

    def _read_replies(self) -> None:
        sockets, engine = self._sockets, self._engine
        if sockets is None or engine is None:
            return
        for _ in range(_DRAIN):
            if not readable(sockets.dealer):
                break
            engine.take_replies(receive(sockets.dealer, NOBLOCK))
        else:
            self._loop.call_soon(self._read_replies)
        self._after_engine(sockets)

    def _read_events(self) -> None:
        sockets, engine = self._sockets, self._engine
        if sockets is None or engine is None:
            return
        for _ in range(_DRAIN):
            if not readable(sockets.sub):
                break
            engine.take_publication(receive(sockets.sub, NOBLOCK))
        else:
            self._loop.call_soon(self._read_events)
        self._after_engine(sockets)

    def _after_engine(self, sockets: ClientSockets) -> None:
        """The engine may have sent, subscribed or dialled: look at the sockets it touched."""
        if self._sockets is None:
            return
        for reached, future in self._waiters:
            if not future.done() and reached():
                future.set_result(None)
        if sockets.dealer_changed:
            self._follow_dealer(sockets)
        if sockets.dealer_touched:
            sockets.dealer_touched = False
            if readable(sockets.dealer):
                self._loop.call_soon(self._read_replies)
        if sockets.sub_touched:
            sockets.sub_touched = False
            if readable(sockets.sub):
                self._loop.call_soon(self._read_events)
        if self._timer is None:
            self._arm_next()

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._tick)

    def _arm_next(self) -> None:
        due = self._engine.next_due() if self._engine else None
        if due is not None:
            self._arm(self._loop.time() + max(0.0, due - self._clock.monotonic()) + 0.001)

    def _tick(self) -> None:
        self._timer = None
        if self._engine is None or self._sockets is None:
            return
        self._heed_keepalive(self._engine)
        self._engine.tick()
        self._after_engine(self._sockets)

    # --- for subscriptions ---

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed ``watch`` from now on; ``on_ready`` is called when it has items or has failed."""
        feed = self._open_engine().open_feed(watch, on_ready)
        if self._sockets is not None:
            self._after_engine(self._sockets)
        self._arm(self._loop.time() + FIRST_RETRY_S / 2)
        return feed

    def serve_feed(self, feed: Feed) -> None:
        """Look at a watcher again after its items were taken."""
        if self._engine is not None and self._sockets is not None:
            self._engine.serve(feed)
            self._after_engine(self._sockets)

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        if self._engine is not None and self._sockets is not None:
            self._engine.close_feed(feed)


class Subscription:
    """What a watcher delivers, in order: ``Event | Progress | Compacted``. An async iterator.

    A slow consumer loses nothing: what does not fit into the buffer (20,000 items) is read
    from the journal when there is room again.
    """

    def __init__(self, session: Session, watch: Watch) -> None:
        self.watch = watch
        self._session = session
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False
        self._feed = session.open_feed(watch, self.wake)

    def __repr__(self) -> str:
        return f"<Subscription {self.watch!r}>"

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        """Return the next item; wait for it as long as the broker is heard."""
        ready = self.watch.ready
        while not ready:
            if self._closed:
                raise StopAsyncIteration
            if self.watch.phase is Phase.FAILED:
                raise self.watch.error or ContextClosedError("this subscription has ended")
            await self._wait()
        return self._pop()

    def take_arrived(self) -> Any:  # noqa: ANN401
        """Return the next item if it is there already, else None; do not wait."""
        return self._pop() if self.watch.ready else None

    def _pop(self) -> Any:  # noqa: ANN401
        ready = self.watch.ready
        item = ready.popleft()
        if not ready and self.watch.phase is Phase.READING:
            self._session.serve_feed(self._feed)
        return item

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def wake(self) -> None:
        """Tell the consumer that there is something to take."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def aclose(self) -> None:
        """End the subscription; a waiting consumer ends with it."""
        if not self._closed:
            self._closed = True
            self._session.close_feed(self._feed)
            self.wake()


def _resolver(future: asyncio.Future[Result]) -> Any:  # noqa: ANN401
    def resolve(result: Result) -> None:
        if not future.done():
            future.set_result(result)

    return resolve


def _reply_of(result: Result) -> Reply:
    if isinstance(result, EzGraphError):
        raise result
    return result
