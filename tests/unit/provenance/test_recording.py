"""A recorder over a session that is played: compaction, partial readers, a broker that is gone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.client.blocking import run
from ezgraph.client.watch import Compacted, Progress
from ezgraph.errors import (
    BrokerUnreachableError,
    CompactedError,
    EzGraphError,
    ForbiddenError,
    InvalidValueError,
    MalformedMessageError,
    NoSessionError,
)
from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.commands import ReadEvents
from ezgraph.protocol.events import Event, SettingsChanged, SettingsLayer, Source, key_of
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.listing import SnapshotInfo
from ezgraph.protocol.replies import Done, EventRange, Frozen, RecordingStored, Welcome
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.protocol.stored_commands import Freeze, WriteRecording
from ezgraph.provenance.recording import Recorder
from ezgraph.state.graph import GraphState
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.names import Key

RAW = Artifact("raw", storage="/data")
WELCOME = Welcome(1, "1", "c", 1, 0, 1, "s1", b"", 6.0, 1)


def change(seq: int, address: str = "SYS/A") -> Event:
    value = SettingsSnapshotValue(None, {"gain": seq}, {"gain": seq})
    updated = SettingsEventType.SETTINGS_UPDATED
    body = SettingsChanged(address, updated, SettingsLayer.LIVE, value)
    return Event(1, seq, seq - 1, seq, seq, 1e9 + seq, 0.0, key_of(body), Source(), None, body)


@dataclass
class PlayedSession:
    """A broker of a rig in which only settings change, two events to a chunk."""

    events: list[Event] = field(default_factory=list)
    floor: int = 1
    welcome: Welcome | None = WELCOME
    client_id: str | None = "s1"
    head: int = 0
    failure: EzGraphError | None = None
    asked: list[object] = field(default_factory=list)
    items: deque[object] = field(default_factory=deque)
    watched: list[tuple[Key, int | None]] = field(default_factory=list)
    is_watched: bool = False

    def watch(
        self, prefix: Key = (), after: int | None = None, *, with_state: bool = True
    ) -> PlayedSession:
        assert not with_state
        self.watched.append((prefix, after))
        self.is_watched = True
        return self

    def take_arrived(self) -> object | None:
        return self.items.popleft() if self.items else None

    async def aclose(self) -> None:
        self.is_watched = False

    def changes(self, *addresses: str) -> None:
        for address in addresses:
            self.head += 1
            self.events.append(change(self.head, address))

    async def call(self, command: object, *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        assert timeout > 0
        self.asked.append(command)
        if self.failure is not None:
            raise self.failure
        match command:
            case ReadEvents(after=after, through=through):
                return self._range(after, self.head if through is None else through)
            case Freeze():
                content = [event.seq for event in self.events[-1:]]
                mark = Fingerprint.from_string(str(content))
                at = self.head
                self.head += 1
                return Frozen(self.head, SnapshotInfo("rig", mark, 1, at, 1e9 + at, "", 0.0, ""))
            case WriteRecording():
                self.head += 1
                return RecordingStored(self.head, command.recording.number or 4, 1.0, "me")
            case _:
                raise AssertionError(command)

    def _range(self, after: int, through: int) -> EventRange:
        if after + 1 < self.floor:
            raise CompactedError("gone", floor=self.floor)
        found = [each for each in self.events if after < each.seq <= through]
        end = found[1].seq if len(found) > 2 else through
        events = [codec.encode_event(each).event for each in found[:2]]
        return EventRange(events, max(end, after), self.head, self.floor)

    async def fetch_state(
        self, rooms: Sequence[str] = (), *, timeout: float = 10.0  # noqa: ASYNC109
    ) -> tuple[GraphState, int]:
        assert timeout > 0
        assert list(rooms) == ["settings"]
        return GraphState.fold(self.events, epoch=1, seq=self.head), self.floor

    @property
    def told(self) -> list[WriteRecording]:
        return [each for each in self.asked if isinstance(each, WriteRecording)]

    @property
    def frozen(self) -> list[Freeze]:
        return [each for each in self.asked if isinstance(each, Freeze)]


async def with_content(partition: Partition) -> Partition:
    return replace(partition, content_fingerprint=Fingerprint.from_string("content"))


async def reached(seq: int, timeout: float) -> None:  # noqa: ASYNC109
    assert seq > 0
    assert timeout > 0


def recorder(session: PlayedSession, artifact: Any = RAW, **given: Any) -> Recorder:
    options: dict[str, Any] = {"name": "rig", "key": None, "reason": ""} | given
    return Recorder(
        session, artifact, with_content=with_content, reached=reached, timeout=10.0, **options
    )


def test_what_is_added_is_stored_at_once_and_the_rig_frozen_only_where_settings_changed() -> None:
    session = PlayedSession()
    session.changes("SYS/A")

    async def record() -> None:
        async with recorder(session) as rec:
            await rec.add(Partition({"run": 1}))
            assert len(session.frozen) == 1
            session.changes("SYS/A", "SYS/B", "SYS/B")
            await rec.add(Partition({"run": 2}), Partition({"run": 3}))
            assert len(session.frozen) == 2
            await rec.add()
            assert len(session.frozen) == 2

    run(record())

    begin, first, second, nothing, end = session.told
    assert (begin.recording.number, first.recording.number) == (0, 4)
    assert [each.partition.key["run"] for each in second.partitions] == [2, 3]
    assert [each.address for each in second.changes] == ["SYS/A", "SYS/B", "SYS/B"]
    assert len(second.partitions[0].snapshots) == 2
    assert (nothing.partitions, nothing.changes) == ([], [])
    assert end.recording.has_ended
    assert end.recording.has_all_changes
    assert not end.recording.failed
    assert [each.reason for each in session.frozen] == [
        f"recording of raw {what}" for what in ("began", "changed", "ended")
    ]


def test_a_block_that_raises_ends_the_recording_as_failed_and_raises_the_same() -> None:
    session = PlayedSession()

    async def record() -> None:
        async with recorder(session, reason="calibration"):
            raise ZeroDivisionError("by the block")

    with pytest.raises(ZeroDivisionError, match="by the block") as raised:
        run(record())

    assert session.told[-1].recording.failed
    assert session.told[-1].reason == session.frozen[-1].reason == "calibration"
    assert not hasattr(raised.value, "__notes__")


def test_where_the_broker_is_gone_the_blocks_own_error_is_raised_and_says_so() -> None:
    session = PlayedSession()

    async def record(error: Exception | None) -> None:
        async with recorder(session) as rec:
            await rec.add(Partition({"run": 1}))
            session.failure = BrokerUnreachableError("nobody answers")
            if error is not None:
                raise error

    with pytest.raises(ZeroDivisionError) as raised:
        run(record(ZeroDivisionError()))
    (note,) = raised.value.__notes__
    assert "'raw' #4 in graph 'rig' could not be ended" in note
    assert "what was added to it is stored: nobody answers" in note
    session.failure = None
    with pytest.raises(BrokerUnreachableError):
        run(record(None))


def test_changes_that_were_compacted_leave_the_last_of_each_and_it_says_so() -> None:
    session = PlayedSession()
    session.changes("SYS/A")

    async def record() -> None:
        async with recorder(session) as rec:
            session.changes("SYS/A", "SYS/A", "SYS/B")
            session.floor = session.head + 1
            await rec.add(Partition({"run": 1}))

    run(record())

    assert [each.address for each in session.told[1].changes] == ["SYS/A", "SYS/B"]
    assert not session.told[-1].recording.has_all_changes


def test_what_was_heard_is_not_read_again_and_outlives_compaction() -> None:
    session = PlayedSession()
    session.changes("SYS/A")

    async def record() -> None:
        async with recorder(session) as rec:
            session.changes("SYS/A", "SYS/B", "SYS/B")
            heard = session.events[-3:]
            session.items.extend([*heard, Progress(heard[-1].seq)])
            session.floor = heard[-1].seq + 1
            await rec.add(Partition({"run": 1}))
            session.items.append(heard[-1])  # a second time
            await rec.add(Partition({"run": 2}))
            assert session.is_watched

    run(record())

    _, first, second, end = session.told
    assert [each.address for each in first.changes] == ["SYS/A", "SYS/B", "SYS/B"]
    assert [each.changes for each in (second, end)] == [[], []]
    assert end.recording.has_all_changes
    reads = [each.after for each in session.asked if isinstance(each, ReadEvents)]
    assert min(reads[1:]) == session.floor - 1
    assert session.watched == [(("settings",), 1)]
    assert not session.is_watched


def test_a_watch_that_was_told_of_compaction_leaves_the_last_of_each() -> None:
    session = PlayedSession()
    session.changes("SYS/A")

    async def record() -> None:
        async with recorder(session) as rec:
            session.changes("SYS/A", "SYS/A")
            session.items.append(Compacted(3, None, seq=session.head))
            await rec.add(Partition({"run": 1}))

    run(record())

    assert [each.seq for each in session.told[1].changes] == [session.events[-1].seq]
    assert not session.told[-1].recording.has_all_changes


def test_who_may_not_see_changes_is_told_before_it_has_begun() -> None:
    class Blind(PlayedSession):
        async def call(self, command: object, *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
            if isinstance(command, ReadEvents):
                raise ForbiddenError("may not read settings")
            return await super().call(command, timeout=timeout)

    session = Blind()
    rec = recorder(session)

    with pytest.raises(ForbiddenError):
        run(rec.__aenter__())

    assert session.told == []
    assert session.watched
    assert not session.is_watched
    with pytest.raises(NoSessionError):
        run(rec.add(Partition({"run": 1})))


def test_who_may_not_read_all_settings_does_not_claim_to_have_all_changes() -> None:
    session = PlayedSession(welcome=replace(WELCOME, reads=["settings/SYS%2FA"]))

    async def record() -> None:
        async with recorder(session):
            pass

    run(record())

    assert not session.told[-1].recording.has_all_changes


def test_a_recording_that_was_not_begun_takes_nothing_and_one_is_begun_once() -> None:
    session = PlayedSession()
    rec = recorder(session)

    with pytest.raises(NoSessionError, match=r"'raw' was not begun: use `async with ctx.record"):
        run(rec.add(Partition({"run": 1})))
    run(rec.__aenter__())
    with pytest.raises(InvalidValueError, match="was begun already"):
        run(rec.__aenter__())
    assert repr(rec) == "<Recorder 'rig' 'raw' <RecordingInfo 'rig' 'raw' #4 seq 0-…>>"


def test_what_is_no_partition_is_refused_before_anything_is_stored() -> None:
    session = PlayedSession()
    rec = recorder(session)
    run(rec.__aenter__())
    before = len(session.asked)

    with pytest.raises(InvalidValueError, match="'x' is no Partition"):
        run(rec.add(Partition({"run": 1}), "x"))  # type: ignore[arg-type]

    assert len(session.asked) == before


@pytest.mark.parametrize(
    "given", [{"artifact": "raw"}, {"name": ""}, {"key": "\0"}, {"name": None}]
)
def test_what_cannot_be_recorded_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError):
        recorder(PlayedSession(), **given)


def test_an_answer_of_another_kind_is_malformed() -> None:
    class Odd(PlayedSession):
        async def call(self, command: object, *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
            return Done(1)

    with pytest.raises(MalformedMessageError, match="Freeze was answered with Done"):
        run(recorder(Odd()).__aenter__())
