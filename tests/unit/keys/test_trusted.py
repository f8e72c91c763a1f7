"""The allow-list: who is admitted, and who never again."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ezgraph.errors import KeyFileError
from ezgraph.keys.public_key import PublicKey
from ezgraph.keys.trusted import (
    AllowList,
    RevokedKey,
    TrustedKey,
    read_trusted,
    revoke,
    trust,
    trust_again,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 31, 12, 0, 0, 7, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
HOSTILE = "a \"quoted\" 'comment'\\\n\x00\x1b[31m\u202e é [keys.x]\npublic = 1"


def key(number: int, name: str = "alice", comment: str = "") -> PublicKey:
    return PublicKey(name, bytes([number] * 32), comment)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trusted.toml"


def test_a_missing_list_is_empty(path: Path) -> None:
    assert read_trusted(path) == AllowList()


def test_who_is_trusted_reads_back_equal(path: Path) -> None:
    admitted = trust(path, key(1, comment=HOSTILE), role="owner:A \"B\"", at=NOW)

    assert admitted == TrustedKey("alice", bytes([1] * 32), "owner:A \"B\"", HOSTILE, NOW)
    assert read_trusted(path) == AllowList({"alice": admitted})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_key_can_be_given_another_role(path: Path) -> None:
    trust(path, key(1), role="observer", at=NOW)

    trust(path, key(1), role="admin", at=LATER)

    (only,) = read_trusted(path).keys.values()
    assert (only.role, only.added) == ("admin", NOW)


def test_a_key_or_a_name_stands_once(path: Path) -> None:
    trust(path, key(1), role="observer", at=NOW)

    for do in (trust, trust_again):
        with pytest.raises(KeyFileError, match="already, as 'alice'"):
            do(path, key(1, "bob"), role="admin", at=NOW)
        with pytest.raises(KeyFileError, match=r"'alice' is trusted with another key .*--as"):
            do(path, key(2), role="admin", at=NOW)

    assert list(read_trusted(path).keys) == ["alice"]


def test_a_revoked_key_is_trusted_again_only_if_that_is_said(path: Path) -> None:
    trust(path, key(1), role="observer", at=NOW)
    assert revoke(path, "alice", at=LATER) == RevokedKey("alice", bytes([1] * 32), LATER)

    for name in ("alice", "bob"):
        with pytest.raises(KeyFileError, match=r"revoked as 'alice' at 2026-02-01.*--again"):
            trust(path, key(1, name), role="observer", at=LATER)
    assert not read_trusted(path).keys
    trust_again(path, key(1), role="observer", at=LATER)

    assert list(read_trusted(path).keys) == ["alice"]
    assert not read_trusted(path).revoked


def test_every_key_that_was_revoked_stays_revoked(path: Path) -> None:
    for number in (1, 2, 3):
        trust(path, key(number), role="observer", at=NOW)
        revoke(path, "alice", at=NOW)

    assert list(read_trusted(path).revoked) == ["alice", "alice.2", "alice.3"]
    for number in (1, 2, 3):
        with pytest.raises(KeyFileError, match="--again"):
            trust(path, key(number), role="observer", at=NOW)


def test_a_long_name_can_be_revoked_twice(path: Path) -> None:
    for number in (1, 2):
        trust(path, key(number, "a" * 64), role="observer", at=NOW)
        revoke(path, "a" * 64, at=NOW)

    assert len(read_trusted(path).revoked) == 2


def test_who_is_not_trusted_cannot_be_revoked(path: Path) -> None:
    trust(path, key(1), role="observer", at=NOW)

    with pytest.raises(KeyFileError, match="did you mean 'alice'"):
        revoke(path, "alicia", at=NOW)
    revoke(path, "alice", at=NOW)
    with pytest.raises(KeyFileError, match="was revoked already"):
        revoke(path, "alice", at=NOW)


ONE = "01" * 32
WHOLE = f"[keys.a]\npublic = '{ONE}'\nrole = 'x'\nadded = 2026-01-01T00:00:00Z\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = 1", r"field 'keys': it should be a table"),
        ("[key.a]", "unknown field 'key'; did you mean 'keys'"),
        ("[keys]\na = 1", r"\[keys\.a\] in .* should be a table"),
        ("[keys.'../a']", "name '../a' is not allowed"),
        ("[keys.a]\nrole = 'x'\nadded = 2026-01-01T00:00:00Z", "'public': it is missing"),
        ("[keys.a]\npublic = 3\nrole = 'x'", "'public': it should be text"),
        ("[keys.a]\npublic = 'abc'\nrole = 'x'", "'public': a text of 3 characters"),
        (f"[keys.a]\npublic = '{ONE}'\nrole = 3", "'role': it should be text"),
        (f"[keys.a]\npublic = '{ONE}'\nrole = 'x'\nadded = 2026-01-01T00:00:00",
         "'added': it should be a time with its zone"),
        (f"[keys.a]\npublic = '{ONE}'\nrole = 'x'\nroles = 'y'", "did you mean 'role'"),
        (f"[keys.a]\npublic = '{ONE}'\nrole = 'x'\ncomment = '{'x' * 501}'",
         "'comment': a comment of 501"),
        (f"[revoked.a]\npublic = '{ONE}'", "'at': it is missing"),
        (
            WHOLE + WHOLE.replace("keys.a", "keys.b"),
            r"\[keys\.b\] is the key of \[keys\.a\] too",
        ),
        (
            f"{WHOLE}[revoked.b]\npublic = '{ONE}'\nat = 2026-01-01T00:00:00Z",
            r"\[revoked\.b\] is the key of \[keys\.a\] too",
        ),
    ],
)
def test_a_wrong_list_is_refused_by_file_and_field(path: Path, text: str, said: str) -> None:
    path.write_text(text)

    with pytest.raises(KeyFileError, match=said) as refused:
        read_trusted(path)

    assert "trusted.toml" in str(refused.value)


def test_many_who_trust_at_once_lose_nothing(path: Path) -> None:
    def admit(number: int) -> None:
        for each in range(5):
            name = f"k{number}-{each}"
            trust(path, key(1 + 5 * number + each, name), role="observer", at=NOW)
            if each == 4:
                revoke(path, name, at=NOW)

    threads = [threading.Thread(target=admit, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    listed = read_trusted(path)
    assert (len(listed.keys), len(listed.revoked)) == (24, 6)
