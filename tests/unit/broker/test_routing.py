"""Requests that the broker hands on: to whom, in which order, and what comes of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ezgraph.broker.routes import asker_of, route_id
from ezgraph.config import BrokerConfig, Limits
from ezgraph.errors import InvalidCommandError
from ezgraph.protocol.commands import (
    AnswerRequest,
    ChangeSettings,
    Goodbye,
    ReportSettings,
    RequestProcess,
    TakeOver,
    UpdateUnits,
)
from ezgraph.protocol.events import SettingsChanged, Source, in_words
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.replies import HANDED_ID, Done, Handed, Refusal, Reply, SettingsSet, Welcome
from ezgraph.protocol.routed import (
    ProcessControlErrorCode,
    ProcessControlRequest,
    ProcessControlResponse,
    SettingsChangeRequest,
)
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.wire import codec
from tests.unit.broker.conftest import CLUSTER_ID, SECRET, Desk

OWNER, ASKER, OTHER, PROGRAM = b"owner", b"asker", b"other", b"program"
UNIT = "SYS/FILTER"


def value(**settings: Any) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, settings, settings)


class Post:
    """A broker's core with an owner of `UNIT`, and what leaves it for whom."""

    def __init__(self, **limits: int) -> None:
        self.desk = Desk(BrokerConfig(limits=Limits(**limits)))
        self.owner = self.desk.join(OWNER, "process")
        self.asker = self.desk.join(ASKER)
        self.other = self.desk.join(OTHER, "guest")
        self.desk.ask(OWNER, UpdateUnits([UNIT], []))
        self.report(gain=1)

    def report(
        self, answers: str | None = None, *, reason: str | None = None, **settings: Any
    ) -> int:
        report = ReportSettings(UNIT, value(**settings), None, reason, answers)
        reply = self.desk.ask(OWNER, report)
        assert isinstance(reply, Done), reply
        return reply.seq

    def sent(self) -> list[tuple[bytes, Reply]]:
        """What is to leave, once; requests that were handed over as they are."""
        outgoing = self.desk.core.routing.outgoing
        found = [(each.peer, each.reply) for each in outgoing]
        assert all(
            (each.request_id == HANDED_ID) is isinstance(each.reply, Handed) for each in outgoing
        )
        outgoing.clear()
        return found

    def handed(self, peer: bytes = OWNER) -> list[Any]:
        return [
            reply.request for to, reply in self.sent() if to == peer and isinstance(reply, Handed)
        ]

    def told(self, peer: bytes = ASKER) -> list[Any]:
        return [reply for to, reply in self.sent() if to == peer]

    def change(
        self, peer: bytes = ASKER, *, request_id: int | None = None, **more: Any
    ) -> Reply | None:
        command = ChangeSettings(UNIT, more.pop("changes", {"gain": 2}), **more)
        return self.desk.outcome(peer, command, request_id=request_id).reply

    def expire(self, after_s: float) -> None:
        self.desk.now += after_s
        self.desk.core.routing.expire(self.desk.now)

    @property
    def is_idle(self) -> bool:
        routes = self.desk.core.routing.routes
        tables = (
            routes._by_id, routes._of_owner, routes._of_client, routes._lines, routes._overdue
        )
        return not any(tables) and routes.next_due() is None


@pytest.fixture
def post() -> Post:
    return Post()


# --- requests ---


def test_a_request_is_handed_to_its_owner_and_the_answer_to_who_asked(post: Post) -> None:
    assert post.desk.ask(ASKER, RequestProcess(UNIT, "move", b"up")) is None
    (request,) = post.handed()
    post.desk.ask(OWNER, AnswerRequest(request.request_id, ok=True, payload=b"done"))

    assert isinstance(request, ProcessControlRequest)
    assert (request.unit_address, request.operation, request.payload) == (UNIT, "move", b"up")
    (response,) = post.told()
    assert (response.ok, response.payload) == (True, b"done")
    assert str(response.process_id) == post.owner
    assert post.is_idle


def test_a_repetition_is_handed_again_only_where_it_may_have_been_lost(post: Post) -> None:
    ask = RequestProcess(UNIT, "move")
    post.desk.ask(ASKER, ask, request_id=500)
    (first,) = post.handed()

    post.desk.ask(ASKER, ask, request_id=500)
    assert post.handed() == []
    connection = post.desk.core.connection_of(OWNER)
    assert connection is not None
    connection.closed = True
    post.desk.ask(ASKER, ask, request_id=500)
    assert post.handed() == []
    welcome = post.desk.core._connections.bind(
        b"owner again", connection.lease, None, post.desk.now, is_main=True
    )
    post.desk.core.routing.owner_is_back(welcome.lease)

    assert post.handed(b"owner again") == [first]


