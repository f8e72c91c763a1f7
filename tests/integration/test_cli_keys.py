"""``ezgraph keys`` and ``context`` with programs, brokers and terminals."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ezgraph import BrokerConfig, GraphServer
from ezgraph.config import Address
from ezgraph.keys.folder import trusted_file
from ezgraph.keys.trusted import read_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

RUN_S = 30.0


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EZGRAPH_ADDR", "EZGRAPH_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")


def ezgraph(*words: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "ezgraph", *words],
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_S,
        check=False,
    )


def done(*words: str) -> str:
    """Run one command that has nothing to complain about; return what it says."""
    said = ezgraph(*words)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


@pytest.fixture
def guarded() -> Iterator[GraphServer]:
    """A broker with a key, which admits whom ``ezgraph keys trust`` names."""
    done("keys", "new", "broker")
    config = BrokerConfig(address=Address("127.0.0.1", 0), require_keys=True)
    with GraphServer(config=config) as running:
        yield running


def test_programs_that_trust_at_once_lose_nothing() -> None:
    lines = [done("keys", "new", f"k{number}") for number in range(4)]

    running = [
        subprocess.Popen(
            [sys.executable, "-m", "ezgraph", "keys", "trust", line, "--role", "observer"],
            stdout=subprocess.DEVNULL,
        )
        for line in lines
    ]

    assert [each.wait(RUN_S) for each in running] == [0] * 4
    assert sorted(read_trusted(trusted_file()).keys) == ["k0", "k1", "k2", "k3"]


def test_a_broker_without_keys_is_reached_by_its_context(server: GraphServer) -> None:
    done("context", "add", "rig", str(server.address), "--select")

    assert json.loads(done("connect", "A", "B", "--json"))["seq"] == 1
    assert "connected" in done("log", "-c", "rig")


def test_a_key_opens_what_its_role_grants_until_it_is_revoked(guarded: GraphServer) -> None:
    line = done("keys", "new", "alice")
    done("keys", "trust", line, "--role", "observer")
    broker = done("keys", "export", "broker").rstrip("\n")
    where = str(guarded.address)
    done("context", "add", "lab", where, "--keys", "alice", "--broker", broker, "--select")

    seen = json.loads(done("status", "--json"))
    assert seen["address"] == where
    forbidden = ezgraph("connect", "A", "B")
    assert (forbidden.returncode, "alice" in forbidden.stderr) == (1, True)
    done("keys", "trust", line, "--role", "operator")
    assert _until(0, "connect", "A", "B")
    assert ezgraph("-a", where, "-c", "lab", "--keys", "broker", "status").returncode == 3
    done("keys", "revoke", "alice")
    assert _until(3, "status")


def _until(code: int, *words: str) -> bool:
    """Run a command until it ends so: brokers see changes of files when they next look."""
    return any(ezgraph("--timeout", "2", *words).returncode == code for _ in range(10))
