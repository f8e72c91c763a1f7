"""Whatever is appended, dropped and reopened, a journal equals a list; whatever is damaged, it
says so, or reads as before."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ezgraph import backends
from ezgraph.backends import (
    Backend,
    Checkpoint,
    JournalMeta,
    JournalReader,
    Record,
    SQLiteBackend,
)
from ezgraph.backends.maintenance import repair
from ezgraph.backends.sqlite import open_reader
from ezgraph.cli.journal_state import examine, settle
from ezgraph.errors import CompactedError, DivergedError, JournalError

if TYPE_CHECKING:
    from ezgraph.backends import EpochSpan

ROOT = Path(backends.__file__).parents[2]
SEGMENTS = st.sampled_from([b"a/", b"ab/", b"b/", b"\xff/", b"a"])
TOPICS = st.lists(SEGMENTS, max_size=3).map(b"".join)
SEQS = st.integers(0, 60)


class JournalMachine(RuleBasedStateMachine):
    """A journal beside its model: a list of records, the positions where one may stand (each seq,
    and each epoch's base), a floor, and the newest checkpoint."""

    url = "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.connection = Backend.from_url(self.url.format(self.directory)).connect()
        self.journal = self.connection.open_journal()
        self.records: list[Record] = []
        self.positions = [0]
        self.ends: dict[int, int] = {}
        self.floor = 1
        self.checkpoint: Checkpoint | None = None

    def teardown(self) -> None:
        self.connection.close()
        shutil.rmtree(self.directory)

    @property
    def head(self) -> int:
        return self.positions[-1]

    @rule(batch=st.lists(st.tuples(TOPICS, st.binary(max_size=20)), max_size=8))
    def append(self, batch: list[tuple[bytes, bytes]]) -> None:
        records = [Record(seq, *content) for seq, content in enumerate(batch, self.head + 1)]
        self.journal.append(records)
        self.records += records
        self.positions += [record.seq for record in records]

    @rule(jump=st.integers(0, 9))
    def begin_epoch(self, jump: int) -> None:
        self.ends[self.journal.epoch] = self.head
        self.journal.begin_epoch(self.journal.epoch + 1, self.head + jump)
        if jump:
            self.positions.append(self.head + jump)

    @rule(
        after=SEQS,
        through=st.none() | SEQS,
        prefix=TOPICS,
        max_rows=st.integers(1, 20),
        max_bytes=st.integers(0, 60),
    )
    def read(
        self, after: int, through: int | None, prefix: bytes, max_rows: int, max_bytes: int
    ) -> None:
        if after < self.head and after not in self.positions:
            with pytest.raises(DivergedError):
                self.journal.read(after)
            return
        if after + 1 < self.floor:
            with pytest.raises(CompactedError):
                self.journal.read(after)
            return
        chunk = self.journal.read(
            after, through=through, prefix=prefix, max_rows=max_rows, max_bytes=max_bytes
        )
        matching = [
            record.event
            for record in self.records
            if after < record.seq <= chunk.through and record.topic.startswith(prefix)
        ]
        end = min(self.head, self.head if through is None else through)
        examined = [each.seq for each in self.records if after < each.seq <= chunk.through]
        assert list(chunk.events) == matching
        assert after <= chunk.through
        assert chunk.through > after or end <= after
        assert chunk.through in self.positions or after > self.head
        assert len(examined) <= max_rows
        assert all(seq <= end for seq in examined)
        assert len(chunk.events) <= 1 or sum(map(len, chunk.events)) <= max_bytes

    @rule(entries=st.lists(st.binary(max_size=9)), blobs=st.dictionaries(st.binary(), st.binary()))
    def write_checkpoint(self, entries: list[bytes], blobs: dict[bytes, bytes]) -> None:
        self.checkpoint = Checkpoint(self.head, tuple(entries), blobs)
        self.journal.write_checkpoint(self.checkpoint)

    @rule(entries=st.lists(st.binary(max_size=9)))
    def begin_checkpoint(self, entries: list[bytes]) -> None:
        self.journal.begin_checkpoint(self.head).add(entries)

    @precondition(lambda self: self.checkpoint)
    @rule(back=st.integers(0, 9), max_rows=st.none() | st.integers(0, 9))
    def drop_below(self, back: int, max_rows: int | None) -> None:
        assert self.checkpoint is not None
        floor = max(1, self.checkpoint.seq + 1 - back)
        bound = self.journal.behind_gap(floor)
        if bound > max(self.floor, self.journal.behind_gap(self.checkpoint.seq + 1)):
            with pytest.raises(ValueError, match="write one"):
                self.journal.drop_below(bound)
            return
        self.journal.drop_below(floor, max_rows=max_rows)
        self.floor = max(bound, self.floor)
        assert self.floor - 1 in self.positions

    @rule(seq=SEQS, count=st.integers(0, 60))
    def count_back(self, seq: int, count: int) -> None:
        after = self.journal.before(seq, count)
        between = [each for each in self.records if after < each.seq <= seq]
        known = [each for each in self.records if self.floor <= each.seq <= seq]
        assert after in self.positions or after == self.floor - 1
        assert len(between) <= count or after == self.floor - 1
        assert len([each for each in between if each.seq >= self.floor]) == min(count, len(known))

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = self.connection.open_journal()

    @invariant()
    def agrees_with_its_model(self) -> None:
        self.agrees(self.journal)

    @rule()
    def a_reader_agrees_as_well(self) -> None:
        with self.connection.open_reader() as reader:
            self.agrees(reader)

    def agrees(self, journal: JournalReader) -> None:
        assert (journal.head, journal.floor) == (self.head, self.floor)
        assert {each.epoch: each.last_seq for each in journal.epochs[:-1]} == self.ends
        assert journal.load_checkpoint() == self.checkpoint
        rest, after = list[bytes](), self.floor - 1
        while after < journal.head:
            chunk = journal.read(after, max_bytes=1 << 30)
            rest, after = rest + list(chunk.events), chunk.through
        assert rest == [each.event for each in self.records if each.seq >= self.floor]


class SQLiteJournalMachine(JournalMachine):
    url = "sqlite:///{}/journal.db?synchronous=NORMAL"


TestMemoryJournal = JournalMachine.TestCase
TestMemoryJournal.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
TestSQLiteJournal = SQLiteJournalMachine.TestCase
TestSQLiteJournal.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# --- damage ---

APPEND_AND_DIE = """
import os, sys
sys.path.insert(0, sys.argv[2])
from ezgraph.backends import Record, SQLiteBackend
from ezgraph.bench.history import history
from ezgraph.names import topic_of
from ezgraph.wire import codec
journal = SQLiteBackend(sys.argv[1]).connect().open_journal()
for event in history(60):
    if event.seq > journal.head:
        record = Record(event.seq, topic_of(event.key), codec.encode_event(event).event)
        journal.append([record])
os.kill(os.getpid(), 9)
"""


@dataclass(frozen=True)
class Held:
    """Everything a journal says."""

    meta: JournalMeta
    epochs: tuple[EpochSpan, ...]
    floor: int
    events: tuple[bytes, ...]
    checkpoints: tuple[Checkpoint, ...]

    @classmethod
    def by(cls, reader: JournalReader) -> Held:
        events, after = list[bytes](), reader.floor - 1
        while after < reader.head:
            chunk = reader.read(after)
            events, after = events + list(chunk.events), chunk.through
        meta, floor = reader.meta, reader.floor
        return cls(meta, reader.epochs, floor, tuple(events), reader.each_checkpoint())


class Specimen:
    """The files of a journal whose broker died, a WAL with a checkpoint and a tail among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "rig.db"
        self._write_history()
        self.files = {
            name: (folder / name).read_bytes() for name in ("rig.db", "rig.db-wal", "rig.db.lock")
        }
        with open_reader(self.path) as reader:
            self.held = Held.by(reader)
        assert len(self.held.events) == 60
        assert [each.seq for each in self.held.checkpoints] == [20, 40]

    def _write_history(self) -> None:
        from ezgraph.bench.history import history
        from ezgraph.names import topic_of
        from ezgraph.wire import codec

        with SQLiteBackend(self.path).connect().open_journal() as journal:
            for event in history(60):
                record = Record(event.seq, topic_of(event.key), codec.encode_event(event).event)
                if event.seq <= 40:
                    journal.append([record])
                if event.seq in (20, 40):
                    settle(journal)
        script = [sys.executable, "-c", APPEND_AND_DIE, str(self.path), str(ROOT)]
        subprocess.run(script, check=False)

    def put_back(self, damaged: dict[str, bytes]) -> None:
        """Make the files what they were, but for the damaged ones."""
        for old in self.folder.iterdir():
            old.unlink()
        for name, content in {**self.files, **damaged}.items():
            (self.folder / name).write_bytes(content)

    def found(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in ("rig.db", "rig.db-wal")}

    def is_told_or_whole(self, damaged: dict[str, bytes]) -> str:
        """Read, examine, repair and open it; return what was said about it, "" for nothing."""
        self.put_back(damaged)
        before = self.found()
        said = self._read() or self._examined()
        assert bool(said) or self._examined() == ""
        self._repaired()
        assert self.found() == before
        return said or self._opened(before)

    def _read(self) -> str:
        try:
            with open_reader(self.path) as reader:
                assert Held.by(reader) == self.held
        except JournalError as error:
            return str(error)
        return ""

    def _examined(self) -> str:
        try:
            verdict = examine(self.path)
        except JournalError as error:
            return str(error)
        if verdict.damage is None:
            assert (verdict.floor, verdict.head, verdict.events) == (1, 60, 60)
            return ""
        assert verdict.damage.meaning
        return verdict.damage.what

    def _repaired(self) -> None:
        """Whatever a repair saves is a part of what was there, and it tells how much."""
        with tempfile.TemporaryDirectory() as folder:
            dest = Path(folder) / "new.db"
            try:
                done = repair(self.path, dest, settle, wall=4e9)
            except JournalError:
                assert not dest.exists()
                return
            with open_reader(dest) as reader:
                held = Held.by(reader)
            assert held.events == self.held.events[done.floor - 1 : done.last]
            lost = sum(last - first + 1 for first, last in done.lost)
            assert lost + len(held.events) >= 60 or "rig.db.lock" not in self.files

    def _opened(self, before: dict[str, bytes]) -> str:
        """Open it as a broker does; what is refused is left as it was."""
        try:
            journal = SQLiteBackend(self.path).connect().open_journal()
        except JournalError as error:
            assert self.found() == before
            return str(error)
        try:
            with journal:
                assert Held.by(journal) == self.held
        except JournalError as error:
            return str(error)
        return ""


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    return Specimen(tmp_path_factory.mktemp("specimen"))


def flipped(content: bytes, offset: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def _telling(content: bytes) -> list[int]:
    """Offsets of what is not zero, and of their neighbours: most of a small file is unused."""
    return [at for at in range(len(content)) if any(content[max(0, at - 1) : at + 2])]


class TestDamage:
    @settings(max_examples=80, deadline=None)
    @given(choice=st.data())
    def test_a_flipped_bit_anywhere_is_told_or_changes_nothing(
        self, specimen: Specimen, choice: st.DataObject
    ) -> None:
        name = choice.draw(st.sampled_from(["rig.db", "rig.db-wal"]))
        content = specimen.files[name]
        offset = choice.draw(st.sampled_from(_telling(content)))
        bit = choice.draw(st.integers(0, 7))

        specimen.is_told_or_whole({name: flipped(content, offset, bit)})

    @settings(max_examples=40, deadline=None)
    @given(choice=st.data())
    def test_a_file_cut_off_anywhere_is_told(
        self, specimen: Specimen, choice: st.DataObject
    ) -> None:
        name = choice.draw(st.sampled_from(["rig.db", "rig.db-wal"]))
        size = choice.draw(st.integers(0, len(specimen.files[name]) - 1))

        assert specimen.is_told_or_whole({name: specimen.files[name][:size]})

    @pytest.mark.soak
    @pytest.mark.parametrize("name", ["rig.db", "rig.db-wal"])
    def test_bytes_all_over_the_file(self, specimen: Specimen, name: str) -> None:
        content = specimen.files[name]
        for offset in _telling(content)[::17]:
            specimen.is_told_or_whole({name: flipped(content, offset, offset % 8)})

    @pytest.mark.soak
    @pytest.mark.parametrize("name", ["rig.db", "rig.db-wal"])
    def test_lengths_all_the_way(self, specimen: Specimen, name: str) -> None:
        for size in range(0, len(specimen.files[name]), 97):
            assert specimen.is_told_or_whole({name: specimen.files[name][:size]})
