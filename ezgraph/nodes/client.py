"""The nodes of another process: requests, one at a time or many in flight."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from itertools import islice
from queue import Empty
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ezgraph.clock import SystemClock
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import (
    ContextClosedError,
    DeadlineError,
    EzGraphError,
    NodeHostGoneError,
    TicketNeededError,
)
from ezgraph.nodes.endpoint import EndpointsLike, endpoints_of
from ezgraph.nodes.fingerprints import ChunkCache
from ezgraph.nodes.line import Line, Outcomes
from ezgraph.nodes.reading import MAX_READ_BYTES, Fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from ezgraph.config import Address
    from ezgraph.nodes.endpoint import Endpoint
    from ezgraph.nodes.line import Outcome, Secure
    from ezgraph.wire.nodes import Answer

log = logging.getLogger(__name__)

CACHE_BYTES = 256 << 20
WINDOW_BYTES = 32 << 20
WINDOW_REQUESTS = 64
GRACE_S = 2.0
_RENEWED_AT = 2 / 3
"""The part of a ticket's life after which a new one is asked for."""
_TRIED_AGAIN_S = 10.0
_SHOWN_AGAIN = 3
"""How often the same ticket is shown again, before a new one is asked for."""


class Way(NamedTuple):
    """How a graph can be got at: its endpoints with their tickets, which are good for so long."""

    endpoints: Sequence[Endpoint]
    life_s: float


