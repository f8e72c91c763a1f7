"""``ezgraph keys`` and ``context`` with programs, brokers and terminals."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ezgraph import BrokerConfig, GraphServer
from ezgraph.cli import watch
from ezgraph.cli.guest import guest
from ezgraph.cli.options import Target
from ezgraph.clock import Deadline
from ezgraph.config import Address
from ezgraph.keys.client_keys import find_keys, resolve_context
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


def test_watch_says_that_its_key_is_not_admitted_any_more(
    guarded: GraphServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done("keys", "trust", done("keys", "new", "alice"), "--role", "observer")
    broker = done("keys", "export", "broker").rstrip("\n")
    done("context", "add", "lab", str(guarded.address), "--keys", "alice", "--broker", broker)
    monkeypatch.setattr(watch, "_SILENT_S", 0.0)
    place = resolve_context("lab")
    alice = Target(place.addresses, RUN_S, True, find_keys(place.key, place.addresses))
    with guest(alice) as session:
        subscription = session.watch((), None)
        silence = watch.Silence(session, subscription)
        subscription.next_within(RUN_S)
        silence.look()
        assert capsys.readouterr().err == ""

        done("keys", "revoke", "alice")

        said, patience = "", Deadline(RUN_S)
        while "does not admit key 'alice'" not in said and patience.left() > 0:
            silence.look()
            said += capsys.readouterr().err
        silence.look()
        said += capsys.readouterr().err
        assert said.count("does not admit key 'alice'") == 1, said


def test_status_names_the_port_of_each_read_scope_to_who_may_read_everything(
    guarded: GraphServer, tmp_path: Path
) -> None:
    (tmp_path / "ezgraph" / "roles.toml").write_text('[roles.few]\nread = ["settings"]\n')
    broker = done("keys", "export", "broker").rstrip("\n")
    done("keys", "pin", str(guarded.address), broker)
    for name, role in (("alice", "observer"), ("bob", "few")):
        done("keys", "trust", done("keys", "new", name), "--role", role)
    _until(0, "status", "-a", str(guarded.address), "--keys", "bob")

    everything, few = (
        json.loads(done("status", "--json", "-a", str(guarded.address), "--keys", name))
        for name in ("alice", "bob")
    )

    first, second = everything["scope_ports"]
    assert (first, few["events_port"]) == (everything["events_port"], second)
    assert few["scope_ports"] == [second]
    text = done("status", "-a", str(guarded.address), "--keys", "alice")
    assert f"events on port {first}, of other read scopes on {second}" in text
