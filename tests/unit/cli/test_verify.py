"""``ezgraph verify``: its exit codes and its report, without a process of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from ezgraph.backends import Backend, JournalMeta, Record
from ezgraph.cli.main import app
from ezgraph.names import topic_of
from ezgraph.protocol.commands import Connect, SetPause
from ezgraph.testing.traces import CLUSTER, TracedProgram, header
from ezgraph.verify.trace_file import header_line, record_line
from ezgraph.wire import codec

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def ezgraph(*words: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, words)])


@pytest.fixture
def traced() -> TracedProgram:
    program = TracedProgram()
    program.watch(0)
    program.run([(0, Connect("a", "b")), (2, SetPause(paused=True)), (0, Connect("b", "a"))])
    program.deliver()
    return program


@pytest.fixture
def trace(tmp_path: Path, traced: TracedProgram) -> Path:
    path = tmp_path / "client.trace"
    lines = [
        record_line("00000000", each.number, each.body, mono=each.mono, wall=each.wall)
        for each in traced.traces()[0]
    ]
    path.write_bytes(header_line(header(0), mono=0.0, wall=1e9) + b"".join(lines))
    return path


@pytest.fixture
def journal(tmp_path: Path, traced: TracedProgram) -> str:
    url = f"sqlite:///{tmp_path / 'rig.db'}"
    records = [
        Record(each.seq, topic_of(each.key), codec.encode_event(each).event)
        for each in traced.program.events
    ]
    with (
        Backend.from_url(url).connect() as connection,
        connection.open_journal(identity=JournalMeta(CLUSTER, 1, b"s" * 32, 1e9)) as opened,
    ):
        opened.append(records)
    return url


def test_zero_when_every_promise_was_kept(trace: Path, journal: str) -> None:
    done = ezgraph(trace, "--journal", journal)

    assert done.exit_code == 0, done.output
    assert "Every promise was kept, as far as checked: 1 trace against" in done.output
    assert "Complete or told" in done.output


def test_the_journal_may_be_named_by_its_file(trace: Path, journal: str) -> None:
    done = ezgraph(trace, "--journal", journal.removeprefix("sqlite:///"))

    assert done.exit_code == 0, done.output
    assert "Complete or told" in done.output


def test_one_when_one_was_not_and_the_line_says_which_where_and_what(
    trace: Path, journal: str
) -> None:
    lines = trace.read_bytes().splitlines(keepends=True)
    trace.write_bytes(b"".join([*lines[:3], *lines[4:]]))

    done = ezgraph(trace, "--journal", journal)

    assert done.exit_code == 1
    assert "trace: 1 violation" in done.output
    assert "1 of the records 3 to 3 are missing" in done.output
    assert f"{trace}, record 2" in done.output


def test_json_has_all_of_it(trace: Path, journal: str) -> None:
    found = json.loads(ezgraph(trace, "--journal", journal, "--json").output)

    assert found["ok"] is True
    assert found["cluster_id"] == CLUSTER
    assert found["traces"][0]["ending"] == "complete"
    assert {each["guarantee"]: each["violations"] for each in found["guarantees"]}["G10"] == 0


def test_without_a_journal_little_is_checked_and_that_is_said(trace: Path) -> None:
    done = ezgraph(trace)

    assert done.exit_code == 0
    assert "no journal was given" in done.output


def test_many_findings_are_shown_in_part_and_counted(trace: Path, journal: str) -> None:
    lines = trace.read_bytes().splitlines(keepends=True)
    trace.write_bytes(b"".join([*lines, *lines[1:] * 5]))

    done = ezgraph(trace, "--journal", journal)

    assert done.exit_code == 1
    assert "more; --json writes" in done.output


def test_two_for_what_is_no_trace(tmp_path: Path, journal: str) -> None:
    (tmp_path / "text").write_text("hello\n" * 10)

    for path, said in [("text", "is no trace of ezgraph"), ("nowhere", "cannot read the trace")]:
        done = ezgraph(tmp_path / path, "--journal", journal)

        assert done.exit_code == 2
        assert said in done.output


@pytest.mark.parametrize(
    ("url", "said"), [("tape:///reel", "no backend for"), ("sqlite:///{0}/nowhere.db", "nowhere")]
)
def test_two_for_what_is_no_journal(tmp_path: Path, trace: Path, url: str, said: str) -> None:
    done = ezgraph(trace, "--journal", url.format(tmp_path))

    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "nowhere.db").exists()