def test_an_answer_is_given_again_when_it_is_asked_for_again(post: Post) -> None:
    post.desk.ask(ASKER, RequestProcess(UNIT, "move"), request_id=500)
    (request,) = post.handed()
    post.desk.ask(OWNER, AnswerRequest(request.request_id, ok=True))
    (response,) = post.told()

    assert post.desk.ask(ASKER, RequestProcess(UNIT, "move"), request_id=500) == response
    assert post.sent() == []


def test_a_second_answer_and_one_of_somebody_else_are_dropped(post: Post) -> None:
    stranger = b"stranger"
    post.desk.join(stranger, "process")
    post.desk.ask(ASKER, RequestProcess(UNIT, "move"))
    (request,) = post.handed()

    assert isinstance(post.desk.ask(stranger, AnswerRequest(request.request_id, ok=True)), Done)
    assert post.sent() == []
    post.desk.ask(OWNER, AnswerRequest(request.request_id, ok=True))
    post.desk.ask(OWNER, AnswerRequest(request.request_id, ok=True))
    assert len(post.told()) == 1


def test_only_a_process_answers(post: Post) -> None:
    assert post.desk.refusal(ASKER, AnswerRequest("x", ok=True)).code == "invalid_command"


def test_a_unit_that_nobody_runs_is_unroutable(post: Post) -> None:
    response = post.desk.ask(ASKER, RequestProcess("SYS/NOBODY", "move"))

    assert isinstance(response, ProcessControlResponse)
    assert response.error_code is ProcessControlErrorCode.UNROUTABLE_UNIT
    assert post.is_idle


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 0.5, 1e9, float("nan"), float("inf")])
def test_a_request_without_an_answer_runs_out(post: Post, timeout_s: float) -> None:
    post.desk.ask(ASKER, RequestProcess(UNIT, "move", timeout_s=timeout_s))
    due = post.desk.core.routing.routes.next_due()
    assert due is not None
    assert post.desk.now + 0.01 <= due <= post.desk.now + 3600

    post.expire(due - post.desk.now)

    assert post.told()[-1].error_code is ProcessControlErrorCode.TIMEOUT
    assert post.is_idle


def test_an_error_code_that_is_none_is_an_invalid_response(post: Post) -> None:
    post.desk.ask(ASKER, RequestProcess(UNIT, "move"))
    (request,) = post.handed()
    answer = AnswerRequest(request.request_id, ok=False, error="?", error_code="NO_SUCH_CODE")
    post.desk.ask(OWNER, answer)

    assert post.told()[0].error_code is ProcessControlErrorCode.INVALID_RESPONSE


def test_what_could_not_be_written_is_told_at_once(post: Post) -> None:
    post.desk.ask(ASKER, RequestProcess(UNIT, "move"))
    (request,) = post.handed()
    post.desk.core.routing.unsent(request)

    assert post.told()[0].error_code is ProcessControlErrorCode.ROUTE_WRITE_FAILED
    assert post.is_idle


def test_requests_to_an_owner_that_ends_are_told_and_those_of_an_asker_that_ends_dropped(
    post: Post,
) -> None:
    post.desk.ask(ASKER, RequestProcess(UNIT, "one"))
    post.desk.ask(OTHER, RequestProcess(UNIT, "two"))
    post.sent()
    post.desk.ask(ASKER, Goodbye())
    post.desk.ask(OWNER, Goodbye())

    ((peer, response),) = post.sent()
    assert peer == OTHER
    assert isinstance(response, ProcessControlResponse)
    assert response.error_code is ProcessControlErrorCode.PROCESS_DISCONNECTED
    assert post.is_idle


def test_a_program_that_takes_the_owner_over_is_not_asked_what_the_one_before_was(
    post: Post,
) -> None:
    post.desk.ask(ASKER, RequestProcess(UNIT, "move"))
    post.change(OTHER)
    post.change(ASKER)
    post.sent()
    token = post.desk.core.admission.token(post.owner, None)
    taken = TakeOver(post.desk.hello_of("process"), post.owner, token, CLUSTER_ID)
    assert isinstance(post.desk.ask(PROGRAM, taken, request_id=0), Welcome)

    sent = post.sent()
    response = next(reply for to, reply in sent if to == ASKER)
    assert isinstance(response, ProcessControlResponse)
    assert response.error_code is ProcessControlErrorCode.PROCESS_DISCONNECTED
    refusal = next(reply for to, reply in sent if to == OTHER)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "owner_gone"
    handed = [reply.request for to, reply in sent if to == PROGRAM and isinstance(reply, Handed)]
    assert [type(each) for each in handed] == [SettingsChangeRequest]  # it had waited


