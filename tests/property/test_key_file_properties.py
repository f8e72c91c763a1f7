"""Files of keys, roles and contexts: whatever is in them, they are read or refused, in time."""

from __future__ import annotations

import os
import time
import tomllib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from ezgraph.config import Address
from ezgraph.errors import KeyFileError
from ezgraph.keys.contexts import Contexts, NamedContext, add_context, pin_instead, read_contexts
from ezgraph.keys.pair import (
    make_pair_anew,
    read_pair,
    read_pair_file,
    read_public_file,
    secret_file,
)
from ezgraph.keys.public_key import PublicKey
from ezgraph.keys.roles_file import load_roles
from ezgraph.keys.trusted import AllowList, read_trusted, revoke, trust
from ezgraph.protocol.roles import VERBS
from ezgraph.toml_text import MAX_BYTES, dump_toml, parse_toml

if TYPE_CHECKING:
    from collections.abc import Callable

IN_TIME_S = 5.0
HEX = "0123456789abcdef" * 4
SECRET = bytes.fromhex("77076d0a7318a57d3c16c17251b26645" * 2)
MOMENT = "2026-01-31T12:00:00Z"

WHOLE: dict[str, str] = {
    "trusted": f"""
[keys.alice]
public = "{HEX}"
role = "owner:RIG/ARM"
comment = "Alice, \\"room\\" 3"
added = {MOMENT}
[revoked.bob]
public = "{HEX[::-1]}"
at = {MOMENT}
""",
    "roles": f"""
[roles.display]
comment = "wires"
include = ["observer", "other", "owner:A"]
read = ["/", "edge/*/D%2F*"]
[roles.other]
{"".join(f'{verb} = ["settings/A*"]' + chr(10) for verb in VERBS)}
""",
    "contexts": f"""
selected = "lab"
[contexts.lab]
address = "lab-pc:25979,[::1]:7"
key = "alice"
[brokers."lab-pc:25979"]
public = "{HEX}"
""",
    "secret": f"""
name = "alice"
public = "{HEX}"
comment = "c"
created = {MOMENT}
secret = "{SECRET.hex()}"
""",
    "public": f"""
name = "alice"
public = "{HEX}"
comment = "c"
created = {MOMENT}
""",
}
READ: dict[str, Callable[[Path], object]] = {
    "trusted": read_trusted,
    "roles": load_roles,
    "contexts": read_contexts,
    "secret": read_pair_file,
    "public": read_public_file,
}
kinds = st.sampled_from(sorted(WHOLE))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9_])?\Z")
moments = st.datetimes(
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
)
publics = st.binary(min_size=32, max_size=32).filter(any)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.fsync", lambda _: None)


