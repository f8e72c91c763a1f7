"""Key pairs: who may read them, that both parts belong together, and that secrets stay secret."""

from __future__ import annotations

import os
import stat
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ezgraph.errors import ConfigError, KeyFileError
from ezgraph.keys import curve
from ezgraph.keys.pair import (
    KeyPair,
    make_pair,
    make_pair_anew,
    pair_names,
    public_file,
    read_pair,
    read_pair_file,
    read_public,
    read_public_file,
    secret_file,
)
from ezgraph.keys.public_key import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)
HOSTILE = "a \"quoted\" 'comment'\\\n\x00\x1b[31m\u202e é"


@pytest.fixture
def pair() -> KeyPair:
    return make_pair("alice", comment=HOSTILE, at=NOW)


@pytest.fixture(params=[0o000, 0o077])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_a_pair_reads_back_equal(pair: KeyPair) -> None:
    assert read_pair("alice") == pair
    assert read_public("alice") == PublicKey("alice", pair.public, HOSTILE, NOW)
    assert read_public_file(public_file("alice")) == pair.public_key
    assert pair_names() == ["alice"]
    assert curve.public_of(pair.secret) == pair.public


@pytest.mark.usefixtures("any_umask")
def test_only_the_owner_may_read_the_secret_part(folder: Path) -> None:
    make_pair("alice", at=NOW)

    modes = {
        each.name: stat.S_IMODE(each.stat().st_mode)
        for each in (folder, folder / "keys", *(folder / "keys").iterdir())
    }
    del modes["alice.secret.lock"]
    assert modes == {
        "ezgraph": 0o700, "keys": 0o700, "alice.secret": 0o600, "alice.public": 0o644,
    }


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_secret_that_others_may_read_is_refused(pair: KeyPair, mode: int) -> None:
    secret_file("alice").chmod(mode)

    with pytest.raises(KeyFileError, match=r"chmod 600 \S+alice\.secret"):
        read_pair("alice")


def test_a_secret_that_another_user_owns_is_refused(
    pair: KeyPair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    secret_file("alice").rename(theirs)
    secret_file("alice").symlink_to(theirs)
    assert read_pair("alice") == pair
    if os.geteuid() == 0:
        os.chown(theirs, 4242, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 4242)

    with pytest.raises(KeyFileError, match="belongs to user"):
        read_pair("alice")


def test_parts_that_do_not_belong_together_are_refused(pair: KeyPair) -> None:
    other = make_pair("bob", at=NOW)
    path = secret_file("alice")
    written = path.read_text()

    path.write_text(written.replace(pair.public.hex(), other.public.hex()))
    with pytest.raises(KeyFileError, match=r"alice\.secret': field 'public'.*does not belong"):
        read_pair("alice")
    path.write_text(written)
    public_file("alice").write_text(public_file("bob").read_text())
    with pytest.raises(KeyFileError, match=r"alice\.public': field 'public' does not belong"):
        read_pair("alice")
    public_file("alice").unlink()
    assert read_pair("alice") == pair


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("secret = ", "secrets = "), "has a field that is none of"),
        (('secret = "', 'secret = "0'), "field 'secret': it is no key of 64"),
        (('created = ', 'created = 3 #'), "field 'created': it should be a time"),
        (('created = 2026-01-31T12:00:00.000005Z', 'created = 0001-01-01T00:00:00+01:00'),
         "field 'created': it should be a time"),
        (('name = "alice"', 'name = "../alice"'), "name '../alice' is not allowed"),
        (('name = "alice"', 'name = "bob"'), "field 'name' is 'bob'"),
        (('name = "alice"', ""), "field 'name': it is missing"),
        (('secret = "', 'secret = ["'), "no file that `ezgraph keys new` has written"),
    ],
)
def test_a_malformed_secret_is_refused_by_file_and_field(
    pair: KeyPair, change: tuple[str, str], said: str
) -> None:
    path = secret_file("alice")
    path.write_text(path.read_text().replace(*change))

    with pytest.raises(KeyFileError, match=said) as refused:
        read_pair("alice")

    assert "alice.secret" in str(refused.value)
    _check_hidden(pair, refused.value)