def test_a_program_that_takes_an_asker_over_does_not_get_the_answers_to_the_one_before(
    post: Post,
) -> None:
    post.desk.ask(ASKER, RequestProcess(UNIT, "old"), request_id=700)
    token = post.desk.core.admission.token(post.asker, None)
    taken = TakeOver(post.desk.hello_of(), post.asker, token, CLUSTER_ID)
    welcome = post.desk.ask(PROGRAM, taken, request_id=0)
    assert isinstance(welcome, Welcome)

    assert welcome.next_request_id > 700
    post.desk.ask(PROGRAM, RequestProcess(UNIT, "new"), request_id=700)
    assert [each.operation for each in post.handed()] == ["old", "new"]


def named(post: Post, request_id: int, **more: Any) -> str:
    """The id under which the asker's change with this number is handed over."""
    lease = post.desk.core.leases.get(post.asker)
    assert lease is not None
    command = ChangeSettings(more.pop("address", UNIT), {"gain": 2}, **more)
    return route_id(lease, request_id, command, SECRET)


def test_the_id_of_a_route_names_who_asked(post: Post) -> None:
    lease = post.desk.core.leases.get(post.asker)
    assert lease is not None
    whole = named(post, 12)

    assert asker_of(whole) == (post.asker, lease.holder, 12)
    assert asker_of(whole.rpartition(":")[0]) == asker_of(whole)  # as older journals have it
    assert asker_of(route_id(lease, 12, RequestProcess(UNIT, "x"), SECRET)) == asker_of(whole)
    wrong = ("", ":", "::", "a:b", ":b:1", "a:b:", "a:b:x", "a:b:-1", "a:b:²", "a:b:" + "9" * 99)
    for text in wrong:
        assert asker_of(text) is None, text
        assert asker_of(f"{text}:p0123") is None, text


# --- changes ---


def test_a_change_is_answered_by_the_report_of_its_owner(post: Post) -> None:
    assert post.change(reason="line noise") is None
    (request,) = post.handed()
    seq = post.report(request.request_id, gain=2)

    assert (request.changes, request.whole, request.reason) == ({"gain": 2}, False, "line noise")
    assert post.told() == [SettingsSet(seq, value(gain=2))]
    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert body.answers == request.request_id
    assert body.asked_by is not None
    assert (body.asked_by.client, body.asked_by.reason) == (post.asker, "line noise")
    assert post.is_idle


def test_a_report_answers_only_a_change_of_its_own_address(post: Post) -> None:
    post.desk.ask(OWNER, UpdateUnits(["SYS/B"], []))
    post.change()
    (request,) = post.handed()

    post.desk.ask(OWNER, ReportSettings("SYS/B", value(), answers=request.request_id))

    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert (body.asked_by, body.answers) == (None, None)
    assert post.told() == []


def test_changes_of_one_address_go_one_by_one_in_their_order(post: Post) -> None:
    for n in range(4):
        post.change(ASKER if n % 2 else OTHER, changes={"gain": n})

    taken = []
    for n in range(4):
        (request,) = post.handed()
        taken.append(request.changes["gain"])
        if n % 2:
            post.desk.ask(OWNER, AnswerRequest(request.request_id, ok=False, error="no"))
        else:
            post.report(request.request_id, gain=n)

    assert taken == [0, 1, 2, 3]
    assert post.desk.core.routing.routes.next_due() is None
    post.sent()
    assert post.is_idle


def test_a_veto_says_why_and_a_change_that_was_made_is_not_answered_without_a_report(
    post: Post,
) -> None:
    post.change()
    (request,) = post.handed()
    refused = post.desk.refusal(OWNER, AnswerRequest(request.request_id, ok=True))
    assert "answered by reporting" in refused.message
    post.desk.ask(OWNER, AnswerRequest(request.request_id, ok=False, error="too loud"))

    (refusal,) = post.told()
    assert refusal.code == "vetoed"
    assert "too loud" in refusal.message