class RemoteTree:
    """A graph of nodes that another process serves: what `RootNode` takes to make copies of it.

    Thread-safe; a thread of its own holds the connection. ``close`` ends it, as leaving ``with``.

    Args:
        address: where the process serves its nodes; several are tried in turn. Or endpoints
            (`ezgraph.nodes.endpoint`).
        timeout: how many seconds may pass without an answer.
        cache_bytes: how much memory whole chunks that were read may take, those on their way
            included (`ChunkCache`).
        max_read_bytes: how much may be read at once.
        window_bytes: how much is asked for ahead of what has arrived.
        grace_s: how long a lost connection may take to come back.
        secure: gives a socket its keys, before it connects to an endpoint without one.
        ask_way: asks where the graph is served now, and for new tickets; raises if it cannot.
        life_s: how long the tickets of ``address`` are good for.
    """

    def __init__(
        self,
        address: EndpointsLike,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        cache_bytes: int = CACHE_BYTES,
        max_read_bytes: int = MAX_READ_BYTES,
        window_bytes: int = WINDOW_BYTES,
        grace_s: float = GRACE_S,
        secure: Secure | None = None,
        ask_way: Callable[[], Way] | None = None,
        life_s: float = 0.0,
    ) -> None:
        self.timeout = timeout
        self.max_read_bytes = max_read_bytes
        self.cache = ChunkCache(max(0, cache_bytes - window_bytes))
        self._window_bytes = window_bytes
        self._pid = os.getpid()
        self._line = Line(endpoints_of(address), grace_s=grace_s, secure=secure)
        self._tickets = _Tickets(self._line, ask_way, life_s)
        self._end = weakref.finalize(self, self._line.stop)

    def __repr__(self) -> str:
        state = "" if self._end.alive else " closed"
        return f"<RemoteTree tcp://{self._line.address}{state} {self.cache!r}>"

    @property
    def address(self) -> Address:
        """The address that is dialled now."""
        return self._line.address

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the process that serves the nodes."""
        return self._end.alive and self._line.is_connected

    @property
    def note(self) -> str:
        """How the nodes are reached, if not directly."""
        return self._line.endpoint.note

    def renew(self, way: Way) -> None:
        """Take these endpoints and tickets from now on; a connection to one of them is kept."""
        self._tickets.take(way)

    def close(self) -> None:
        """End the connection. What was read stays; copies can read no more."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def request(self, message: Mapping[str, Any], /, *, timeout: float | None = None) -> bytes:
        """Return the encoded answer.

        Raises:
            NodeError, ForbiddenError, …: the server refused it; of the class it raised there.
            NodeHostGoneError: the process that serves the nodes is gone.
            DeadlineError: it did not answer in time.
        """
        patience = self.timeout if timeout is None else timeout
        may_wait_s = message.get("kwargs", {}).get("wait_s", 0.0)  # the answer may take that long
        return self.request_many([message], timeout=patience + may_wait_s)[0]

    def request_many(
        self, messages: Iterable[Mapping[str, Any]], /, *, timeout: float | None = None
    ) -> list[bytes]:
        """Return the encoded answers, in order; raises as `request` does, at the first refusal."""
        asked = ((message, 0) for message in messages)
        answers = self._exchange(asked, timeout, takes_frames=False)
        found = {number: answer.value() for number, answer in answers}
        return [found[number] for number in sorted(found)]

    def fetch(
        self,
        requests: Iterable[tuple[Mapping[str, Any], int]],
        /,
        *,
        timeout: float | None = None,
    ) -> Iterator[Fetched]:
        """Ask for arrays of so many bytes each, several at a time, and return them as they come.

        An array is a view of the received frame. Raises as `request` does.
        """
        for number, answer in self._exchange(iter(requests), timeout, takes_frames=True):
            yield Fetched(number, *answer.array())

    def _exchange(
        self,
        requests: Iterator[tuple[Mapping[str, Any], int]],
        timeout: float | None,
        *,
        takes_frames: bool,
    ) -> Iterator[tuple[int, Answer]]:
        self._check_open()
        window = _Window(self._line, requests, self._window_bytes, takes_frames=takes_frames)
        patience = self.timeout if timeout is None else timeout
        tickets = self._tickets
        try:
            while window.fill(tickets.kept_fresh()):
                outcome = window.next_outcome(patience)
                if outcome is None:
                    raise self._silent(patience, window)
                if isinstance(outcome.answer, EzGraphError):
                    raise outcome.answer
                try:
                    outcome.answer.check()
                except TicketNeededError:
                    if not tickets.show_another(*window.shown_for(outcome.number)):
                        raise
                    window.ask_again(outcome.number, tickets.shown)
                    continue
                window.settle(outcome.number)
                yield outcome.number, outcome.answer
        finally:
            window.forget_rest()

    def _silent(self, patience: float, window: _Window) -> EzGraphError:
        if not self._line.is_connected:
            return NodeHostGoneError(
                f"no connection to the process that serves nodes at {self.address} in "
                f"{patience:g} s; see whether it runs"
            )
        return DeadlineError(
            f"{self.address} sent nothing for {patience:g} s, with {window!r}; its source is slow "
            f"or the network is: give a longer timeout, or read less at once"
        )

    def _check_open(self) -> None:
        if not self._end.alive:
            raise ContextClosedError(f"{self!r} is closed; open the graph again")
        if os.getpid() != self._pid:
            raise ContextClosedError(
                f"{self!r} was opened in process {self._pid} and inherited by fork in "
                f"{os.getpid()}; open the graph again here"
            )


