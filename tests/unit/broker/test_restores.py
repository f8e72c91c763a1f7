"""Restores under way: who is asked, what is decided, and what owners are owed from then on."""

from __future__ import annotations

from typing import Any

import pytest

from ezgraph.broker.restore.transaction import reports_in
from ezgraph.broker.routes import asker_of, owed_id
from ezgraph.config import BrokerConfig, Limits
from ezgraph.protocol.commands import (
    AnswerRequest,
    ChangeConfig,
    ChangeSettings,
    Connect,
    Goodbye,
    RegisterMetadata,
    ReportSettings,
    TakeOver,
    UpdateUnits,
)
from ezgraph.protocol.config import ConfigPut
from ezgraph.protocol.events import (
    Body,
    Event,
    SettingsChanged,
    SettingsOwed,
    SettingsSettled,
    StateRestored,
)
from ezgraph.protocol.graph_content import GraphContent
from ezgraph.protocol.graphs import Graph
from ezgraph.protocol.metadata import (
    ComponentMetadata,
    DynamicSettingsMetadata,
    GraphMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
)
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.replies import Handed, Refusal, Reply, RestoreReport
from ezgraph.protocol.roles import EVERYTHING, Access, Identity, Role
from ezgraph.protocol.routed import SettingsChangeRequest, SettingsCheckRequest
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.stored_commands import Restore
from ezgraph.state.content import graph_of
from ezgraph.wire import codec
from tests.unit.broker.conftest import CLUSTER_ID, Desk

ASKER, OTHER, OWNER, NEXT = b"asker", b"other", b"owner", b"next"
UNIT, SECOND = "SYS/FILTER", "SYS/STAGE"


def value(**fields: Any) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, fields, fields)


class Post:
    """A broker's core with an owner of two units, and somebody who restores."""

    def __init__(self) -> None:
        self.desk = Desk(BrokerConfig(limits=Limits(max_restores_per_client=1)))
        self.core = self.desk.core
        self.asker = self.desk.join(ASKER)
        self.desk.join(OTHER)
        self.owner = self.desk.join(OWNER, "process")
        self.desk.ask(OWNER, UpdateUnits([UNIT, SECOND], []))
        self.report(UNIT, gain=1)
        self.report(SECOND, speed=1)
        self.desk.ask(ASKER, Connect("A", "B"))
        self.frozen = graph_of(self.desk.state, "rig")

    def report(self, unit: str, answers: str | None = None, peer: bytes = OWNER, **f: Any) -> None:
        self.desk.ask(peer, ReportSettings(unit, value(**f), answers=answers))

    def ask(self, *, request_id: int | None = None, graph: Graph | None = None, **more: Any) -> Any:
        """Ask for a restore, and have its snapshot read."""
        command = Restore("rig", "best", **{"dry_run": False, **more})
        outcome = self.desk.outcome(ASKER, command, request_id=request_id)
        if outcome.read is not None:
            number = self.desk.last_id
            content = GraphContent.of(graph or self.frozen)
            self.core.restores.read(self.asker, number, content)
        return outcome.reply

    def decide(self) -> list[Body]:
        """Let the broker come to the end of its pass; return what became true."""
        bodies: list[Body] = []
        while self.core.restores.has_work:
            now = self.desk.now
            before = len(bodies), len(self.core.restores)
            for events in self.core.restores.decide(now=now, wall=1e9 + now):
                self.desk.events += events
                bodies += [event.body for event in events]
            if before == (len(bodies), len(self.core.restores)):
                break
        return bodies

    def sent(self) -> list[tuple[bytes, Reply]]:
        outgoing = self.core.routing.outgoing
        found = [(each.peer, each.reply) for each in outgoing]
        outgoing.clear()
        return found

    def handed(self, peer: bytes = OWNER) -> list[Any]:
        return [r.request for to, r in self.sent() if to == peer and isinstance(r, Handed)]

    def told(self) -> Any:
        (reply,) = [reply for to, reply in self.sent() if to == ASKER]
        return reply

    def agree(self, *requests: SettingsCheckRequest) -> None:
        for each in requests:
            self.desk.ask(OWNER, AnswerRequest(each.request_id, ok=True))

    @property
    def is_idle(self) -> bool:
        routes = self.core.routing.routes
        return not len(self.core.restores) and not len(routes) and not self.core.routing.heard


