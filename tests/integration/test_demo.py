"""The demo as a user runs it: to its verdict, spoiled on purpose, and stopped in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ezgraph import sync
from ezgraph.demo.main import run_and_judge, run_demo
from ezgraph.demo.rig import Rig
from ezgraph.demo.verdict import compare, journal_url, read_journal
from ezgraph.errors import ConfigError, EzGraphError
from ezgraph.graph.server import GraphServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

DEMO = (
    "import sys; from pathlib import Path; from ezgraph.demo.main import run_demo; "
    "sys.exit(run_demo(pace=0, plain=True, keep=Path(sys.argv[1]) if sys.argv[1:] else None))"
)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def pids_in(text: str) -> set[int]:
    return {int(pid) for pid in re.findall(r"\(pid (\d+)\)", text)}


def test_the_demo_ends_with_a_verdict_that_its_own_files_bear_out(tmp_path: Path) -> None:
    keep = tmp_path / "kept"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DEMO, str(keep)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    last = done.stdout.splitlines()[-1]
    assert last.startswith("verdict: OK, nothing lost: ")
    assert "3 kills" in last
    journal = read_journal(keep / "journal.db")
    lines = (keep / "record.jsonl").read_text().splitlines()
    verdict = compare(journal, lines)
    assert verdict.ok, verdict.differences
    assert f"{verdict.settings} settings and {verdict.topology} topology events" in last
    assert [event.seq for event in journal] == list(range(1, len(journal) + 1))
    assert f"{len(journal)} events, seq 1 to {len(journal)}" in last
    kinds = {json.loads(line)["kind"] for line in lines}
    assert kinds == {
        "EdgeConnected",
        "EdgeDisconnected",
        "ProcessClosed",
        "ProcessUnitsChanged",
        "SettingsChanged",
    }
    assert "got the 3 it had missed" in done.stdout
    assert len(pids_in(done.stdout)) == 8  # five processes, three of them started twice
    assert all(gone(pid) for pid in pids_in(done.stdout))


def test_a_record_that_was_tampered_with_gives_exit_code_1_and_says_what_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lose_one_and_change_one(record: Path) -> None:
        lines = record.read_text().splitlines()
        lines[3] = lines[3].replace('"epoch": 1', '"epoch": 2')
        del lines[-2]
        record.write_text("\n".join(lines) + "\n")

    code = run_and_judge(
        pace=0, keep=None, plain=True, before_verdict=lose_one_and_change_one
    )

    said = capsys.readouterr().out
    assert code == 1
    assert "is in the journal and not in the record" in said
    assert "epoch is 2, in the journal 1" in said
    assert said.splitlines()[-1].startswith("verdict: NOT OK, 2 differences")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_no_process_and_no_folder(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEMO],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        said = ""
        while "step 4 of 8" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line

        demo.send_signal(number)
        said += demo.communicate(timeout=20)[0]

    assert demo.returncode == 130, said
    assert said.splitlines()[-1] == "stopped; all its processes have ended"
    assert "Traceback" not in said
    assert len(pids_in(said)) >= 5
    assert all(gone(pid) for pid in pids_in(said))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_an_earlier_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.db").touch()

    with pytest.raises(ConfigError, match=r"journal\.db of an earlier run; name a new folder"):
        run_demo(pace=0, keep=tmp_path, plain=True)


def test_a_negative_pace_is_refused() -> None:
    with pytest.raises(ConfigError, match="pace -1"):
        run_demo(pace=-1)


def run_recorder(address: str, record: Path, *, until: str) -> list[dict[str, object]]:
    """Run a recorder until it has said ``until``, stop it, and return all it said."""
    command = ["-m", "ezgraph.demo.roles", "recorder", "--address", address]
    with subprocess.Popen(
        [sys.executable, *command, "--record", str(record)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as recorder:
        assert recorder.stdin is not None
        assert recorder.stdout is not None
        said = []
        for line in recorder.stdout:
            said.append(json.loads(line))
            if until in said[-1]:
                recorder.stdin.close()
    assert recorder.returncode == 0
    return said


def test_a_recorder_cuts_a_torn_line_and_resumes_without_loss_or_repetition(tmp_path: Path) -> None:
    journal, record = tmp_path / "journal.db", tmp_path / "record.jsonl"
    with (
        GraphServer(backend=journal_url(journal)) as server,
        sync.GraphContext(server.address) as ctx,
    ):
        address = str(server.address)
        ctx.connect("A", "B")
        run_recorder(address, record, until="joined")
        whole = record.read_text().splitlines()
        torn = record.read_bytes()[:-20]
        record.write_bytes(torn)
        ctx.disconnect("A", "B")

        said = run_recorder(address, record, until="joined")

    resumed_after = json.loads(whole[-2])["seq"]
    assert said[0]["resumed_after"] == resumed_after
    assert said[0]["cut_bytes"] == len(whole[-1]) + 1 - 20
    verdict = compare(read_journal(journal), record.read_text().splitlines())
    assert verdict.ok, verdict.differences


def test_a_role_that_dies_unasked_ends_the_demo_with_its_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path, on_event=lambda *_: None, on_change=lambda: None)
        async with rig:
            await rig.start_broker()
            source = await rig.start("source")
            await rig.until(lambda: source.state == "running", "the source runs")
            assert source.pid is not None
            os.kill(source.pid, signal.SIGKILL)
            await rig.until(lambda: False, "never")

    with pytest.raises(EzGraphError, match="the source failed with exit code -9"):
        asyncio.run(scenario())
