"""``ezgraph journal`` as it is typed: what it prints, its exit codes, and a broker beside it."""

from __future__ import annotations

import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ezgraph import DivergedError, GraphServer, sync
from ezgraph.backends.sqlite import open_reader
from ezgraph.cli.journal_state import examine
from ezgraph.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

RUN_S = 60.0


def run(*words: object) -> tuple[int, str, str]:
    """Run one journal command in this process; return its exit code and what it writes."""
    done = CliRunner().invoke(app, ["journal", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def in_a_pipe(*words: object) -> tuple[int, str, str]:
    """Run it in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "ezgraph", "journal", *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_S,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def journal(*words: object) -> str:
    """Run a journal command that must succeed; return what it prints."""
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    return out


def refused(*words: object, code: int = 1) -> str:
    """Run a journal command that must not; return what it says."""
    found, out, err = run(*words)
    assert found == code, (out, err)
    return out + err


def on_a_terminal(answer: str, *words: object) -> tuple[int, str]:
    """Run a command in a terminal; answer once it asks; return its exit code and the screen."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ezgraph", "journal", *map(str, words)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    ) as command:
        os.close(follower)
        screen = ""
        while select.select([leader], [], [], RUN_S)[0]:
            try:
                part = os.read(leader, 4096).decode(errors="replace")
            except OSError:  # the other end is closed
                break
            screen += part
            if part and "[y/N]" in screen and answer:
                os.write(leader, f"{answer}\n".encode())
                answer = ""
        os.close(leader)
        return command.wait(RUN_S), screen


def edges_in(path: Path) -> set[tuple[str, str]]:
    with GraphServer(backend=f"sqlite:///{path}") as server:
        snapshot = sync.GraphService(server.address).snapshot()
    return {(edge.from_topic, edge.to_topic) for edge in snapshot.edge_owners}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal of a broker that has ended: 20 edges that stay, and who made them."""
    path = tmp_path / "rig.db"
    with GraphServer(backend=f"sqlite:///{path}") as server:
        service = sync.GraphService(server.address)
        for number in range(20):
            service.connect(f"OUT{number}", f"IN{number}")
    return path


def test_check_says_sound_of_a_path_and_of_an_address(path: Path) -> None:
    said = journal("check", path)
    assert "sound: every record and checkpoint verifies" in said
    assert "events      1 to" in said

    found: dict[str, Any] = json.loads(journal("check", f"sqlite:///{path}", "--json"))
    assert found["damage"] is None
    assert found["head"] == found["events"] >= 20


def test_check_names_the_first_damage_and_ends_with_1(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE events SET event = x'00' WHERE seq IN (7, 9)")

    said = refused("check", path)

    assert "DAMAGED" in said
    assert "record 7 fails its checksum" in said
    assert "This means: an acknowledged event is lost. The state is whole" in said
    found = json.loads(refused("check", path, "--json"))
    assert found["damage"]["record"] == 7


def test_a_broker_runs_on_while_it_is_checked_exported_and_backed_up(
    path: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.db"
    with GraphServer(backend=f"sqlite:///{path}") as server:
        service = sync.GraphService(server.address)
        service.connect("LATE", "LATER")

        assert "sound" in in_a_pipe("check", path)[1]
        assert '"LATER"' in journal("export", path)
        assert "verified, events 1 to" in in_a_pipe("backup", path, saved)[1]
        for words in (
            ("compact", path, "--yes"),
            ("restore", saved, path, "--replace"),
            ("repair", path, tmp_path / "new.db"),
        ):
            assert "is held by" in refused(*words)

        service.connect("AFTER", "WARDS")
    assert ("AFTER", "WARDS") in edges_in(path)
    assert ("LATE", "LATER") in edges_in(saved)
    assert not (tmp_path / "new.db").exists()


def test_restored_it_goes_on_in_a_new_epoch_and_who_saw_what_is_lost_is_told(
    path: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.db"
    journal("backup", path, saved)
    with GraphServer(backend=f"sqlite:///{path}") as server:
        service = sync.GraphService(server.address)
        lost_seq = service.connect("LOST", "GONE")

    assert "say --replace" in refused("restore", saved, path)
    said = journal("restore", saved, path, "--replace")

    assert "in epoch 2" in said
    assert "what was there is kept as" in said
    (aside,) = tmp_path.glob("rig.db.replaced-*")
    assert ("LOST", "GONE") in edges_in(aside)
    assert examine(path).damage is None
    with GraphServer(backend=f"sqlite:///{path}") as server:
        service = sync.GraphService(server.address)
        snapshot = service.snapshot()
        assert (snapshot.epoch, snapshot.seq > 1_700_000_000_000_000) == (2, True)
        assert len(snapshot.edge_owners) == 20
        assert service.connect("NEW", "LIFE") > snapshot.seq
    with open_reader(path) as reader, pytest.raises(DivergedError):
        reader.read(lost_seq)
    assert edges_in(path) == {*((f"OUT{n}", f"IN{n}") for n in range(20)), ("NEW", "LIFE")}


def test_repair_reports_every_seq_that_is_lost_and_a_broker_goes_on_with_the_rest(
    path: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE events SET event = x'00' WHERE seq = 12")
        db.execute("DELETE FROM checkpoints")
    head = examine(path).head

    said = journal("repair", path, tmp_path / "new.db")

    assert "record 12 fails its checksum" in said
    assert "events 1 to 11" in said
    assert f"lost: seq 12 to {head}" in said
    assert "their effect is gone" in said
    assert 0 < len(edges_in(tmp_path / "new.db")) < 20


def test_compact_keeps_the_state_and_as_much_history_as_it_is_told(path: Path) -> None:
    before = edges_in(path)
    head = examine(path).head

    assert "nobody to ask; say --yes" in refused("compact", path, code=2)
    journal("compact", path, "--keep-events", 5, "--yes")
    assert examine(path).floor == head - 4
    journal("compact", path, "--keep-age", "1h", "--yes")
    assert examine(path).floor == head - 4
    found = json.loads(journal("compact", path, "--yes", "--json"))
    assert found["dropped"] == 5
    assert found["floor"] == head + 1

    assert examine(path).damage is None
    assert edges_in(path) == before


@pytest.mark.parametrize(("answer", "code", "floor_moves"), [("n", 1, False), ("y", 0, True)])
def test_on_a_terminal_compact_asks(path: Path, answer: str, code: int, floor_moves: bool) -> None:
    returned, screen = on_a_terminal(answer, "compact", path)

    assert returned == code
    assert "will be gone for good: who did what" in screen
    assert (examine(path).floor > 1) == floor_moves


def test_export_writes_every_event_once_as_log_does(path: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in journal("export", path).splitlines()]
    head = examine(path).head

    assert [line["seq"] for line in lines] == list(range(1, head + 1))
    assert {"seq", "time", "kind", "source", "body"} <= lines[0].keys()
    some = journal("export", path, "--after", 3, "--through", 9, "--key", "edge/").splitlines()
    assert all(json.loads(line)["kind"] == "EdgeConnected" for line in some)
    assert {json.loads(line)["seq"] for line in some} <= set(range(4, 10))
    journal("export", path, "--to", tmp_path / "all.jsonl")
    assert (tmp_path / "all.jsonl").read_text().splitlines() == journal("export", path).splitlines()
    assert "nothing is overwritten" in refused("export", path, "--to", tmp_path / "all.jsonl")


def test_an_export_of_a_damaged_journal_leaves_no_file(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE events SET event = x'00' WHERE seq = 12")

    assert "record 12" in refused("export", path, "--to", tmp_path / "all.jsonl")
    assert sorted(os.listdir(tmp_path)) == ["rig.db", "rig.db.lock"]


def test_what_is_no_journal_is_named(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "notes.txt").write_text("mine")
    for typed, word, code in (
        (tmp_path / "absent.db", "there is no journal at", 1),
        (tmp_path, "is a directory", 1),
        (tmp_path / "notes.txt", "is a file, but no ezgraph journal", 1),
        (tmp_path / "empty.db", "it was cut off, or never written", 1),
        ("memory://", "nothing of it in a file", 2),
        ("redis://lab", "no backend for", 2),
    ):
        assert word in refused("check", typed, code=code)
    assert "exists already" in refused("backup", path, tmp_path / "notes.txt")
