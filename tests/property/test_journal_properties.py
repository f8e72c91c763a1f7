"""Whatever is appended, dropped and reopened, a journal equals a list."""

from __future__ import annotations

import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ezgraph.backends import Backend, Checkpoint, Record
from ezgraph.errors import CompactedError

SEGMENTS = st.sampled_from([b"a/", b"ab/", b"b/", b"\xff/", b"a"])
TOPICS = st.lists(SEGMENTS, max_size=3).map(b"".join)
SEQS = st.integers(0, 60)


class JournalMachine(RuleBasedStateMachine):
    """A journal beside its model: a list of records, a floor, and the newest checkpoint."""

    url = "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.connection = Backend.from_url(self.url.format(self.directory)).connect()
        self.journal = self.connection.open_journal()
        self.records: list[Record] = []
        self.floor = 1
        self.checkpoint: Checkpoint | None = None

    def teardown(self) -> None:
        self.connection.close()
        shutil.rmtree(self.directory)

    @rule(batch=st.lists(st.tuples(TOPICS, st.binary(max_size=20)), max_size=8))
    def append(self, batch: list[tuple[bytes, bytes]]) -> None:
        first = len(self.records) + 1
        records = [Record(seq, *content) for seq, content in enumerate(batch, first)]
        self.journal.append(records)
        self.records += records

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
        if after + 1 < self.floor:
            with pytest.raises(CompactedError):
                self.journal.read(after)
            return
        chunk = self.journal.read(
            after, through=through, prefix=prefix, max_rows=max_rows, max_bytes=max_bytes
        )
        matching = [
            r.event for r in self.records[after : chunk.through] if r.topic.startswith(prefix)
        ]
        end = min(len(self.records), len(self.records) if through is None else through)
        assert list(chunk.events) == matching
        assert after <= chunk.through <= max(after, min(end, after + max_rows))
        assert chunk.through > after or end <= after
        assert len(chunk.events) <= 1 or sum(map(len, chunk.events)) <= max_bytes

    @rule(entries=st.lists(st.binary(max_size=9)), blobs=st.dictionaries(st.binary(), st.binary()))
    def write_checkpoint(self, entries: list[bytes], blobs: dict[bytes, bytes]) -> None:
        self.checkpoint = Checkpoint(len(self.records), tuple(entries), blobs)
        self.journal.write_checkpoint(self.checkpoint)

    @rule(entries=st.lists(st.binary(max_size=9)))
    def begin_checkpoint(self, entries: list[bytes]) -> None:
        self.journal.begin_checkpoint(len(self.records)).add(entries)

    @precondition(lambda self: self.checkpoint)
    @rule(back=st.integers(0, 9), max_rows=st.none() | st.integers(0, 9))
    def drop_below(self, back: int, max_rows: int | None) -> None:
        assert self.checkpoint is not None
        floor = max(1, self.checkpoint.seq + 1 - back)
        self.journal.drop_below(floor, max_rows=max_rows)
        self.floor = max(floor, self.floor)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = self.connection.open_journal()

    @invariant()
    def agrees_with_its_model(self) -> None:
        assert (self.journal.head, self.journal.floor) == (len(self.records), self.floor)
        assert self.journal.load_checkpoint() == self.checkpoint
        rest = self.journal.read(self.floor - 1, max_bytes=1 << 30).events
        assert rest == tuple(record.event for record in self.records[self.floor - 1 :])


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