@pytest.fixture
def post() -> Post:
    """What was frozen differs in two settings, an edge and an entry from what is now."""
    post = Post()
    post.report(UNIT, gain=2)
    post.report(SECOND, speed=2)
    post.desk.ask(ASKER, Connect("B", "C"))
    post.desk.ask(ASKER, ChangeConfig([ConfigPut("filter", ("low",), 1)]))
    post.sent()
    return post


# --- phase one: owners are asked, without effect ---


def test_every_owner_concerned_is_asked_first_and_nothing_is_changed(post: Post) -> None:
    before = post.desk.state.fingerprint()

    post.ask(reason="best run")
    checks = post.handed()

    assert [type(each) for each in checks] == [SettingsCheckRequest] * 2
    assert [(each.address, each.changes) for each in checks] == [
        (UNIT, {"gain": 1}), (SECOND, {"speed": 1})
    ]
    assert checks[0].reason == "best run"
    assert "demo.py@rig" in checks[0].asked_by
    post.agree(checks[0])
    assert post.decide() == []
    assert post.desk.state.fingerprint() == before


def test_a_dry_run_tells_what_would_change_and_changes_nothing(post: Post) -> None:
    before = post.desk.state.fingerprint()

    post.ask(dry_run=True)
    post.agree(*post.handed())
    made = post.decide()
    report = post.told()

    assert made == []
    assert isinstance(report, RestoreReport)
    assert report.dry_run
    assert report.edges_removed == [("B", "C")]
    assert [(each[0], each[1]) for each in report.settings] == [
        (UNIT, {"gain": 1}), (SECOND, {"speed": 1})
    ]
    assert report.config_deleted == [("filter", "low")]
    assert (report.cannot, report.vetoed, report.owed) == ([], [], [])
    spelled: list[object] = [
        RestoreReport.from_json(report.to_json()), codec.decode(codec.encode(report), RestoreReport)
    ]
    assert spelled == [report, report]
    assert str(report) == (
        f"restore of rig@best (dry run), seq {report.seq}: edges removed: 1, settings: 2, "
        f"config entries deleted: 1"
    )
    assert post.desk.state.fingerprint() == before
    assert post.is_idle


def test_of_large_values_a_report_has_the_beginning_and_owners_are_asked_for_all_of_them(
    post: Post,
) -> None:
    taps = list(range(5_000))
    graph = Graph("rig", settings={UNIT: value(gain=1, taps=taps)})

    post.ask(dry_run=True, graph=graph)
    (check,) = post.handed()
    post.agree(check)
    post.decide()

    ((_, told, _),) = post.told().settings
    assert check.changes["taps"] == taps
    assert told["gain"] == 1
    assert told["taps"].startswith("[0, 1, 2")
    assert len(told["taps"]) < 100


def test_a_veto_of_one_owner_refuses_all_of_it_and_names_everybody(post: Post) -> None:
    post.desk.ask(OTHER, Connect("X", "Y"))
    before = post.desk.state.fingerprint()

    post.ask()
    first, second = post.handed()
    post.agree(first)
    post.desk.ask(OWNER, AnswerRequest(second.request_id, ok=False, error="the stage is locked"))
    made = post.decide()
    refusal = post.told()

    assert made == []
    assert isinstance(refusal, Refusal)
    assert refusal.code == "restore_refused"
    assert refusal.report is not None
    ((what, _, whose),) = refusal.report.cannot
    ((address, by, why),) = refusal.report.vetoed
    assert what == "edge X -> Y"
    assert "session" in whose
    assert (address, why) == (SECOND, "the stage is locked")
    assert post.owner in by
    for each in ("X -> Y", SECOND, "the stage is locked", post.owner):
        assert each in refusal.message
    assert post.desk.state.fingerprint() == before
    assert post.is_idle


