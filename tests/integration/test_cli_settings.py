"""``ezgraph settings``: reading, changing and looking back, against a rig whose owner answers."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from typer.testing import CliRunner

from ezgraph import (
    BrokerConfig,
    DynamicSettingsMetadata,
    GraphContext,
    GraphMetadata,
    GraphServer,
    ProcessControlClient,
    Retention,
    SettingsSnapshotValue,
    UnitMetadata,
    sync,
)
from ezgraph.cli.main import app
from ezgraph.cli.paper import paper
from ezgraph.config import Address
from ezgraph.errors import VetoedError
from ezgraph.settings import Setting, Settings, settings_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

    from ezgraph import SettingsEvents, SettingsSnapshot
    from ezgraph.protocol.routed import SettingsChangeRequest

pytestmark = pytest.mark.integration

FILTER, ORPHAN = "SYS/FILTER", "SYS/ORPHAN"
RUN_S = 30.0


class Notch(Settings):
    hz: float = 50.0


class FilterSettings(Settings):
    cutoff: Annotated[
        float, Setting(unit="Hz", bounds=(0.1, 500), description="Corner of the low-pass.")
    ] = 40.0
    order: Annotated[int, Setting(choices=(1, 2, 4))] = 2
    mode: Literal["fast", "exact"] = "fast"
    label: str | None = None
    notch: Notch = Notch()
    rate: Annotated[float, Setting(read_only=True)] = 30_000.0


SCHEMA = settings_schema(FilterSettings)
START = {
    "cutoff": 40.0,
    "order": 2,
    "mode": "fast",
    "label": None,
    "notch": {"hz": 50.0},
    "rate": 30_000.0,
}


UNIT = UnitMetadata(
    ORPHAN,
    "ORPHAN",
    "rig.Filter",
    "rig.FilterSettings",
    (None, START),
    DynamicSettingsMetadata(enabled=True),
    settings_schema=SCHEMA,
)


@dataclass
class Owner:
    """A program that runs `FILTER`, in an event loop of its own."""

    address: str
    settings: dict[str, Any] = field(default_factory=lambda: dict(START))
    ready: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.ready.clear()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.thread.start()
        assert self.ready.wait(10)

    async def _run(self) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        async with ProcessControlClient(self.address, program="rig") as self.client:
            await self.client.register([FILTER])
            await self.client.report_settings_update(FILTER, self._value())
            self.client.take_changes(FILTER, self._change)
            self.ready.set()
            await self.stopped.wait()

    def stop(self) -> None:
        assert self.thread is not None
        with suppress(RuntimeError):  # it has ended before
            self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(10)

    def _value(self) -> SettingsSnapshotValue:
        return SettingsSnapshotValue(None, self.settings, self.settings, SCHEMA)

    async def _change(self, request: SettingsChangeRequest) -> SettingsSnapshotValue:
        match request.changes.get("label"):
            case "silent":
                await asyncio.sleep(RUN_S)
            case "gone":
                self.stopped.set()
                await asyncio.sleep(RUN_S)
            case "vetoed":
                raise VetoedError("not \x1b[31m today")
            case _:
                pass
        changes = dict(request.changes)
        if (hz := changes.pop("notch.hz", None)) is not None:
            changes["notch"] = {"hz": hz}
        self.settings = {**self.settings, **changes}
        return self._value()


@pytest.fixture
def owner(server: GraphServer) -> Iterator[Owner]:
    """A broker with a component whose program runs, and one whose program does not."""
    address = str(server.address)
    running = Owner(address)
    with sync.GraphContext(address) as ctx:
        ctx.register_metadata(GraphMetadata(components={ORPHAN: UNIT}))
        running.start()
        try:
            yield running
        finally:
            running.stop()


def settings(owner: Owner, *words: str) -> Result:
    """Run ``ezgraph settings`` in this process, as in a pipe."""
    paper.cache_clear()
    return CliRunner().invoke(app, ["-a", owner.address, "settings", *words])


def told(owner: Owner, *words: str) -> str:
    done = settings(owner, *words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.splitlines())
    return done.stdout


def as_json(owner: Owner, *words: str) -> Any:
    return json.loads(told(owner, *words, "--json"))


# --- now ---


def test_settings_are_listed_below_a_prefix(owner: Owner) -> None:
    both, one = as_json(owner, "ls", "SYS/"), as_json(owner, "ls", FILTER)

    assert [each["address"] for each in both] == [FILTER, ORPHAN]
    assert [each["address"] for each in one] == [FILTER]
    assert told(owner, "ls", "OTHER/") == "no settings\n"
    assert "cutoff=40.0 order=2" in told(owner, "ls")


def test_a_component_is_read_whole_or_one_field_of_it(owner: Owner) -> None:
    whole = as_json(owner, "get", FILTER)

    assert whole["settings"] == START
    assert told(owner, "get", FILTER, "cutoff") == "40.0\n"
    assert told(owner, "get", FILTER, "notch.hz") == "50.0\n"
    assert as_json(owner, "get", FILTER, "mode")["value"] == "fast"
    assert "notch.hz  50.0" in told(owner, "get", FILTER)


def test_what_is_not_there_is_said_with_what_is(owner: Owner) -> None:
    for command in ("get", "describe", "history"):
        unknown = settings(owner, command, "SYS/FLTER")
        field_ = settings(owner, command, FILTER, "cut")

        assert (unknown.exit_code, field_.exit_code) == (1, 1)
        assert "is 'SYS/FILTER' meant?" in unknown.stderr
        assert "cutoff, order" in field_.stderr


# --- changing ---


def test_several_fields_are_one_change_that_is_shown_and_logged(owner: Owner) -> None:
    said = told(owner, "set", FILTER, "cutoff=30", "order=4", "mode=fast", "--reason", "line noise")

    assert re.fullmatch(
        r"SYS/FILTER  \(seq \d+\)\n"
        r"  cutoff  40.0 -> 30.0\n"
        r"  order   2 -> 4\n"
        r"  mode    'fast' as before\n",
        said,
    )
    assert owner.settings == {**START, "cutoff": 30.0, "order": 4}
    (line,) = told_log(owner, "-n", "1")
    assert "cutoff=30.0 order=4" in line
    assert "  because: line noise  asked by ezgraph[" in line
    assert "  by rig[" in line
    assert line.count("line noise") == 1


def told_log(owner: Owner, *words: str) -> list[str]:
    paper.cache_clear()
    done = CliRunner().invoke(app, ["-a", owner.address, "log", *words])
    assert done.exit_code == 0
    return done.stdout.splitlines()


def test_the_log_finds_a_change_by_who_asked_for_it(owner: Owner) -> None:
    told(owner, "set", FILTER, "cutoff=30")

    assert len(told_log(owner, "--who", "ezgraph", "--key", "settings")) == 1
    assert len(told_log(owner, "--who", "rig", "--key", f"settings/{FILTER}")) == 2


def test_a_change_has_its_json(owner: Owner) -> None:
    done = as_json(owner, "set", FILTER, "notch.hz=60", "label=none")

    assert done["before"] == START
    assert done["settings"] == {**START, "notch": {"hz": 60.0}}
    assert as_json(owner, "get", FILTER)["seq"] == done["seq"]


def test_a_value_is_read_by_the_schema_of_the_component(owner: Owner) -> None:
    told(owner, "set", FILTER, "label=30")

    assert owner.settings["label"] == "30"
    assert "  ezgraph[" in told(owner, "ls", FILTER)


def test_a_change_may_depend_on_what_the_settings_are(owner: Owner) -> None:
    seq = str(as_json(owner, "get", FILTER)["seq"])

    first = settings(owner, "set", FILTER, "cutoff=30", "--expected-seq", seq)
    second = settings(owner, "set", FILTER, "cutoff=20", "--expected-seq", seq)

    assert (first.exit_code, second.exit_code) == (0, 1)
    assert f"not at {seq}, which was expected" in second.stderr
    assert owner.settings["cutoff"] == 30.0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["SYS/NOWHERE", "cutoff=3"], "there are no settings at 'SYS/NOWHERE'"),
        ([ORPHAN, "cutoff=3"], "no process runs 'SYS/ORPHAN'"),
        ([FILTER, "label=vetoed"], "refused the change: not \\x1b[31m today"),
        ([FILTER, "label=gone"], "ended before it answered"),
        ([FILTER, "cut=3"], "has no field 'cut'; it has 'cutoff'"),
        ([FILTER, "cutoff=abc"], "cutoff = 'abc' is of type str; it takes a number"),
        ([FILTER, "order=2.5"], "order = 2.5"),
        ([FILTER, "cutoff=1000"], "cutoff = 1000.0 is out of bounds; it takes at least 0.1"),
        ([FILTER, "mode=slow"], "mode = 'slow' is none of 'fast', 'exact'"),
        ([FILTER, "rate=1"], "rate is read-only"),
        ([FILTER, "cutoff=3", "--expected-seq", "1"], "read them again"),
    ],
)
def test_a_refused_change_is_one_line_that_says_why_and_changes_nothing(
    owner: Owner, words: list[str], why: str
) -> None:
    done = settings(owner, "set", *words)

    assert (done.exit_code, done.stdout) == (1, "")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert owner.settings == START


def test_an_owner_that_is_silent_is_told_from_a_broker_that_is(owner: Owner) -> None:
    silent = settings(owner, "--timeout", "0.5", "set", FILTER, "label=silent")
    assert silent.exit_code == 2  # an option of the command, not of the group

    silent = settings(owner, "set", FILTER, "label=silent", "--timeout", "0.5")

    assert silent.exit_code == 1
    assert "did not answer" in silent.stderr


@pytest.mark.parametrize(
    "words",
    [["set", FILTER], ["set", FILTER, "cutoff"], ["set", FILTER, "order=1", "order=2"],
     ["table", "--as", "paper"], ["table", "--after", "soon"]],
)
def test_what_cannot_be_meant_is_exit_code_2_before_anybody_is_asked(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["-a", "127.0.0.1:1", "settings", *words])

    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize("command", ["ls", "get", "describe", "set", "watch", "history", "table"])
def test_without_a_broker_it_is_exit_code_3(command: str) -> None:
    words = {"ls": [], "table": [], "watch": [], "set": ["A", "b=1"]}.get(command, ["A"])
    done = CliRunner().invoke(
        app, ["-a", "127.0.0.1:1", "--timeout", "0.1", "settings", command, *words]
    )

    assert done.exit_code == 3
    assert "no broker answered" in done.stderr


# --- what it takes, and who set it ---


def test_a_description_says_of_each_field_what_it_takes_and_who_set_it(owner: Owner) -> None:
    told(owner, "set", FILTER, "cutoff=30", "--reason", "line noise")

    lines = told(owner, "describe", FILTER).splitlines()

    assert re.match(r"SYS/FILTER  .*FilterSettings, seq \d+; run by rig\[\d+\]@", lines[0])
    assert re.fullmatch(r"  cutoff  30.0 Hz +float, 0.1…500 Hz, default 40.0", lines[1])
    assert lines[2].strip() == "Corner of the low-pass."
    assert re.search(
        r"set \d+\.\ds ago \(seq \d+\) asked for by ezgraph\[.*  because: line noise", lines[3]
    )
    assert re.fullmatch(r"  order   2 +int, 1 \| 2 \| 4, default 2", lines[4])
    assert re.search(r"set .* ago \(seq \d+\) by rig\[", lines[5])
    assert any("read-only, default 30000.0" in line for line in lines)
    assert any(line.endswith("fast | exact, default 'fast'") for line in lines)


def test_a_description_has_its_json(owner: Owner) -> None:
    seq = as_json(owner, "set", FILTER, "cutoff=30", "--reason", "why")["seq"]

    whole = as_json(owner, "describe", FILTER)
    (cutoff,) = as_json(owner, "describe", FILTER, "cutoff")["fields"]

    assert [each["name"] for each in whole["fields"]] == list(START)
    assert whole["fields"][0] == cutoff
    assert (cutoff["value"], cutoff["unit"], cutoff["bounds"]) == (30.0, "Hz", [0.1, 500.0])
    assert (cutoff["changed"]["seq"], cutoff["changed"]["reason"]) == (seq, "why")
    assert cutoff["changed"]["asked_by"]["program"] == "ezgraph"
    assert whole["fields"][1]["changed"]["seq"] < seq
    assert whole["fields"][1]["changed"]["asked_by"] is None


def test_nobody_runs_an_orphan(owner: Owner) -> None:
    assert "; nobody runs it\n" in told(owner, "describe", ORPHAN)


# --- over time ---


def changed_thrice(owner: Owner) -> list[int]:
    seqs = [as_json(owner, "set", FILTER, f"cutoff={hz}")["seq"] for hz in (30, 20)]
    return [*seqs, as_json(owner, "set", FILTER, "order=4", "--reason", "steeper")["seq"]]


def test_a_history_has_every_change_with_who_and_why(owner: Owner) -> None:
    seqs = changed_thrice(owner)

    lines = told(owner, "history", FILTER).splitlines()
    of_cutoff = as_json(owner, "history", FILTER, "cutoff")

    assert lines[0].split() == ["seq", "time", "change", "by", "because"]
    assert re.match(rf"{seqs[0]} .*  cutoff 40.0 -> 30.0  +ezgraph\[", lines[2])
    assert re.match(rf"{seqs[2]} .*  order 2 -> 4  .*  steeper$", lines[4])
    assert len(lines) == 5
    assert [each["seq"] for each in of_cutoff[1:]] == seqs[:2]
    assert of_cutoff[2]["changed"] == {"cutoff": {"old": 30.0, "new": 20.0}}


def test_a_component_that_left_still_has_its_history(owner: Owner) -> None:
    owner.stop()

    lines = told(owner, "history", FILTER).splitlines()

    assert "removed" in lines[-1]
    assert settings(owner, "get", FILTER).exit_code == 1
    owner.start()
    assert "  cutoff 40.0, order 2, " in told(owner, "history", FILTER).splitlines()[-1]


def test_settings_over_time_are_columns(owner: Owner) -> None:
    seqs = changed_thrice(owner)

    rows = list(csv.DictReader(io.StringIO(told(owner, "table", FILTER, "--as", "csv"))))
    later = told(owner, "table", "SYS/", "--as", "json-lines", "--after", str(seqs[0]))

    assert [row["SYS.FILTER.cutoff"] for row in rows] == ["40.0", "30.0", "20.0", "20.0"]
    assert [row["SYS.FILTER.order"] for row in rows] == ["2", "2", "2", "4"]
    assert [int(row["seq"]) for row in rows[1:]] == seqs
    found = [json.loads(line) for line in later.splitlines()]
    assert [each["seq"] for each in found] == seqs[1:]
    assert found[0]["settings"]["SYS.ORPHAN.cutoff"] == 40.0  # as it was set before
    one = told(owner, "table", FILTER, "--until", str(seqs[0]), "--as", "json-lines")
    assert len(one.splitlines()) == 2
    shown = told(owner, "table", FILTER).splitlines()
    assert shown[0].split()[:4] == ["seq", "time", "component", "SYS.FILTER.cutoff"]


def test_changes_are_watched_below_a_prefix(owner: Owner) -> None:
    command = [sys.executable, "-m", "ezgraph", "-a", owner.address]
    after = str(as_json(owner, "get", FILTER)["seq"])
    with subprocess.Popen(
        [*command, "settings", "watch", "SYS/", "--after", after, "--json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        told(owner, "set", FILTER, "cutoff=30", "--reason", "why")
        event = json.loads(watching.stdout.readline())
        watching.terminate()

    assert event["key"] == ["settings", FILTER]
    assert event["body"]["asked_by"]["reason"] == "why"


def test_where_history_was_compacted_it_is_said_and_nothing_is_made_up(tmp_path: Path) -> None:
    config = BrokerConfig(
        address=Address("127.0.0.1", 0),
        backend=f"sqlite:///{tmp_path / 'journal.db'}",
        checkpoint_events=50,
        retention=Retention(events=60, max_pinned_events=0),
    )
    with GraphServer(config=config) as server, sync.GraphContext(server.address) as ctx:
        ctx.register_metadata(GraphMetadata(components={ORPHAN: UNIT}))
        owner = Owner(str(server.address))
        owner.start()
        told(owner, "set", FILTER, "cutoff=30", "--reason", "forgotten")
        while ctx.status().floor == 1:
            for _ in range(50):
                ctx.connect("a", f"b{ctx.sync()}")

        silent = settings(owner, "history", FILTER)
        seq = as_json(owner, "set", FILTER, "order=4")["seq"]
        past = settings(owner, "history", FILTER, "--json")
        described = told(owner, "describe", FILTER).splitlines()
        table = settings(owner, "table", "--as", "json-lines")
        owner.stop()

    assert silent.stdout == "no changes\n"
    assert "was compacted; the history begins there" in silent.stderr
    assert [each["seq"] for each in json.loads(past.stdout)] == [seq]
    assert re.search(r"set before seq \d+$", described[3])
    assert "by" not in described[3]
    rows = [json.loads(line) for line in table.stdout.splitlines()]
    assert [row["component"] for row in rows] == [ORPHAN, FILTER]
    assert rows[1]["settings"]["SYS.FILTER.cutoff"] == 30.0
    assert "was compacted; the table begins there" in table.stderr


# --- for the shell and for the eye ---


def completed(owner: Owner, typed: str, *, at: str | None = None) -> list[str]:
    """Return what zsh is offered at the end of a line."""
    environment = {
        **os.environ,
        "EZGRAPH_ADDR": owner.address if at is None else at,
        "_EZGRAPH_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": typed,
    }
    done = subprocess.run(
        [sys.executable, "-m", "ezgraph"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.stderr == ""
    return re.findall(r'"([^"]*)"', done.stdout)


def test_the_shell_is_offered_addresses_fields_and_choices(owner: Owner) -> None:
    assert completed(owner, "ezgraph settings get SYS/F") == [FILTER]
    assert completed(owner, f"ezgraph settings get {FILTER} not") == ["notch.hz", "notch"]
    assert completed(owner, f"ezgraph settings set {FILTER} order=4 o") == []
    assert completed(owner, f"ezgraph settings set {FILTER} c") == ["cutoff=", "cutoff=40.0"]
    assert completed(owner, f"ezgraph settings set {FILTER} mode=") == ["mode=fast", "mode=exact"]
    assert completed(owner, f"ezgraph settings set {FILTER} mode = e") == ["exact"]
    assert completed(owner, f"ezgraph -a {owner.address} settings get S", at="127.0.0.1:1")


def test_the_shell_is_offered_nothing_where_there_is_no_broker(owner: Owner) -> None:
    assert completed(owner, "ezgraph settings get S", at="127.0.0.1:1") == []
    assert completed(owner, "ezgraph settings get S", at="non:sense:x") == []


def test_on_a_terminal_numbers_are_drawn(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_thrice(owner)
    in_a_pipe = told(owner, "history", FILTER, "cutoff")
    monkeypatch.setattr("ezgraph.cli.past.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")

    drawn = told(owner, "history", FILTER, "cutoff").splitlines()

    assert "┤" not in in_a_pipe
    assert drawn[0] == "cutoff"
    assert drawn[1].startswith("40 ┤───")
    assert drawn[7].startswith("20 ┤")
    assert re.fullmatch(r"20 ┤ +╰─+", drawn[7])
    assert max(map(len, drawn[:8])) < 80


# --- in a notebook ---


def test_a_snapshot_and_a_history_show_who_set_what(owner: Owner) -> None:
    told(owner, "set", FILTER, "cutoff=31.5")

    snapshot, events = asyncio.run(_snapshot_and_events(owner.address))

    assert isinstance(snapshot, dict)
    assert list(snapshot) == [FILTER, ORPHAN]
    assert snapshot.changes[FILTER] == events[-1]
    assert snapshot.seq >= events[-1].seq
    table, history = snapshot._repr_html_(), events._repr_html_()
    for part in ("31.5", "0.1…500 Hz", "ezgraph["):
        assert part in table
    for part in ("<b>cutoff</b> 40.0 → 31.5", "<svg", "ezgraph[", "rig["):
        assert part in history


async def _snapshot_and_events(address: str) -> tuple[SettingsSnapshot, SettingsEvents]:
    async with GraphContext(address) as ctx:
        return await ctx.settings_snapshot(), await ctx.settings_events()
