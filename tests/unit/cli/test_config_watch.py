"""Changes of configuration for people, for programs, and for a command each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer

from ezgraph.cli.configuration.watch import CommandRunner, EntryLines, record, write_json
from ezgraph.cli.paper import paper
from ezgraph.errors import ConfigError
from ezgraph.graph.configuration.watch import ConfigWatchEvent, ConfigWatchKind
from ezgraph.protocol.config import ConfigEntry

if TYPE_CHECKING:
    from pathlib import Path

Kind = ConfigWatchKind
KEY = ("chunker", "a:b")


def entry(value: object, seq: int, key: tuple[str, ...] = KEY) -> ConfigEntry:
    return ConfigEntry("t", key, value, seq=seq, owner=None, author="rig.py", wall_time=0.0)


def event(
    kind: ConfigWatchKind,
    seq: int,
    value: object = None,
    *,
    key: tuple[str, ...] = KEY,
    previous: object = None,
) -> ConfigWatchEvent:
    before = None if previous is None else entry(previous, seq - 1, key)
    if kind is Kind.DELETED:
        return ConfigWatchEvent(kind, seq, "t", key, previous=before)
    return ConfigWatchEvent(kind, seq, "t", key, entry(value, seq, key), before)


END = ConfigWatchEvent(Kind.END_OF_INITIAL, 9, "t")


def reset(*vanished: tuple[str, ...]) -> ConfigWatchEvent:
    return ConfigWatchEvent(Kind.RESET, 9, "t", vanished=vanished)


# --- as lines ---


@pytest.fixture(autouse=True)
def a_pipe() -> None:
    paper.cache_clear()


def test_a_line_has_seq_verb_key_value_and_who(capsys: pytest.CaptureFixture[str]) -> None:
    lines = EntryLines()

    for each in (
        event(Kind.INITIAL, 1, {"size": 1}),
        END,
        event(Kind.PUT, 12, "\x1b[31m", previous={"size": 1}),
        event(Kind.DELETED, 13, previous="x"),
        reset(("gone", "x")),
    ):
        lines.write(each)

    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "     1  is         chunker:a%3Ab             {size=1}  by rig.py",
        "    12  put        chunker:a%3Ab             '\\x1b[31m' (was {size=1})  by rig.py",
        "    13  deleted    chunker:a%3Ab             (was 'x')",
    ]
    assert said.err == "history was compacted; gone meanwhile: gone:x; this is there now:\n"


def test_a_record_has_what_the_event_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(event(Kind.PUT, 12, b"abc", previous=1))

    assert json.loads(capsys.readouterr().out) == {
        "kind": "put",
        "type": "t",
        "seq": 12,
        "key": ["chunker", "a:b"],
        "key_text": "chunker:a%3Ab",
        "value": "YWJj",
        "owner": None,
        "author": "rig.py",
        "time": "1970-01-01T00:00:00.000000+00:00",
        "previous": 1,
    }
    assert record(END) == {"kind": "end_of_initial", "type": "t", "seq": 9}
    assert record(reset(KEY))["vanished"] == ["chunker:a%3Ab"]
    deleted = record(event(Kind.DELETED, 3))
    assert "value" not in deleted
    assert "previous" not in deleted


# --- a command for each ---


class Written:
    """What a command wrote of what it was told."""

    def __init__(self, file: Path) -> None:
        self._file = file
        script = (
            'read said; echo "$EZGRAPH_KIND $EZGRAPH_TYPE $EZGRAPH_KEY $EZGRAPH_SEQ $said" >> "$0"'
        )
        self.command = ["sh", "-c", script, str(file)]

    def lines(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []

    def briefly(self) -> list[str]:
        return [" ".join(line.split()[:4]) for line in self.lines()]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "written")


def runner(written: Written) -> CommandRunner:
    return CommandRunner(written.command, stop_on_failure=False)


def test_a_command_is_told_kind_type_key_seq_and_the_rest_as_json(written: Written) -> None:
    runner(written).take(event(Kind.PUT, 12, {"size": float("nan")}, previous=1))

    (line,) = written.lines()
    head, _, said = line.partition(" {")
    assert head == "put t chunker:a%3Ab 12"
    told = json.loads("{" + said)
    assert told["value"] == {"size": "NaN"}
    assert told["previous"] == 1


def test_a_command_is_run_for_what_is_there_and_each_change_in_order(written: Written) -> None:
    running = runner(written)

    for each in (
        event(Kind.INITIAL, 1, 1),
        END,
        event(Kind.PUT, 10, 2),
        event(Kind.DELETED, 11),
        event(Kind.PUT, 12, 2),
    ):
        running.take(each)

    assert written.briefly() == [
        "initial t chunker:a%3Ab 1",
        "put t chunker:a%3Ab 10",
        "deleted t chunker:a%3Ab 11",
        "put t chunker:a%3Ab 12",
    ]


def test_after_a_fresh_start_a_command_is_told_only_what_has_changed(written: Written) -> None:
    running = runner(written)
    same, other, gone, new = (("same",), ("other",), ("gone",), ("new",))
    for key in (same, other, gone):
        running.take(event(Kind.INITIAL, 1, 1, key=key))
    running.take(END)
    before = len(written.lines())

    for each in (
        reset(gone),
        event(Kind.INITIAL, 1, 1, key=same),
        event(Kind.INITIAL, 8, 2, key=other),
        event(Kind.INITIAL, 7, 3, key=new),
        END,
    ):
        running.take(each)

    told = ["deleted t gone 9", "initial t other 8", "initial t new 7"]
    assert written.briefly()[before:] == told


@pytest.mark.parametrize(("script", "how"), [("exit 3", "code 3"), ("kill $$", "code -15")])
def test_a_command_that_fails_is_told_and_the_next_one_runs(
    script: str, how: str, written: Written, capfd: pytest.CaptureFixture[str]
) -> None:
    script = f'echo x x "$EZGRAPH_KEY" x >> "$0"; {script}'
    running = CommandRunner(["sh", "-c", script, written.command[-1]], stop_on_failure=False)

    running.take(event(Kind.PUT, 12, 1))
    running.take(event(Kind.PUT, 13, 2))

    assert len(written.lines()) == 2
    told = capfd.readouterr().err.splitlines()
    assert told[0] == f"sh ended with {how} for put t chunker:a%3Ab (seq 12); going on"
    assert len(told) == 2


def test_a_failure_ends_it_if_that_is_wanted_and_says_how_to_go_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    running = CommandRunner(["false"], stop_on_failure=True)

    with pytest.raises(typer.Exit) as caught:
        running.take(event(Kind.PUT, 12, 1))

    assert caught.value.exit_code == 1
    assert "--after 11 begins with it" in capfd.readouterr().err


def test_a_command_that_does_not_read_what_it_is_told_is_no_failure(
    capfd: pytest.CaptureFixture[str],
) -> None:
    CommandRunner(["true"], stop_on_failure=True).take(event(Kind.PUT, 12, "x" * 1_000_000))

    assert capfd.readouterr().err == ""


def test_a_program_that_is_not_there_is_told_before_anything_is_watched() -> None:
    with pytest.raises(ConfigError, match="no program 'nosuch-program' to run"):
        CommandRunner(["nosuch-program"], stop_on_failure=False)


def test_a_program_that_goes_away_is_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    running: Any = CommandRunner([str(program)], stop_on_failure=False)
    program.unlink()

    running.take(event(Kind.PUT, 12, 1))

    assert "cannot be run: No such file or directory" in capfd.readouterr().err