def test_an_owner_that_does_not_answer_in_time_is_a_veto(post: Post) -> None:
    post.ask(timeout_s=5.0)
    first, _ = post.handed()
    post.agree(first)
    post.desk.now += 5.1
    post.core.routing.expire(post.desk.now)
    post.decide()

    refusal = post.told()

    assert [each[0] for each in refusal.report.vetoed] == [SECOND]
    assert "in time" in refusal.report.vetoed[0][2]
    assert post.is_idle


def test_who_asked_and_left_is_not_restored_for(post: Post) -> None:
    post.ask()
    checks = post.handed()
    post.desk.ask(ASKER, Goodbye())
    post.agree(*checks)

    assert not [each for each in post.decide() if isinstance(each, StateRestored)]
    assert post.is_idle


def test_a_request_that_is_repeated_is_the_same_restore(post: Post) -> None:
    post.ask(request_id=50)
    checks = post.handed()
    post.ask(request_id=50)

    assert post.handed() == []
    post.agree(*checks)
    made = post.decide()
    report = post.told()
    again = post.ask(request_id=50)

    assert sum(isinstance(each, StateRestored) for each in made) == 1
    assert again == report


def test_as_many_restores_are_under_way_as_may_be(post: Post) -> None:
    post.ask()

    refusal = post.ask()

    assert isinstance(refusal, Refusal)
    assert "max_restores_per_client" in refusal.message


def test_a_restore_names_one_snapshot(post: Post) -> None:
    refusal = post.desk.refusal(ASKER, Restore("rig"))

    assert refusal.code == "invalid_command"


# --- what changes meanwhile ---


def test_owners_are_asked_again_where_the_plan_is_another_one_by_now(post: Post) -> None:
    post.ask()
    checks = post.handed()
    post.report(UNIT, gain=3, mode=1)
    post.agree(*checks)
    assert post.decide() == []

    again = post.handed()
    post.agree(*again)
    made = post.decide()

    assert [(each.address, each.whole) for each in again] == [(UNIT, True), (SECOND, False)]
    assert isinstance(made[0], StateRestored)


def test_an_owner_that_comes_meanwhile_is_asked_too(post: Post) -> None:
    post.desk.ask(OWNER, UpdateUnits([], [UNIT]))
    post.sent()
    post.ask()
    (second,) = post.handed()
    post.desk.join(NEXT, "process")
    post.desk.ask(NEXT, UpdateUnits([UNIT], []))
    post.agree(second)
    assert post.decide() == []

    handed = [(to, reply.request) for to, reply in post.sent() if isinstance(reply, Handed)]

    checks = [(to, each.address) for to, each in handed if isinstance(each, SettingsCheckRequest)]
    assert sorted(checks) == [(NEXT, UNIT), (OWNER, SECOND)]


def test_what_changes_meanwhile_and_does_not_matter_asks_nobody_again(post: Post) -> None:
    post.ask()
    checks = post.handed()
    post.report(UNIT, gain=2)  # as it was
    post.agree(*checks)

    assert isinstance(post.decide()[0], StateRestored)


def test_a_rig_that_changes_all_the_time_is_not_restored(post: Post) -> None:
    post.ask()
    for name in ("one", "two"):
        checks = post.handed()
        post.desk.ask(ASKER, ChangeConfig([ConfigPut("filter", (name,), 1)]))
        post.agree(*checks)
        assert post.decide() == []

    refusal = post.told()

    assert refusal.code == "stale"
    assert post.is_idle


def test_what_others_take_meanwhile_is_in_the_way(post: Post) -> None:
    post.ask()
    checks = post.handed()
    post.desk.ask(OTHER, Connect("X", "Y"))
    post.agree(*checks)
    post.decide()
    post.agree(*post.handed())
    made = post.decide()

    assert made == []
    assert [each[0] for each in post.told().report.cannot] == ["edge X -> Y"]


# --- phase two: one transaction ---


