"""Each guarantee broken on purpose, in true traces: the checker names it, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ezgraph.protocol.commands import (
    ChangeConfig,
    Connect,
    Disconnect,
    RegisterMetadata,
    SetPause,
    UpdateUnits,
)
from ezgraph.protocol.config import ConfigPresent, ConfigPut
from ezgraph.protocol.events import (
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    Event,
    PauseChanged,
    SessionOpened,
    key_of,
)
from ezgraph.protocol.metadata import DynamicSettingsMetadata, GraphMetadata, UnitMetadata
from ezgraph.testing.traces import TracedProgram, check_traces, history_of
from ezgraph.verify.history import History
from ezgraph.verify.one_trace import Tolerances
from ezgraph.verify.records import (
    Answered,
    Asked,
    Body,
    Bound,
    Damage,
    Ended,
    Fingerprinted,
    Given,
    Progressed,
    Reached,
    Returned,
    Skipped,
    TraceRecord,
    Watched,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.verify.findings import Report


def metadata(*addresses: str) -> RegisterMetadata:
    return RegisterMetadata(
        GraphMetadata(
            components={
                address: UnitMetadata(
                    address, address, "lab.Unit", "lab.Settings", (None, {"gain": 1}),
                    DynamicSettingsMetadata(enabled=False),
                )
                for address in addresses
            }
        )
    )


def configured(*names: str) -> ChangeConfig:
    """Ephemeral entries of the configuration."""
    return ChangeConfig([ConfigPut("flow", (name,), 1, ephemeral=True) for name in names])


NOT_SO = ChangeConfig([ConfigPut("flow", ("d",), 1)], [], [ConfigPresent("flow", ("absent",))])


def story(*, watched: bool = True) -> TracedProgram:
    """Two sessions (0, 3), a process (1) and a guest (2) do a bit of everything."""
    program = TracedProgram()
    if watched:
        program.watch(0)
        program.watch(0, "edge")
        program.follow(0)
    program.run([(0, Connect("a", "b")), (3, metadata("SYS/A", "SYS/B")), (3, Connect("b", "c"))])
    program.deliver()
    program.run([(1, UpdateUnits(["SYS/A"], [])), (2, SetPause(True)), (0, Connect("c", "a"))])
    program.run([(0, Disconnect("a", "b")), (0, Connect("d", "e")), (2, Connect("p", "q"))])
    program.deliver()
    program.run([(3, configured("a", "b")), (0, configured("c")), (2, NOT_SO), (2, SetPause(True))])
    program.run([(3, None), (0, Connect("x", "y"))])
    program.deliver()
    return program


class World(NamedTuple):
    """Everything that can be broken: the traces by client, and the journal."""

    traces: dict[int, list[TraceRecord]]
    events: list[Event]

    def check(self, **options: Any) -> Report:
        return check_traces(self.traces, history_of(self.events), **options)

    def nth(self, kind: type[Body], n: int = 0, /, client: int = 0, **fields: object) -> int:
        """The index of the n-th record of a kind whose body has these fields."""
        found = [
            index
            for index, record in enumerate(self.traces[client])
            if isinstance(record.body, kind)
            and all(getattr(record.body, name) == value for name, value in fields.items())
        ]
        return found[n]

    def body(self, index: int, client: int = 0) -> Any:
        return self.traces[client][index].body

    def change(self, index: int, client: int = 0, **fields: object) -> None:
        record = self.traces[client][index]
        self.traces[client][index] = replace(record, body=replace(record.body, **fields))  # type: ignore[arg-type]

    def change_event(self, seq: int, **fields: object) -> None:
        at = next(n for n, event in enumerate(self.events) if event.seq == seq)
        self.events[at] = replace(self.events[at], **fields)  # type: ignore[arg-type]


def world(*, watched: bool = True) -> World:
    program = story(watched=watched)
    return World(program.traces(), list(program.program.events))


def events_of(world: World, kind: type) -> list[Event]:
    return [event for event in world.events if isinstance(event.body, kind)]


def broken(report: Report) -> set[str]:
    return set(report.violations)


def test_a_true_story_has_no_finding_and_every_guarantee_was_looked_at() -> None:
    report = world().check()

    assert report.ok, str(report)
    assert {each for each, times in report.checked.items() if times} >= {
        f"G{n}" for n in range(1, 11)
    }


# --- one case for each way of breaking one ---


def swap_two_events(w: World) -> None:
    at = w.nth(Given, 1, watch=1)
    records = w.traces[0]
    one, other = records[at].body, records[at + 1].body
    assert isinstance(one, Given)
    assert isinstance(other, Given)
    records[at] = replace(records[at], body=other)
    records[at + 1] = replace(records[at + 1], body=one)


def give_an_event_twice(w: World) -> None:
    at = w.nth(Given, 0, watch=2)
    w.traces[0].insert(at, w.traces[0][at])


def let_progress_go_back(w: World) -> None:
    at = w.nth(Progressed, 2, watch=2)
    w.change(at, seq=1)


def drop_an_event(w: World) -> None:
    del w.traces[0][w.nth(Given, 1, watch=2)]


def drop_the_last_event(w: World) -> None:
    del w.traces[0][w.nth(Given, -1, watch=2)]


def change_an_event(w: World) -> None:
    w.change(w.nth(Given, 1, watch=2), digest="0" * 16)


def give_what_is_not_under_the_prefix(w: World) -> None:
    stranger = w.body(w.nth(Given, 1, watch=1, kind="ComponentRegistered"))
    before = next(n for n, r in enumerate(w.traces[0])
                  if isinstance(r.body, Given) and r.body.watch == 2 and r.body.seq > stranger.seq)
    body = replace(stranger, watch=2, left=1)
    w.traces[0].insert(before, replace(w.traces[0][before], body=body))


def give_half_a_transaction(w: World) -> None:
    at = next(n for n, r in enumerate(w.traces[0]) if isinstance(r.body, Given) and r.body.left)
    w.change(at, left=0)


def lose_the_tail_of_the_journal(w: World) -> None:
    last = w.events[-1]
    assert last.txn_first == last.seq
    w.events.pop()


def answer_with_another_seq(w: World) -> None:
    at = w.nth(Answered, 0, reply="Done")
    w.change(at, seq=w.body(at).seq - 1)


def ask_for_something_else(w: World) -> None:
    w.change(w.nth(Asked, 0, name="Connect"), command=Connect("never", "made"))


def welcome_somebody_unknown(w: World) -> None:
    at = w.nth(Bound, client=1)
    record = w.traces[1][at]
    w.traces[1][at] = replace(record, body=replace(w.body(at, client=1), client="nobody"))


def execute_a_request_twice(w: World) -> None:
    one, other = [e for e in w.events if e.source.client == w.body(w.nth(Bound)).client
                  and e.request_id is not None and e.txn_first == e.seq][1:3]
    w.change_event(other.seq, request_id=one.request_id)


def return_too_early(w: World) -> None:
    at = w.nth(Returned, 2)
    w.change(at, replica=w.body(at).seq - 1)


def wait_for_less(w: World) -> None:
    at = w.nth(Returned, 2)
    returned = w.body(at)
    w.change(at, replica=returned.seq - 1)
    reached = Reached(returned.session, returned.seq, returned.seq - 1)
    w.traces[0].insert(at + 1, replace(w.traces[0][at], body=reached))


def refuse_what_was_done(w: World) -> None:
    at = w.nth(Answered, 1, reply="Done")
    returned = w.nth(Returned, call=w.body(at).call)
    message = "edge 'b' -> 'c' would close a loop; disconnect one"
    w.change(at, reply=None, seq=None, code="cyclic", message=message)
    del w.traces[0][returned]


def refuse_without_a_word(w: World) -> None:
    w.change(w.nth(Answered, code="cyclic"), message="no")


def answer_late(w: World) -> None:
    at = w.nth(Answered, 2)
    w.traces[0][at] = replace(w.traces[0][at], mono=w.traces[0][at].mono + 10.6)


def never_answer(w: World) -> None:
    del w.traces[2][w.nth(Answered, 0, client=2)]
    end = w.traces[2].pop()
    w.traces[2].append(replace(end, mono=end.mono + 20.0))


def fail_without_an_address(w: World) -> None:
    at = w.nth(Answered, code="cyclic")
    w.change(at, code="deadline", message="Connect got no answer within 10.0 s; try again")


def differ_in_the_replica(w: World) -> None:
    w.change(w.nth(Fingerprinted, 1), fingerprint="f" * 32)


def stand_within_a_transaction(w: World) -> None:
    inside = next(e.seq for e in w.events if e.seq != e.txn_last)
    w.change(w.nth(Fingerprinted, 1), seq=inside)


@pytest.mark.parametrize(
    ("guarantee", "breaking"),
    [
        ("G1", swap_two_events),
        ("G1", give_an_event_twice),
        ("G1", let_progress_go_back),
        ("G2", drop_an_event),
        ("G2", drop_the_last_event),
        ("G2", change_an_event),
        ("G2", give_what_is_not_under_the_prefix),
        ("G3", give_half_a_transaction),
        ("G4", lose_the_tail_of_the_journal),
        ("G4", ask_for_something_else),
        ("G6", return_too_early),
        ("G6", wait_for_less),
        ("G8", refuse_what_was_done),
        ("G8", refuse_without_a_word),
        ("G9", answer_late),
        ("G9", never_answer),
        ("G9", fail_without_an_address),
        ("G10", differ_in_the_replica),
        ("G10", stand_within_a_transaction),
    ],
)
def test_a_broken_guarantee_is_named_and_no_other(
    guarantee: str, breaking: Callable[[World], None]
) -> None:
    w = world()

    breaking(w)
    report = w.check()

    assert broken(report) == {guarantee}, str(report)
    assert str(report.findings[0]).startswith(f"{guarantee}: ")


def test_g4_an_answer_with_another_seq_than_its_transaction_is_found() -> None:
    w = world(watched=False)
    answer_with_another_seq(w)

    assert broken(w.check()) == {"G4"}


def test_g5_a_request_that_was_executed_twice_is_found() -> None:
    w = world(watched=False)
    execute_a_request_twice(w)

    report = w.check()

    assert broken(report) == {"G5"}
    assert report.violations["G5"] == 2  # in the journal, and to the caller


def test_g4_a_lease_that_was_welcomed_and_is_not_in_the_journal_is_found() -> None:
    w = world()
    welcome_somebody_unknown(w)

    assert "G4" in broken(w.check())


def test_g1_a_number_missing_in_the_journal_is_found() -> None:
    w = world(watched=False)
    paused = events_of(w, PauseChanged)[0]
    w.events.remove(paused)

    report = w.check()

    assert broken(report) >= {"G1", "G4"}  # the guest was told that the change is stored
    assert any("not dense" in str(each) for each in report.findings)


def test_g3_a_transaction_of_which_the_journal_has_a_part_is_found() -> None:
    w = world(watched=False)
    whole = next(event for event in w.events if event.txn_first != event.txn_last)
    w.change_event(whole.seq, txn_first=whole.seq, txn_last=whole.seq)

    assert broken(w.check()) == {"G3"}


def test_g3_an_answer_in_the_middle_of_a_transaction_is_found() -> None:
    w = world(watched=False)
    inside = next(event for event in w.events if event.seq != event.txn_last)
    w.change(w.nth(Answered, 0, client=3), client=3, seq=inside.seq)

    assert "G3" in broken(w.check())


def test_g7_what_a_session_owned_and_kept_after_its_end_is_found() -> None:
    w = world(watched=False)
    let_go = next(e for e in w.events if isinstance(e.body, EdgeDisconnected) and
                  e.txn_first != e.txn_last)
    body = PauseChanged(paused=True)
    w.change_event(let_go.seq, body=body, key=key_of(body))

    report = w.check()

    assert broken(report) == {"G7"}
    assert any("edges" in str(each) for each in report.findings)


def test_g7_an_entry_of_the_configuration_that_outlives_its_session_is_found() -> None:
    w = world(watched=False)
    deleted = events_of(w, ConfigValueDeleted)[0]
    body = PauseChanged(paused=True)
    w.change_event(deleted.seq, body=body, key=key_of(body))

    report = w.check()

    assert broken(report) == {"G7"}
    assert any("configuration outlives" in str(each) for each in report.findings)


def test_g4_a_put_that_was_answered_and_is_not_there_is_found() -> None:
    w = world(watched=False)
    put = next(e for e in events_of(w, ConfigValueSet) if e.body.key == ("c",))  # type: ignore[union-attr]
    w.change_event(put.seq, body=replace(put.body, value=2))  # type: ignore[arg-type]

    report = w.check()

    assert broken(report) == {"G4"}
    assert any("ChangeConfig" in str(each) for each in report.findings)


def test_a_journal_that_cannot_be_replayed_is_named_and_the_rest_is_still_checked() -> None:
    w = world()
    opened = events_of(w, SessionOpened)[1]
    body = PauseChanged(paused=False)
    w.change_event(opened.seq, body=body, key=key_of(body))

    report = w.check()

    assert "journal" in broken(report)
    assert any("cannot be replayed" in str(each) for each in report.findings)
    assert any("cannot be replayed" in each for each in report.unchecked)


def test_a_journal_whose_edges_close_a_loop_is_named() -> None:
    """Applying such an event raises an error of ezgraph's own."""
    w = world(watched=False)
    back = next(event for event in w.events if event.key == ("edge", "b", "c"))
    assert isinstance(back.body, EdgeConnected)
    body = replace(back.body, to_topic="a")
    w.change_event(back.seq, body=body, key=("edge", "b", "a"))

    assert "journal" in broken(w.check())


