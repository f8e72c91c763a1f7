"""The one-shot commands: what they print, to whom, and their exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    DynamicSettingsMetadata,
    GraphMetadata,
    UnitMetadata,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph import GraphServer

pytestmark = pytest.mark.integration

RUN_S = 30.0
HOSTILE = "evil\x1b[31m\ntopic <b>"
LONG = "a_long_topic_name_" * 20


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "EZGRAPH_ADDR"}
    return {**kept, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}


def ezgraph(*words: str, at: object = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command in a pipe."""
    where = [] if at is None else ["--address", str(at)]
    return subprocess.run(
        [sys.executable, "-m", "ezgraph", *where, *words],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_S,
        env=_environment(),
        check=False,
    )


def ezgraph_json(*words: str, at: object) -> Any:
    """Run one command with ``--json`` and return what it prints, strictly parsed."""
    done = ezgraph(*words, "--json", at=at)
    assert (done.returncode, done.stderr) == (0, "")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(done.stdout, parse_constant=refuse)


@pytest.fixture
def rig(server: GraphServer) -> Iterator[GraphServer]:
    """A broker with a session, a process, components, settings and edges of all kinds."""
    settings = {"gain": 2.0, "nothing": float("nan"), "raw": b"\x00\x01"}
    unit = UnitMetadata(
        "SYS/UNIT_A",
        "UNIT_A",
        "rig.Unit",
        "rig.Settings",
        (None, settings),
        DynamicSettingsMetadata(enabled=True),
    )
    address = server.address
    with sync.GraphContext(address) as ctx, sync.ProcessControlClient(address) as process:
        ctx.register_metadata(GraphMetadata(root_name="SYS", components={unit.address: unit}))
        ctx.connect("SYS/UNIT_A/OUT", HOSTILE)
        ctx.connect("SYS/UNIT_A/OUT", LONG)
        sync.GraphService(address).connect("kept", "for good", reason="the \x1b[1m reason")
        process.register(["SYS/UNIT_A"])
        process.report_settings_update("SYS/UNIT_A", {**settings, "gain": 3.0})
        yield server


def test_status_says_how_the_broker_is(rig: GraphServer) -> None:
    said = ezgraph("status", at=rig.address)

    assert (said.returncode, said.stderr) == (0, "")
    assert f"broker   {rig.address}" in said.stdout
    assert "1 session, 1 process, 1 component, 3 edges" in said.stdout
    assert "keys     none: every user of its host may command it" in said.stdout
    told = ezgraph_json("status", at=rig.address)
    assert told["address"] == str(rig.address)
    assert (told["sessions"], told["edges"], told["epoch"]) == (1, 3, 1)


def test_every_command_that_only_looks_leaves_no_event_behind(rig: GraphServer) -> None:
    before = sync.GraphService(rig.address).sync()

    for words in (["status"], ["ls"], ["graph"], ["snapshot"], ["log"]):
        assert ezgraph(*words, at=rig.address).returncode == 0

    assert sync.GraphService(rig.address).sync() == before


def test_every_listing_has_its_json(rig: GraphServer) -> None:
    everything = ezgraph_json("ls", at=rig.address)
    edges = ezgraph_json("ls", "edges", at=rig.address)

    assert list(everything) == ["sessions", "processes", "edges", "components", "settings"]
    assert [each["kind"] for each in everything["sessions"]] == ["session"]
    assert everything["processes"][0]["units"] == ["SYS/UNIT_A"]
    assert everything["edges"] == edges
    assert [each["to_topic"] for each in edges] == [LONG, HOSTILE, "for good"]
    assert edges[2]["owners"] == ["persistent"]
    assert everything["components"][0]["kind"] == "unit"
    value = everything["settings"][0]["value"]["structured_value"]
    assert value == {"gain": 3.0, "nothing": "NaN", "raw": "AAE="}
    assert everything["settings"][0]["layer"] == "live"