def done(post: Post, **more: Any) -> tuple[list[Body], RestoreReport, list[Any]]:
    """Restore; return what became true, what was told, and what the owner was handed."""
    post.ask(**more)
    post.agree(*post.handed())
    made = post.decide()
    sent = post.sent()
    (report,) = [reply for to, reply in sent if to == ASKER]
    assert isinstance(report, RestoreReport)
    return made, report, [r.request for _, r in sent if isinstance(r, Handed)]


def test_a_restore_is_one_transaction_that_begins_with_what_it_is(post: Post) -> None:
    made, report, _ = done(post, reason="best run")

    first = made[0]
    assert isinstance(first, StateRestored)
    assert (first.name, first.tag, first.fingerprint) == ("rig", "best", post.frozen.fingerprint)
    assert (first.edges_added, first.edges_removed, first.settings, first.config) == (0, 1, 2, 1)
    assert [type(each).__name__ for each in made[1:]] == [
        "EdgeDisconnected", "ConfigValueDeleted", "SettingsOwed", "SettingsOwed"
    ]
    events = post.desk.events[-len(made) :]
    assert {each.txn_first for each in events} == {events[0].seq}
    assert {each.source.reason for each in events} == {"best run"}
    assert report.seq == events[-1].seq == post.desk.state.seq
    assert report.owed == [UNIT, SECOND]
    assert not report.dry_run


def test_owners_are_handed_what_they_are_owed_and_settle_it_by_their_reports(post: Post) -> None:
    _, _, handed = done(post)
    assert [type(each) for each in handed] == [SettingsChangeRequest] * 2

    for each, field in zip(handed, ("gain", "speed"), strict=True):
        assert each.changes == {field: 1}
        fields: Any = {field: 1}
        post.report(each.address, each.request_id, **fields)

    changed, settled = [event.body for event in post.desk.events[-2:]]
    assert isinstance(changed, SettingsChanged)
    assert changed.asked_by is not None
    assert changed.asked_by.client == post.asker
    assert settled == SettingsSettled(SECOND)
    assert not post.desk.state.owed
    assert post.desk.state.content_fingerprint() == post.frozen.fingerprint
    post.decide()
    assert post.is_idle


def test_what_is_as_it_was_makes_no_event(post: Post) -> None:
    head = post.desk.state.seq

    made, report, handed = done(post, graph=graph_of(post.desk.state, "rig"))

    assert (made, handed, report.seq) == ([], [], head)
    assert not report


def test_an_owner_that_ends_in_between_is_handed_it_when_it_registers_again(post: Post) -> None:
    done(post)
    post.desk.ask(OWNER, Goodbye())
    post.decide()
    assert post.desk.state.owed.keys() == {UNIT, SECOND}

    post.desk.join(NEXT, "process")
    post.desk.ask(NEXT, UpdateUnits([UNIT], []))
    (request,) = post.handed(NEXT)
    post.report(UNIT, None, NEXT, gain=5)  # what it began with: that settles nothing
    assert UNIT in post.desk.state.owed
    post.report(UNIT, request.request_id, NEXT, gain=1)

    assert request.changes == {"gain": 1}
    assert post.desk.state.owed.keys() == {SECOND}
    assert post.desk.state.settings[UNIT].value == value(gain=1)


def test_what_does_not_fit_the_program_that_comes_is_settled_with_the_reason(post: Post) -> None:
    done(post)
    post.desk.ask(OWNER, Goodbye())
    post.decide()
    fields = [SettingsFieldMetadata("gain", "int", bounds=(5, 9))]
    schema = SettingsSchemaMetadata("test", "Settings", fields)
    part = ComponentMetadata(
        UNIT, UNIT, "m.Unit", "m.S", (None, {"gain": 6}), DynamicSettingsMetadata(enabled=True),
        settings_schema=schema,
    )
    post.desk.ask(OTHER, RegisterMetadata(GraphMetadata(components={UNIT: part})))
    post.desk.join(NEXT, "process")
    post.desk.ask(NEXT, UpdateUnits([UNIT], []))

    (settled,) = post.decide()

    assert post.handed(NEXT) == []
    assert isinstance(settled, SettingsSettled)
    assert (settled.address, "gain" in str(settled.why_not)) == (UNIT, True)
    assert post.desk.state.owed.keys() == {SECOND}