def test_nothing_is_compared_of_a_session_whose_beginning_is_damaged() -> None:
    w = world()
    at = w.nth(Bound)
    records: list[Any] = list(w.traces[0])
    records[at] = Damage(at, "line 5 is damaged: its checksum does not fit")

    assert broken(check_traces({**w.traces, 0: records}, history_of(w.events))) == {"trace"}


def test_every_violation_is_reported_not_only_the_first() -> None:
    w = world()
    drop_an_event(w)
    return_too_early(w)
    answer_late(w)
    differ_in_the_replica(w)

    assert broken(w.check()) == {"G2", "G6", "G9", "G10"}


# --- what is not a violation ---


def test_a_process_that_was_killed_may_leave_calls_without_an_answer() -> None:
    w = world()
    at = w.nth(Answered, -1)
    del w.traces[0][at:]

    report = w.check()

    assert report.ok, str(report)
    assert "killed" in report.traces[0].ending


def test_a_call_of_a_stopped_process_may_end_late_by_as_much() -> None:
    w = world()
    answer_late(w)

    assert broken(w.check()) == {"G9"}
    assert w.check(tolerances=Tolerances(stall_s=0.7)).ok


def test_a_wait_for_the_replica_that_failed_is_no_early_return() -> None:
    w = world()
    at = w.nth(Returned, 2)
    returned = w.body(at)
    w.change(at, replica=returned.seq - 1)
    reached = Reached(returned.session, returned.seq, returned.seq - 1, "deadline")
    w.traces[0].insert(at + 1, replace(w.traces[0][at], body=reached))

    assert w.check().ok


