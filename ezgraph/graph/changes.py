"""Which changes of settings a process makes, with what, and how far each is. No I/O.

At an address changes are made one by one. A broker that has started anew may hand out the next
while one is being made: it waits. States of a change::

    waiting ──▶ being made ──▶ over: reported, or refused
                    └─ its time is over ─▶ overdue ──▶ over: reported (late), or dropped

Whose change is overdue is told so at once, and waits no longer; the broker goes on to the next in
line. That one is refused as long as the overdue one is not over, because nobody knows yet what the
settings will be. What an overdue one comes to is true whenever it comes, as nothing was changed in
between: it is reported then, and the address takes changes again.

Whether a change would be made may be asked before (a *check*): that changes nothing, waits for no
turn, and is refused where nobody knows yet what the settings will be.

The shell that runs a changer watches the time (`Changes.time_for`), says when it is over
(`Changes.give_up`), and cancels the changer if it can.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ezgraph.errors import ChangeOverdueError, OwnerBusyError, StaleWriteError
from ezgraph.protocol.commands import AnswerRequest
from ezgraph.protocol.routed import SettingsChangeRequest, SettingsCheckRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ezgraph.protocol.routed import Routed

    ChangeHandler = Callable[[SettingsChangeRequest], Awaitable[object]]
    CheckHandler = Callable[[SettingsCheckRequest], Awaitable[object]]

log = logging.getLogger(__name__)


class Holdable(Protocol):
    """A lock."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:  # noqa: FBT001
        """Wait for it, up to ``timeout`` seconds; return whether it is held."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Changer(NamedTuple):
    """What makes the changes of a unit's settings, and how long it may be at one.

    ``lock`` is held until a change is reported, where other threads make changes, too. ``check``
    says whether a change would be made; None: nothing does.
    """

    make: ChangeHandler
    timeout_s: float
    lock: Holdable | None
    check: CheckHandler | None = None


class Changes:
    """The changers of one process, by address, and the changes they are at. Thread-safe.

    ``begin`` is called with a change that has waited, when it is its turn.
    """

    def __init__(self, begin: Callable[[Routed], None]) -> None:
        self._begin = begin
        self._waiting: dict[str, deque[SettingsChangeRequest]] = {}
        self._changers: dict[str, Changer] = {}
        self._making: dict[str, SettingsChangeRequest] = {}
        self._overdue: dict[str, AnswerRequest] = {}
        self._checking: set[str] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        addresses = sorted(self._changers)
        return f"<Changes of {addresses} making={len(self._making)} overdue={len(self._overdue)}>"

    def take(self, address: str, changer: Changer) -> None:
        """Have ``changer`` make the changes at an address from now on."""
        self._changers[address] = changer

    def take_none(self, address: str) -> None:
        """Have nobody make them."""
        self._changers.pop(address, None)

    def changer_of(self, address: str) -> Changer | None:
        """Return what makes the changes at an address."""
        return self._changers.get(address)

    # --- how far a change is ---

    def must_wait(self, request: Routed) -> bool:
        """Return whether another change is being made at its address; then it begins later."""
        if not isinstance(request, SettingsChangeRequest):
            return False
        with self._lock:
            other = self._making.get(request.address)
            if other is None or other.request_id in self._overdue:
                return False
            waiting = self._waiting.setdefault(request.address, deque())
            if all(each.request_id != request.request_id for each in waiting):
                waiting.append(request)
        return True

    def _go_on(self, address: str) -> None:
        """A change is over, or overdue: begin what has waited for it."""
        for each in self._waiting.pop(address, ()):
            self._begin(each)  # all but the first wait again, or are refused

    @contextmanager
    def turn(self, request: Routed) -> Iterator[AnswerRequest | None]:
        """Answer a request; if it is for a change, be alone with it at its address.

        Yields why it cannot be begun, or None.
        """
        if not isinstance(request, SettingsChangeRequest):
            yield None
            return
        changer = self._changers.get(request.address)
        if changer is None:
            yield None
        elif (busy := self._occupy(request)) is not None:
            yield busy
        else:
            try:
                with _held(changer) as is_held:
                    yield None if is_held else _unheld(request, changer)
            finally:
                self._over(request)

    def _occupy(self, request: SettingsChangeRequest) -> AnswerRequest | None:
        with self._lock:
            other = self._making.setdefault(request.address, request)
        if other is request:
            return None
        said = "it is still at an earlier one, which is overdue; ask again when it is over"
        return refused(request, said, OwnerBusyError.code)

    def made(self, request: SettingsChangeRequest) -> None:
        """The changer is through: the next change may be made, unless this one is overdue.

        One that is overdue is over when it is reported, too: nobody keeps the next one back.
        """
        with self._lock:
            is_over = request.request_id not in self._overdue
            if is_over:
                self._forget(request)
        if is_over:
            self._go_on(request.address)

    def _over(self, request: SettingsChangeRequest) -> None:
        with self._lock:
            self._overdue.pop(request.request_id, None)
            self._forget(request)
        self._go_on(request.address)

    def _forget(self, request: SettingsChangeRequest) -> None:
        if self._making.get(request.address) is request:
            del self._making[request.address]

    # --- checks ---

    @contextmanager
    def checking(
        self, request: SettingsCheckRequest, changer: Changer
    ) -> Iterator[AnswerRequest | None]:
        """Hold the settings while a check is made; yields why it cannot be, or None."""
        with self._lock:
            making = self._making.get(request.address)
            is_busy = making is not None and making.request_id in self._overdue
            self._checking.add(request.request_id)
        try:
            if is_busy:
                said = "it is still at an earlier change, which is overdue"
                yield refused(request, said, OwnerBusyError.code)
                return
            with _held(changer) as is_held:
                yield None if is_held else _unheld(request, changer)
        finally:
            self._checking.discard(request.request_id)

    # --- changes that take too long ---

    def time_for(self, request: Routed) -> float | None:
        """Return how many seconds its changer may be at a request; None: no changer is."""
        if not isinstance(request, SettingsChangeRequest | SettingsCheckRequest):
            return None
        changer = self._changers.get(request.address)
        return changer.timeout_s if changer is not None else None

    def give_up(self, request: Routed) -> AnswerRequest | None:
        """The time of a change is over: return what is to be said to who asked.

        None: no changer is at it (any more), or it was given up before.
        """
        if isinstance(request, SettingsCheckRequest):
            return self._give_up_check(request)
        if not isinstance(request, SettingsChangeRequest):
            return None
        with self._lock:
            is_made = self._making.get(request.address) is request
            if not is_made or request.request_id in self._overdue:
                return None
            overdue = _overdue(request, self.time_for(request))
            self._overdue[request.request_id] = overdue
        log.warning("a change of settings is overdue address=%s", request.address)
        self._go_on(request.address)
        return overdue

    def _give_up_check(self, request: SettingsCheckRequest) -> AnswerRequest | None:
        with self._lock:
            if request.request_id not in self._checking:
                return None
            self._checking.discard(request.request_id)
        log.warning("a check of settings takes too long address=%s", request.address)
        said = f"its program has been checking for {self.time_for(request):g} s"
        return refused(request, said, ChangeOverdueError.code)

    def overdue(self, request_id: str) -> AnswerRequest | None:
        """Return what was said of a change that is overdue, and not over; None: it is not."""
        return self._overdue.get(request_id)


@contextmanager
def _held(changer: Changer) -> Iterator[bool]:
    """Hold the changer's lock, if it has one; yield whether it could be had."""
    lock = changer.lock
    if lock is None:
        yield True
    elif lock.acquire(timeout=changer.timeout_s):
        try:
            yield True
        finally:
            lock.release()
    else:
        yield False


def refused(
    request: SettingsChangeRequest | SettingsCheckRequest, reason: str, code: str | None = None
) -> AnswerRequest:
    """Return the answer that a change was refused; ``code`` None: by a veto."""
    return AnswerRequest(request.request_id, ok=False, error=reason, error_code=code)


def stale(request: SettingsChangeRequest) -> AnswerRequest:
    """Return the answer that the settings are others by now than who asked knew."""
    said = f"the settings of {request.address!r} have changed meanwhile; read them again"
    return refused(request, said, StaleWriteError.code)


def _overdue(request: SettingsChangeRequest, timeout_s: float | None) -> AnswerRequest:
    given = f"the {timeout_s:g} s are over" if timeout_s is not None else "the time is over"
    said = f"{given} that its program gives one; it may still be made: watch the settings"
    return refused(request, said, ChangeOverdueError.code)


def _unheld(
    request: SettingsChangeRequest | SettingsCheckRequest, changer: Changer
) -> AnswerRequest:
    said = f"its program has held these settings for {changer.timeout_s:g} s; ask again"
    return refused(request, said, OwnerBusyError.code)
