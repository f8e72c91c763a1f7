"""Roles of one's own: what a file may say, and how it is told what it may not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ezgraph.errors import KeyFileError
from ezgraph.keys.roles_file import (
    MAX_INCLUDED,
    MAX_PATTERNS,
    MAX_ROLES,
    find_role,
    load_roles,
)
from ezgraph.protocol.roles import ADMIN, EVERYTHING, OBSERVER, VERBS, Role, owner_of

if TYPE_CHECKING:
    from pathlib import Path


def load(tmp_path: Path, text: str) -> dict[str, Role]:
    path = tmp_path / "roles.toml"
    path.write_text(text)
    return load_roles(path)


def test_a_role_grants_what_its_file_says(tmp_path: Path) -> None:
    roles = load(
        tmp_path,
        """
        [roles.display]
        comment = "wires the display"
        read = ["settings/", "edge/*/DISPLAY%2F*"]
        connect = ["edge/*/DISPLAY%2F*"]
        """,
    )

    display = roles["display"]
    assert (display.name, display.comment) == ("display", "wires the display")
    assert set(display.grants) == {"read", "connect"}
    assert display.may("connect", ("edge", "A", "DISPLAY/X"))
    assert not display.may("connect", ("edge", "A", "B"))
    assert display.may("read", ("settings", "A"))
    assert not display.may("run", ("component", "A"))


@pytest.mark.parametrize("verb", VERBS)
def test_there_is_a_field_for_every_verb(tmp_path: Path, verb: str) -> None:
    roles = load(tmp_path, f'[roles.one]\n{verb} = ["/"]')

    assert roles["one"].grants == {verb: EVERYTHING}


def test_a_role_includes_others_wherever_they_stand(tmp_path: Path) -> None:
    roles = load(
        tmp_path,
        """
        [roles.c]
        include = ["b", "owner:RIG/ARM"]
        [roles.b]
        include = ["a", "observer"]
        pause = ["/"]
        [roles.a]
        connect = ["edge/A"]
        """,
    )

    assert list(roles) == ["c", "b", "a"]
    c = roles["c"]
    assert c.reads == EVERYTHING
    assert c.may("pause", ("control", "pause"))
    assert c.may("connect", ("edge", "A", "B"))
    assert c.may("run", ("component", "RIG/ARM/X"))
    assert not c.may("run", ("component", "RIG/LEG"))
    assert roles["a"].grants.keys() == {"connect"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[role.a]", "unknown field 'role'; did you mean 'roles'"),
        ("roles = 1", "field 'roles': it should be a table"),
        ("[roles]\na = 1", "role 'a' in .* should be a table"),
        ("[roles.'a b']", "field 'roles': the name 'a b' is not allowed"),
        ("[roles.admin]\nread = ['/']", "'admin' is a built-in role"),
        ("[roles.'owner:A']\nread = ['/']", "'owner:A' is not allowed"),
        ("[roles.a]\nreed = ['/']", "role 'a' in .*unknown field 'reed'; did you mean 'read'"),
        ("[roles.a]\nread = '/'", "role 'a' in .*field 'read': it should be a list of texts"),
        ("[roles.a]\nread = [1]", "field 'read': it should be a list of texts"),
        ("[roles.a]\nread = ['']", "field 'read': an empty pattern"),
        ("[roles.a]\nread = ['a*b']", r"field 'read': pattern 'a\*b' has a '\*' inside"),
        ("[roles.a]\nread = ['edge//x']", "field 'read': .* empty name"),
        (f"[roles.a]\nread = ['{'x' * 5000}']", "field 'read': a pattern of 5000 characters"),
        ("[roles.a]\nread = ['" + "x/" * 40 + "']", "field 'read': .*41 names|40 names"),
        ("[roles.a]\ncomment = 1", "field 'comment': it should be text"),
        ("[roles.a]\ninclude = ['b']", "role 'a' in .*field 'include': there is no role 'b'"),
        ("[roles.a]\ninclude = ['obsrver']", "did you mean 'observer'"),
        ("[roles.a]\ninclude = ['owner:']", "names no addresses"),
        ("[roles.a]\ninclude = ['a']", "field 'include': it includes itself: a -> a"),
        (
            "[roles.a]\ninclude = ['b']\n[roles.b]\ninclude = ['c']\n[roles.c]\ninclude = ['a']",
            "field 'include': it includes itself: .*(a -> b -> c|b -> c -> a|c -> a -> b)",
        ),
        (f"[roles.a]\nread = {['/'] * (MAX_PATTERNS + 1)}", "field 'read': 257 patterns"),
        (f"[roles.a]\ninclude = {['admin'] * (MAX_INCLUDED + 1)}", "field 'include': 17 roles"),
        ("".join(f"[roles.r{n}]\n" for n in range(MAX_ROLES + 1)), "field 'roles': 257 roles"),
        ("[roles.a", "no valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_role_and_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(KeyFileError, match=said) as refused:
        load(tmp_path, text)

    assert "roles.toml" in str(refused.value)


def test_what_is_included_counts_for_the_bound(tmp_path: Path) -> None:
    many = [[f"settings/{half}{n}" for n in range(200)] for half in "ab"]
    text = "".join(f"[roles.r{n}]\nread = {each}\n" for n, each in enumerate(many))

    with pytest.raises(KeyFileError, match=r"role 'both' in .*field 'read': 400 patterns"):
        load(tmp_path, text + "[roles.both]\ninclude = ['r0', 'r1']")


def test_the_largest_file_is_read_in_time(tmp_path: Path) -> None:
    before = time.monotonic()
    patterns = [f"settings/{n}" for n in range(MAX_PATTERNS)]
    text = f"[roles.r0]\nread = {patterns}\n" + "".join(
        f"[roles.r{n}]\ninclude = {[f'r{each}' for each in range(max(0, n - MAX_INCLUDED), n)]}\n"
        for n in range(1, MAX_ROLES)
    )

    roles = load(tmp_path, text)

    assert len(roles[f"r{MAX_ROLES - 1}"].grants["read"]) == MAX_PATTERNS
    assert time.monotonic() - before < 20


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"no file of roles '.*absent\.toml'"):
        load_roles(tmp_path / "absent.toml")


def test_a_role_is_found_by_its_name() -> None:
    mine = Role("mine", {})

    assert find_role("observer", {}) is OBSERVER
    assert find_role("admin", {"mine": mine}) is ADMIN
    assert find_role("mine", {"mine": mine}) is mine
    assert find_role("owner:RIG/ARM", {}) == owner_of("RIG/ARM")


@pytest.mark.parametrize("name", ["", "nobody", "owner", "owner:", "owner:/", "owner:A/", "Admin"])
def test_an_unknown_role_is_refused(name: str) -> None:
    with pytest.raises(KeyFileError, match="role"):
        find_role(name, {})
