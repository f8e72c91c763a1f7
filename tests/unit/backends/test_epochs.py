"""A journal that was restored: it goes on in a new epoch, behind numbers that are never given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph.backends import Checkpoint, Chunk, Connection, EpochSpan, Journal, Record
from ezgraph.errors import CompactedError, DivergedError

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = 1_000
NEXT_BASE = 2_000


def records(*seqs: int) -> list[Record]:
    return [Record(seq, b"a/", b"event %d" % seq) for seq in seqs]


def events(*seqs: int) -> tuple[bytes, ...]:
    return tuple(b"event %d" % seq for seq in seqs)


@pytest.fixture
def journal(connection: Connection) -> Iterator[Journal]:
    """Events 1 to 5 of epoch 1, and 1001 to 1003 of epoch 3."""
    with connection.open_journal() as journal:
        journal.append(records(*range(1, 6)))
        journal.begin_epoch(3, BASE)
        journal.append(records(*range(BASE + 1, BASE + 4)))
        yield journal


def then_reopened(connection: Connection, journal: Journal) -> Iterator[Journal]:
    """Yield the journal as it is, and as it is found after a restart."""
    yield journal
    yield reopened(connection, journal)


def reopened(connection: Connection, journal: Journal) -> Journal:
    journal.close()
    return connection.open_journal()


class TestBeginning:
    def test_a_new_journal_has_one_epoch_from_1_on(self, connection: Connection) -> None:
        with connection.open_journal() as journal:
            assert journal.epochs == (EpochSpan(1, 1, None),)
            assert journal.epoch_end(1) == 0
            journal.append(records(1, 2))
            assert journal.epoch_end(1) == 2

    def test_its_head_is_the_base_until_something_is_appended(self, connection: Connection) -> None:
        journal = connection.open_journal()
        journal.append(records(1, 2))
        journal.begin_epoch(2, BASE)

        for again in then_reopened(connection, journal):
            assert (again.epoch, again.head, again.floor) == (2, BASE, 1)
            assert again.epochs == (EpochSpan(1, 1, 2), EpochSpan(2, BASE + 1))
            with pytest.raises(ValueError, match=f"3 does not follow {BASE}"):
                again.append(records(3))
        again.append(records(BASE + 1))
        assert again.read(2).events == events(BASE + 1)

    def test_who_it_is_stays(self, connection: Connection) -> None:
        journal = connection.open_journal()
        before = journal.meta
        journal.begin_epoch(2, BASE)

        again = reopened(connection, journal)

        assert again.epoch == again.meta.epoch == 2
        assert (again.cluster_id, again.secret) == (before.cluster_id, before.secret)
        assert again.meta.created_wall == before.created_wall

    @pytest.mark.parametrize(("epoch", "base"), [(3, 5_000), (2, 5_000), (4, BASE + 2)])
    def test_neither_an_epoch_nor_a_number_is_used_twice(
        self, journal: Journal, epoch: int, base: int
    ) -> None:
        with pytest.raises(ValueError, match="use numbers twice"):
            journal.begin_epoch(epoch, base)

        assert (journal.epoch, journal.head) == (3, BASE + 3)

    def test_the_end_of_each_epoch_is_known(self, connection: Connection, journal: Journal) -> None:
        for each in then_reopened(connection, journal):
            assert each.epoch_end(1) == 5
            assert each.epoch_end(3) == BASE + 3
            assert each.epoch_end(2) is None
            assert each.epoch_end(4) is None


class TestReading:
    def test_a_chunk_ends_at_the_gap_and_the_next_begins_behind_it(self, journal: Journal) -> None:
        assert journal.read(0) == Chunk(events(1, 2, 3, 4, 5), through=5)
        assert journal.read(5) == Chunk(events(BASE + 1, BASE + 2, BASE + 3), through=BASE + 3)
        assert journal.read(BASE) == journal.read(5)

    @pytest.mark.parametrize("max_rows", [1, 2, 5, 1000])
    @pytest.mark.parametrize("prefix", [b"", b"a/", b"none/"])
    def test_chunk_by_chunk_everything_comes_once(
        self, journal: Journal, max_rows: int, prefix: bytes
    ) -> None:
        after, found = 0, list[bytes]()
        while after < journal.head:
            chunk = journal.read(after, max_rows=max_rows, prefix=prefix)
            assert chunk.through > after
            after = chunk.through
            found += chunk.events

        wanted = events(1, 2, 3, 4, 5, BASE + 1, BASE + 2, BASE + 3)
        assert tuple(found) == (() if prefix == b"none/" else wanted)

    @pytest.mark.parametrize("after", [6, 7, BASE - 1])
    def test_a_number_that_was_never_given_has_diverged(self, journal: Journal, after: int) -> None:
        with pytest.raises(DivergedError, match=f"epoch 1 ended with 5 and epoch 3 .* {BASE + 1}"):
            journal.read(after)

    def test_up_to_a_number_inside_the_gap_all_before_it_comes(self, journal: Journal) -> None:
        assert journal.read(3, through=500) == Chunk(events(4, 5), through=5)
        assert journal.read(5, through=500) == Chunk((), through=BASE)
        assert journal.read(5, through=5) == Chunk((), through=5)
        assert journal.read(5, through=BASE) == Chunk((), through=BASE)

    def test_an_epoch_without_events_is_passed_over(self, connection: Connection) -> None:
        journal = connection.open_journal()
        journal.append(records(1, 2))
        journal.begin_epoch(2, BASE)
        journal.begin_epoch(3, NEXT_BASE)

        for each in then_reopened(connection, journal):
            assert each.epoch_end(2) == BASE
            assert each.read(2) == each.read(BASE) == Chunk((), through=NEXT_BASE)
            assert each.read(2, through=BASE) == Chunk((), through=BASE)
            for between in (500, 1_500):
                with pytest.raises(DivergedError):
                    each.read(between)
        each.append(records(NEXT_BASE + 1))
        assert each.read(2).events == events(NEXT_BASE + 1)

    def test_without_a_jump_there_is_no_gap(self, connection: Connection) -> None:
        with connection.open_journal() as journal:
            journal.append(records(1, 2))
            journal.begin_epoch(2, 2)
            journal.append(records(3))

            assert journal.read(0).events == events(1, 2)
            assert journal.read(2).events == events(3)
            assert journal.epoch_end(1) == 2

    @pytest.mark.parametrize(
        ("seq", "count", "after"),
        [
            (BASE + 3, 2, BASE + 1),
            (BASE + 3, 3, BASE),
            (BASE + 3, 4, 4),
            (BASE + 3, 100, 0),
            (BASE, 1, 4),
            (BASE, 0, BASE),
            (4, 1, 3),
            (500, 1, 4),
        ],
    )
    def test_the_newest_so_many_begin_behind(
        self, journal: Journal, seq: int, count: int, after: int
    ) -> None:
        assert journal.before(seq, count) == after

    def test_only_numbers_that_were_given_count(self, journal: Journal) -> None:
        assert journal.count_given(1, BASE + 4) == 8
        assert journal.count_given(5, BASE + 2) == 2
        assert journal.count_given(6, BASE) == 0


class TestDropping:
    def test_a_floor_in_the_gap_is_the_first_number_behind_it(
        self, connection: Connection, journal: Journal
    ) -> None:
        journal.write_checkpoint(Checkpoint(BASE, (b"state",), {}))
        with pytest.raises(ValueError, match="write one"):
            journal.drop_below(BASE + 2)

        journal.drop_below(500)

        for each in then_reopened(connection, journal):
            assert each.floor == BASE + 1
            assert each.read(BASE).events == events(BASE + 1, BASE + 2, BASE + 3)
            assert each.load_checkpoint() == Checkpoint(BASE, (b"state",), {})
            with pytest.raises(CompactedError):
                each.read(5)
            with pytest.raises(DivergedError):
                each.read(500)

    def test_deleting_bit_by_bit_crosses_the_gap(
        self, connection: Connection, journal: Journal
    ) -> None:
        journal.write_checkpoint(Checkpoint(BASE + 3, (), {}))
        left = journal.drop_below(BASE + 3, max_rows=2)
        assert left in (0, 5)
        steps = 1
        while left:
            before, left = left, journal.drop_below(BASE + 3, max_rows=2)
            steps += 1
            assert left < before or before == 2
        assert steps <= 5

        again = reopened(connection, journal)
        assert again.floor == BASE + 3
        assert again.read(BASE + 2).events == events(BASE + 3)

    def test_everything_may_go_and_the_numbers_go_on(
        self, connection: Connection, journal: Journal
    ) -> None:
        journal.write_checkpoint(Checkpoint(BASE + 3, (), {}))
        journal.drop_below(BASE + 4)
        journal.begin_epoch(4, NEXT_BASE)
        journal.write_checkpoint(Checkpoint(NEXT_BASE, (), {}))
        journal.drop_below(NEXT_BASE + 1)

        again = reopened(connection, journal)
        assert (again.floor, again.head) == (NEXT_BASE + 1, NEXT_BASE)
        again.append(records(NEXT_BASE + 1))
        assert again.read(NEXT_BASE).events == events(NEXT_BASE + 1)

    def test_a_checkpoint_lies_on_a_number_that_was_given(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="no checkpoint at 500"):
            journal.begin_checkpoint(500)
        journal.write_checkpoint(Checkpoint(5, (), {}))
        journal.write_checkpoint(Checkpoint(BASE, (), {}))
        assert journal.checkpoint_seqs == (5, BASE)


class TestRoom:
    def test_what_is_dropped_is_no_longer_in_use(self, journal: Journal) -> None:
        journal.append([Record(journal.head + 1, b"a/", bytes(400_000))])
        full = journal.used_bytes()
        assert full <= journal.size_bytes()
        journal.write_checkpoint(Checkpoint(journal.head, (), {}))

        journal.drop_below(journal.head + 1)

        assert journal.used_bytes() < full - 390_000

    def test_shrinking_gives_it_back(self, connection: Connection, journal: Journal) -> None:
        journal.append([Record(journal.head + 1, b"a/", bytes(400_000))])
        journal.write_checkpoint(Checkpoint(journal.head, (b"state",), {}))
        journal.drop_below(journal.head + 1)

        journal.shrink()

        assert journal.size_bytes() < 100_000
        again = reopened(connection, journal)
        assert again.load_checkpoint() == Checkpoint(BASE + 4, (b"state",), {})
        assert again.head == BASE + 4

    def test_checkpoint_seqs_are_the_two_that_count(
        self, connection: Connection, journal: Journal
    ) -> None:
        assert not journal.checkpoint_seqs
        for seq in (3, 5, BASE, BASE + 1):
            journal.write_checkpoint(Checkpoint(seq, (), {}))
        journal.begin_checkpoint(BASE + 2).add([b"unfinished"])

        assert journal.checkpoint_seqs == (BASE, BASE + 1)
        assert reopened(connection, journal).checkpoint_seqs == (BASE, BASE + 1)


def test_gaps_may_follow_each_other(connection: Connection) -> None:
    """An epoch without events, after a history that was compacted to its end."""
    with connection.open_journal() as journal:
        journal.append(records(1, 2))
        journal.write_checkpoint(Checkpoint(2, (b"state",), {}))
        journal.drop_below(3)
        journal.begin_epoch(2, BASE)
        journal.begin_epoch(3, NEXT_BASE)
        journal.append(records(NEXT_BASE + 1))

        for each in then_reopened(connection, journal):
            assert each.read(2) == Chunk(events(NEXT_BASE + 1), through=NEXT_BASE + 1)
            assert each.load_checkpoint() == Checkpoint(2, (b"state",), {})
            assert each.before(BASE + 5, 0) == BASE
            assert each.behind_gap(3) == NEXT_BASE + 1
        each.write_checkpoint(Checkpoint(BASE, (b"same",), {}))
        each.drop_below(NEXT_BASE + 1)
        again = reopened(connection, each)
        assert again.load_checkpoint() == Checkpoint(BASE, (b"same",), {})
        again.close()
