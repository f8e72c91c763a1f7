"""How a process answers what its units are asked: pings, statistics, requests, changes of settings.

Each request is answered once. One that is handed over again (its asker, or the broker, had reason
to think it was lost) is known by its id: while it is being worked on it is not begun again, and
afterwards the same answer is given again. Answers are remembered for the latest `REMEMBERED`
requests, and `REMEMBERED_BYTES`.

A change that is wanted only if the settings are still those of some seq is refused where this
process has reported others since, or is about to: the broker could not know of that yet. How far
each change is, and what becomes of one that takes too long: `ezgraph.graph.changes`.

Handlers are coroutines; the blocking twin's never suspend.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.clock import SystemClock
from ezgraph.config import DEFAULT_CHANGE_TIMEOUT_S
from ezgraph.errors import (
    DeadlineError,
    EzGraphError,
    JournalFailedError,
    LimitError,
    MalformedMessageError,
    StaleWriteError,
    VetoedError,
)
from ezgraph.graph.changes import Changer, Changes, refused, stale
from ezgraph.protocol.commands import AnswerRequest, Command, ReportSettings
from ezgraph.protocol.routed import (
    ProcessControlErrorCode,
    ProcessControlOperation,
    ProcessControlRequest,
    ProcessControlResponse,
    SettingsChangeRequest,
    SettingsCheckRequest,
)
from ezgraph.protocol.settings import settings_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from uuid import UUID

    from ezgraph.clock import Clock
    from ezgraph.graph.changes import ChangeHandler, CheckHandler, Holdable
    from ezgraph.protocol.routed import Routed

    RequestHandler = Callable[[ProcessControlRequest], Awaitable[object]]

log = logging.getLogger(__name__)

REMEMBERED = 1_000
REMEMBERED_BYTES = 16 << 20
_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Identified:
    """Which process this is."""

    process_id: UUID
    units: tuple[str, ...]


class Attendant:
    """Answers for one process client. ``tell`` sends a command and returns the seq reached.

    ``begin`` is called when a request that had to wait is to be attended to.
    """

    def __init__(
        self,
        tell: Callable[[Command, float], Awaitable[int]],
        who: Callable[[], Identified],
        clock: Clock | None = None,
        *,
        begin: Callable[[Routed], None],
    ) -> None:
        self.handler: RequestHandler | None = None
        self._tell = tell
        self._who = who
        self.changes = Changes(begin)
        self._busy: set[str] = set()
        self._asked_again: set[str] = set()
        self._answers: OrderedDict[str, AnswerRequest] = OrderedDict()
        self._answer_bytes = 0
        self._reporting: Counter[str] = Counter()
        self._reported: dict[str, int] = {}
        self._clock = clock or SystemClock()
        self._started = self._clock.monotonic()

    def __repr__(self) -> str:
        return f"<Attendant busy={len(self._busy)} {self.changes!r}>"

    def take_changes(
        self,
        address: str,
        changer: ChangeHandler,
        *,
        timeout_s: float = DEFAULT_CHANGE_TIMEOUT_S,
        lock: Holdable | None = None,
        check: CheckHandler | None = None,
    ) -> None:
        """Have ``changer`` make the changes of a unit's settings, or refuse them."""
        self.changes.take(address, Changer(changer, timeout_s, lock, check))

    def take_no_changes(self, address: str) -> None:
        """Refuse changes of a unit's settings from now on."""
        self.changes.take_none(address)

    @contextmanager
    def reporting(self, address: str) -> Iterator[Callable[[int], None]]:
        """While this lasts the settings of ``address`` are on their way; call it with their seq."""

        def note(seq: int) -> None:
            self._reported[address] = max(seq, self._reported.get(address, 0))

        self._reporting[address] += 1
        try:
            yield note
        finally:
            self._reporting[address] -= 1

    async def attend(self, request: Routed) -> None:
        """Answer one request that was handed to this process."""
        request_id = request.request_id
        if isinstance(request, SettingsCheckRequest):
            await self.send(await self._check(request))  # asked again, it is made again
            return
        if request_id in self._busy:
            overdue = self.changes.overdue(request_id)
            if overdue is None:
                self._asked_again.add(request_id)
            else:
                await self.send(overdue)
            return
        known = self._answers.get(request_id)
        if known is not None:
            await self.send(known)
            return
        if self.changes.must_wait(request):
            return
        self._busy.add(request_id)
        try:
            with self.changes.turn(request) as busy:
                answer = await self._tell_what_came_of(
                    busy or await self._answer(request), request_id
                )
            if answer is None:
                return
            self._remember(answer)
            if request_id in self._asked_again:  # by a broker that may not know the answer
                await self.send(answer)
        finally:
            self._busy.discard(request_id)
            self._asked_again.discard(request_id)

    async def _tell_what_came_of(
        self, answer: AnswerRequest | ReportSettings, request_id: str
    ) -> AnswerRequest | None:
        """Send it; return what is said when it is asked for again, None: it is done again then."""
        if isinstance(answer, ReportSettings):
            return await self._report(answer, request_id)
        if (unsendable := await self.send(answer)) is not None:
            answer = _failed_to_send(answer, unsendable)
            await self.send(answer)
        return answer

    def give_up(self, request: Routed) -> AnswerRequest | None:
        """The time of a change is over: return what is to be sent to who asked; None: it is made.

        Where its changer waits for something just now, it may be cancelled there.
        """
        overdue = self.changes.give_up(request)
        if overdue is not None:
            self._remember(overdue)  # one that is cancelled is not begun again either
        return overdue

    def _remember(self, answer: AnswerRequest) -> None:
        answers = self._answers
        answers[answer.request_id] = answer
        self._answer_bytes += len(answer.payload or b"")
        while len(answers) > REMEMBERED or self._answer_bytes > REMEMBERED_BYTES:
            _, oldest = answers.popitem(last=False)
            self._answer_bytes -= len(oldest.payload or b"")

    async def _answer(
        self, request: ProcessControlRequest | SettingsChangeRequest
    ) -> AnswerRequest | ReportSettings:
        if isinstance(request, SettingsChangeRequest):
            return await self._change(request)
        try:
            return await self._operate(request)
        except NotImplementedError as error:
            said = str(error) or f"{request.unit_address!r} does not know {request.operation!r}"
            return _failed(request, ProcessControlErrorCode.UNSUPPORTED_OPERATION, said)
        except Exception as error:
            log.exception("a request failed unit=%s", request.unit_address)
            said = f"{type(error).__name__}: {error}"
            return _failed(request, ProcessControlErrorCode.HANDLER_ERROR, said)

    async def _operate(self, request: ProcessControlRequest) -> AnswerRequest:
        if request.operation == ProcessControlOperation.PING.value:
            return _done(request, _json(self._ping()))
        if request.operation == ProcessControlOperation.GET_PROCESS_STATS.value:
            return _done(request, _json(self._ping() | self._stats()))
        if self.handler is None:
            return _failed(
                request,
                ProcessControlErrorCode.HANDLER_NOT_CONFIGURED,
                f"the process that runs {request.unit_address!r} answers no requests; it would "
                f"with set_request_handler()",
            )
        given = await self.handler(request)
        if given is None or isinstance(given, bytes | bytearray | memoryview):
            return _done(request, None if given is None else bytes(given))
        if isinstance(given, ProcessControlResponse):
            code = given.error_code
            if not given.ok and code is None:
                code = ProcessControlErrorCode.HANDLER_ERROR
            return AnswerRequest(
                request.request_id,
                given.ok,
                given.payload,
                given.error,
                None if given.ok or code is None else code.value,
            )
        return _failed(
            request,
            ProcessControlErrorCode.INVALID_RESPONSE,
            f"the handler returned {type(given).__name__}; bytes, None or a "
            f"ProcessControlResponse are answers",
        )

    async def _change(self, request: SettingsChangeRequest) -> AnswerRequest | ReportSettings:
        changer = self.changes.changer_of(request.address)
        if changer is None:
            return refused(
                request, f"its program takes no changes of {request.address!r} while it runs"
            )
        try:
            return await self._make(request, changer)
        finally:
            self.changes.made(request)

    async def _make(
        self, request: SettingsChangeRequest, changer: Changer
    ) -> AnswerRequest | ReportSettings:
        if self.is_stale(request):
            return stale(request)
        try:
            value = settings_value(await changer.make(request))
        except StaleWriteError as error:
            return refused(request, str(error), error.code)
        except VetoedError as error:
            return refused(request, str(error))
        except Exception as error:
            log.exception("a change of settings failed address=%s", request.address)
            return refused(request, f"{type(error).__name__}: {error}")
        return ReportSettings(
            request.address, value, None, request.reason, answers=request.request_id
        )

    async def _check(self, request: SettingsCheckRequest) -> AnswerRequest:
        """Return whether a change would be made; nothing is changed."""
        changer = self.changes.changer_of(request.address)
        if changer is None:
            return refused(
                request, f"its program takes no changes of {request.address!r} while it runs"
            )
        if changer.check is None:
            return _uncheckable(request)
        with self.changes.checking(request, changer) as busy:
            if busy is not None:
                return busy
            try:
                await changer.check(request)
            except VetoedError as error:
                return refused(request, str(error))
            except Exception as error:
                log.exception("a check of settings failed address=%s", request.address)
                return refused(request, f"{type(error).__name__}: {error}")
        return AnswerRequest(request.request_id, ok=True)

    def is_stale(self, request: SettingsChangeRequest) -> bool:
        """Return whether a change is wanted only of settings that are others by now.

        Asked before a change is made; a changer that waits for anything asks again, just before it
        makes the change, and raises `StaleWriteError`.
        """
        if request.expected_seq is None:
            return False
        address = request.address
        return bool(self._reporting[address]) or self._reported.get(address, 0) > request.base_seq

    async def send(self, answer: AnswerRequest) -> EzGraphError | None:
        """Send an answer; return why it can never be taken, or None."""
        try:
            await self._tell(answer, _ANSWER_S)
        except EzGraphError as error:
            log.warning("an answer was not taken: %s", error)
            return error if isinstance(error, LimitError | MalformedMessageError) else None
        return None

    async def _report(self, report: ReportSettings, request_id: str) -> AnswerRequest | None:
        """Report what a change came to; return what is said when it is asked for again.

        None: the broker could not take the report for now, so nobody knows of the change. If it is
        asked for again, it is made again, and reported then.
        """
        made = "the change was made before, and is not made again; watch the settings"
        try:
            with self.reporting(report.address) as note:
                note(await self._tell(report, _ANSWER_S))
        except (JournalFailedError, DeadlineError) as error:
            log.warning("settings were not taken address=%s: %s", report.address, error)
            return None
        except EzGraphError as error:
            log.warning("settings were not taken address=%s: %s", report.address, error)
            made = f"the change was made, but could not be reported: {error}"
            answer = AnswerRequest(request_id, ok=False, error=made)
            await self.send(answer)
            return answer
        return AnswerRequest(request_id, ok=False, error=made)

    def _ping(self) -> dict[str, object]:
        who = self._who()
        return {"process_id": str(who.process_id), "pid": os.getpid(), "host": socket.gethostname()}

    def _stats(self) -> dict[str, object]:
        return {
            "units": sorted(self._who().units),
            "uptime_s": self._clock.monotonic() - self._started,
            "cpu_s": time.process_time(),
            "memory_bytes": _memory_bytes(),
            "threads": threading.active_count(),
        }


