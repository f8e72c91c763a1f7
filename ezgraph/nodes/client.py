"""The nodes of another process: requests, one at a time or many in flight."""

from __future__ import annotations

import os
import weakref
from itertools import islice
from queue import Empty
from typing import TYPE_CHECKING, Any, Self

from ezgraph.config import DEFAULT_TIMEOUT_S, AddressesLike, parse_addresses
from ezgraph.errors import ContextClosedError, DeadlineError, EzGraphError, NodeHostGoneError
from ezgraph.nodes.fingerprints import ChunkCache
from ezgraph.nodes.line import Line, Outcomes
from ezgraph.nodes.reading import MAX_READ_BYTES, Fetched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from ezgraph.config import Address
    from ezgraph.nodes.line import Outcome, Secure
    from ezgraph.wire.nodes import Answer

CACHE_BYTES = 256 << 20
WINDOW_BYTES = 32 << 20
WINDOW_REQUESTS = 64
GRACE_S = 2.0


class RemoteTree:
    """A graph of nodes that another process serves: what `RootNode` takes to make copies of it.

    Thread-safe; a thread of its own holds the connection. ``close`` ends it, as leaving ``with``.

    Args:
        address: where the process serves its nodes; several are tried in turn.
        timeout: how many seconds may pass without an answer.
        cache_bytes: how much memory whole chunks that were read may take, those on their way
            included (`ChunkCache`).
        max_read_bytes: how much may be read at once.
        window_bytes: how much is asked for ahead of what has arrived.
        grace_s: how long a lost connection may take to come back.
        secure: gives a socket its keys, before it connects.
    """

    def __init__(
        self,
        address: AddressesLike,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        cache_bytes: int = CACHE_BYTES,
        max_read_bytes: int = MAX_READ_BYTES,
        window_bytes: int = WINDOW_BYTES,
        grace_s: float = GRACE_S,
        secure: Secure | None = None,
    ) -> None:
        self.timeout = timeout
        self.max_read_bytes = max_read_bytes
        self.cache = ChunkCache(max(0, cache_bytes - window_bytes))
        self._window_bytes = window_bytes
        self._pid = os.getpid()
        self._line = Line(parse_addresses(address), grace_s=grace_s, secure=secure)
        self._end = weakref.finalize(self, self._line.stop)

    def __repr__(self) -> str:
        state = "" if self._end.alive else " closed"
        return f"<RemoteTree tcp://{self._line.address}{state} {self.cache!r}>"

    @property
    def address(self) -> Address:
        """The address that is dialled now."""
        return self._line.address

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
        try:
            while window.fill():
                outcome = window.next_outcome(patience)
                if outcome is None:
                    raise self._silent(patience, window)
                if isinstance(outcome.answer, EzGraphError):
                    raise outcome.answer
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
        self._sizes: dict[int, int] = {}
        self._bytes = 0

    def __repr__(self) -> str:
        return f"{len(self._ids)} requests for {self._bytes} bytes open"

    def fill(self) -> bool:
        """Ask for more if there is room; return whether anything is open."""
        while not self._ids or (
            self._bytes < self._size_bytes and len(self._ids) < WINDOW_REQUESTS
        ):
            found = list(islice(self._requests, 1))
            if not found:
                break
            number, (message, size_bytes) = found[0]
            self._sizes[number] = size_bytes
            self._bytes += size_bytes
            self._ids[number] = self._line.ask(
                message, number, self._outcomes, takes_frames=self._takes_frames
            )
        return bool(self._ids)

    def next_outcome(self, patience: float) -> Outcome | None:
        """Return what comes next; None if nothing does in so many seconds."""
        try:
            outcome = self._outcomes.get(timeout=patience)
        except Empty:
            return None
        del self._ids[outcome.number]
        self._bytes -= self._sizes.pop(outcome.number)
        return outcome

    def forget_rest(self) -> None:
        """Take no interest any more in what is open."""
        self._line.forget(list(self._ids.values()))


