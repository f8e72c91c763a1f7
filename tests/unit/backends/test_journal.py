"""What every journal does, whatever keeps it."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest

from ezgraph.backends import Backend, Checkpoint, Chunk, Connection, Journal, JournalMeta, Record
from ezgraph.errors import CompactedError, JournalError, JournalLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def journal(connection: Connection) -> Iterator[Journal]:
    with connection.open_journal() as journal:
        yield journal


def records(*seqs: int, topic: bytes = b"settings/SYS/") -> list[Record]:
    return [Record(seq, topic, b"event %d" % seq) for seq in seqs]


def events(*seqs: int) -> tuple[bytes, ...]:
    return tuple(b"event %d" % seq for seq in seqs)


def reopened(connection: Connection, journal: Journal) -> Journal:
    journal.close()
    return connection.open_journal()


class TestIdentity:
    def test_a_new_journal_is_empty_and_has_an_identity_of_its_own(self, journal: Journal) -> None:
        assert (journal.head, journal.floor, journal.epoch) == (0, 1, 1)
        assert len(journal.cluster_id) == 32
        assert set(journal.cluster_id) <= set(string.hexdigits)
        assert len(journal.secret) == 32
        assert journal.meta.created_wall > 1.7e9
        assert journal.checkpoint_seq is None
        assert journal.load_checkpoint() is None

    def test_a_given_identity_counts_for_a_new_journal_only(self, connection: Connection) -> None:
        identity = JournalMeta("c" * 32, 1, b"s" * 32, 1.5)

        journal = connection.open_journal(identity=identity)
        journal.close()
        again = connection.open_journal(identity=JournalMeta.fresh())

        assert again.meta == identity

    def test_the_secret_is_never_shown(self, journal: Journal) -> None:
        shown = f"{journal!r} {journal.meta!r} {journal.meta}"

        assert repr(journal.secret)[2:-1] not in shown
        assert "secret=" not in shown

    def test_the_repr_tells_where_it_stands(self, journal: Journal) -> None:
        journal.append(records(1, 2))

        assert "head=2 floor=1" in repr(journal)
        journal.close()
        assert "closed" in repr(journal)


class TestAppend:
    def test_what_was_appended_is_read_in_order(self, journal: Journal) -> None:
        journal.append(records(1, 2))
        journal.append(records(3))

        assert journal.head == 3
        assert journal.read(0) == Chunk(events(1, 2, 3), through=3)

    def test_an_empty_batch_changes_nothing(self, journal: Journal) -> None:
        journal.append([])

        assert journal.head == 0
        assert journal.read(0) == Chunk((), through=0)

    @pytest.mark.parametrize("seqs", [(2,), (4,), (3, 5), (3, 3), (4, 3)])
    def test_a_batch_with_a_hole_is_refused(self, journal: Journal, seqs: tuple[int, ...]) -> None:
        journal.append(records(1, 2))

        with pytest.raises(ValueError, match="seqs are dense"):
            journal.append(records(*seqs))

        assert journal.head == 2
        journal.append(records(3))
        assert journal.read(0).events == events(1, 2, 3)

    @pytest.mark.parametrize("event", [b"", b"\0", bytes(range(256)), b"\xff" * 3_000_000])
    def test_any_bytes_come_back_as_they_were(self, journal: Journal, event: bytes) -> None:
        journal.append([Record(1, b"", event)])

        assert journal.read(0).events == (event,)

    def test_numbers_go_on_after_a_restart(self, connection: Connection, journal: Journal) -> None:
        journal.append(records(1, 2))

        again = reopened(connection, journal)

        assert (again.head, again.cluster_id, again.secret) == (
            2,
            journal.cluster_id,
            journal.secret,
        )
        again.append(records(3))
        assert again.read(1).events == events(2, 3)


class TestRead:
    @pytest.fixture
    def journal(self, journal: Journal) -> Journal:
        """Ten records; 4 and 8 under ``config/``."""
        for seq in range(1, 11):
            topic = b"config/HOST/" if seq % 4 == 0 else b"settings/SYS/"
            journal.append(records(seq, topic=topic))
        return journal

    def test_it_begins_after_the_seq_asked_for(self, journal: Journal) -> None:
        assert journal.read(8) == Chunk(events(9, 10), through=10)
        assert journal.read(10) == Chunk((), through=10)

    def test_it_ends_with_through(self, journal: Journal) -> None:
        assert journal.read(3, through=5) == Chunk(events(4, 5), through=5)
        assert journal.read(8, through=99) == Chunk(events(9, 10), through=10)
        assert journal.read(8, through=3) == Chunk((), through=8)

    def test_beyond_the_head_there_is_nothing(self, journal: Journal) -> None:
        assert journal.read(99) == Chunk((), through=99)
        assert journal.read(99, through=120) == Chunk((), through=99)

    def test_a_prefix_picks_the_matching_events(self, journal: Journal) -> None:
        assert journal.read(0, prefix=b"config/") == Chunk(events(4, 8), through=10)

    def test_records_examined_are_bounded_not_records_found(self, journal: Journal) -> None:
        assert journal.read(0, prefix=b"config/", max_rows=3) == Chunk((), through=3)
        assert journal.read(3, prefix=b"config/", max_rows=3) == Chunk(events(4), through=6)
        assert journal.read(0, max_rows=3) == Chunk(events(1, 2, 3), through=3)

    def test_bytes_are_bounded_but_one_event_always_comes(self, journal: Journal) -> None:
        assert journal.read(0, max_bytes=14) == Chunk(events(1, 2), through=2)
        assert journal.read(0, max_bytes=13) == Chunk(events(1), through=1)
        assert journal.read(0, max_bytes=0) == Chunk(events(1), through=1)

    def test_cut_by_bytes_a_chunk_is_complete_up_to_the_next_match(self, journal: Journal) -> None:
        chunk = journal.read(0, prefix=b"config/", max_bytes=7)

        assert chunk == Chunk(events(4), through=7)

    @pytest.mark.parametrize("max_rows", [1, 3, 10, 1000])
    def test_chunk_by_chunk_everything_comes_once(self, journal: Journal, max_rows: int) -> None:
        after, found = 0, list[bytes]()
        while after < journal.head:
            chunk = journal.read(after, max_rows=max_rows)
            after = chunk.through
            found += chunk.events

        assert tuple(found) == events(*range(1, 11))

    @pytest.mark.parametrize(
        ("prefix", "seqs"),
        [
            (b"", (1, 2, 3, 4)),
            (b"a/", (1, 2)),
            (b"a/b/", (1,)),
            (b"a", (1, 2, 3)),
            (b"a/b/c", ()),
            (b"\xff", (4,)),
            (b"\xff\xff\xff", ()),
            (b"A/", ()),
            (b"%", ()),
        ],
    )
    def test_a_prefix_is_raw_bytes(
        self, connection: Connection, journal: Journal, prefix: bytes, seqs: tuple[int, ...]
    ) -> None:
        first = journal.head + 1
        topics = [b"a/b/", b"a/", b"ab/", b"\xff\xff/"]

        journal.append(
            [Record(first + i, topic, b"event %d" % (i + 1)) for i, topic in enumerate(topics)]
        )

        assert journal.read(first - 1, prefix=prefix).events == events(*seqs)

    def test_impossible_ranges_are_programming_errors(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="after seq -1"):
            journal.read(-1)
        with pytest.raises(ValueError, match="read 0 rows"):
            journal.read(0, max_rows=0)


class TestCheckpoint:
    CHECKPOINT = Checkpoint(2, (b"entry 1", b"", b"entry 3"), {b"hash": b"schema", b"\0": b""})

    @pytest.fixture
    def journal(self, journal: Journal) -> Journal:
        journal.append(records(1, 2, 3))
        return journal

    def test_it_comes_back_as_it_was(self, connection: Connection, journal: Journal) -> None:
        journal.write_checkpoint(self.CHECKPOINT)

        assert journal.load_checkpoint() == self.CHECKPOINT
        again = reopened(connection, journal)
        assert again.load_checkpoint() == self.CHECKPOINT
        assert again.checkpoint_seq == 2

    def test_the_state_at_the_beginning_is_empty(self, journal: Journal) -> None:
        journal.write_checkpoint(Checkpoint(0, (), {}))

        assert journal.load_checkpoint() == Checkpoint(0, (), {})

    def test_appends_may_come_in_between(self, connection: Connection, journal: Journal) -> None:
        writer = journal.begin_checkpoint(3)

        writer.add([b"a", b"b"])
        journal.append(records(4))
        writer.add([b"c"])
        journal.append(records(5))
        writer.finish({b"h": b"blob"})

        again = reopened(connection, journal)
        assert again.load_checkpoint() == Checkpoint(3, (b"a", b"b", b"c"), {b"h": b"blob"})
        assert again.read(3).events == events(4, 5)

    def test_an_unfinished_one_is_ignored(self, connection: Connection, journal: Journal) -> None:
        journal.write_checkpoint(self.CHECKPOINT)
        journal.begin_checkpoint(3).add([b"half"])

        assert journal.load_checkpoint() == self.CHECKPOINT
        again = reopened(connection, journal)
        assert again.load_checkpoint() == self.CHECKPOINT
        again.write_checkpoint(Checkpoint(3, (b"whole",), {}))
        assert again.load_checkpoint() == Checkpoint(3, (b"whole",), {})

    def test_the_newest_counts(self, connection: Connection, journal: Journal) -> None:
        for seq in range(4):
            entries = tuple(b"%d at %d" % (n, seq) for n in range(10 * (4 - seq)))
            journal.write_checkpoint(Checkpoint(seq, entries, {}))
        newest = Checkpoint(3, (b"again",), {})
        journal.write_checkpoint(newest)

        assert journal.load_checkpoint() == newest
        assert reopened(connection, journal).load_checkpoint() == newest

    def test_beginning_one_abandons_the_one_before(self, journal: Journal) -> None:
        old = journal.begin_checkpoint(2)
        old.add([b"old"])
        new = journal.begin_checkpoint(3)

        with pytest.raises(ValueError, match="gave way"):
            old.finish({})
        new.add([b"new"])
        new.finish({})
        with pytest.raises(ValueError, match="is finished"):
            new.add([b"late"])

        assert journal.load_checkpoint() == Checkpoint(3, (b"new",), {})

    @pytest.mark.parametrize("seq", [-1, 1, 4])
    def test_it_lies_between_the_newest_and_the_head(self, journal: Journal, seq: int) -> None:
        journal.write_checkpoint(self.CHECKPOINT)

        with pytest.raises(ValueError, match=f"no checkpoint at {seq}: .* takes 2 to 3"):
            journal.begin_checkpoint(seq)


class TestDropBelow:
    @pytest.fixture
    def journal(self, journal: Journal) -> Journal:
        journal.append(records(*range(1, 11)))
        return journal

    def test_without_a_checkpoint_nothing_may_go(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="write one at 1 or later first"):
            journal.drop_below(2)

        assert journal.floor == 1
        assert journal.drop_below(1) == 0

    def test_what_it_covers_may_go(self, connection: Connection, journal: Journal) -> None:
        journal.write_checkpoint(Checkpoint(6, (b"entry",), {}))

        with pytest.raises(ValueError, match="newest checkpoint is at 6"):
            journal.drop_below(8)
        assert journal.drop_below(7) == 0

        for _ in range(2):
            assert (journal.floor, journal.head) == (7, 10)
            assert journal.read(6).events == events(7, 8, 9, 10)
            assert journal.load_checkpoint() == Checkpoint(6, (b"entry",), {})
            journal = reopened(connection, journal)

    def test_below_the_floor_the_answer_is_compacted(self, journal: Journal) -> None:
        journal.write_checkpoint(Checkpoint(10, (), {}))
        journal.drop_below(7)

        with pytest.raises(CompactedError) as caught:
            journal.read(5)

        assert caught.value.floor == 7
        assert journal.read(6, max_rows=1).events == events(7)

    def test_all_may_go_but_the_numbers(self, connection: Connection, journal: Journal) -> None:
        journal.write_checkpoint(Checkpoint(10, (), {}))
        journal.drop_below(11)

        again = reopened(connection, journal)

        assert (again.floor, again.head) == (11, 10)
        assert again.read(10) == Chunk((), through=10)
        again.append(records(11))
        assert again.read(10).events == events(11)

    def test_the_floor_never_sinks(self, journal: Journal) -> None:
        journal.write_checkpoint(Checkpoint(10, (), {}))
        journal.drop_below(7)

        assert journal.drop_below(3) == 0

        assert journal.floor == 7
        assert journal.read(6).events == events(7, 8, 9, 10)

    def test_deleting_may_be_spread(self, connection: Connection, journal: Journal) -> None:
        journal.write_checkpoint(Checkpoint(10, (), {}))

        journal.drop_below(7, max_rows=2)

        again = reopened(connection, journal)
        assert again.floor == 7
        while again.drop_below(7, max_rows=2):
            assert again.read(6).events == events(7, 8, 9, 10)
        assert again.read(6).events == events(7, 8, 9, 10)

    def test_it_tells_how_much_room_it_takes(self, journal: Journal) -> None:
        before = journal.size_bytes()
        journal.append([Record(11, b"a/", bytes(500_000))])
        grown = journal.size_bytes()

        assert grown >= before + 500_000
        free = journal.free_bytes()
        assert free is None or free > 0


class TestOpenAndClose:
    def test_a_journal_has_one_broker(self, connection: Connection, journal: Journal) -> None:
        with pytest.raises(JournalLockedError, match="one broker"):
            connection.open_journal()

        journal.append(records(1))
        assert journal.read(0).events == events(1)

    def test_a_closed_journal_refuses(self, journal: Journal) -> None:
        writer = journal.begin_checkpoint(0)
        journal.close()
        journal.close()

        for use in (
            lambda: journal.append(records(1)),
            lambda: journal.read(0),
            lambda: journal.drop_below(1),
            lambda: journal.begin_checkpoint(0),
            lambda: writer.add([b"entry"]),
            journal.load_checkpoint,
        ):
            with pytest.raises(JournalError, match="is closed"):
                use()

    def test_a_connection_closes_its_journal(self, connection: Connection) -> None:
        with connection as same:
            journal = same.open_journal()

        assert same is connection
        assert journal.closed
        connection.close()

    def test_a_connection_connects_to_itself_and_stays_open(self, connection: Connection) -> None:
        journal = connection.open_journal()

        with connection.connect() as same:
            assert same is connection

        assert not journal.closed
        assert repr(journal) in repr(connection)


class TestAbstractness:
    def test_a_class_with_a_method_missing_cannot_be_made(self) -> None:
        class HalfConnection(Connection):
            def close(self) -> None: ...

        with pytest.raises(TypeError, match="open_journal"):
            HalfConnection()  # type: ignore[abstract]

    def test_a_connection_is_a_field_of_a_pydantic_model(self, connection: Connection) -> None:
        pydantic = pytest.importorskip("pydantic")
        model = pydantic.create_model("Model", connection=Connection, backend=Backend)
        backend = Backend.from_url("memory://")

        made = model(connection=connection, backend=backend)

        assert made.connection is connection
        assert made.backend == backend
        with pytest.raises(pydantic.ValidationError):
            model(connection="memory://", backend=backend)
