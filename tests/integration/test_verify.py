"""True traces of real programs have no finding; changed ones have; the command line says so."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    Address,
    BrokerConfig,
    CyclicException,
    DynamicSettingsMetadata,
    GraphContext,
    GraphMetadata,
    GraphServer,
    GraphService,
    ProcessControlClient,
    UnitMetadata,
    sync,
)
from ezgraph.backends import Backend, JournalMeta, Record
from ezgraph.client.watch import Progress
from ezgraph.errors import ConfigError
from ezgraph.names import topic_of
from ezgraph.protocol.events import SessionClosed
from ezgraph.testing import Recorder
from ezgraph.verify import Fault, Tolerances, read_history, verify
from ezgraph.verify.checker import Checker
from ezgraph.verify.history import History
from ezgraph.verify.reading import history_of
from ezgraph.verify.records import (
    Answered,
    Damage,
    Ending,
    Fingerprinted,
    Given,
    Returned,
    TraceRecord,
)
from ezgraph.verify.trace_file import TraceFile
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ezgraph.verify import Report

pytestmark = pytest.mark.integration

TTL_S = 1.5
PATIENT = Tolerances(stall_s=2.0)  # this machine may be busy with other tests
METADATA = GraphMetadata(
    components={
        "SYS/A": UnitMetadata(
            "SYS/A", "A", "lab.Unit", "lab.Settings", (None, {"gain": 1}),
            DynamicSettingsMetadata(enabled=False),
        )
    }
)
CHILD = """
import sys
from ezgraph import sync
from ezgraph.testing import Recorder
recorder = Recorder(sys.argv[2])
with sync.GraphContext(sys.argv[1], session_factory=recorder.blocking_session) as context:
    for n in range(1_000_000):
        context.connect("child", f"b{n % 50}")
        context.disconnect("child", f"b{n % 50}")
        print("on", flush=True)
"""


class Story:
    """A broker that is killed and started again, and programs that go on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = f"sqlite:///{folder / 'rig.db'}"
        self.names = ["aio", "blocking", "observer", "child"]
        self.traces = [folder / f"{name}.trace" for name in self.names]

    async def play(self) -> None:
        config = BrokerConfig(
            address=Address("127.0.0.1", 0), backend=self.journal, ttl_s=TTL_S
        )
        with (
            Recorder(self.traces[0]) as self.aio,
            Recorder(self.traces[1]) as self.blocking,
            Recorder(self.traces[2]) as self.observer,
            GraphServer(config=config, run_in="process") as server,
        ):
            self.server, self.config = server, replace(config, address=server.address)
            self.address = str(server.address)
            try:
                await self._with_programs()
            finally:
                self.server.stop()

    async def _with_programs(self) -> None:
        make = self.aio.session
        async with (
            GraphContext(self.address, session_factory=make, replica=True) as context,
            ProcessControlClient(self.address, session_factory=make) as process,
        ):
            everything, edges = context.subscribe(), context.subscribe(("edge",), 0)
            await context.register_metadata(METADATA)
            await asyncio.gather(*(context.connect("a", f"b{n}") for n in range(20)))
            await process.register(["SYS/A"])
            await process.report_settings_update("SYS/A", {"gain": 2})
            with pytest.raises(CyclicException):
                await context.connect("b1", "a")
            self._kill_a_program()
            await self._until_it_is_ended()
            async with asyncio.TaskGroup() as under_way:
                for n in range(10):
                    under_way.create_task(context.connect("c", f"d{n}"))
                await asyncio.sleep(0)  # they are on their way
                self._restart()
            self._use_blocking_clients()
            await GraphService(self.address, session_factory=make).pause()
            await context.state()
            seq = await context.disconnect("a", "b0")
            for stream in (everything, edges):
                await until(stream, seq)
            await edges.aclose()

    def _kill_a_program(self) -> None:
        words = [sys.executable, "-c", CHILD, self.address, str(self.traces[3])]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(10):
                assert child.stdout.readline() == b"on\n"
            child.kill()
            child.wait()
            self.observer.note(Fault.KILLED, pid=child.pid)

    async def _until_it_is_ended(self) -> None:
        async with GraphContext(self.address, program="looker") as looker, asyncio.timeout(20):
            stream = looker.subscribe(("session",), 0)
            async for item in stream:
                body = getattr(item, "body", None)
                if isinstance(body, SessionClosed) and body.reason.value != "closed":
                    return

    def _restart(self) -> None:
        self.observer.note(Fault.BROKER_DOWN)
        self.server.kill()
        self.server = GraphServer(config=self.config, run_in="process").start()
        self.observer.note(Fault.BROKER_UP)

    def _use_blocking_clients(self) -> None:
        make = self.blocking.blocking_session
        with sync.GraphContext(self.address, session_factory=make, replica=True) as context:
            stream = context.subscribe((), 0)
            seq = max(context.connect("x", f"y{n}") for n in range(10))
            for item in stream:
                if isinstance(item, Progress) and item.seq >= seq:
                    break
            context.revert()
            stream.close()


