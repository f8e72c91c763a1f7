"""Chaos with real processes: a short run of it, spoiled evidence, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from ezgraph.chaos.main import play
from ezgraph.chaos.rig import Rig
from ezgraph.chaos.schedule import Kind
from ezgraph.chaos.verdict import Verdict, judge
from ezgraph.chaos.view import PlainView
from ezgraph.clock import SystemClock
from ezgraph.errors import NotAdmittedError
from ezgraph.graph.context import GraphContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="cables need loopback addresses of Linux"),
]

COMMAND = [sys.executable, "-m", "ezgraph", "chaos"]
GONE_S = 5.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """As short a run as has every fault: its folder, what it said, and its complaints."""
    keep = tmp_path_factory.mktemp("chaos")
    done = subprocess.run(
        [*COMMAND, "--for", "22s", "--seed", "8", "--keep", str(keep), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    said["exit_code"] = done.returncode
    return keep, said, done.stderr


def test_a_run_with_every_fault_breaks_no_promise(
    run: tuple[Path, dict[str, Any], str],
) -> None:
    _, said, complaints = run

    assert said["broken"] == []
    assert (said["ok"], said["exit_code"], complaints) == (True, 0, "")
    assert set(said["faults"]) == {kind.value for kind in Kind}
    assert min(said["faults"].values()) >= 1, said["faults"]
    counts = said["counts"]
    assert counts["acknowledged"] >= 1_500
    assert counts["events"] >= 4_000
    assert counts["refused"] > 0
    assert counts["leases lost"] > 0
    assert counts["declared again"] > 0
    assert counts["leases taken over"] > 0
    assert counts["fingerprints compared"] >= 15
    for guarantee in ("G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10"):
        assert said["checked"].get(guarantee, 0) > 0, guarantee


def test_a_history_without_its_last_acknowledged_events_is_found_out(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    folder = copy_of(run[0], tmp_path / "copy", traces="wirer-*")
    lose_events(folder / "archive.db", after=run[1]["events"] * 2 // 3)

    assert "G4" in judged(folder).report.violations


def test_a_journal_that_is_not_what_it_was_is_found_out(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    folder = copy_of(run[0], tmp_path / "copy", traces="observer.trace")
    lose_events(folder / "journal.db", after=run[1]["events"] - 10)

    verdict = judged(folder)

    assert [each[:3] for each in verdict.seen] == ["G4:"]
    assert not verdict.report.violations


def test_a_watcher_that_was_given_one_event_less_is_found_out(
    run: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    watchers = (run[0] / "traces").glob("watcher-*.trace")
    longest = max(watchers, key=lambda path: path.stat().st_size).name
    folder = copy_of(run[0], tmp_path / "copy", traces=longest)
    trace = folder / "traces" / longest
    lines = trace.read_bytes().splitlines()
    given = [at for at, line in enumerate(lines) if b'"what":"event"' in line]
    trace.write_bytes(renumbered(lines, without=given[len(given) // 2]))

    assert set(judged(folder).report.violations) == {"G2"}


def copy_of(folder: Path, to: Path, *, traces: str) -> Path:
    """A copy of the evidence of a run, or of a part of it."""
    (to / "traces").mkdir(parents=True)
    for path in folder.glob("*.db*"):
        shutil.copy(path, to)
    for path in (folder / "traces").glob(traces):
        shutil.copy(path, to / "traces")
    return to


def renumbered(lines: Sequence[bytes], *, without: int) -> bytes:
    """A trace without one of its lines, numbers and checksums made anew, as a forger would."""
    kept: list[bytes] = []
    for line in [*lines[:without], *lines[without + 1 :]]:
        record = json.loads(line)
        del record["crc"]
        record["n"] = len(kept)
        text = json.dumps(record, separators=(",", ":")).encode()[:-1]
        kept.append(b'%b,"crc":"%08x"}' % (text, zlib.crc32(text)))
    return b"\n".join(kept) + b"\n"


def lose_events(journal: Path, *, after: int) -> None:
    journal.with_name(f"{journal.name}.lock").unlink()  # it notes how far the journal went
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("DELETE FROM events WHERE seq > ?", [after])
        db.execute("DELETE FROM checkpoints WHERE seq > ?", [after])


def judged(folder: Path) -> Verdict:
    verdict = judge(folder, seen=[], counts=Counter(), faults=Counter(), seed=8, elapsed_s=22.0)
    assert not verdict.ok
    return verdict


# --- nothing is left behind ---


def children_of(pid: int) -> set[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for one in lists for child in one.read_text().split()}


def is_gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def until(reached: Callable[[], bool], what: str) -> None:
    clock, pause = SystemClock(), threading.Event()
    began = clock.monotonic()
    while not reached():
        assert clock.monotonic() - began < GONE_S, f"waited in vain for {what}"
        pause.wait(0.02)


@contextmanager
def small_run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """A run of two clients that goes on for a minute, and the processes it has started."""
    runner = subprocess.Popen(
        [*COMMAND, "--for", "60s", "--clients", "2", "--plain", "--keep", str(tmp_path / "kept")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    traces = tmp_path / "kept" / "traces"
    try:
        until(lambda: len(list(traces.glob("*.trace"))) == 3, "an observer and two clients")
        yield runner, children_of(runner.pid)
    finally:
        runner.kill()
        runner.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_ends_all_its_processes(
    number: signal.Signals, tmp_path: Path
) -> None:
    with small_run(tmp_path) as (runner, children):
        runner.send_signal(number)
        said, _ = runner.communicate(timeout=20)

    assert runner.returncode == 130, said
    assert said.splitlines()[-1] == "stopped; all its processes have ended"
    assert all(is_gone(child) for child in children)


def test_a_run_that_is_killed_takes_all_its_processes_along_the_stopped_ones_too(
    tmp_path: Path,
) -> None:
    with small_run(tmp_path) as (runner, children):
        os.kill(min(children), signal.SIGSTOP)
        os.kill(max(children), signal.SIGSTOP)

        runner.kill()
        runner.wait()

        until(lambda: all(is_gone(child) for child in children), "the end of all children")


def test_a_run_that_meets_an_error_of_its_own_ends_all_its_processes(tmp_path: Path) -> None:
    class BrokenView(PlainView):
        def begin(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(
            play(tmp_path, BrokenView(Console(quiet=True), for_s=5.0), for_s=5.0, clients=1, seed=1)
        )

    assert not any("ezgraph.chaos" in command_of(child) for child in children_of(os.getpid()))


def test_a_run_with_keys_has_a_broker_that_admits_its_clients_and_nobody_else(
    tmp_path: Path,
) -> None:
    async def scenario() -> Rig:
        async with Rig(tmp_path, clients=2, seed=1, with_keys=True) as rig:
            await rig.start_clients()
            with pytest.raises(NotAdmittedError):
                await GraphContext(rig.address, program="nobody").open(timeout=10.0)
            await rig.settle()
        return rig

    rig = asyncio.run(scenario())

    assert rig.broken == []
    assert rig.counts["acknowledged"] > 0


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""