def test_a_snapshot_has_its_json(rig: GraphServer) -> None:
    taken = ezgraph_json("snapshot", at=rig.address)

    assert taken["graph"]["kept"] == ["for good"]
    kept = {"from_topic": "kept", "to_topic": "for good", "owners": ["persistent"]}
    assert kept in taken["edges"]
    assert list(taken["settings"]) == ["SYS/UNIT_A"]
    assert taken["seq"] == sync.GraphService(rig.address).sync()


@pytest.mark.parametrize(
    "words", [["status"], ["ls"], ["graph"], ["graph", "-f", "mermaid"], ["snapshot"], ["log"]]
)
def test_in_a_pipe_lines_are_whole_and_plain(rig: GraphServer, words: list[str]) -> None:
    said = ezgraph(*words, at=rig.address)

    assert said.returncode == 0
    assert all(line.isprintable() for line in said.stdout.splitlines())
    assert "…" not in said.stdout
    if words[0] != "status":
        assert LONG in said.stdout
        assert "\\x1b" in said.stdout or "#92;x1b" in said.stdout


def test_on_a_terminal_there_is_colour_and_no_line_is_wider_than_it(rig: GraphServer) -> None:
    said = _on_a_terminal("--address", str(rig.address), "log")

    assert "\x1b[" in said
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.splitlines()]
    assert any("connected  edge SYS" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def _on_a_terminal(*words: str) -> str:
    """Run one command on a terminal of 80 columns, and return all it writes."""
    ours, its = pty.openpty()
    environment = {**_environment(), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "ezgraph", *words]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        said = b""
        while select.select([ours], [], [], RUN_S)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's word for the end of a terminal
                break
            if not part:
                break
            said += part
        process.wait(RUN_S)
    os.close(ours)
    return said.decode()


@pytest.mark.parametrize(
    ("fmt", "begins"), [("text", LONG), ("mermaid", "flowchart RL"), ("graphviz", "digraph")]
)
def test_the_wiring_is_drawn_in_three_formats(rig: GraphServer, fmt: str, begins: str) -> None:
    words = ["graph", "--format", fmt, "--direction", "RL"]

    drawn = ezgraph(*words, at=rig.address).stdout

    assert begins in drawn
    assert ezgraph_json(*words, at=rig.address)["drawing"].strip() == drawn.strip()


def test_persistent_edges_are_made_and_removed(server: GraphServer) -> None:
    assert ezgraph_json("connect", "A", "B", at=server.address) == {"seq": 1}
    again = ezgraph("connect", "A", "B", at=server.address)
    removed = ezgraph("disconnect", "A", "B", "--reason", "over", at=server.address)

    assert (again.returncode, again.stdout) == (0, "A -> B is persistent  (seq 1)\n")
    assert removed.stdout == "A -> B is no longer persistent  (seq 2)\n"
    assert "because: over" in ezgraph("log", at=server.address).stdout


def test_a_refusal_is_exit_code_1_and_one_line_that_says_why(server: GraphServer) -> None:
    ezgraph("connect", "A", "B", at=server.address)

    loop = ezgraph("connect", "B", "A", at=server.address)
    unknown = ezgraph("disconnect", "X", "Y", at=server.address)

    assert (loop.returncode, loop.stdout) == (1, "")
    assert loop.stderr.startswith("ezgraph: edge 'B' -> 'A' would close the loop")
    assert loop.stderr.count("\n") == 1
    assert unknown.returncode == 1


def test_pausing_and_going_on_is_state(server: GraphServer) -> None:
    ezgraph("pause", at=server.address)
    assert ezgraph_json("status", at=server.address)["paused"] is True
    assert "state    paused" in ezgraph("status", at=server.address).stdout

    ezgraph("resume", at=server.address)
    assert ezgraph_json("status", at=server.address)["paused"] is False


def test_shutdown_refuses_while_sessions_live_and_nobody_can_be_asked(rig: GraphServer) -> None:
    refused = ezgraph("shutdown", at=rig.address)

    assert refused.returncode == 1
    assert "live session(s)" in refused.stderr
    assert "--force" in refused.stderr
    assert rig.running


def test_shutdown_with_force_ends_the_broker(server: GraphServer) -> None:
    with sync.GraphContext(server.address):
        assert ezgraph("shutdown", "--force", at=server.address).returncode == 0

    assert ezgraph("--timeout", "0.3", "status", at=server.address).returncode == 3


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["ls", "edges", "--json"],
        ["watch"],
        ["log"],
        ["connect", "A", "B"],
        ["graph"],
        ["shutdown"],
    ],
)
def test_without_a_broker_it_is_exit_code_3_and_one_line(words: list[str]) -> None:
    with socket.socket() as taken:  # bound, not listening: nobody else answers there
        taken.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*taken.getsockname())

        said = ezgraph("--timeout", "0.3", *words, at=address)

    assert (said.returncode, said.stdout) == (3, "")
    assert said.stderr.count("\n") == 1
    assert address in said.stderr
    assert "HELLO" in said.stderr
    assert "`ezgraph serve`" in said.stderr