async def until(stream: Any, seq: int) -> None:
    async with asyncio.timeout(20):
        async for item in stream:
            if isinstance(item, Progress) and item.seq >= seq:
                return


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """It is played once; the tests look at what it left."""
    played = Story(tmp_path_factory.mktemp("story"))
    asyncio.run(played.play())
    return played


@pytest.fixture(scope="module")
def history(story: Story) -> History:
    return read_history(story.journal)


# --- true traces ---


def test_true_traces_of_real_programs_have_no_finding(story: Story, history: History) -> None:
    report = verify(story.traces, history, tolerances=PATIENT)

    assert report.ok, str(report)
    assert {each for each, times in report.checked.items() if times} >= {
        f"G{n}" for n in range(1, 11)
    }
    assert not [each for each in report.unchecked if "no trace notes" in each]


def test_a_killed_program_leaves_a_readable_trace(story: Story) -> None:
    file = TraceFile(story.traces[3])
    found = list(file)

    assert not [each for each in found if isinstance(each, Damage)]
    assert file.ending in (Ending.AT_A_RECORD, Ending.IN_MID_RECORD)
    assert len(found) > 30


def test_a_trace_says_nothing_that_must_stay_secret(story: Story) -> None:
    backend = Backend.from_url(story.journal)
    with backend.connect() as connection, connection.open_reader() as reader:
        secret = reader.secret

    written = b"".join(each.read_bytes() for each in story.traces)

    assert secret not in written
    assert b"token" not in written


# --- what is broken in them on purpose ---

Traces = dict[str, list[TraceRecord]]


def nth(records: list[TraceRecord], kind: type, n: int = 0, **fields: object) -> int:
    return [
        index
        for index, record in enumerate(records)
        if isinstance(record.body, kind)
        and all(getattr(record.body, name) == value for name, value in fields.items())
    ][n]


def change(records: list[TraceRecord], at: int, **fields: object) -> None:
    body: Any = records[at].body
    records[at] = replace(records[at], body=replace(body, **fields))


def give_twice(traces: Traces, events: list[Any]) -> None:
    at = nth(traces["aio"], Given, 5)
    traces["aio"].insert(at, traces["aio"][at])


def drop(traces: Traces, events: list[Any]) -> None:
    del traces["blocking"][nth(traces["blocking"], Given, 5)]


def give_a_part(traces: Traces, events: list[Any]) -> None:
    at = next(
        n for n, (one, two) in enumerate(pairwise(traces["blocking"]))
        if isinstance(one.body, Given) and isinstance(two.body, Given) and one.body.left
        and events[one.body.seq - 1].txn_last >= two.body.seq
    )
    change(traces["blocking"], at, left=0)


def forget_the_last_event(traces: Traces, events: list[Any]) -> None:
    last = events[-1].txn_first
    del events[last - 1 :]


def execute_twice(traces: Traces, events: list[Any]) -> None:
    one, other = [n for n, each in enumerate(events) if each.body == events[-1].body
                  or (each.key[0] == "edge" and each.source.program == "-c"
                      and each.txn_first == each.txn_last)][:2]
    events[other] = replace(events[other], request_id=events[one].request_id)


def return_early(traces: Traces, events: list[Any]) -> None:
    at = nth(traces["blocking"], Returned, 2)
    body: Any = traces["blocking"][at].body
    traces["blocking"][:] = [
        each for each in traces["blocking"]
        if not (type(each.body).__name__ == "Reached" and getattr(each.body, "seq", 0) == body.seq)
    ]
    change(traces["blocking"], nth(traces["blocking"], Returned, 2), replica=body.seq - 1)


def end_the_killed_late(traces: Traces, events: list[Any]) -> None:
    at = next(n for n, e in enumerate(events) if isinstance(e.body, SessionClosed)
              and e.body.reason.value == "lost")
    events[at] = replace(events[at], wall_time=events[at].wall_time + 5.0)