def test_an_expected_seq_is_looked_at_again_when_it_is_its_turn(post: Post) -> None:
    seq = post.desk.state.settings[UNIT].seq
    post.change(OTHER)
    post.change(ASKER, expected_seq=seq)
    (request,) = post.handed()
    post.report(request.request_id, gain=2)

    sent = dict(post.sent())
    refusal = sent[ASKER]
    assert isinstance(sent[OTHER], SettingsSet)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "stale"
    assert post.is_idle


@pytest.mark.parametrize("how", ["timeout", "asker ends"])
def test_a_change_nobody_waits_for_holds_its_line_until_its_owner_has_answered(
    post: Post, how: str
) -> None:
    seq = post.desk.state.settings[UNIT].seq
    post.change(ASKER, timeout_s=1.0)
    post.change(OTHER, expected_seq=seq, timeout_s=50.0)
    (request,) = post.handed()
    if how == "timeout":
        post.expire(1.0)
        assert [reply.code for reply in post.told()] == ["owner_silent"]
    else:
        post.desk.ask(ASKER, Goodbye())
    assert post.sent() == []  # the other's would be checked against what may yet change

    post.report(request.request_id, gain=2)

    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert body.asked_by is not None  # it was asked for, though nobody waits any more
    ((peer, refusal),) = post.sent()
    assert peer == OTHER
    assert isinstance(refusal, Refusal)
    assert refusal.code == "stale"
    assert post.is_idle


def say_overdue(post: Post, request: SettingsChangeRequest) -> None:
    answer = AnswerRequest(
        request.request_id, ok=False, error="8 s are over", error_code="change_overdue"
    )
    post.desk.ask(OWNER, answer)


def test_a_change_that_is_overdue_is_told_and_keeps_nobody_waiting(post: Post) -> None:
    post.change(ASKER, reason="because")
    post.change(OTHER)
    (first,) = post.handed()

    say_overdue(post, first)

    sent = post.sent()
    refusal = dict(sent)[ASKER]
    assert isinstance(refusal, Refusal)
    assert refusal.code == "change_overdue"
    assert "'SYS/FILTER' has not made the change: 8 s are over" in refusal.message
    (second,) = [reply.request for _, reply in sent if isinstance(reply, Handed)]
    say_overdue(post, first)  # as when it is handed over again
    busy = AnswerRequest(second.request_id, ok=False, error="it is at it", error_code="owner_busy")
    post.desk.ask(OWNER, busy)
    assert [each.code for each in post.told(OTHER)] == ["owner_busy"]


@pytest.mark.parametrize("asker_is_gone", [True, False])
def test_what_an_overdue_change_comes_to_says_who_asked_for_it(
    post: Post, asker_is_gone: bool
) -> None:
    post.change(ASKER, reason="because")
    (first,) = post.handed()
    say_overdue(post, first)
    if asker_is_gone:
        post.desk.ask(ASKER, Goodbye())
    post.sent()

    post.report(first.request_id, gain=2)

    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert body.asked_by is not None
    assert (body.asked_by.client, body.asked_by.reason) == (post.asker, "because")
    assert body.answers == first.request_id
    assert post.sent() == []  # who asked has been told already
    assert post.is_idle


@pytest.mark.parametrize("how", ["a veto", "its owner ends", "another is overdue"])
def test_an_overdue_change_is_forgotten_when_it_is_over(post: Post, how: str) -> None:
    post.change(ASKER)
    (first,) = post.handed()
    say_overdue(post, first)
    if how == "a veto":
        post.desk.ask(OWNER, AnswerRequest(first.request_id, ok=False, error="no"))
    elif how == "its owner ends":
        post.desk.ask(OWNER, Goodbye())
    else:
        post.change(ASKER)
        (second,) = post.handed()
        say_overdue(post, second)
        assert len(post.desk.core.routing.routes) == 1
        post.report(second.request_id, gain=2)

    post.sent()
    assert post.is_idle


def test_changes_that_wait_behind_an_owner_that_ends_are_all_refused_at_once(post: Post) -> None:
    for _ in range(1_000):  # more than a stack is deep
        post.change(OTHER)
    post.sent()
    post.desk.ask(OWNER, Goodbye())

    codes = [reply.code for reply in post.told(OTHER)]
    assert len(codes) == 1_000
    assert codes[0] == "owner_gone"
    assert set(codes[1:]) <= {"unknown_component", "no_owner"}
    assert post.is_idle


