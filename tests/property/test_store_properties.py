"""Rows of a store equal a plain mapping, whatever is done to them; what is lost is missed."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ezgraph.backends import JournalMeta
from ezgraph.backends.milestones import EVENTS_PER_ENTRY, LEAST_GAP, Milestone, dispensable
from ezgraph.backends.sqlite_file import connect, create, ending_transaction
from ezgraph.backends.sqlite_rows import REVISION, SQLiteRows
from ezgraph.backends.sqlite_tables import Tables
from ezgraph.backends.store import MemoryRows, Store
from ezgraph.errors import JournalCorruptError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

META = JournalMeta("c1" * 16, 1, b"secret", 0.0)
keys = st.sampled_from([f"{room}/{name}/".encode() for room in "abc" for name in "uvwxyz"])
values = st.binary(max_size=8)
prefixes = st.sampled_from([b"", b"a/", b"b/", b"b/w/", b"c/zz/", b"d/"])
changes = st.one_of(
    st.tuples(st.just("put"), st.dictionaries(keys, values, max_size=6)),
    st.tuples(st.just("add"), st.dictionaries(keys, values, max_size=6)),
    st.tuples(st.just("remove"), st.lists(keys, max_size=4)),
)
transactions = st.lists(st.tuples(st.booleans(), st.lists(changes, max_size=4)), max_size=6)
questions = st.lists(
    st.one_of(
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("last"), prefixes.filter(bool)),
        st.tuples(st.just("scan"), prefixes, st.just(b"") | keys, st.none() | st.integers(1, 5)),
    ),
    max_size=12,
)


def apply(model: dict[bytes, bytes], change: tuple[str, Any]) -> None:
    name, given = change
    if name == "put":
        model.update(given)
    elif name == "add":
        model.update({key: value for key, value in given.items() if key not in model})
    else:
        for key in given:
            model.pop(key, None)


def change_in(store: Store, change: tuple[str, Any]) -> None:
    getattr(store, change[0])(change[1])


def answer_of(model: dict[bytes, bytes], question: tuple[Any, ...]) -> object:
    match question:
        case ("get", key):
            return model.get(key)
        case ("last", prefix):
            rows = sorted(row for row in model.items() if row[0].startswith(prefix))
            return rows[-1] if rows else None
        case (_, prefix, after, limit):
            found = (row for row in model.items() if row[0].startswith(prefix))
            return sorted(row for row in found if row[0] > after)[:limit]
        case _:
            raise AssertionError(question)


def ask(store: Store, question: tuple[Any, ...]) -> object:
    match question:
        case ("scan", prefix, after, limit):
            found = store.scan(prefix, after=after, limit=limit)
            return [row for row in found if row[0] != REVISION]
        case (name, given):
            answer: object = getattr(store, name)(given)
            return answer
        case _:
            raise AssertionError(question)


@contextmanager
def rows_in_a_file() -> Iterator[tuple[SQLiteRows, sqlite3.Connection]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rig.db"
        create(path, META)
        with closing(connect(path, "OFF")) as db:
            yield SQLiteRows(Tables(db, path)), db


def do(rows: SQLiteRows, db: sqlite3.Connection, made: list[Any]) -> dict[bytes, bytes]:
    """Do transactions, of which some are given up; return what must be there then."""
    model: dict[bytes, bytes] = {}
    for is_kept, transaction in made:
        inside = dict(model)
        db.execute("BEGIN IMMEDIATE")
        for change in transaction:
            change_in(rows, change)
            apply(inside, change)
        if is_kept:
            with ending_transaction(db):
                pass
            rows.committed()
            model = inside
        else:
            db.execute("ROLLBACK")
            rows.undone()
    return model


@given(transactions, questions)
def test_rows_in_memory_equal_a_mapping(made: list[Any], asked: list[Any]) -> None:
    rows, model = MemoryRows(), dict[bytes, bytes]()
    for is_kept, transaction in made:
        inside = dict(model)
        for change in transaction:
            change_in(rows, change)
            apply(inside, change)
        if is_kept:
            rows.commit()
            model = inside
        else:
            rows.rollback()

    assert dict(rows.each(b"")) == model
    for question in asked:
        assert ask(rows, question) == answer_of(model, question)


@given(transactions, questions)
@settings(max_examples=60)
def test_rows_in_a_file_equal_a_mapping(made: list[Any], asked: list[Any]) -> None:
    with rows_in_a_file() as (rows, db):
        model = do(rows, db, made)

        assert {key: value for key, value in rows.all() if key != REVISION} == model
        for question in asked:
            assert ask(rows, question) == answer_of(model, question)
        assert rows.revision == sum(1 for kept, changes in made if kept and changes)


@given(
    st.dictionaries(keys, values, min_size=1),
    questions.filter(bool),
    st.randoms(use_true_random=False),
    st.sampled_from(["gone", "renamed", "changed"]),
)
@settings(max_examples=60)
def test_whoever_asks_a_damaged_file_is_told_the_truth_or_that_it_is_damaged(
    model: dict[bytes, bytes], asked: list[Any], chance: Any, damage: str
) -> None:
    with rows_in_a_file() as (rows, db):
        do(rows, db, [(True, [("put", model)])])
        key = chance.choice(sorted(model))
        if damage == "gone":
            db.execute("DELETE FROM stored WHERE key = ?", (key,))
        elif damage == "renamed":
            db.execute("UPDATE stored SET key = ? WHERE key = ?", (key[:-2] + b"!/", key))
        else:
            db.execute("UPDATE stored SET value = value || x'01' WHERE key = ?", (key,))

        for question in asked:
            try:
                found = ask(rows, question)
            except JournalCorruptError:
                continue
            assert found == answer_of(model, question)
        try:
            list(rows.all())
        except JournalCorruptError:
            return
        raise AssertionError("reading all of it finds any damage")


# --- milestones ---


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 5_000)), max_size=40),
    st.integers(0, 5_000),
)
def test_milestones_cost_no_more_than_they_may_and_the_newest_two_stay(
    made: list[tuple[int, int]], tail: int
) -> None:
    at, finished = 0, []
    for number, (gap, entries) in enumerate(made):
        at += gap
        finished.append(Milestone(number, at, entries))

    going = dispensable(finished, at + tail)

    kept = [each for each in finished if each.number not in going]
    older = kept[:-2]
    assert [each.number for each in finished[-2:]] == [each.number for each in kept[-2:]]
    assert sum(each.entries for each in older) * EVENTS_PER_ENTRY <= at + tail
    places = [0, *(each.events or 0 for each in older)]
    assert all(b - a >= LEAST_GAP for a, b in pairwise(places))


@given(st.integers(10, 300), st.integers(1, 30_000))
def test_a_long_history_has_its_milestones_evenly_spread(count: int, entries: int) -> None:
    kept: list[Milestone] = []
    for number in range(count):
        kept.append(Milestone(number, 20_000 * (number + 1), entries))
        going = dispensable(kept, 20_000 * (number + 1))
        kept = [each for each in kept if each.number not in going]

    older = kept[:-2]
    places = [0, *(each.events or 0 for each in older), 20_000 * count]
    gaps = [b - a for a, b in pairwise(places)]
    affordable = 20_000 * count // EVENTS_PER_ENTRY // entries
    assert len(older) >= min(count - 2, affordable // 2)
    assert max(gaps) <= 4 * max(20_000, 20_000 * count / (len(older) + 1))
