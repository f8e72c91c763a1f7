"""The rig's time machine through a broker: ``freeze``, ``tag``, ``diff``, ``at``, ``restore``."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from typer.testing import CliRunner

from ezgraph import GraphDiff, GraphServer, RestoreReport, VetoedError, sync
from ezgraph.cli.main import app
from ezgraph.cli.paper import paper
from ezgraph.settings import Setting, Settings, SettingsHost
from tests.unit.cli.test_time_machine import NOON, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

pytestmark = pytest.mark.integration

FILTER = "RIG/FILTER"


class FilterSettings(Settings):
    cutoff: Annotated[float, Setting(unit="Hz", bounds=(1.0, 500.0))] = 50.0
    order: Annotated[int, Setting(choices=(1, 2, 4))] = 1


def keep_off_the_mains(wanted: FilterSettings, present: FilterSettings) -> None:
    if wanted.cutoff == 50.0 != present.cutoff:
        raise VetoedError("50 Hz is where the mains hum")


def take_a_moment(wanted: FilterSettings, present: FilterSettings) -> None:
    """Take so long that who does not wait for it has the settings from before."""
    threading.Event().wait(0.05)


@pytest.fixture(scope="module")
def broker() -> Iterator[GraphServer]:
    with GraphServer() as server:
        yield server


@pytest.fixture
def rig(broker: GraphServer) -> Iterator[SettingsHost[FilterSettings]]:
    """A filter at 50 Hz, of a process of its own."""
    with sync.ProcessControlClient(broker.address, program="filter.py") as client:
        host = SettingsHost(
            client, FILTER, FilterSettings(), validators=[keep_off_the_mains]
        )
        host.start()
        yield host


def run(broker: GraphServer, *words: str) -> Result:
    """Run ``ezgraph`` in this process, as in a pipe."""
    paper.cache_clear()
    return CliRunner().invoke(app, ["-a", str(broker.address), *words])


def told(broker: GraphServer, *words: str, code: int = 0) -> Any:
    done = run(broker, *words, "--json")
    assert (done.exit_code, done.stderr) == (code, "")
    return json.loads(done.stdout)


def test_what_was_frozen_is_found_again_compared_and_restored(
    broker: GraphServer, rig: SettingsHost[FilterSettings]
) -> None:
    rig.update(cutoff=40.0)
    frozen = run(broker, "freeze", "rig", "--tag", "good", "--reason", "works")
    rig.update(cutoff=20.0, order=2)
    again = run(broker, "freeze", "rig", "--tag", "good")
    differs = run(broker, "diff", "good")
    read = GraphDiff.from_json(told(broker, "diff", "rig@good", "live", code=1))
    then = run(broker, "at", "good", FILTER, "cutoff")

    assert frozen.stdout.startswith("rig@good is the rig as of seq ")
    assert (again.exit_code, "already" in again.stderr) == (1, True)
    assert (differs.exit_code, "    cutoff  40.0 -> 20.0 Hz\n" in differs.stdout) == (1, True)
    assert [each.new for each in read.settings.changed[0].fields] == [20.0, 2]
    assert then.stdout == "40.0\n"

    dry = run(broker, "restore", "rig@good")
    assert dry.exit_code == 0
    assert "to restore rig@good would change settings of 1 component" in dry.stdout
    assert f"{FILTER}  made by filter.py" in dry.stdout
    assert "    cutoff  20.0 -> 40.0 Hz\n" in dry.stdout
    assert rig.settings.cutoff == 20.0

    rig.validators.append(take_a_moment)
    done = run(broker, "restore", "rig", "good", "--yes", "--reason", "back")
    assert done.exit_code == 0, done.output
    assert (rig.settings.cutoff, rig.settings.order) == (40.0, 1)
    assert run(broker, "diff", "good").exit_code == 0
    assert "everything is as in rig@good" in run(broker, "restore", "rig@good").stdout


def test_who_refuses_a_restore_is_named_and_nothing_changes(
    broker: GraphServer, rig: SettingsHost[FilterSettings]
) -> None:
    run(broker, "freeze", "rig", "--tag", "humming")
    rig.update(cutoff=30.0)
    before = told(broker, "at", "live")["seq"]

    dry, done = run(broker, "restore", "rig@humming"), run(broker, "restore", "rig@humming", "-y")
    report = RestoreReport.from_json(told(broker, "restore", "rig@humming", "--yes", code=1))

    for each in (dry, done):
        assert each.exit_code == 1
        assert re.search(rf"{FILTER}, process .* \(filter\.py on ", each.stdout)
        assert "50 Hz is where the mains hum" in each.stdout
    assert [address for address, _, _ in report.vetoed] == [FILTER]
    assert rig.settings.cutoff == 30.0
    assert told(broker, "at", "live")["seq"] == before


def test_tags_are_set_listed_moved_and_removed_through_the_broker(broker: GraphServer) -> None:
    run(broker, "connect", "A", "B")
    told(broker, "freeze", "bench", "--tag", "one")
    here = told(broker, "at", "live")["seq"]
    run(broker, "disconnect", "A", "B")
    two = told(broker, "tag", "bench", "two", str(here))
    taken = run(broker, "tag", "bench", "two", "one")
    moved = run(broker, "tag", "bench", "two", "live", "--overwrite")
    gone = run(broker, "untag", "bench", "one")

    assert two["seq"] == here
    assert taken.exit_code == 1
    assert (moved.exit_code, gone.exit_code) == (0, 0)
    assert [each["tag"] for each in told(broker, "tags", "bench")] == ["two"]
    steps = told(broker, "tags", "bench", "--history", "two")
    assert steps[0]["seq"] == here
    assert run(broker, "diff", str(here), "bench@two").exit_code == 1


def test_a_time_that_was_twice_is_said_to_be(tmp_path: Path) -> None:
    write(tmp_path / "rig.db", [NOON + after for after in (0, 60, 120, 30, 90, 150, 160)])
    with GraphServer(backend=f"sqlite:///{tmp_path / 'rig.db'}") as broker:
        done = run(broker, "at", "2026-05-04T12:01:35+00:00", FILTER, "cutoff")
        other = run(broker, "diff", "2026-05-04T12:02:40+00:00", "7")

    assert done.stdout == "20.0\n"
    assert "note: the broker's clock was set back by 90 s right before seq 4" in done.stderr
    assert (other.exit_code, other.stderr) == (0, "")


def test_what_is_not_there_says_so(broker: GraphServer) -> None:
    for words, code, why in (
        (["restore", "nosuch@good"], 1, "'nosuch'"),
        (["restore", "rig"], 2, "which tag of 'rig'?"),
        (["diff", "rig@nosuch", "live"], 2, "nosuch"),
        (["at", "99999999"], 1, "99999999"),
        (["untag", "nosuch@good"], 1, "nosuch"),
    ):
        done = run(broker, *words)
        assert (done.exit_code, why in done.stderr) == (code, True), (words, done.output)


def test_without_a_broker_each_says_where_it_looked() -> None:
    paper.cache_clear()
    for words in (["tags"], ["diff", "1"], ["freeze", "rig"], ["restore", "rig@good"]):
        done = CliRunner().invoke(app, ["-a", "127.0.0.1:1", "--timeout", "0.05", *words])

        assert (done.exit_code, "127.0.0.1:1" in done.stderr) == (3, True)