def test_a_unit_that_nobody_runs_is_owed_without_anybody_being_asked(post: Post) -> None:
    post.desk.ask(OWNER, Goodbye())

    made, report, handed = done(post)

    assert handed == []
    assert {each.address for each in made if isinstance(each, SettingsOwed)} == {UNIT, SECOND}
    assert [owner for _, _, owner in report.settings] == [None, None]


def test_an_owner_that_has_agreed_and_refuses_settles_it_with_its_reason(post: Post) -> None:
    _, _, (first, _) = done(post)

    post.desk.ask(OWNER, AnswerRequest(first.request_id, ok=False, error="it jams"))
    made = post.decide()

    (settled,) = made
    assert isinstance(settled, SettingsSettled)
    assert (settled.address, "it jams" in str(settled.why_not)) == (UNIT, True)
    assert post.desk.state.owed.keys() == {SECOND}


def test_changes_of_others_wait_behind_what_is_owed(post: Post) -> None:
    _, _, (first, _) = done(post)

    post.desk.outcome(OTHER, ChangeSettings(UNIT, {"gain": 7}))
    assert post.handed() == []
    post.report(UNIT, first.request_id, gain=1)

    (change,) = post.handed()
    assert change.changes == {"gain": 7}


def test_another_restore_takes_the_place_of_what_is_owed(post: Post) -> None:
    _, _, (before, _) = done(post)
    now = Graph("rig", settings={UNIT: value(gain=9)})

    made, _, handed = done(post, graph=now)

    settled = [each for each in made if isinstance(each, SettingsSettled)]
    owed = [each for each in made if isinstance(each, SettingsOwed)]
    assert [each.address for each in settled] == [SECOND]
    assert [(each.address, each.value) for each in owed] == [(UNIT, value(gain=9))]
    assert handed == []  # it is at the one before: one by one
    post.report(UNIT, before.request_id, gain=1)
    (request,) = post.handed()
    assert request.changes == {"gain": 9}
    assert UNIT in post.desk.state.owed


def test_a_broker_that_starts_anew_hands_out_what_is_owed(post: Post) -> None:
    done(post)
    again = Desk()
    for event in post.desk.events:
        again.state.apply(event)
    again.core.restore_leases(post.desk.events, now=again.now)

    routes = again.core.routing.routes
    assert {each.line for each in routes.handed_to(post.owner)} == {UNIT, SECOND}


def test_what_was_restored_is_told_again_from_its_transaction(post: Post) -> None:
    _, report, _ = done(post, request_id=50)
    desk = Desk()
    for event in post.desk.events:
        desk.state.apply(event)
    desk.core.restore_leases(post.desk.events, now=desk.now)
    lease = desk.core.leases.get(post.asker)

    assert lease is not None
    told = lease.answers.reply_to(50)

    assert isinstance(told, RestoreReport)
    assert (told.seq, told.owed, told.edges_removed) == (
        report.seq, report.owed, report.edges_removed
    )
    assert (told.config_deleted, told.fingerprint) == (report.config_deleted, report.fingerprint)


def test_reports_are_read_from_transactions_of_restores_only(post: Post) -> None:
    done(post)
    events: list[Event] = post.desk.events

    ((first, report),) = reports_in(events)

    assert isinstance(first.body, StateRestored)
    assert report.seq == first.txn_last


def test_an_answer_to_what_is_owed_names_nobody_who_asked() -> None:
    assert asker_of(owed_id(SettingsOwed("a:b:12", value(), None, 7))) is None


# --- roles, and other programs ---

KEY = "ab" * 32


def keyed(post: Post, **grants: str) -> bytes:
    """Somebody whose key has these verbs on these patterns; the lease is a guest's."""
    patterns = {verb: (parse_pattern(text),) for verb, text in grants.items()}
    role = Role("narrow", {"read": EVERYTHING, **patterns})
    post.core.access = Access([Identity("ana", KEY, role)])
    post.desk.outcome(b"ana", post.desk.hello_of("guest"), request_id=0, public=KEY)
    return b"ana"