def test_waiting_for_a_broker_ends_at_the_time_given() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*taken.getsockname())

        said = ezgraph("status", "--wait", "--timeout", "0.3", at=address)

    assert said.returncode == 3


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["ls", "cables"],
        ["connect", "A"],
        ["watch", "edge/a/b/c"],
        ["log", "--after", "soon"],
        ["graph", "--format", "oil"],
        ["graph", "--compact-level", "1"],
        ["--address", "nonsense", "status"],
        ["serve", "--durability", "maybe"],
        ["serve", "--config", "absent.toml"],
        ["serve", "--address", "0.0.0.0:0", "--backend", "memory"],
    ],
)
def test_what_cannot_be_meant_is_exit_code_2(words: list[str]) -> None:
    said = ezgraph(*words)

    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr
    assert "Traceback" not in said.stderr


def test_the_address_may_stand_before_or_after_the_command(server: GraphServer) -> None:
    before = ezgraph("--address", str(server.address), "status")
    after = ezgraph("status", "-a", str(server.address))

    assert (before.returncode, after.returncode) == (0, 0)


def test_the_log_can_be_narrowed(rig: GraphServer) -> None:
    def seqs(*words: str) -> list[int]:
        said = ezgraph("log", "--json", *words, at=rig.address)
        assert said.returncode == 0, said.stderr
        return [json.loads(line)["seq"] for line in said.stdout.splitlines()]

    head = sync.GraphService(rig.address).sync()
    everything = seqs()
    by_process = seqs("--key", "process")

    assert everything == list(range(1, head + 1))
    assert seqs("--after", "3", "--until", "5") == [4, 5]
    assert seqs("-n", "2") == [head - 1, head]
    assert seqs("--after", "1h") == everything
    assert seqs("--until", "1h") == []
    assert seqs("--key", "settings/SYS/UNIT_A") == seqs("--key", "settings/SYS/")
    assert 0 < len(by_process) < len(everything)
    assert seqs("--who", str(os.getpid())) == []
    assert seqs("--who", "EZGRAPH", "--key", "edge") == []
    ezgraph("connect", "by", "hand", at=rig.address)
    assert seqs("--who", "ezgraph") == [head + 1]


def test_a_reader_that_has_seen_enough_is_no_error(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        for number in range(1_500):
            ctx.connect(f"topic number {number}", "sink")
    command = [sys.executable, "-m", "ezgraph", "-a", str(server.address), "log"]

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        complaints = process.stderr.read()
        code = process.wait(RUN_S)

    assert (code, complaints) == (0, b"")


def test_help_tells_the_exit_codes() -> None:
    said = ezgraph("--help")

    assert said.returncode == 0
    assert "3 no broker answered" in " ".join(said.stdout.split())