def test_a_report_that_comes_before_its_asker_has_come_back_is_kept_and_says_who_asked(
    post: Post,
) -> None:
    seq = post.report(named(post, 900, reason="because"), reason="because", gain=7)

    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert body.asked_by is not None
    assert (body.asked_by.client, body.asked_by.program) == (post.asker, "demo.py")
    assert (body.asked_by.reason, body.answers) == (
        "because", named(post, 900, reason="because")
    )
    assert post.change(request_id=900, reason="because") == SettingsSet(seq, value(gain=7))
    assert post.change(request_id=900, reason="because") == SettingsSet(seq, value(gain=7))
    assert post.sent() == []


@pytest.mark.parametrize(
    "made_up",
    ["another address", "another reason", "another number", "no proof", "another program"],
)
def test_nobody_is_said_to_have_asked_for_what_they_had_not(post: Post, made_up: str) -> None:
    answers = named(post, 900, reason="because")
    match made_up:
        case "another address":
            answers = named(post, 900, reason="because", address="SYS/OTHER")
        case "another reason":
            answers = named(post, 900, reason="not at all")
        case "another number":
            answers = answers.replace(":900:", ":901:")
        case "no proof":
            answers = answers.rpartition(":")[0]
        case _:
            lease = post.desk.core.leases.get(post.asker)
            assert lease is not None
            answers = answers.replace(lease.holder, "ab" * 8)
    post.report(answers, reason="because", gain=7)

    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert (body.asked_by, body.answers) == (None, None)
    assert post.change(request_id=900, reason="because") is None  # it is asked, as any other
    assert len(post.handed()) == 1


@pytest.mark.parametrize("how", ["gone", "taken over"])
def test_of_who_asked_and_is_here_no_more_only_the_id_is_said(post: Post, how: str) -> None:
    answers = named(post, 900)
    if how == "gone":
        post.desk.ask(ASKER, Goodbye())
    else:
        lease = post.desk.core.leases.get(post.asker)
        assert lease is not None
        lease.holder = "ab" * 8
    post.report(answers, gain=7)

    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert body.asked_by == Source(client=post.asker)
    assert in_words(body.asked_by) == f"client {post.asker}"


def test_a_report_of_a_change_that_waits_in_line_again_is_its_answer(post: Post) -> None:
    post.change(OTHER)
    post.change(ASKER, request_id=900)
    post.sent()

    seq = post.report(named(post, 900), gain=2)

    assert post.told() == [SettingsSet(seq, value(gain=2))]
    body = post.desk.events[-1].body
    assert isinstance(body, SettingsChanged)
    assert body.asked_by is not None


def test_reports_that_nobody_asks_for_are_not_kept_for_ever(post: Post) -> None:
    for n in range(500):
        post.report(named(post, 900 + n), gain=n)

    assert 0 < len(post.desk.core.routing._early) < 100


def test_a_reason_that_is_too_long_and_open_requests_without_end_are_refused() -> None:
    post = Post(max_reason_characters=10, max_open_requests=5)
    refusal = post.change(reason="because of this")
    assert isinstance(refusal, Refusal)
    assert "max_reason_characters" in refusal.message
    replies = [
        post.desk.ask(OTHER, RequestProcess("SYS/NOBODY", "x"), request_id=n) for n in range(1, 9)
    ]
    last = replies[-1]
    assert isinstance(last, Refusal)
    assert "max_open_requests" in last.message


def test_routes_that_ended_are_not_kept_in_the_queue_until_their_time(post: Post) -> None:
    for n in range(10_000):
        number = 10**6 + n
        ask = RequestProcess(UNIT, "x", timeout_s=3600)
        post.desk.outcome(OTHER, ask, request_id=number, lowest=number)
        for request in post.handed():
            post.desk.ask(OWNER, AnswerRequest(request.request_id, ok=True), lowest=10**6)
        post.sent()

    assert len(post.desk.core.routing.routes._queue) < 6_000


# --- whether a change fits ---

SCHEMA = SettingsSchemaMetadata(
    "test",
    "Settings",
    [
        SettingsFieldMetadata("gain", "int", bounds=(0, 9)),
        SettingsFieldMetadata("serial", "str", read_only=True),
        SettingsFieldMetadata("notch", "Notch"),
    ],
    {
        "properties": {
            "gain": {"type": "integer"},
            "serial": {"type": "string", "readOnly": True},
            "notch": {
                "type": "object",
                "properties": {
                    "hz": {"type": "number", "maximum": 100},
                    "q": {"type": "number"},
                    "made": {"type": "string", "readOnly": True},
                },
            },
        }
    },
)
PRESENT: dict[str, Any] = {"gain": 1, "serial": "X1", "notch": {"hz": 50.0, "made": "2020"}}