def end_the_living(traces: Traces, events: list[Any]) -> None:
    """The killed program's session ends 0.3 s after its last call: before the grace is over."""
    at = next(n for n, e in enumerate(events) if isinstance(e.body, SessionClosed)
              and e.body.reason.value == "lost")
    heard = max(r.wall for r in traces["child"] if isinstance(r.body, Answered))
    events[at] = replace(events[at], wall_time=heard + 0.3)


def say_nothing(traces: Traces, events: list[Any]) -> None:
    change(traces["aio"], nth(traces["aio"], Answered, code="cyclic"), message="no")


def answer_late(traces: Traces, events: list[Any]) -> None:
    records = traces["blocking"]
    returned: Any = records[nth(records, Returned, 3)].body
    at = nth(records, Answered, call=returned.call)
    records[at] = replace(records[at], mono=records[at].mono + 13.0)


def differ(traces: Traces, events: list[Any]) -> None:
    change(traces["aio"], nth(traces["aio"], Fingerprinted, -1), fingerprint="0" * 32)


@pytest.mark.parametrize(
    ("guarantee", "breaking"),
    [
        ("G1", give_twice),
        ("G2", drop),
        ("G3", give_a_part),
        ("G4", forget_the_last_event),
        ("G6", return_early),
        ("G7", end_the_killed_late),
        ("G7", end_the_living),
        ("G8", say_nothing),
        ("G9", answer_late),
        ("G10", differ),
    ],
)
def test_a_guarantee_that_is_broken_in_a_true_trace_is_named_and_no_other(
    story: Story, history: History, guarantee: str, breaking: Callable[[Traces, list[Any]], None]
) -> None:
    files = {name: TraceFile(path) for name, path in zip(story.names, story.traces, strict=True)}
    traces: Any = {name: list(file) for name, file in files.items()}
    events = list(history.events)

    breaking(traces, events)
    report = checked(files, traces, history, events)

    assert set(report.violations) == {guarantee}, str(report)


def test_g5_a_request_executed_twice_is_found(story: Story, history: History) -> None:
    files = {name: TraceFile(path) for name, path in zip(story.names, story.traces, strict=True)}
    traces: Any = {name: list(file) for name, file in files.items()}
    events = list(history.events)

    execute_twice(traces, events)

    assert "G5" in checked(files, traces, history, events).violations


def checked(
    files: dict[str, TraceFile], traces: Traces, history: History, events: list[Any]
) -> Report:
    known = [history._digests[event.seq] for event in events]  # as stored, whatever was changed
    truth = History(
        events, floor=history.floor, cluster_id=history.cluster_id, digests=known,
        digest_of=history._digest_of,
    )
    checker = Checker(truth, PATIENT if len(events) < len(history.events) else Tolerances(0.5))
    for name, records in traces.items():
        trace = checker.begin(name)
        trace.header = files[name].header
        for record in records:
            trace.take(record)
        trace.finish(files[name].ending)
    return checker.finish()


# --- journals that were compacted, restored, cut off, damaged, or are of another cluster ---


def copy_of(history: History, url: str, *, through: int, cluster_id: str | None = None) -> None:
    """A journal with the first events of another, as an old backup of it is."""
    identity = JournalMeta(cluster_id or history.cluster_id or "", 1, b"s" * 32, 1e9)
    records = [
        Record(event.seq, topic_of(event.key), codec.encode_event(event).event)
        for event in history.events
        if event.seq <= through
    ]
    with (
        Backend.from_url(url).connect() as connection,
        connection.open_journal(identity=identity) as journal,
    ):
        journal.append(records)


def test_an_old_copy_of_the_journal_lacks_what_was_answered(
    story: Story, history: History, tmp_path: Path
) -> None:
    copy_of(history, f"sqlite:///{tmp_path / 'old.db'}", through=20)

    report = verify(story.traces, read_history(f"sqlite:///{tmp_path / 'old.db'}"))

    assert "G4" in report.violations
    assert report.violations["G4"] > 20


def test_what_was_answered_after_a_backup_that_was_restored_is_not_checked_and_listed(
    story: Story, history: History, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'restored.db'}"
    copy_of(history, url, through=20)
    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        journal.begin_epoch(2, 1_700_000_000_000_000)

    report = verify(story.traces, read_history(url), tolerances=PATIENT)

    assert report.ok, str(report)
    assert any("restored backup" in each for each in report.unchecked)