within_a_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(kind: str, raw: bytes) -> object | None:
    """Read a file with these bytes: a value, or None where it is refused; nothing else, in time."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "file.toml")
        path.write_bytes(raw)
        path.chmod(0o600)
        before = time.monotonic()
        try:
            return READ[kind](path)
        except KeyFileError as error:
            said = str(error)
            assert "file.toml" in said or kind == "public"
            assert SECRET.hex()[:20] not in said
            return None
        finally:
            assert time.monotonic() - before < IN_TIME_S


def test_the_files_that_are_spoiled_here_are_whole() -> None:
    for kind, text in WHOLE.items():
        if kind != "secret":  # its halves do not belong together
            assert read_or_refuse(kind, text.encode()) is not None


@given(kinds, st.binary(max_size=300))
@example("trusted", b"a." * (MAX_BYTES // 2 - 1))
@example("roles", b"roles = " + b"[" * 100_000)
@example("contexts", b"\xef\xbb\xbf")
@example("public", b"ezgraph-key a \xff")
def test_any_bytes_are_read_or_refused(kind: str, raw: bytes) -> None:
    read_or_refuse(kind, raw)


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, bytes]:
    """A whole file with some characters replaced, doubled, moved or left out."""
    kind = draw(kinds)
    raw = WHOLE[kind].encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 70)))
        put = draw(
            st.sampled_from(
                [b"", b'"', b"[", b"]", b".", b"\n", b"=", b"{", b"'''", b"\\", b"\0", b"\xff",
                 b"1", b"[roles.", b"true", b"9999-12-31T23:59:59-23:59", raw[start:end] * 2]
            )
            | st.binary(max_size=5)
        )
        raw = raw[:start] + put + raw[end:]
    return kind, raw


@given(spoiled())
@settings(max_examples=300)
def test_a_spoiled_file_is_read_or_refused(case: tuple[str, bytes]) -> None:
    read_or_refuse(*case)


values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        texts,
        st.integers(),
        st.booleans(),
        moments,
        st.lists(texts, max_size=3),
        st.sampled_from([HEX, "observer", "owner:", "a", "/", "edge//", "h:1", "@a", "é" * 40]),
    ),
    lambda inner: st.dictionaries(texts | names, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def reshaped(draw: st.DrawFn) -> tuple[str, bytes]:
    """A whole file with a field replaced, added, renamed or left out, at any depth."""
    kind = draw(kinds)
    table = tomllib.loads(WHOLE[kind])
    for _ in range(draw(st.integers(1, 3))):
        at = table
        while True:
            inner = [each for each in at.values() if isinstance(each, dict)]
            if not inner or draw(st.booleans()):
                break
            at = draw(st.sampled_from(inner))
        name = draw(st.sampled_from(sorted(at)) if at else names)
        match draw(st.sampled_from(["replace", "add", "rename", "drop", "copy"])):
            case "replace":
                at[name] = draw(values)
            case "add":
                at[draw(texts | names)] = draw(values)
            case "rename" if name in at:
                at[draw(texts | names)] = at.pop(name)
            case "copy" if name in at:
                at[draw(names)] = at[name]
            case _:
                at.pop(name, None)
    return kind, dump_toml(table).encode()


@given(reshaped())
@settings(max_examples=300)
def test_a_reshaped_file_is_read_or_refused(case: tuple[str, bytes]) -> None:
    read_or_refuse(*case)


tables: st.SearchStrategy[Any] = st.dictionaries(
    texts,
    st.one_of(
        texts, st.booleans(), st.integers(-(2**63), 2**63), moments, st.lists(texts, max_size=4)
    )
    | st.deferred(lambda: tables),
    max_size=4,
)


@given(tables)
def test_every_table_reads_back_equal(table: Any) -> None:
    written = dump_toml(table)

    assert parse_toml(written.encode(), "file") == table
    assert all(line.isprintable() for line in written.split("\n"))


# --- what is written reads back ---


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.toml"


@within_a_test
@given(names, texts, moments)
def test_a_pair_reads_back_equal(name: str, comment: str, at: datetime) -> None:
    pair = make_pair_anew(name, comment=comment, at=at)

    assert read_pair(name) == pair
    assert oct(os.stat(secret_file(name)).st_mode)[-3:] == "600"
    assert pair.secret.hex() not in repr(pair)


@within_a_test
@given(st.dictionaries(names, st.tuples(publics, texts, texts, moments, st.booleans()), max_size=5))
def test_an_allow_list_reads_back_equal(path: Path, wanted: dict[str, Any]) -> None:
    assume(len({public for public, *_ in wanted.values()}) == len(wanted))
    path.unlink(missing_ok=True)
    keys, revoked = {}, {}

    for name, (public, comment, role, at, is_revoked) in wanted.items():
        keys[name] = trust(path, PublicKey(name, public, comment), role=role, at=at)
        if is_revoked:
            revoked[name] = revoke(path, name, at=at)
            del keys[name]

    assert (read_trusted(path) if wanted else AllowList()) == AllowList(keys, revoked)


addresses = st.builds(
    Address, st.from_regex(r"\A[a-z0-9][a-z0-9.-]{0,10}\Z") | st.just("::1"), st.integers(0, 65535)
)

address_lists = st.lists(addresses, min_size=1, max_size=3)


@within_a_test
@given(
    st.dictionaries(names, st.tuples(address_lists, texts | st.none())),
    st.dictionaries(addresses, publics, max_size=3),
)
def test_contexts_read_back_equal(
    path: Path, wanted: dict[str, Any], pins: dict[Address, bytes]
) -> None:
    path.unlink(missing_ok=True)
    contexts = {
        name: NamedContext(name, tuple(where), key) for name, (where, key) in wanted.items()
    }

    for context in contexts.values():
        add_context(path, context)
    for address, public in pins.items():
        pin_instead(path, [address], public)

    assert read_contexts(path) == Contexts(None, contexts, pins)


def test_what_a_moment_is_does_not_depend_on_its_zone() -> None:
    there = datetime(2026, 1, 31, 12, tzinfo=UTC).astimezone(timezone(timedelta(hours=9)))

    assert tomllib.loads(dump_toml({"at": there}))["at"] == there