def _check_hidden(pair: KeyPair, error: BaseException) -> None:
    told = "".join(traceback.format_exception(error))
    assert pair.secret.hex()[:20] not in told
    assert repr(pair.secret)[2:20] not in told


def test_no_secret_is_shown_however_its_file_is_spoiled(pair: KeyPair) -> None:
    path, whole = secret_file("alice"), secret_file("alice").read_bytes()
    secret = pair.secret.hex().encode()
    spoiled = [
        whole.replace(b'"' + secret + b'"', each)
        for each in (
            secret, b"'" + secret, b"[" + secret + b"]", b'["' + secret + b'"]', b'"' + secret,
            b"1\n" + secret + b" = 2", b"1\n[" + secret + b"]", b"{" + secret + b"=1}",
            b"{%s=1,%s=2}" % (secret, secret), b'"' + secret + b'ff"',
            b"1\n%s.a = 1\n[%s]" % (secret, secret), b'"' + secret + b'\xff"',
            b"1\n[public.%s]" % secret,
        )
    ]

    for raw in spoiled:
        path.write_bytes(raw)
        for read in (read_pair_file, read_public_file):
            with pytest.raises(KeyFileError) as refused:
                read(path)
            _check_hidden(pair, refused.value)


def test_neither_repr_nor_public_part_has_the_secret(pair: KeyPair) -> None:
    shown = f"{pair!r} {pair} {pair.public_key!r} {asdict(pair.public_key)} {pair.public_key.line}"

    assert pair.secret.hex() not in shown
    assert repr(pair.secret) not in shown
    assert pair.secret.hex() not in public_file("alice").read_text()


def test_a_pair_is_not_made_over_another_unless_that_is_said(pair: KeyPair) -> None:
    with pytest.raises(KeyFileError, match=r"already .*--force"):
        make_pair("alice", at=NOW)
    assert read_pair("alice") == pair

    secret_file("alice").chmod(0o644)
    anew = make_pair_anew("alice", at=NOW)

    assert read_pair("alice") == anew
    assert anew.secret != pair.secret


@pytest.mark.parametrize("name", ["../alice", "", "a/b", ".hidden"])
def test_a_name_cannot_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(KeyFileError, match="is not allowed"):
        make_pair(name, at=NOW)
    for read in (read_pair, read_public):
        with pytest.raises(KeyFileError, match="is not allowed"):
            read(name)


def test_an_unknown_pair_comes_with_the_nearest(pair: KeyPair) -> None:
    with pytest.raises(KeyFileError, match=r"did you mean 'alice'.*`ezgraph keys new alise`"):
        read_pair("alise")


def test_secret_and_public_files_are_not_taken_for_each_other(pair: KeyPair) -> None:
    with pytest.raises(KeyFileError, match="is the secret part"):
        read_public_file(secret_file("alice"))
    public_file("alice").chmod(0o600)
    with pytest.raises(KeyFileError, match="field 'secret': it is missing: this is the public"):
        read_pair_file(public_file("alice"))


def test_a_public_part_alone_can_be_shown(pair: KeyPair) -> None:
    secret_file("alice").unlink()

    assert read_public("alice") == pair.public_key
    assert pair_names() == []


def test_an_exported_line_in_a_file_is_a_public_file(pair: KeyPair, tmp_path: Path) -> None:
    (tmp_path / "line").write_text(pair.public_key.line + "\n")

    read = read_public_file(tmp_path / "line")

    assert (read.name, read.public, read.comment) == ("alice", pair.public, HOSTILE)


def test_a_libzmq_without_curve_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zmq.has", lambda _: False)

    with pytest.raises(ConfigError, match="without CURVE"):
        make_pair("alice", at=NOW)