def ask_as(post: Post, peer: bytes, *, dry_run: bool = False) -> Reply | None:
    restore = Restore("rig", "best", dry_run=dry_run)
    outcome = post.desk.outcome(peer, restore, public=KEY)
    if outcome.read is not None:
        client, number = outcome.client, post.desk.last_id
        post.core.restores.read(client, number, GraphContent.of(post.frozen))
        post.core.access, before = None, post.core.access
        post.agree(*[each for each in post.handed() if isinstance(each, SettingsCheckRequest)])
        post.core.access = before
        post.decide()
        (reply,) = [reply for to, reply in post.sent() if to == peer]
        return reply
    return outcome.reply


def test_who_may_not_restore_or_not_read_everything_is_refused_at_once(post: Post) -> None:
    post.core.access = Access([Identity("ana", KEY, Role("r", {"read": EVERYTHING}))])
    post.desk.outcome(b"ana", post.desk.hello_of("guest"), request_id=0, public=KEY)
    no_verb = ask_as(post, b"ana")
    part = Role("r", {"read": (parse_pattern("settings/"),), "restore": EVERYTHING})
    post.core.access = Access([Identity("ana", KEY, part)])
    post.core.events_ports.update({1: 1})
    no_reading = ask_as(post, b"ana")

    assert isinstance(no_verb, Refusal)
    assert isinstance(no_reading, Refusal)
    assert (no_verb.code, no_reading.code) == ("forbidden", "forbidden")
    assert "restore snapshot/rig" in no_verb.message
    assert "may not read all that a snapshot has (it reads settings" in no_reading.message


def test_each_verb_of_what_a_restore_changes_is_needed_and_a_dry_run_names_what_lacks(
    post: Post,
) -> None:
    post.desk.ask(ASKER, Goodbye())  # what it held is not in the way then
    post.sent()
    ana = keyed(post, restore="snapshot/", connect="edge/", config="config/")
    before = post.desk.state.fingerprint()

    refusal = ask_as(post, ana)
    dry = ask_as(post, ana, dry_run=True)

    assert isinstance(refusal, Refusal)
    assert refusal.code == "forbidden"
    assert f"set settings/{UNIT}" in refusal.message
    assert isinstance(dry, RestoreReport)
    assert [each[0] for each in dry.cannot] == [f"set settings/{UNIT}", f"set settings/{SECOND}"]
    assert post.desk.state.fingerprint() == before


def test_a_role_that_is_narrowed_while_owners_are_asked_restores_nothing(post: Post) -> None:
    post.desk.ask(ASKER, Goodbye())
    post.sent()
    ana = keyed(post, **dict.fromkeys(("restore", "connect", "config", "set"), "/"))
    outcome = post.desk.outcome(ana, Restore("rig", "best", dry_run=False), public=KEY)
    post.core.restores.read(outcome.client, post.desk.last_id, GraphContent.of(post.frozen))
    checks = post.handed()
    narrow = Access([Identity("ana", KEY, Role("narrow", {"read": EVERYTHING}))])
    post.core.access = None
    post.agree(*checks)
    post.core.access = narrow

    made = post.decide()

    (refusal,) = [reply for to, reply in post.sent() if to == ana]
    assert made == []
    assert isinstance(refusal, Refusal)
    assert refusal.code == "forbidden"


def test_a_program_that_takes_the_askers_lease_over_has_not_asked(post: Post) -> None:
    post.ask(request_id=50)
    checks = post.handed()
    lease = post.core.leases.get(post.asker)
    assert lease is not None
    token = post.core.admission.token(post.asker, None)
    post.desk.ask(b"heir", TakeOver(post.desk.hello_of(), post.asker, token, CLUSTER_ID))
    post.agree(*checks)

    assert not [each for each in post.decide() if isinstance(each, StateRestored)]
    assert post.is_idle
