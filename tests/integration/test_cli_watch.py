"""``ezgraph watch``: live, from a seq on, across a restart of the broker, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import GraphServer, SettingsSnapshotValue, sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WAIT_S = 30.0


class _Watching:
    """A watch in a process, and its lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        """Return the next line; an empty one when there is none in time."""
        assert self._process.stdout is not None
        timer = threading.Timer(WAIT_S, self._process.kill)
        timer.start()
        try:
            return self._process.stdout.readline()
        finally:
            timer.cancel()
            timer.join()

    def event(self) -> Any:
        """Return the next line as an event."""
        return json.loads(self.line())

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit code and what stood on standard error."""
        assert self._process.stderr is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(WAIT_S), self._process.stderr.read()


@contextmanager
def _watch(server: GraphServer, *words: str) -> Iterator[_Watching]:
    command = [sys.executable, "-m", "ezgraph", "-a", str(server.address), "watch", *words]
    environment = {name: value for name, value in os.environ.items() if name != "EZGRAPH_ADDR"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    ) as process:
        try:
            yield _Watching(process)
        finally:
            process.kill()


def test_it_shows_what_was_and_then_what_comes_and_ctrl_c_ends_it(server: GraphServer) -> None:
    service = sync.GraphService(server.address)
    service.connect("a", "b")

    with _watch(server, "--after", "0", "--json") as watching:
        assert watching.event()["body"]["from_topic"] == "a"
        service.connect("b", "c")
        live = watching.event()
        ended = watching.interrupt()

    assert (live["seq"], live["kind"], live["key"]) == (2, "EdgeConnected", ["edge", "b", "c"])
    assert ended == (0, "")


def test_a_line_reads_as_seq_time_verb_key_what_who(server: GraphServer) -> None:
    with sync.ProcessControlClient(server.address) as process:
        process.register(["SYS/A"])
        process.report_settings_update("SYS/A", {"gain": 1.0, "order": 4})
        process.report_settings_update("SYS/A", {"gain": 2.0, "order": 4}, reason="too quiet")

        with _watch(server, "settings/SYS/A", "--after", "0") as watching:
            first, second = watching.line(), watching.line()

    assert first.split()[0] == "3"
    assert "changed    settings/SYS/A            gain=1.0 order=4  by " in first
    assert "gain=2.0 (was 1.0) order=4  because: too quiet  by " in second
    assert f"[{os.getpid()}]@" in second
    assert "\x1b" not in first + second


def test_a_prefix_that_ends_in_a_slash_shows_all_below(server: GraphServer) -> None:
    with sync.ProcessControlClient(server.address) as process:
        process.register(["SYS/A", "SYS2/A", "SYS/B"])
        for unit in ("SYS2/A", "SYS/A", "SYS/B"):
            process.report_settings_update(unit, SettingsSnapshotValue(None, "on"))

        with _watch(server, "settings/SYS/", "--after", "0", "--json") as watching:
            seen = [watching.event()["key"][1] for _ in range(2)]

    assert seen == ["SYS/A", "SYS/B"]


def test_it_goes_on_after_a_restart_of_the_broker(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path}/rig.db"
    with GraphServer(backend=journal) as first:
        address = first.address
        service = sync.GraphService(address)
        service.connect("a", "b")
        with _watch(first, "--after", "0", "--json") as watching:
            seen = [watching.event()["seq"]]
            first.stop()

            with GraphServer(address, backend=journal):
                service.connect("b", "c", timeout=WAIT_S)
                service.connect("c", "d")
                seen += [watching.event()["seq"], watching.event()["seq"]]
                code, _ = watching.interrupt()

    assert seen == [1, 2, 3]
    assert code == 0


def test_another_history_at_the_same_address_ends_it_with_code_1() -> None:
    with GraphServer() as first:
        address = first.address
        sync.GraphService(address).connect("a", "b")
        with _watch(first, "--after", "0", "--json") as watching:
            watching.event()
            first.stop()

            with GraphServer(address):
                assert watching.line() == ""
                code, complaint = watching.interrupt()

    assert code == 1
    assert "another journal, or a new memory:// broker" in complaint.splitlines()[-1]