def test_g9_the_wait_for_the_replica_counts_in_the_deadline_of_its_call() -> None:
    w = world()
    at = w.nth(Returned, 2)
    returned = w.body(at)
    w.change(at, replica=returned.seq - 1)
    late = w.traces[0][at].mono + 11.0
    reached = Reached(returned.session, returned.seq, returned.seq)
    w.traces[0].insert(at + 1, replace(w.traces[0][at], body=reached, mono=late))

    assert broken(w.check()) == {"G9"}


def test_what_a_watcher_may_take_after_it_has_failed_is_no_odd_record() -> None:
    from ezgraph.verify.records import Unwatched

    w = world()
    at = w.nth(Given, -1, watch=2)
    failed = Unwatched(2, "session_expired", "the lease ran out")
    w.traces[0].insert(at, replace(w.traces[0][at], body=failed))

    assert w.check().ok


# --- other clusters, no journal, compaction, restored backups ---


def test_a_trace_of_another_cluster_is_one_finding_and_nothing_else_of_it_is_compared() -> None:
    w = world()
    for client in w.traces:
        w.change(w.nth(Bound, client=client), client=client, cluster_id="d2" * 16)

    report = w.check()

    assert broken(report) == {"trace"}
    assert report.violations["trace"] == 4
    assert "d2d2" in str(report.findings[0])


