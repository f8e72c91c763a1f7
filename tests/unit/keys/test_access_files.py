"""What a broker goes by, and that it sees every change of it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from timeit import timeit
from typing import TYPE_CHECKING

import pytest

from ezgraph.errors import KeyFileError
from ezgraph.keys.access_files import AccessFiles
from ezgraph.keys.public_key import PublicKey
from ezgraph.keys.trusted import revoke, trust
from ezgraph.protocol.roles import OBSERVER, Identity

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 31, tzinfo=UTC)
PUBLIC = bytes([1] * 32)


@pytest.fixture
def files(tmp_path: Path) -> AccessFiles:
    (tmp_path / "roles.toml").write_text("[roles.display]\nread = ['edge/']\n")
    return AccessFiles(tmp_path / "trusted.toml", tmp_path / "roles.toml")


def admit(files: AccessFiles, role: str, number: int = 1) -> None:
    trust(files.trusted, PublicKey(f"k{number}", bytes([number] * 32)), role=role, at=NOW)


def test_each_key_has_its_role(files: AccessFiles) -> None:
    admit(files, "observer")
    admit(files, "display", 2)
    admit(files, "owner:RIG", 3)

    access = files.load()

    assert access.identity(PUBLIC.hex()) == Identity("k1", PUBLIC.hex(), OBSERVER)
    assert [each.role.name for each in access] == ["observer", "display", "owner:RIG"]
    assert access.identity("ff" * 32) is None


def test_scopes_that_stay_keep_their_numbers(files: AccessFiles) -> None:
    admit(files, "display")
    before = files.load()
    admit(files, "observer", 2)

    after = files.load(before)

    assert after.scopes.items() >= before.scopes.items()


def test_a_missing_list_admits_nobody_and_says_so(files: AccessFiles) -> None:
    assert len(files.load()) == 0
    assert "there is no allow-list" in (files.remark() or "")

    admit(files, "observer")
    assert files.remark() is None
    revoke(files.trusted, "k1", at=NOW)
    assert "lists no key" in (files.remark() or "")


def test_every_change_is_seen_once(files: AccessFiles, tmp_path: Path) -> None:
    assert files.changed()
    files.load()
    assert not files.changed()

    for change in (
        lambda: admit(files, "observer"),
        lambda: admit(files, "display"),
        lambda: (tmp_path / "roles.toml").write_text("[roles.display]\nread = ['node/']\n"),
        lambda: (tmp_path / "roles.toml").chmod(0o600),
        files.trusted.unlink,
    ):
        change()
        assert files.changed()
        files.load()
        assert not files.changed()


def test_a_wrong_file_is_told_once_and_read_again_when_it_changes(files: AccessFiles) -> None:
    admit(files, "observer")
    whole = files.trusted.read_text()
    files.trusted.write_text("[keys")

    with pytest.raises(KeyFileError, match="no valid TOML"):
        files.load()
    assert not files.changed()
    files.trusted.write_text(whole)
    assert files.changed()
    assert len(files.load()) == 1


def test_a_role_that_there_is_not_is_refused_with_the_key(files: AccessFiles) -> None:
    admit(files, "displya")

    with pytest.raises(KeyFileError, match=r"\[keys\.k1\] .*field 'role'.*did you mean 'display'"):
        files.load()
    assert AccessFiles(files.trusted).roles is None


def test_without_the_file_of_roles_there_are_the_built_in_ones(files: AccessFiles) -> None:
    admit(files, "observer")
    assert files.roles is not None
    files.roles.unlink()
    assert len(files.load()) == 1

    admit(files, "display", 2)
    with pytest.raises(KeyFileError, match="there is no role 'display'"):
        files.load()


def test_asking_for_changes_is_cheap(files: AccessFiles) -> None:
    admit(files, "observer")
    files.load()

    assert timeit(files.changed, number=1000) < 0.5
    assert os.fspath(files.trusted) in repr(files)