def is_answered_by_itself(request: Routed) -> bool:
    """Return whether no handler of the program is asked for it."""
    own = {each.value for each in ProcessControlOperation}
    return isinstance(request, ProcessControlRequest) and request.operation in own


def _memory_bytes() -> int:
    """Return how much memory this process has had at most."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _json(said: dict[str, object]) -> bytes:
    return json.dumps(said).encode()


def _done(request: ProcessControlRequest, payload: bytes | None) -> AnswerRequest:
    return AnswerRequest(request.request_id, ok=True, payload=payload)


def _failed(
    request: ProcessControlRequest, code: ProcessControlErrorCode, said: str
) -> AnswerRequest:
    return AnswerRequest(request.request_id, ok=False, error=said, error_code=code.value)


def _uncheckable(request: SettingsCheckRequest) -> AnswerRequest:
    return AnswerRequest(
        request.request_id,
        ok=False,
        error=f"its program cannot check changes of {request.address!r} without making them; it "
        f"would with a SettingsHost, or with take_changes(check=…)",
        error_code=ProcessControlErrorCode.HANDLER_NOT_CONFIGURED.value,
    )


def _failed_to_send(answer: AnswerRequest, error: EzGraphError) -> AnswerRequest:
    return AnswerRequest(
        answer.request_id,
        ok=False,
        error=f"the handler's answer cannot be sent: {error}",
        error_code=ProcessControlErrorCode.INVALID_RESPONSE.value,
    )