class _Tickets:
    """What a reader shows, kept fresh. Thread-safe; whoever reads asks for new ones in passing."""

    def __init__(self, line: Line, ask_way: Callable[[], Way] | None, life_s: float) -> None:
        self._line = line
        self._ask_way = ask_way
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._due = self._clock.monotonic() + life_s * _RENEWED_AT
        self.shown = 0
        """How often new ones were taken."""

    def __repr__(self) -> str:
        left_s = self._due - self._clock.monotonic()
        return f"<_Tickets shown={self.shown} renewed in {left_s:.0f} s>"

    def kept_fresh(self) -> int:
        """Ask for new tickets if those there are will run out soon; return `shown`."""
        ask_way = self._ask_way
        if ask_way is None or self._clock.monotonic() < self._due:
            return self.shown
        if self._lock.acquire(blocking=False):
            try:
                self._take(ask_way())
            except EzGraphError as error:  # those there are may still do
                log.info("no new ticket for a host of nodes line=%r why=%s", self._line, error)
                self._due = self._clock.monotonic() + _TRIED_AGAIN_S
            finally:
                self._lock.release()
        return self.shown

    def show_another(self, refused: int, times: int) -> bool:
        """Show a ticket after one was refused; return whether there is any use in it.

        For the first ``times`` it is the same one again, as a host may have forgotten it, or not
        have been sure whose it was; then once a new one, in place of what was shown when `shown`
        was ``refused``.

        Raises:
            EzGraphError: there is no new one; says why.
        """
        if times < _SHOWN_AGAIN:
            self._line.show_again()
            return self._line.endpoint.ticket is not None
        if times > _SHOWN_AGAIN or self._ask_way is None:
            return False
        with self._lock:
            if self.shown == refused:
                self._take(self._ask_way())
        return True

    def take(self, way: Way) -> None:
        """Show these from now on."""
        with self._lock:
            self._take(way)

    def _take(self, way: Way) -> None:
        self._line.renew(way.endpoints)
        self._due = self._clock.monotonic() + way.life_s * _RENEWED_AT
        self.shown += 1


class _Asked(NamedTuple):
    """A request of a call: what it says, how large its answer is, what ticket was shown for it.

    ``times`` is how often it was refused for want of a ticket.
    """

    message: Mapping[str, Any]
    size_bytes: int
    shown: int
    times: int = 0


class _Window:
    """The requests of one call that are on their way: so many that the line is never idle."""

    def __init__(
        self,
        line: Line,
        requests: Iterator[tuple[Mapping[str, Any], int]],
        size_bytes: int,
        *,
        takes_frames: bool,
    ) -> None:
        self._line = line
        self._requests = enumerate(requests)
        self._size_bytes = size_bytes
        self._takes_frames = takes_frames
        self._outcomes: Outcomes = Outcomes()
        self._ids: dict[int, int] = {}
        self._asked: dict[int, _Asked] = {}
        self._bytes = 0

    def __repr__(self) -> str:
        return f"{len(self._ids)} requests for {self._bytes} bytes open"

    def fill(self, shown: int) -> bool:
        """Ask for more if there is room; return whether anything is open.

        ``shown``: which tickets the host has been shown by now.
        """
        while not self._ids or (
            self._bytes < self._size_bytes and len(self._ids) < WINDOW_REQUESTS
        ):
            found = list(islice(self._requests, 1))
            if not found:
                break
            number, (message, size_bytes) = found[0]
            self._bytes += size_bytes
            self._ask(number, _Asked(message, size_bytes, shown))
        return bool(self._ids)

    def _ask(self, number: int, asked: _Asked) -> None:
        self._asked[number] = asked
        self._ids[number] = self._line.ask(
            asked.message, number, self._outcomes, takes_frames=self._takes_frames
        )

    def next_outcome(self, patience: float) -> Outcome | None:
        """Return what comes next; None if nothing does in so many seconds."""
        try:
            outcome = self._outcomes.get(timeout=patience)
        except Empty:
            return None
        del self._ids[outcome.number]
        return outcome

    def settle(self, number: int) -> None:
        """Take note that a request was answered."""
        self._bytes -= self._asked.pop(number).size_bytes

    def shown_for(self, number: int) -> tuple[int, int]:
        """Return which tickets were shown for it, and how often it was refused before."""
        asked = self._asked[number]
        return asked.shown, asked.times

    def ask_again(self, number: int, shown: int) -> None:
        """Ask what was refused once more."""
        asked = self._asked[number]
        self._ask(number, asked._replace(shown=shown, times=asked.times + 1))

    def forget_rest(self) -> None:
        """Take no interest any more in what is open."""
        self._line.forget(list(self._ids.values()))
