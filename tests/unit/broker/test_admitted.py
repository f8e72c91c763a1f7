"""Whom an allow-list lets in where, and whose connections end with a change of it."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from ezgraph.broker.admitted import COMMANDS, cut_off, lets_in, losers, streams_of
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.roles import FULL_SCOPE, OBSERVER, OPERATOR, Access, Identity, Role


def reader(name: str, *patterns: str) -> Identity:
    reads = tuple(parse_pattern(each) for each in patterns)
    return Identity(name, f"key of {name}", Role(name, MappingProxyType({"read": reads})))


ANNA, BOB = Identity("anna", "key of anna", OPERATOR), reader("bob", "settings/A/")
EVE = reader("eve", "settings/B/")


def test_a_key_is_let_in_to_the_commands_and_to_its_own_events_and_to_nothing_else() -> None:
    access = Access([ANNA, BOB])
    own = access.scope_of(BOB).number

    assert streams_of(access) == {FULL_SCOPE.number, own}
    for socket in (COMMANDS, FULL_SCOPE.number, own):
        assert lets_in(access, ANNA.public, socket) is (socket != own)
        assert lets_in(access, BOB.public, socket) is (socket != FULL_SCOPE.number)
        assert not lets_in(access, EVE.public, socket)
        assert not lets_in(access, None, socket)


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ([ANNA, BOB, EVE], []),
        ([ANNA._replace(role=OBSERVER), BOB, EVE], []),  # each command is judged anew anyway
        ([ANNA, BOB], ["eve"]),
        ([ANNA, reader("bob", "settings/"), EVE], ["bob"]),
        ([], ["anna", "bob", "eve"]),
    ],
)
def test_who_is_admitted_no_longer_or_reads_something_else_loses_its_access(
    after: list[Identity], lost: list[str]
) -> None:
    before = Access([ANNA, BOB, EVE])

    assert [each.name for each in losers(before, Access(after, before=before))] == lost


def test_with_an_access_end_all_its_connections_and_those_that_may_be_its() -> None:
    connections: dict[int | None, list[tuple[str, str | None]]] = {
        COMMANDS: [("anna 1", ANNA.public), ("bob 1", BOB.public), ("silent", None)],
        0: [("anna 2", ANNA.public), ("bob 2", BOB.public), ("new", None)],
        1: [("bob 3", BOB.public), ("newer", None)],
    }

    assert cut_off([BOB], connections) == [
        (COMMANDS, "bob 1"), (0, "bob 2"), (0, "new"), (1, "bob 3"), (1, "newer"),
    ]
    assert cut_off([], connections) == []