def test_with_a_compacted_journal_checks_run_from_its_oldest_checkpoint(
    story: Story, history: History, tmp_path: Path
) -> None:
    from ezgraph.cli.journal_state import settle

    url = f"sqlite:///{tmp_path / 'compacted.db'}"
    copy_of(history, url, through=25)
    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        settle(journal)
        rest = [each for each in history.events if each.seq > 25]
        encoded = [codec.encode_event(each).event for each in rest]
        journal.append(
            [Record(each.seq, topic_of(each.key), one)
             for each, one in zip(rest, encoded, strict=True)]
        )
        journal.drop_below(26)

    compacted = read_history(url)
    report = verify(story.traces, compacted, tolerances=PATIENT)

    assert (compacted.floor, compacted.known_from) == (26, 25)
    assert report.ok, str(report)
    assert report.checked["G10"]
    assert any("below" in each for each in report.unchecked)


def test_a_journal_of_another_cluster_is_named_for_each_session(
    story: Story, history: History, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    copy_of(history, url, through=5, cluster_id="d" * 32)

    report = verify(story.traces, read_history(url))

    assert set(report.violations) == {"trace"}
    assert all("in cluster" in each.what for each in report.findings)


def test_a_journal_in_memory_is_read_as_well() -> None:
    with (
        Backend.from_url("memory://").connect() as connection,
        connection.open_journal(),
        connection.open_reader() as reader,
    ):
        assert history_of(reader).head == 0


# --- the recorder ---


def test_a_recorder_never_writes_over_a_file_and_writes_nothing_when_closed(
    tmp_path: Path,
) -> None:
    with Recorder(tmp_path / "t") as recorder:
        recorder.note(Fault.CUT)
    recorder.note(Fault.HEALED)
    recorder.close()

    assert [type(each).__name__ for each in TraceFile(tmp_path / "t")] == ["TraceRecord"] * 2
    with pytest.raises(ConfigError, match="new file"):
        Recorder(tmp_path / "t")


def test_a_child_made_by_fork_writes_nothing_into_its_parents_trace(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from ezgraph.testing import Recorder\n"
        "from ezgraph.verify import Fault\n"
        "recorder = Recorder(sys.argv[1])\n"
        "if not (child := os.fork()):\n"
        "    recorder.note(Fault.CUT)\n"
        "    recorder.close()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "recorder.note(Fault.HEALED)\n"
        "recorder.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "t")], check=True, timeout=60)

    found: list[Any] = list(TraceFile(tmp_path / "t"))

    assert [getattr(each.body, "fault", None) for each in found] == [Fault.HEALED, None]


# --- the command line ---


def ezgraph(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ezgraph", "verify", *words],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )


def test_the_command_reports_each_guarantee_and_ends_with_zero(story: Story) -> None:
    done = ezgraph(*map(str, story.traces), "--journal", story.journal, "--stall", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("G")] == [
        f"G{n}" for n in range(1, 11)
    ]
    assert any("child.trace" in line and "killed" in line for line in lines)
    assert lines[-1].startswith("Every promise was kept, as far as checked: 4 traces")


def test_the_command_ends_with_one_and_names_each_violation(story: Story, tmp_path: Path) -> None:
    lines = story.traces[1].read_bytes().splitlines(keepends=True)
    broken = tmp_path / "broken.trace"
    broken.write_bytes(b"".join(lines[:20] + lines[21:]))

    plain = ezgraph(str(broken), "--journal", story.journal)
    as_json = ezgraph(str(broken), "--journal", story.journal, "--json")

    assert (plain.returncode, as_json.returncode) == (1, 1)
    assert "1 of the records 20 to 20 are missing" in plain.stdout
    found = json.loads(as_json.stdout)
    assert found["ok"] is False
    assert found["findings"][0]["guarantee"] == "trace"
    assert found["findings"][0]["place"]["record"] == 19
    assert {each["guarantee"] for each in found["guarantees"]} >= {"G1", "G10"}


def test_a_flipped_bit_in_the_journal_is_named_with_its_record(
    story: Story, history: History, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'flipped.db'}"
    copy_of(history, url, through=30)
    content = bytearray((tmp_path / "flipped.db").read_bytes())
    at = content.rindex(b"EdgeConnected") if b"EdgeConnected" in content else len(content) // 2
    content[at] ^= 0x01
    (tmp_path / "flipped.db").write_bytes(content)

    done = ezgraph(str(story.traces[0]), "--journal", url)

    assert done.returncode == 2, done
    assert "flipped.db" in done.stderr


def test_the_notes_of_an_observer_are_in_its_trace(story: Story) -> None:
    faults = [
        each.body.fault
        for each in TraceFile(story.traces[2])
        if isinstance(each, TraceRecord) and hasattr(each.body, "fault")
    ]

    assert faults == [Fault.KILLED, Fault.BROKER_DOWN, Fault.BROKER_UP]
