"""Addresses of stores: how they are read, compared and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ezgraph.backends import Backend, Connection, MemoryBackend, SQLiteBackend, masked
from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = """
from dataclasses import dataclass
from ezgraph.backends import Backend, MemoryBackend

@dataclass(frozen=True)
class TapeBackend(Backend):
    reel: str

    @classmethod
    def parse(cls, url):
        return cls(url.partition("://")[2])

    @property
    def url(self):
        return f"tape://{self.reel}"

    def connect(self):
        return MemoryBackend().connect()

not_a_backend = 5
"""
ENTRY_POINTS = """
[ezgraph.backends]
tape = ezgraph_tape:TapeBackend
torn = ezgraph_tape:TornBackend
five = ezgraph_tape:not_a_backend
"""


@dataclass(frozen=True)
class PasswordBackend(Backend[Connection]):
    """As a third party would write it, with the default ``repr`` of a dataclass."""

    password: str

    @classmethod
    def parse(cls, url: str) -> PasswordBackend:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"tape://me:{self.password}@host/reel"

    def connect(self) -> Connection:
        raise NotImplementedError


@pytest.fixture
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that brings backends of its own."""
    info = tmp_path / "ezgraph_tape-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ezgraph-tape\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "ezgraph_tape.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("url", "backend"),
    [
        ("memory://", MemoryBackend()),
        ("sqlite:///rig.db", SQLiteBackend("rig.db")),
        ("SQLITE:///rig.db", SQLiteBackend("rig.db")),
        ("sqlite:///a/b%20c%3F%23%25.db", SQLiteBackend("a/b c?#%.db")),
        ("sqlite:////var/lib/rig.db", SQLiteBackend("/var/lib/rig.db")),
        ("sqlite:///a@b:c.db", SQLiteBackend("a@b:c.db")),
        ("sqlite:///rig.db?synchronous=normal", SQLiteBackend("rig.db", "NORMAL")),
        ("sqlite:///rig.db?synchronous=FULL", SQLiteBackend("rig.db")),
        ("sqlite:////rig.db?synchronous=EXTRA", SQLiteBackend("/rig.db", synchronous="EXTRA")),
    ],
)
def test_a_url_and_its_backend_stand_for_each_other(url: str, backend: Backend[Connection]) -> None:
    found = Backend.from_url(url)

    assert found == backend
    assert hash(found) == hash(backend)
    assert Backend.from_url(backend.url) == backend


def test_a_path_object_is_the_same_as_its_text(tmp_path: Path) -> None:
    assert SQLiteBackend(tmp_path / "rig.db") == SQLiteBackend(f"{tmp_path}/rig.db")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "known schemes are ezgraph, memory, sqlite"),
        ("rig.db", "known schemes are ezgraph, memory, sqlite"),
        ("postgres://host/db", "known schemes are ezgraph, memory, sqlite"),
        ("memory://name", "it has no name"),
        ("memory:", "it has no name"),
        ("sqlite://rig.db", "three or four slashes"),
        ("sqlite://host/rig.db", "three or four slashes"),
        ("sqlite:rig.db", "three or four slashes"),
        ("sqlite:///rig#1.db", "'#' as %23"),
        ("sqlite://", "three or four slashes"),
        ("sqlite:///", "is no file path"),
        ("sqlite:///:memory:", "use 'memory://'"),
        ("sqlite:///a%00b", "is no file path"),
        ("sqlite:///rig.db?synchronous=OFF", "NORMAL, FULL, EXTRA"),
        ("sqlite:///rig.db?synchronous=", "NORMAL, FULL, EXTRA"),
        ("sqlite:///rig.db?mode=ro", "unknown option mode"),
    ],
)
def test_a_url_that_will_not_do_is_refused_with_a_way_out(url: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Backend.from_url(url)

    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("x://user:pw@host/db", "x://***@host/db"),
        ("x://token@host", "x://***@host"),
        ("x://user:p@ss/w?o#rd@host/db", "x://***@host/db"),
        ("x:user:pw@host", "x:***@host"),
        ("x://host/db?a=1&password=pw&b=2", "x://host/db?a=1&password=***&b=2"),
        ("x://host/?API_KEY=k&authToken=t", "x://host/?API_KEY=***&authToken=***"),
        ("sqlite:////data/a@b.db?synchronous=FULL", "sqlite:////data/a@b.db?synchronous=FULL"),
        ("memory://", "memory://"),
    ],
)
def test_credentials_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize("url", ["x://u:hunter2@h/db", "sqlite://u:hunter2@h/db?secret=hunter2"])
def test_no_error_shows_credentials(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Backend.from_url(url)

    assert "hunter2" not in str(caught.value)


def test_a_fingerprint_is_that_of_the_address_without_credentials() -> None:
    backends = [SQLiteBackend("rig.db"), SQLiteBackend("other.db"), MemoryBackend()]

    assert len({each.fingerprint for each in backends}) == 3
    assert SQLiteBackend("rig.db").fingerprint == backends[0].fingerprint
    assert PasswordBackend("one").fingerprint == PasswordBackend("two").fingerprint


def test_a_connection_with_a_method_missing_cannot_be_made() -> None:
    names = sorted(Connection.__abstractmethods__)
    assert {"read_graph", "write_snapshot_tag", "untag", "close", "open_journal"} <= set(names)
    for missing in names:
        have = {name: lambda *_, **__: None for name in names if name != missing}
        partial = type("Partial", (Connection,), have)
        with pytest.raises(TypeError, match=missing):
            partial()
    type("Whole", (Connection,), {name: lambda *_, **__: None for name in names})()


def test_the_repr_shows_the_masked_url() -> None:
    assert repr(SQLiteBackend("rig.db")) == "<SQLiteBackend sqlite:///rig.db>"
    assert repr(PasswordBackend("hunter2")) == "<PasswordBackend tape://***@host/reel>"


@pytest.mark.usefixtures("_plugin")
def test_a_package_adds_a_scheme_by_entry_point() -> None:
    backend = Backend.from_url("tape://reel7")

    assert backend.url == "tape://reel7"
    with backend.connect() as connection:
        assert connection.open_journal().head == 0


@pytest.mark.usefixtures("_plugin")
def test_a_broken_package_is_named() -> None:
    with pytest.raises(ConfigError, match="'ezgraph_tape:TornBackend'"):
        Backend.from_url("torn://")
    with pytest.raises(ConfigError, match="is no ezgraph Backend"):
        Backend.from_url("five://")
    with pytest.raises(ConfigError, match="five, memory, sqlite, tape, torn"):
        Backend.from_url("disk://")
