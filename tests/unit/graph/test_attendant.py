"""How a process answers: once per request, whatever its handlers do."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from ezgraph.client.blocking import run
from ezgraph.errors import (
    DeadlineError,
    EzGraphError,
    JournalFailedError,
    LimitError,
    NotOwnerError,
    VetoedError,
)
from ezgraph.graph import attendant
from ezgraph.graph.attendant import Attendant, Identified
from ezgraph.protocol.commands import AnswerRequest, Command, ReportSettings
from ezgraph.protocol.routed import (
    ProcessControlErrorCode,
    ProcessControlRequest,
    ProcessControlResponse,
    SettingsChangeRequest,
    SettingsCheckRequest,
)
from ezgraph.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = "SYS/A"


class Desk:
    """An attendant, and what it has told the broker; ``refuses`` is raised by the next telling."""

    def __init__(self) -> None:
        self.told: list[Command] = []
        self.refuses: list[EzGraphError] = []
        self.clock = ManualClock()
        self.waited: list[Any] = []
        self.attendant = Attendant(
            self.tell,
            lambda: Identified(UUID(int=7), (UNIT,)),
            self.clock,
            begin=self.waited.append,
        )

    async def tell(self, command: Command, timeout: float) -> int:  # noqa: ASYNC109
        assert timeout > 0
        if self.refuses:
            raise self.refuses.pop(0)
        self.told.append(command)
        return 100 + len(self.told)

    def attend(self, request: Any) -> Any:
        """Hand it over; return what was told last."""
        run(self.attendant.attend(request))
        return self.told[-1] if self.told else None

    def ask(self, operation: str = "move", request_id: str = "x::1") -> Any:
        return self.attend(ProcessControlRequest(request_id, UNIT, operation, b"in"))

    def change(self, request_id: str = "x::1", **more: Any) -> Any:
        return self.attend(SettingsChangeRequest(request_id, UNIT, {"gain": 2}, **more))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def gives(given: object) -> Callable[[Any], Any]:
    async def handler(_: Any) -> object:
        if isinstance(given, BaseException):
            raise given
        return given

    return handler


@pytest.mark.parametrize(
    ("given", "payload"),
    [(b"out", b"out"), (bytearray(b"out"), b"out"), (memoryview(b"out"), b"out"), (None, None)],
)
def test_bytes_and_nothing_are_answers(desk: Desk, given: object, payload: bytes | None) -> None:
    desk.attendant.handler = gives(given)

    assert desk.ask() == AnswerRequest("x::1", ok=True, payload=payload)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("text", "INVALID_RESPONSE", "returned str"),
        (NotImplementedError(), "UNSUPPORTED_OPERATION", "does not know 'move'"),
        (NotImplementedError("not today"), "UNSUPPORTED_OPERATION", "not today"),
        (ValueError("why"), "HANDLER_ERROR", "ValueError: why"),
        (ProcessControlResponse("?", ok=False, error="no"), "HANDLER_ERROR", "no"),
        (
            ProcessControlResponse(
                "?", ok=False, error="later", error_code=ProcessControlErrorCode.TIMEOUT
            ),
            "TIMEOUT",
            "later",
        ),
    ],
)
def test_what_is_no_result_says_why(desk: Desk, given: object, code: str, said: str) -> None:
    desk.attendant.handler = gives(given)

    answer = desk.ask()

    assert (answer.ok, answer.error_code) == (False, code)
    assert said in answer.error


def test_a_response_of_ones_own_is_taken_under_the_id_that_was_asked(desk: Desk) -> None:
    desk.attendant.handler = gives(ProcessControlResponse("another", ok=True, payload=b"p"))

    assert desk.ask() == AnswerRequest("x::1", ok=True, payload=b"p")


def test_without_a_handler_only_the_library_answers(desk: Desk) -> None:
    assert desk.ask().error_code == "HANDLER_NOT_CONFIGURED"
    assert json.loads(desk.ask("PING", "x::2").payload)["process_id"] == str(UUID(int=7))
    desk.clock.advance(5.0)
    stats = json.loads(desk.ask("GET_PROCESS_STATS", "x::3").payload)
    assert (stats["units"], stats["uptime_s"]) == ([UNIT], 5.0)
    assert stats["memory_bytes"] > 0
    assert stats["threads"] >= 1


def test_a_request_that_comes_again_is_answered_again_and_not_done_again(desk: Desk) -> None:
    done: list[str] = []

    async def handler(request: ProcessControlRequest) -> bytes:
        done.append(request.request_id)
        return b"done"

    desk.attendant.handler = handler
    answers = [desk.ask(), desk.ask(), desk.ask(request_id="x::2")]

    assert done == ["x::1", "x::2"]
    assert answers[0] == answers[1]


def test_a_request_that_comes_again_while_it_is_worked_on_is_left_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendant, "REMEMBERED", 3)
    begun: list[str] = []

    async def scenario() -> None:
        async def handler(request: ProcessControlRequest) -> bytes:
            begun.append(request.request_id)
            if request.operation == "long":
                await gate.wait()
            return b""

        gate = asyncio.Event()
        desk.attendant.handler = handler
        long = ProcessControlRequest("x::0", UNIT, "long")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.attendant.attend(long))
            await asyncio.sleep(0)
            for n in range(1, 10):  # more than are remembered
                await desk.attendant.attend(ProcessControlRequest(f"x::{n}", UNIT, "short"))
            await desk.attendant.attend(long)
            gate.set()
        await desk.attendant.attend(long)

    asyncio.run(scenario())

    assert begun.count("x::0") == 1
    told = [each.request_id for each in desk.told if isinstance(each, AnswerRequest)]
    assert told[-3:] == ["x::0"] * 3


def test_no_more_answers_are_remembered_than_bounds_allow(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendant, "REMEMBERED_BYTES", 1_000)
    desk.attendant.handler = gives(b"p" * 300)
    for n in range(50):
        desk.ask(request_id=f"x::{n}")

    assert len(desk.attendant._answers) == 3
    assert desk.attendant._answer_bytes == 900


def test_an_answer_that_cannot_be_sent_is_told_to_who_asked(desk: Desk) -> None:
    desk.attendant.handler = gives(b"much too long")
    desk.refuses = [LimitError("AnswerRequest takes 17 MiB (max_frame_bytes)")]

    answer = desk.ask()

    assert answer.error_code == "INVALID_RESPONSE"
    assert "max_frame_bytes" in answer.error
    assert desk.ask() == answer


def test_an_answer_that_did_not_arrive_is_given_when_asked_again(desk: Desk) -> None:
    desk.attendant.handler = gives(b"out")
    desk.refuses = [DeadlineError("the broker is down")]

    assert desk.ask() is None
    assert desk.ask() == AnswerRequest("x::1", ok=True, payload=b"out")


# --- changes of settings ---


def test_a_change_is_answered_by_a_report(desk: Desk) -> None:
    desk.attendant.take_changes(UNIT, gives({"gain": 2}))

    report = desk.change(reason="why not")

    assert isinstance(report, ReportSettings)
    assert (report.address, report.answers, report.reason) == (UNIT, "x::1", "why not")
    assert report.value.structured_value == {"gain": 2}


def test_a_change_is_made_once_and_never_reported_again(desk: Desk) -> None:
    made: list[int] = []

    async def changer(_: SettingsChangeRequest) -> object:
        made.append(1)
        return {"gain": len(made)}

    desk.attendant.take_changes(UNIT, changer)
    desk.change()
    again = desk.change()

    assert made == [1]
    assert isinstance(again, AnswerRequest)
    assert "made before" in (again.error or "")


@pytest.mark.parametrize(
    ("raised", "said"),
    [(VetoedError("too loud"), "too loud"), (ZeroDivisionError("by 0"), "ZeroDivisionError: by 0")],
)
def test_a_changer_that_raises_refuses(desk: Desk, raised: Exception, said: str) -> None:
    desk.attendant.take_changes(UNIT, gives(raised))

    answer = desk.change()

    assert (answer.ok, answer.error, answer.error_code) == (False, said, None)


def test_a_process_takes_no_changes_unless_it_says_so(desk: Desk) -> None:
    assert "takes no changes" in desk.change().error
    desk.attendant.take_changes(UNIT, gives({}))
    desk.attendant.take_no_changes(UNIT)
    assert "takes no changes" in desk.change("x::2").error


def test_what_was_changed_and_not_reported_is_told_to_who_asked(desk: Desk) -> None:
    desk.attendant.take_changes(UNIT, gives({"gain": 2}))
    desk.refuses = [NotOwnerError("another runs it")]

    answer = desk.change()

    assert "could not be reported: another runs it" in answer.error
    assert desk.change() == answer


def test_what_was_changed_while_no_journal_took_the_report_is_made_again_and_reported(
    desk: Desk,
) -> None:
    made: list[int] = []

    async def changer(request: SettingsChangeRequest) -> object:
        made.append(1)
        return request.changes

    desk.attendant.take_changes(UNIT, changer)
    desk.refuses = [JournalFailedError("the disk is full")]
    desk.change()

    report = desk.change()

    assert made == [1, 1]
    assert isinstance(report, ReportSettings)
    assert report.value.structured_value == {"gain": 2}


# --- checks: would a change be made? ---


def checked(desk: Desk, request_id: str = "check 1") -> Any:
    return desk.attend(SettingsCheckRequest(request_id, UNIT, {"gain": 2}))


def test_a_check_makes_no_change_and_is_made_again_when_it_is_asked_again(desk: Desk) -> None:
    made: list[str] = []

    async def note(request: Any) -> object:
        made.append(type(request).__name__)
        return {}

    desk.attendant.take_changes(UNIT, note, check=note)

    assert checked(desk) == AnswerRequest("check 1", ok=True)
    assert checked(desk) == AnswerRequest("check 1", ok=True)
    assert made == ["SettingsCheckRequest"] * 2


@pytest.mark.parametrize(
    ("raised", "said"),
    [(VetoedError("locked"), "locked"), (ZeroDivisionError("by 0"), "ZeroDivisionError: by 0")],
)
def test_a_check_that_raises_is_a_veto(desk: Desk, raised: Exception, said: str) -> None:
    desk.attendant.take_changes(UNIT, gives({}), check=gives(raised))

    answer = checked(desk)

    assert (answer.ok, answer.error, answer.error_code) == (False, said, None)


def test_who_takes_no_changes_or_cannot_check_them_says_so(desk: Desk) -> None:
    assert "takes no changes" in checked(desk).error
    desk.attendant.take_changes(UNIT, gives({}))

    answer = checked(desk)

    assert answer.error_code == "HANDLER_NOT_CONFIGURED"
    assert "check=" in answer.error


def test_where_a_change_is_overdue_nobody_knows_what_a_check_would_find(desk: Desk) -> None:
    async def changer(request: SettingsChangeRequest) -> object:
        desk.attendant.give_up(request)
        answers.append(await desk.attendant._check(SettingsCheckRequest("check 1", UNIT, {})))
        return {}

    async def check(_: SettingsCheckRequest) -> object:
        return None

    answers: list[AnswerRequest] = []
    desk.attendant.take_changes(UNIT, changer, check=check)

    desk.change()

    (answer,) = answers
    assert (answer.ok, answer.error_code) == (False, "owner_busy")


def test_a_check_that_takes_too_long_is_given_up_once(desk: Desk) -> None:
    changes, request = desk.attendant.changes, SettingsCheckRequest("check 1", UNIT, {"gain": 2})
    given_up: list[AnswerRequest | None] = []

    async def check(request: SettingsCheckRequest) -> object:
        given_up.extend(changes.give_up(request) for _ in range(2))
        return None

    desk.attendant.take_changes(UNIT, gives({}), timeout_s=3.0, check=check)
    checked(desk)

    first, second = given_up
    assert changes.time_for(request) == 3.0
    assert first is not None
    assert (first.error_code, "3 s" in (first.error or "")) == ("change_overdue", True)
    assert second is None
    assert changes.give_up(request) is None


# --- changes that take too long ---


class Slow:
    """A changer that is through when it is told to be, and what it comes to then."""

    def __init__(self, *, heeds_cancel: bool = True) -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.raises: Exception | None = None
        self._heeds_cancel = heeds_cancel

    async def __call__(self, request: SettingsChangeRequest) -> object:
        self.begun += 1
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                if self._heeds_cancel:
                    raise
        if self.raises is not None:
            raise self.raises
        return request.changes


def change(request_id: str, address: str = UNIT) -> SettingsChangeRequest:
    return SettingsChangeRequest(request_id, address, {"gain": 2})


def told_to(desk: Desk, request_id: str) -> list[Any]:
    return [
        each
        for each in desk.told
        if getattr(each, "answers", getattr(each, "request_id", None)) == request_id
    ]


def scenario(desk: Desk, changer: Slow, story: Callable[[], Any]) -> None:
    desk.attendant.take_changes(UNIT, changer, timeout_s=3.0)
    desk.attendant.take_changes("SYS/B", gives({"gain": 5}))

    async def within_time() -> None:
        async with asyncio.timeout(5.0):
            await story()

    asyncio.run(within_time())


@pytest.mark.parametrize("raises", [None, VetoedError("too loud after all")])
def test_an_overdue_change_is_told_at_once_and_reported_when_it_is_made_after_all(
    desk: Desk, raises: Exception | None
) -> None:
    slow = Slow()
    slow.raises = raises

    async def story() -> None:
        first = change("x::1")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.attendant.attend(first))
            await asyncio.sleep(0)
            overdue = desk.attendant.give_up(first)
            assert overdue is not None
            assert (overdue.error_code, overdue.ok) == ("change_overdue", False)
            assert "3 s are over" in (overdue.error or "")
            assert desk.attendant.give_up(first) is None  # once is enough
            await desk.attendant.attend(change("x::2"))
            await desk.attendant.attend(change("x::3", "SYS/B"))
            await desk.attendant.attend(change("x::1"))  # handed over again: told again
            slow.gate.set()
        slow.raises = None
        await desk.attendant.attend(change("x::4"))

    scenario(desk, slow, story)

    assert slow.begun == 2
    assert [each.error_code for each in told_to(desk, "x::2")] == ["owner_busy"]
    assert "which is overdue" in told_to(desk, "x::2")[0].error
    assert isinstance(told_to(desk, "x::3")[0], ReportSettings)
    again, late = told_to(desk, "x::1")
    assert again.error_code == "change_overdue"
    if raises is None:
        assert isinstance(late, ReportSettings)
    else:
        assert (late.error, late.error_code) == ("too loud after all", None)
    assert isinstance(told_to(desk, "x::4")[0], ReportSettings)
    assert "overdue=0" in repr(desk.attendant)


def test_an_overdue_change_that_is_cancelled_frees_its_address_and_is_not_begun_again(
    desk: Desk,
) -> None:
    slow = Slow()

    async def story() -> None:
        first = change("x::1")
        attending = asyncio.get_running_loop().create_task(desk.attendant.attend(first))
        await asyncio.sleep(0)
        assert desk.attendant.give_up(first) is not None
        attending.cancel()
        await asyncio.wait([attending])
        await desk.attendant.attend(change("x::1"))
        slow.gate.set()
        await desk.attendant.attend(change("x::2"))

    scenario(desk, slow, story)

    assert [each.error_code for each in told_to(desk, "x::1")] == ["change_overdue"]
    assert isinstance(told_to(desk, "x::2")[0], ReportSettings)
    assert slow.begun == 2


def test_a_change_that_is_made_cannot_be_given_up(desk: Desk) -> None:
    slow = Slow()

    async def story() -> None:
        slow.gate.set()
        first = change("x::1")
        await desk.attendant.attend(first)
        assert desk.attendant.give_up(first) is None
        ping = ProcessControlRequest("x::2", UNIT, "PING")
        assert desk.attendant.give_up(ping) is None
        assert desk.attendant.changes.time_for(first) == 3.0
        assert desk.attendant.changes.time_for(ping) is None
        assert desk.attendant.changes.time_for(change("x::3", "SYS/NOBODYS")) is None

    scenario(desk, slow, story)


def test_an_overdue_change_is_over_when_its_report_is_acknowledged(desk: Desk) -> None:
    """Its line has gone on: two reports on their way at once might arrive in either order."""
    on_its_way, acknowledged = asyncio.Event(), asyncio.Event()
    slow = Slow()

    async def tell(command: Command, timeout: float) -> int:  # noqa: ASYNC109
        seq = await desk.tell(command, timeout)
        if isinstance(command, ReportSettings):
            on_its_way.set()
            await acknowledged.wait()
        return seq

    desk.attendant._tell = tell

    async def story() -> None:
        first = change("x::1")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.attendant.attend(first))
            await asyncio.sleep(0)
            desk.attendant.give_up(first)
            slow.gate.set()
            await on_its_way.wait()
            await desk.attendant.attend(change("x::2"))
            acknowledged.set()
        await desk.attendant.attend(change("x::3"))

    scenario(desk, slow, story)

    report, busy, after = desk.told
    assert isinstance(report, ReportSettings)
    assert isinstance(busy, AnswerRequest)
    assert busy.error_code == "owner_busy"
    assert isinstance(after, ReportSettings)


def test_a_change_on_its_way_to_the_broker_is_no_reason_to_refuse_the_next(desk: Desk) -> None:
    """Who asked is answered, and the next is handed over, before the report is acknowledged."""
    acknowledged = asyncio.Event()
    slow = Slow()
    slow.gate.set()

    async def tell(command: Command, timeout: float) -> int:  # noqa: ASYNC109
        seq = await desk.tell(command, timeout)
        if len(desk.told) == 1:
            await acknowledged.wait()
        return seq

    desk.attendant._tell = tell

    async def story() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.attendant.attend(change("x::1")))
            await asyncio.sleep(0)
            await desk.attendant.attend(change("x::2"))
            acknowledged.set()

    scenario(desk, slow, story)

    assert [type(each) for each in desk.told] == [ReportSettings, ReportSettings]


@pytest.mark.parametrize("is_overdue", [False, True])
def test_two_changes_of_one_address_are_never_made_at_once(desk: Desk, is_overdue: bool) -> None:
    """A broker that starts anew may hand out what comes next while one is being made."""
    slow = Slow()

    async def story() -> None:
        first, second = change("x::1"), change("x::2")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.attendant.attend(first))
            await asyncio.sleep(0)
            await desk.attendant.attend(second)
            await desk.attendant.attend(second)  # handed over again
            assert (slow.begun, desk.told, desk.waited) == (1, [], [])
            if is_overdue:
                desk.attendant.give_up(first)
            else:
                slow.gate.set()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert desk.waited == [second]
            await desk.attendant.attend(desk.waited.pop())
            slow.gate.set()

    scenario(desk, slow, story)

    (answer,) = told_to(desk, "x::2")
    assert isinstance(answer, ReportSettings) is not is_overdue
    assert slow.begun == (1 if is_overdue else 2)
    assert desk.waited == []


def test_a_lock_that_somebody_keeps_is_waited_for_no_longer_than_a_change_may_take(
    desk: Desk,
) -> None:
    lock = threading.Lock()
    desk.attendant.take_changes(UNIT, gives({"gain": 2}), timeout_s=0.01, lock=lock)
    with lock:
        answer = desk.change()

    assert answer.error_code == "owner_busy"
    assert "held these settings for 0.01 s" in answer.error
    assert isinstance(desk.change("x::2"), ReportSettings)
    assert not lock.locked()


def test_a_change_of_settings_that_are_others_by_now_is_refused_where_that_was_asked(
    desk: Desk,
) -> None:
    desk.attendant.take_changes(UNIT, gives({"gain": 2}))
    with desk.attendant.reporting(UNIT) as note:
        on_its_way = desk.change("x::1", base_seq=5, expected_seq=5)
        note(6)

    assert on_its_way.error_code == "stale"
    assert desk.change("x::2", base_seq=5, expected_seq=5).error_code == "stale"
    assert isinstance(desk.change("x::3", base_seq=6, expected_seq=6), ReportSettings)
    assert isinstance(desk.change("x::4", base_seq=5), ReportSettings)
