"""Roles, and the read scopes that keys share."""

from __future__ import annotations

import pytest

from ezgraph.protocol.patterns import EVERY_KEY, parse_pattern
from ezgraph.protocol.roles import (
    ADMIN,
    BUILT_IN,
    EVERYTHING,
    FULL_SCOPE,
    OBSERVER,
    OPERATOR,
    VERBS,
    Access,
    Identity,
    Role,
    normal,
    owner_of,
    stands_otherwise,
)

KEY = ("settings", "RIG/AMP")


def reader(name: str, *patterns: str) -> Identity:
    reads = tuple(map(parse_pattern, patterns))
    return Identity(name, name.ljust(64, "0"), Role(f"reads {patterns}", {"read": reads}))


def identity(name: str, role: Role) -> Identity:
    return Identity(name, name.ljust(64, "0"), role)


@pytest.mark.parametrize(
    ("role", "verbs"),
    [
        (OBSERVER, {"read"}),
        (OPERATOR, set(VERBS) - {"shutdown"}),
        (ADMIN, set(VERBS)),
    ],
)
def test_a_built_in_role_grants_these_verbs_on_everything(role: Role, verbs: set[str]) -> None:
    assert {verb for verb in VERBS if role.may(verb, KEY)} == verbs
    assert BUILT_IN[role.name] is role


@pytest.mark.parametrize(
    ("verb", "key", "allowed"),
    [
        ("read", ("session", "x"), True),
        ("connect", ("edge", "ANY", "RIG/IN"), True),
        ("connect", ("edge", "ANY", "RIG"), True),
        ("connect", ("edge", "RIG/OUT", "OTHER/IN"), False),
        ("connect", ("edge", "ANY", "RIGGED/IN"), False),
        ("register", ("component", "RIG"), True),
        ("register", ("component", "RIG/A/B"), True),
        ("register", ("component", "RIG2"), False),
        ("run", ("component", "RIG/A"), True),
        ("run", ("component", "B"), False),
        ("report", ("settings", "RIG/A"), True),
        ("report", ("settings", "RIGA"), False),
        ("pause", ("control", "pause"), False),
        ("shutdown", ("control", "broker"), False),
    ],
)
def test_an_owner_of_a_prefix_changes_what_is_at_and_below_it(
    verb: str, key: tuple[str, ...], allowed: bool
) -> None:
    role = owner_of("RIG")

    assert role.may(verb, key) is allowed
    assert role.may(verb, key) is allowed  # remembered


def test_what_a_role_judged_is_remembered_within_a_bound() -> None:
    role = owner_of("RIG")

    for number in range(50_000):
        assert not role.may("report", ("settings", f"OTHER/{number}"))

    assert len(role._judged) <= 20_000


def test_equal_patterns_are_one_scope_in_whatever_order_they_stand() -> None:
    one, two = parse_pattern("settings/A"), parse_pattern("edge/")

    assert normal([one, two, one]) == normal([two, one])
    assert normal([one, EVERY_KEY, two]) == EVERYTHING
    assert normal([]) == ()


def test_who_reads_everything_shares_scope_0_and_parts_have_numbers_of_their_own() -> None:
    access = Access(
        [
            identity("alice", OPERATOR),
            identity("bob", OBSERVER),
            reader("carol", "settings/A", "edge/"),
            reader("dave", "edge/", "settings/A"),
            reader("eve", "settings/A"),
            reader("mute"),
        ]
    )
    numbers = {each.name: access.scope_of(each).number for each in access}

    assert numbers["alice"] == numbers["bob"] == FULL_SCOPE.number == 0
    assert numbers["carol"] == numbers["dave"]
    assert len({numbers[name] for name in ("alice", "carol", "eve", "mute")}) == 4
    assert len(access) == 6
    assert len(access.scopes) == 4


def test_scopes_keep_their_numbers_from_one_reading_to_the_next() -> None:
    first = Access([reader("a", "settings/A"), reader("b", "settings/B")])
    b = first.scope_of(reader("b", "settings/B"))

    second = Access([reader("b", "settings/B"), reader("c", "settings/C")], before=first)

    assert second.scope_of(reader("b", "settings/B")) == b
    assert second.scope_of(reader("c", "settings/C")).number not in {s.number for s in
                                                                     first.scopes.values()}


def test_a_scope_has_and_touches() -> None:
    access = Access([reader("a", "settings/RIG/", "edge/A")])
    scope = access.scope_of(reader("a", "settings/RIG/", "edge/A"))

    assert scope.has(("settings", "RIG/AMP"))
    assert scope.has(("edge", "A", "B", "an owner"))
    assert not scope.has(("settings", "RIG"))
    assert scope.touches(())
    assert scope.touches(("settings",))
    assert not scope.touches(("component",))
    assert not scope.is_full
    assert str(scope) == "edge/A, settings/RIG%2F*"


def test_an_unknown_or_missing_key_is_nobody() -> None:
    access = Access([identity("alice", ADMIN)])

    assert access.identity(None) is None
    assert access.identity("f" * 64) is None
    assert access.identity("alice".ljust(64, "0")) == identity("alice", ADMIN)


def test_a_key_stands_otherwise_when_it_is_gone_or_reads_something_else() -> None:
    alice = identity("alice", OBSERVER)
    before = Access([alice])

    assert stands_otherwise(alice.public, before, Access([], before=before))
    narrowed = Access([reader("alice", "settings/")], before=before)
    assert stands_otherwise(alice.public, before, narrowed)
    promoted = Access([identity("alice", ADMIN)], before=before)
    assert not stands_otherwise(alice.public, before, promoted)
    assert not stands_otherwise(alice.public, Access([]), Access([]).__class__([alice]))