def test_without_a_journal_only_what_traces_show_is_checked_and_the_report_says_so() -> None:
    w = world()
    drop_an_event(w)
    give_an_event_twice(w)

    report = check_traces(w.traces, History.absent())

    assert broken(report) == {"G1"}
    assert report.checked["G4"] == 0
    assert any("no journal" in each for each in report.unchecked)


def compacted(w: World, floor: int) -> History:
    """The history as a journal keeps it whose floor was raised, with a checkpoint below it."""
    from ezgraph.verify.history import Start

    before = [event for event in w.events if event.seq < floor]
    start = Start(1, floor - 1, tuple(before))  # all of them are a live set too
    whole = history_of([event for event in w.events if event.seq >= floor])
    return History(
        whole.events, floor=floor, start=start, cluster_id=whole.cluster_id,
        digest_of=whole._digest_of,
    )


def floor_of(w: World) -> int:
    """A seq in the middle at which a transaction begins."""
    return [event.txn_first for event in w.events][len(w.events) // 2]


def test_with_a_compacted_journal_checks_run_from_its_checkpoint_on() -> None:
    w = world()

    report = check_traces(w.traces, compacted(w, floor_of(w)))

    assert report.ok, str(report)
    assert any("below" in each for each in report.unchecked)
    assert report.checked["G10"]


def test_with_a_compacted_journal_what_lies_above_the_floor_is_still_found() -> None:
    w = world()
    drop_the_last_event(w)
    w.change(w.nth(Fingerprinted, -1), fingerprint="0" * 32)

    assert broken(check_traces(w.traces, compacted(w, floor_of(w)))) == {"G2", "G10"}


def test_a_watcher_below_the_floor_that_is_told_and_given_a_snapshot_misses_nothing() -> None:
    w = world()
    floor = floor_of(w)
    states = {state.seq: state.fingerprint() for _, state in history_of(w.events).states()}
    first, last = w.nth(Given, 0, watch=2), w.nth(Given, -1, watch=2)
    told = Skipped(2, 1, floor - 1, floor, states[floor - 1], diverged=False, left=0)
    records = w.traces[0]
    kept = [
        each for index, each in enumerate(records)
        if not (first <= index <= last and getattr(each.body, "watch", None) == 2
                and getattr(each.body, "seq", floor) < floor)
    ]
    at = next(n for n, each in enumerate(kept) if getattr(each.body, "watch", None) == 2
              and isinstance(each.body, Given))
    kept.insert(at, replace(kept[at], body=told))
    w.traces[0][:] = kept

    assert check_traces(w.traces, compacted(w, floor)).ok

    told_wrong = replace(told, fingerprint="0" * 32)
    kept[at] = replace(kept[at], body=told_wrong)
    assert broken(check_traces({**w.traces, 0: kept}, compacted(w, floor))) == {"G10"}


BASE = 1_700_000_000_000_000


def restored(w: World, last: int) -> History:
    """The journal after a backup that ended with ``last`` was restored, and one more event."""
    event = w.events[-1]
    seq = BASE + 1
    after = replace(event, epoch=2, seq=seq, prev=BASE, txn_first=seq, txn_last=seq,
                    request_id=None, body=PauseChanged(paused=True), key=("control", "pause"))
    return history_of([*(each for each in w.events if each.seq <= last), after])


def test_what_a_restored_backup_has_replaced_is_not_called_lost() -> None:
    w = world()
    last = floor_of(w) - 1

    report = check_traces(w.traces, restored(w, last))

    assert report.ok, str(report)
    assert any("restored" in each for each in report.unchecked)


def test_a_watcher_that_goes_on_across_a_restore_without_being_told_is_found() -> None:
    w = world()
    history = restored(w, floor_of(w) - 1)
    end = w.traces[0].pop()
    w.traces[0].append(replace(end, body=Progressed(2, BASE + 1, 0)))

    report = check_traces(w.traces, history)

    assert broken(report) == {"G2"}
    assert "restored" in str(report.findings[0])


# --- watchers from now on ---


def test_g2_a_watcher_from_now_on_that_begins_after_what_was_asked_later_is_found() -> None:
    from ezgraph.verify.records import Began, Unwatched

    w = world()
    asked = w.nth(Asked, 0, name="Connect")
    seq = w.body(w.nth(Answered, call=w.body(asked).call)).seq
    records, at = w.traces[0], w.traces[0][asked]
    extra: list[Body] = [Began(9, seq), Unwatched(9)]
    records.insert(asked, replace(at, body=Watched(1, 9, [], None, is_replica=False), number=0))
    end = records.pop()
    records += [replace(end, body=body) for body in extra]

    assert broken(w.check()) == {"G2"}


# --- damage ---


def test_after_damage_watchers_go_on_from_their_next_word_of_progress() -> None:
    w = world()
    at = w.nth(Given, 0, watch=1)
    records: list[Any] = list(w.traces[0])
    records[at + 1 : at + 3] = [Damage(at, "line 7 is damaged: its checksum does not fit")]

    report = check_traces({0: records}, history_of(w.events))

    assert broken(report) == {"trace"}
    assert any("damaged" in each for each in report.unchecked)


def test_a_record_that_makes_no_sense_is_named() -> None:
    w = world()
    end = w.traces[0].pop()
    w.traces[0].append(replace(end, body=Answered(1, 9_999, "Done", 3)))
    w.traces[0].append(replace(end, body=Progressed(77, 3, 0)))
    w.traces[0].append(replace(end, body=Ended()))

    report = w.check()

    assert broken(report) == {"trace"}
    assert [each.what for each in report.findings] == [
        "call 9999 was answered, but never asked",
        "an item for watcher 77, which was never opened",
    ]
