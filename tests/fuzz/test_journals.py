"""A journal's file changed at any byte, in any row, even by somebody who knows its checksums: it
reads, or its reader says what is wrong with it, and nothing else comes out.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.backends import Backend, Checkpoint, Record, SQLiteBackend, sqlite_file
from ezgraph.backends.sqlite import open_damaged, open_reader
from ezgraph.backends.sqlite_tables import Tables
from ezgraph.broker.restart import restart
from ezgraph.errors import CompactedError, DivergedError, JournalError, MalformedMessageError
from ezgraph.wire import codec
from tests.fuzz.campaign import (
    SEED,
    SLOWEST_S,
    allowed_mib,
    random_of,
    resident_mib,
    told,
)
from tests.fuzz.mutation import ODD_BYTES, ODD_FLOATS, ODD_NUMBERS, ODD_TEXTS, Mutator
from tests.fuzz.recording import recorded

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from ezgraph.backends import JournalReader

INPUTS, SOAK_INPUTS = 600, 12_000
DOCUMENTED = (JournalError, CompactedError, DivergedError)
COLUMNS = {
    "meta": ("key", "value"),
    "events": ("seq", "topic", "event", "checksum"),
    "checkpoints": ("id", "seq", "entries", "blobs", "checksum"),
    "checkpoint_rows": ("id", "name", "value", "checksum"),
}
SPELLED_EPOCHS = ("[]", "[[1, 1, null]]", "[[1, 9, 3], [2, 4, null]]", "{}", "[[1]]", "x", "[1]")


@dataclass(frozen=True)
class Specimen:
    """A journal as its broker left it, and one whose broker died: the WAL lies beside the file."""

    closed: bytes
    died: bytes
    wal: bytes
    lock: bytes


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    path = tmp_path_factory.mktemp("journal") / "rig.db"
    lock, wal = path.with_name("rig.db.lock"), path.with_name("rig.db-wal")
    recording = recorded()
    events = sorted((sample.written for sample in recording.samples["event"]), key=_seq_of)
    records = [Record(number, b"edge/a/b/", event) for number, event in enumerate(events, 1)]
    entries = tuple(sample.written for sample in recording.samples["live"])
    with SQLiteBackend(path, "NORMAL").connect() as connection:
        journal = connection.open_journal()
        for record in records[:20]:
            journal.append([record])
        for seq in (10, 20):
            journal.write_checkpoint(Checkpoint(seq, entries, recording.blobs))
        journal.drop_below(11)
    closed = path.read_bytes()
    with SQLiteBackend(path, "NORMAL").connect() as connection:
        connection.open_journal().append(records[20:])
        return Specimen(closed, path.read_bytes(), wal.read_bytes(), lock.read_bytes())


@pytest.fixture(autouse=True)
def without_a_log_of_each_damage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "ezgraph.backends")


def _seq_of(event: bytes) -> int:
    return codec.decode_event(event).seq


class Vandal:
    """Puts one changed journal after the other into a directory."""

    def __init__(self, directory: Path, specimen: Specimen) -> None:
        self.specimen = specimen
        self.path = directory / "rig.db"
        self.wal = directory / "rig.db-wal"
        self.lock = directory / "rig.db.lock"
        self.mutator = Mutator(random_of(0, 0), recorded().everything)

    def put(self, random: Random) -> str:
        """Write a journal that is changed in one way; return which."""
        self.mutator.random = random
        for part in (self.wal, self.lock, self.path.with_name("rig.db-shm")):
            part.unlink(missing_ok=True)
        way = random.choice(("bytes", "bytes", "WAL", "note", "rows", "forged rows", "forged rows"))
        getattr(self, "_put_" + way.replace(" ", "_").lower())(random)
        return way

    def _changed(self, content: bytes, random: Random) -> bytes:
        """Change bytes in a place that is likely to matter."""
        at = random.choice((0, random.randrange(len(content)), random.randrange(len(content))))
        end = min(len(content), at + random.choice((8, 60, 200)))
        part = self.mutator.changed_bytes(content[at:end])
        if random.random() < 0.8:
            part = part.ljust(end - at, b"\0")[: end - at]
        return content[:at] + part + content[end:]

    def _put_bytes(self, random: Random) -> None:
        self.path.write_bytes(self._changed(self.specimen.closed, random))

    def _put_wal(self, random: Random) -> None:
        self.path.write_bytes(self.specimen.died)
        self.wal.write_bytes(self._changed(self.specimen.wal, random))

    def _put_note(self, random: Random) -> None:
        self.path.write_bytes(self.specimen.closed)
        self.lock.write_bytes(self.mutator.changed_bytes(self.specimen.lock))

    def _put_rows(self, random: Random) -> None:
        """Change a value of a row, as a tool for databases would."""
        self.path.write_bytes(self.specimen.closed)
        with closing(sqlite3.connect(self.path)) as db, db:
            table = random.choice(list(COLUMNS))
            self._change_row(db, random, table)

    def _put_forged_rows(self, random: Random) -> None:
        """Change a value of a row, and set the checksums right."""
        self.path.write_bytes(self.specimen.closed)
        with closing(sqlite3.connect(self.path)) as db, db:
            tables = Tables(db, self.path)
            table = random.choice(list(COLUMNS))
            if table == "events" and random.random() < 0.5:
                self._forge_event(db, random)
            else:
                self._change_row(db, random, table)
            with suppress(TypeError, OverflowError, ValueError, sqlite3.Error):
                self._forge_checksums(db, tables)

    def _change_row(self, db: sqlite3.Connection, random: Random, table: str) -> None:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
        key, column = COLUMNS[table][0], random.choice(COLUMNS[table])
        at = random.randrange(count)
        (which,) = db.execute(f"SELECT {key} FROM {table} LIMIT 1 OFFSET {at}").fetchone()
        with suppress(sqlite3.IntegrityError, OverflowError, UnicodeEncodeError):
            if random.random() < 0.15:
                db.execute(f"DELETE FROM {table} WHERE {key} = ?", (which,))
                return
            value = self._odd(random)
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, which))

    def _odd(self, random: Random) -> Any:
        kinds: tuple[Any, ...] = (
            ODD_NUMBERS, ODD_NUMBERS, ODD_FLOATS, ODD_TEXTS, ODD_BYTES, SPELLED_EPOCHS, (None, 2, 3)
        )
        return random.choice(random.choice(kinds))

    def _forge_event(self, db: sqlite3.Connection, random: Random) -> None:
        seq = random.randint(11, 20)
        event = self.mutator.mutated(random.choice(recorded().samples["event"]))
        db.execute("UPDATE events SET event = ? WHERE seq = ?", (event, seq))

    def _forge_checksums(self, db: sqlite3.Connection, tables: Tables) -> None:
        meta = dict(db.execute("SELECT key, value FROM meta WHERE key != 'checksum'"))
        checksum = sqlite_file._meta_checksum(meta)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('checksum', ?)", (checksum,))
        for table, first, second in (
            ("events", "topic", "event"), ("checkpoint_rows", "name", "value")
        ):
            number = COLUMNS[table][0]
            for row in db.execute(f"SELECT {number}, {first}, {second} FROM {table}").fetchall():
                crc = tables.checksum(row[0], row[1] or b"", row[2])
                db.execute(f"UPDATE {table} SET checksum = ? WHERE {number} = ?", (crc, row[0]))
        for row in db.execute("SELECT id, seq, entries, blobs FROM checkpoints").fetchall():
            crc = tables.numbers_checksum(*row)
            db.execute("UPDATE checkpoints SET checksum = ? WHERE id = ?", (crc, row[0]))


def read_all(reader: JournalReader) -> None:
    """Read everything there is, as far as it is not damaged."""
    for read in (reader.load_checkpoint, reader.each_checkpoint, reader.size_bytes):
        with suppress(*DOCUMENTED):
            read()
    after = reader.floor - 1
    while after < reader.head:
        chunk = reader.read(after)
        assert chunk.through > after
        for event in chunk.events:
            with suppress(MalformedMessageError):
                codec.decode_event(event)
        after = chunk.through
    reader.read(reader.before(reader.head, 5), prefix=b"edge/")
    assert reader.epoch_end(reader.epoch) == reader.head


def read_file(path: Path, *, is_history: bool) -> bool:
    """Read a journal, as a reader, in spite of its damage, and as the broker that starts on it.

    ``is_history``: a broker has written its events. Else they need not come to a state.
    """
    intact = True
    for opened in (open_reader, open_damaged):
        try:
            with opened(path) as reader:
                reader.structural_damage()
                reader.used_bytes()
                read_all(reader)
        except DOCUMENTED:
            intact = False
    try:
        with Backend.from_url(f"sqlite:///{path}").connect() as connection:
            journal = connection.open_journal()
            read_all(journal)
            if is_history:
                restart(journal)
    except DOCUMENTED:
        intact = False
    return intact


def attack_journals(specimen: Specimen, directory: Path, *, seed: int, inputs: int) -> None:
    vandal, intact, weighed = Vandal(directory, specimen), 0, 0.0
    began = time.perf_counter()
    for number in range(inputs):
        way = vandal.put(random_of(seed, number))
        with told(seed, number, way.encode()):
            began_one = time.thread_time()
            intact += read_file(vandal.path, is_history=way != "forged rows")
            assert time.thread_time() - began_one < SLOWEST_S
        if number == inputs // 3:
            weighed = resident_mib()
    growth, rate = resident_mib() - weighed, inputs / (time.perf_counter() - began)
    sys.stdout.write(
        f"journals: seed {seed}, {inputs} inputs, {intact} intact, {rate:.0f}/s, "
        f"{growth:+.1f} MiB\n"
    )
    assert 0 < intact < inputs
    assert growth < allowed_mib(inputs)


def test_an_unchanged_journal_is_read(specimen: Specimen, tmp_path: Path) -> None:
    for content, wal in ((specimen.closed, b""), (specimen.died, specimen.wal)):
        (tmp_path / "rig.db").write_bytes(content)
        if wal:
            (tmp_path / "rig.db-wal").write_bytes(wal)
        with open_reader(tmp_path / "rig.db") as reader:
            assert reader.load_checkpoint() is not None
            read_all(reader)


def test_a_changed_journal_is_read_or_said_to_be_damaged(
    specimen: Specimen, tmp_path: Path, seed_option: int | None
) -> None:
    attack_journals(specimen, tmp_path, seed=seed_option or SEED, inputs=INPUTS)


@pytest.mark.soak
def test_tens_of_thousands_of_changed_journals(
    specimen: Specimen, tmp_path: Path, seed_option: int | None
) -> None:
    attack_journals(specimen, tmp_path, seed=seed_option or SEED + 1, inputs=SOAK_INPUTS)