@pytest.fixture
def fitted(post: Post) -> Post:
    form = SettingsSnapshotValue(None, PRESENT, PRESENT, SCHEMA)
    post.desk.ask(OWNER, ReportSettings(UNIT, form))
    post.sent()
    return post


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"gain": 5},
        {"notch": {"hz": 60.0, "made": "2020"}},
        {"gain": 0, "notch": {"hz": 1.0, "made": "2020"}},
    ],
)
def test_of_a_whole_value_only_what_differs_is_judged(fitted: Post, changed: Any) -> None:
    assert fitted.change(changes=PRESENT | changed, whole=True) is None
    assert len(fitted.handed()) == 1


def test_a_whole_value_may_leave_out_what_is_read_only(fitted: Post) -> None:
    whole = {name: each for name, each in PRESENT.items() if name != "serial"}

    assert fitted.change(changes=whole, whole=True) is None


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"serial": "X2"}, "read_only"),
        ({"notch": {"hz": 50.0, "made": "2021"}}, "read_only"),
        ({"notch": {"hz": 500.0, "made": "2020"}}, "out_of_bounds"),
        ({"gain": 10}, "out_of_bounds"),
        ({"gain": True}, "wrong_type"),
        ({"gian": 1}, "unknown_field"),
    ],
)
def test_what_differs_must_fit(fitted: Post, changed: Any, code: str) -> None:
    refusal = fitted.change(changes=PRESENT | changed, whole=True)

    assert isinstance(refusal, Refusal)
    assert code in refusal.code
    assert fitted.sent() == []


def test_what_was_out_of_bounds_already_may_stay_so(fitted: Post) -> None:
    loud = PRESENT | {"notch": {"hz": 500.0, "made": "2020", "q": 1}}
    report = ReportSettings(UNIT, SettingsSnapshotValue(None, loud, loud, SCHEMA))
    fitted.desk.ask(OWNER, report)
    wanted = loud | {"notch": {"hz": 500.0, "made": "2020", "q": 2}}

    assert fitted.change(changes=wanted, whole=True) is None


@pytest.mark.parametrize(
    "same",
    [np.arange(3), np.array(["a"]), float("nan"), {1: (2, {3})}, [{}, None], b"x", 1 + 2j],
    ids=repr,
)
def test_what_is_the_same_as_before_is_not_judged(post: Post, same: Any) -> None:
    schema = replace(SCHEMA, fields=[SettingsFieldMetadata("locked", "Any", read_only=True)])
    form = {"locked": same}
    report = ReportSettings(UNIT, SettingsSnapshotValue(None, form, form, schema))
    post.desk.ask(OWNER, codec.decode(codec.encode(report), ReportSettings))
    sent = ChangeSettings(UNIT, {"locked": same}, whole=True)

    assert post.desk.ask(ASKER, codec.decode(codec.encode(sent), ChangeSettings)) is None


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (np.arange(3), np.arange(4)),
        (np.arange(3), np.arange(3.0)),
        (np.arange(3), [0, 1, 2]),
        (1, True),
        (1, 1.0),
        ((1,), [1]),
        ({"a": 1}, {"a": 2}),
        (0.0, float("nan")),
    ],
    ids=repr,
)
def test_what_is_not_quite_the_same_is_judged(post: Post, before: Any, wanted: Any) -> None:
    schema = replace(SCHEMA, fields=[SettingsFieldMetadata("locked", "Any", read_only=True)])
    form = {"locked": before}
    report = ReportSettings(UNIT, SettingsSnapshotValue(None, form, form, schema))
    post.desk.ask(OWNER, report)

    refused = post.desk.refusal(ASKER, ChangeSettings(UNIT, {"locked": wanted}, whole=True))

    assert "read_only" in refused.code


def test_a_whole_value_that_lacks_a_field_is_refused_by_its_name(fitted: Post) -> None:
    refusal = fitted.change(changes={"gain": 1, "serial": "X1"}, whole=True)

    assert isinstance(refusal, Refusal)
    assert refusal.code == "settings_refused"
    assert "notch" in refusal.message


@pytest.mark.parametrize("changes", [{"notch": {}, "notch.hz": 1.0}, {"a.b.c": 1, "a": 2}, {}])
def test_one_change_names_each_field_once_and_one_at_least(post: Post, changes: Any) -> None:
    refusal = post.change(changes=changes)

    assert isinstance(refusal, Refusal)
    assert refusal.code == InvalidCommandError.code
