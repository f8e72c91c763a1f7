"""Looking back without a broker: ``tag``, ``tags``, ``untag``, ``diff`` and ``at`` on a journal."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ezgraph import Artifact, GraphDiff, Partition, Snapshot
from ezgraph.backends import Record, SQLiteBackend
from ezgraph.cli import completion
from ezgraph.cli.main import app
from ezgraph.cli.paper import paper
from ezgraph.names import topic_of
from ezgraph.protocol.events import (
    Body,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    Event,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer.testing import Result

FILTER, AMP = "RIG/FILTER", "RIG/AMP"
SCHEMA = SettingsSchemaMetadata(
    "dataclass", "lab.Filter", [SettingsFieldMetadata("cutoff", "float", unit="Hz")]
)
NOON = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC).timestamp()


def setting(address: str, **held: Any) -> SettingsChanged:
    value = SettingsSnapshotValue(None, held, held, SCHEMA if address == FILTER else None)
    return SettingsChanged(
        address, SettingsEventType.SETTINGS_UPDATED, SettingsLayer.LIVE, value
    )


BODIES: Sequence[Body] = (
    EdgeConnected("RIG/AMP/OUT", "RIG/FILTER/IN", None, topology_changed=True),
    setting(FILTER, cutoff=30.0, order=2, notch={"hz": 50}),
    setting(AMP, gain=2),
    ConfigValueSet("active-flow", ("chunker", "default"), {"size": 100}, owner=None),
    setting(FILTER, cutoff=20.0, order=2, notch={"hz": 60}),
    EdgeDisconnected("RIG/AMP/OUT", "RIG/FILTER/IN", None, topology_changed=True),
    EdgeConnected("RIG/AMP/OUT", "RIG/SCOPE/IN", None, topology_changed=True),
)


def write(file: Path, walls: Sequence[float]) -> None:
    records = []
    for seq, (wall, body) in enumerate(zip(walls, BODIES, strict=True), start=1):
        event = Event(1, seq, seq - 1, seq, seq, wall, 0.0, key_of(body), Source(), None, body)
        records.append(Record(seq, topic_of(event.key), codec.encode_event(event).event))
    with SQLiteBackend(file, "NORMAL").connect() as conn, conn.open_journal() as journal:
        journal.append(records)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal of seven events, a minute apart, from noon on (UTC)."""
    path = tmp_path_factory.mktemp("past") / "rig.db"
    write(path, [NOON + 60 * number for number in range(len(BODIES))])
    return path


@pytest.fixture
def file(written: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copy(written, tmp_path / "rig.db"))


@pytest.fixture(scope="module")
def tagged(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of it with some tags."""
    path = Path(shutil.copy(written, tmp_path_factory.mktemp("tagged") / "rig.db"))
    for name, tag, at in (
        ("other", "good", "4"), ("third", "good", "7"), ("rig", "better", "7"), ("rig", "a b", "4")
    ):
        run(path, "tag", name, tag, at)
    return path


def run(file: Path, *words: str) -> Result:
    """Run ``ezgraph`` on a journal, in this process, as in a pipe."""
    paper.cache_clear()
    return CliRunner().invoke(app, [*words, "--journal", str(file)])


def told(file: Path, *words: str, code: int = 0) -> Any:
    done = run(file, *words, "--json")
    assert (done.exit_code, done.stderr) == (code, ""), done.stderr
    return json.loads(done.stdout)


def lines(done: Result) -> list[str]:
    assert done.stderr == ""
    return [line.strip() for line in done.stdout.splitlines()]


# --- at ---


def test_what_the_cutoff_was_is_one_line(file: Path) -> None:
    then = run(file, "at", "4", FILTER, "cutoff")
    at_a_time = run(file, "at", "2026-05-04T12:03:59+00:00", FILTER, "notch.hz")
    at_the_end = run(file, "at", "live", FILTER, "cutoff")

    assert [each.stdout for each in (then, at_a_time, at_the_end)] == ["30.0\n", "50\n", "20.0\n"]


def test_a_tag_is_of_its_own_snapshot_though_the_same_was_frozen_later(file: Path) -> None:
    run(file, "tag", "rig", "first@noon", "4")
    with SQLiteBackend(file).connect() as conn:
        first = conn.read_snapshot_tag("rig", "first@noon")
        conn.write_snapshot(replace(first, seq=6, time=first.time + 120, reason="again"))
        conn.write_snapshot_tag(first, "first")

    for typed in ("first", "rig@first", "rig@first@noon"):
        assert told(file, "at", typed, FILTER)["seq"] == 4, typed
    run(file, "untag", "rig@first@noon")
    assert [each["tag"] for each in told(file, "tags", "rig")] == ["first"]


def test_the_settings_of_a_component_are_shown_with_their_units(file: Path) -> None:
    shown = run(file, "at", "4", FILTER)
    below = run(file, "at", "4", "RIG/")
    record = told(file, "at", "4", FILTER)
    field = told(file, "at", "4", FILTER, "cutoff")

    assert lines(shown)[0].startswith("as of seq 4, 2026-05-0")
    assert lines(shown)[1:] == [FILTER, "cutoff    30.0 Hz", "order     2", "notch.hz  50"]
    assert lines(below)[1:3] == [AMP, "gain  2"]
    assert record == {
        "epoch": 1,
        "seq": 4,
        "time": "2026-05-04T12:03:00.000000+00:00",
        "settings": {FILTER: {"cutoff": 30.0, "order": 2, "notch": {"hz": 50}}},
    }
    assert (field["address"], field["field"], field["value"]) == (FILTER, "cutoff", 30.0)


def test_all_of_it_is_shown_and_read_back_from_json(file: Path) -> None:
    shown = lines(run(file, "at", "4"))
    read = Snapshot.from_json(told(file, "at", "4"))

    assert [each for each in ("settings", "edges", "config") if each in shown] == [
        "settings", "edges", "config"
    ]
    assert "RIG/AMP/OUT -> RIG/FILTER/IN" in shown
    assert "active-flow chunker:default  {size=100}" in shown
    assert (read.seq, read.epoch, read.time) == (4, 1, NOON + 180)
    assert read.graph.config == {"active-flow": {"chunker:default": {"size": 100}}}


def test_a_time_that_was_twice_is_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "set_back.db"
    write(file, [NOON, NOON + 60, NOON + 120, NOON + 30, NOON + 90, NOON + 150, NOON + 160])

    done = run(file, "at", "2026-05-04T12:01:35+00:00", FILTER, "cutoff")

    assert done.stdout == "20.0\n"
    assert "the broker's clock went back at seq 4" in done.stderr
    assert "seq 5 is the last" in done.stderr


# --- diff ---


def test_a_difference_reads_field_by_field(file: Path) -> None:
    done = run(file, "diff", "4", "7")

    assert done.exit_code == 1
    assert lines(done)[0].startswith("from  4  seq 4, 2026-05-0")
    assert lines(done)[2:] == [
        "settings of 1 component, edges +1 -1",
        "",
        "settings",
        "RIG/FILTER",
        "cutoff    30.0 -> 20.0 Hz",
        "notch.hz  50 -> 60",
        "",
        "edges",
        "- RIG/AMP/OUT -> RIG/FILTER/IN",
        "+ RIG/AMP/OUT -> RIG/SCOPE/IN",
    ]
    assert "\x1b" not in done.stdout


def test_a_difference_is_read_back_from_json(file: Path) -> None:
    found = GraphDiff.from_json(told(file, "diff", "4", "live", code=1))

    (changed,) = found.settings.changed
    assert [(each.path, each.new, each.new_unit) for each in changed.fields] == [
        (("cutoff",), 20.0, "Hz"), (("notch", "hz"), 60, None)
    ]


def test_the_exit_code_says_whether_something_differs(file: Path) -> None:
    same = run(file, "diff", "7", "live")
    nothing = run(file, "diff", "7")

    assert (same.exit_code, lines(same)[-1]) == (0, "nothing differs")
    assert (nothing.exit_code, lines(nothing)[-1]) == (0, "nothing differs")
    assert told(file, "diff", "0", "4", code=1)["edges_added"] != []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["99", "live"], "seq 99 was not given yet"),
        (["rig@nosuch", "live"], "nothing is tagged for 'rig'"),
        (["nosuch", "live"], "'nosuch' is no tag or stored fingerprint, no seq and no time"),
    ],
)
def test_what_cannot_be_found_does_not_look_like_a_difference(
    file: Path, words: list[str], why: str
) -> None:
    done = run(file, "diff", *words)

    assert (done.exit_code, done.stdout) == (2, "")
    assert why in done.stderr


# --- tags ---


def test_what_was_is_tagged_and_found_again_by_its_name(file: Path) -> None:
    done = run(file, "tag", "rig", "monday", "4")
    record = told(file, "tag", "rig", "now", "live")

    digits = told(file, "tags")[0]["fingerprint"]
    assert done.stdout == f"rig@monday is {digits[:12]}  (as of seq 4)\n"
    assert (record["name"], record["tag"], record["seq"]) == ("rig", "now", 7)
    for typed in ("rig@monday", "monday", digits, digits[:8], f"rig@{digits[:6]}"):
        assert run(file, "at", typed, FILTER, "cutoff").stdout == "30.0\n", typed
    assert run(file, "diff", "monday", "now").exit_code == 1
    assert run(file, "diff", "rig@monday", "4").exit_code == 0


def test_a_tag_without_more_points_to_the_newest_snapshot(file: Path) -> None:
    run(file, "tag", "rig", "late", "7")
    run(file, "tag", "rig", "early", "2")

    run(file, "tag", "rig", "newest")

    assert run(file, "at", "rig@newest").stdout.startswith("as of seq 7,")


def test_a_tag_is_moved_only_on_purpose_and_its_history_stays(file: Path) -> None:
    run(file, "tag", "rig", "good", "4")
    taken = run(file, "tag", "rig", "good", "7")
    between = run(file, "at", "good")
    moved = run(file, "tag", "rig", "good", "7", "--overwrite")
    gone = run(file, "untag", "rig@good")

    assert (taken.exit_code, "at seq 4 already" in taken.stderr) == (1, True)
    assert "give --overwrite to move it" in taken.stderr
    assert between.stdout.startswith("as of seq 4,")
    assert moved.exit_code == 0
    assert gone.stdout == "rig@good is gone\n"
    steps = told(file, "tags", "rig", "--history", "good")
    assert [each.get("seq") for each in steps] == [4, 7, None]
    assert "  removed  by " in lines(run(file, "tags", "rig", "--history", "good"))[-1]


def test_the_list_has_every_tag_and_with_all_every_snapshot(file: Path) -> None:
    empty = run(file, "tags")
    run(file, "tag", "rig", "good", "4")
    run(file, "tag", "lab", "good", "7")
    run(file, "tag", "rig", "better", "7")
    run(file, "untag", "rig", "better")

    listed, of_rig = lines(run(file, "tags")), lines(run(file, "tags", "rig"))
    every = told(file, "tags", "--all")

    assert empty.stdout == "no tags\n"
    assert listed[0] == "2 tags"
    assert [line.split(",")[0] for line in listed[1:]] == ["lab@good  seq 7", "rig@good  seq 4"]
    assert [line.split()[0] for line in of_rig[1:]] == ["rig@good"]
    assert [each["tag"] for each in every["tags"]] == ["good", "good"]
    assert [each["name"] for each in every["untagged"]] == ["rig"]
    assert lines(run(file, "tags", "--all"))[0] == "2 tags, 1 snapshot without"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["tag", "lab", "new"], 2, "there is no snapshot of 'lab' yet"),
        (["tag", "lab", "new", "rig@better"], 2, "is of graph 'rig'"),
        (["tag", "rig", "new", "99"], 1, "seq 99 was not given yet"),
        (["tags", "--history", "good"], 2, "of which graph?"),
        (["tags", "rig", "--history", "nosuch"], 1, "has no tag 'nosuch' here"),
        (["untag", "rig"], 2, "which tag of 'rig'?"),
        (["untag", "rig", "nosuch"], 1, "has no tag 'nosuch' here"),
        (["at", "good"], 2, "'good' may be"),
        (["at", "live", "RIG/FILTRE"], 1, "is 'RIG/FILTER' meant?"),
        (["at", "live", "RIG/FILTER", "nosuch"], 1, "no field 'nosuch'"),
        (["at", "live", "RIG/", "cutoff"], 2, "is several components"),
        (["at", "live", "-a", "127.0.0.1:1"], 2, "--journal is read without a broker"),
    ],
)
def test_what_cannot_be_done_says_why_and_changes_nothing(
    tagged: Path, words: list[str], code: int, why: str
) -> None:
    before = tagged.read_bytes()

    done = run(tagged, *words)

    assert (done.exit_code, why in done.stderr) == (code, True), done.stderr
    assert tagged.read_bytes() == before


def test_a_file_that_is_none_is_refused_and_not_made(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"no journal" * 1000)

    missing, bad = run(tmp_path / "nosuch.db", "tags"), run(tmp_path / "bad.db", "tags")

    assert (missing.exit_code, bad.exit_code) == (1, 1)
    assert "nosuch.db" in missing.stderr
    assert run(tmp_path / "bad.db", "diff", "1", "2").exit_code == 2
    assert [each.name for each in tmp_path.iterdir()] == ["bad.db"]


# --- recordings ---


@pytest.fixture
def recorded(file: Path) -> Path:
    """Return a journal with a recording of two files, one made with two settings."""
    raw, folder = Artifact("raw"), "/data"
    for name, seq in (("rig", "4"), ("rig", "5"), ("lab", "4")):
        run(file, "tag", name, f"at-{seq}", seq)
    run(file, "untag", "rig", "at-5")
    with SQLiteBackend(file).connect() as conn:
        first, second = (each.fingerprint for each in conn.list_snapshots("rig"))
        begun = conn.write_recording(
            RecordingInfo("rig", "raw", raw, epoch=1, first_seq=4, start=first, began=NOON)
        )
        ended = replace(begun, last_seq=6, end=second, ended=NOON + 90, noted_through=6)
        made = [
            RecordedPartition(Partition({"n": 1}, location=f"{folder}/one.h5"), 5, (first,)),
            RecordedPartition(Partition({"n": 2}, location=f"{folder}/two.h5"), 6, (first, second)),
        ]
        conn.write_recording(ended, made, [RecordedChange(5, FILTER)])
        going_on = RecordingInfo(
            "lab", "raw", raw, epoch=1, first_seq=6, start=first, began=NOON + 60
        )
        conn.write_recording(going_on)
        conn.write_recording(
            replace(going_on, last_seq=7, end=first, ended=NOON + 61, failed=True)
        )
    return file


def test_the_settings_behind_a_file_are_found_by_its_name(recorded: Path) -> None:
    shown = lines(run(recorded, "recordings", "--of", "two.h5"))
    (record,) = told(recorded, "recordings", "--of", "/data/one.h5")

    label, digits = record["snapshots"][0]["label"], record["snapshots"][0]["fingerprint"]
    assert shown[0] == "/data/two.h5  rig raw #1, stored at seq 6"
    assert shown[1] == f"rig@at-4  (rig@{digits[:12]})"
    assert re.fullmatch(r"rig@[0-9a-f]{12}", shown[2])
    assert shown[3] == f"1 change of settings during it: {FILTER} at seq 5"
    assert (label, record["key"], record["changes"]) == (
        "rig@at-4", {"n": 1}, [{"seq": 5, "address": FILTER}]
    )
    assert run(recorded, "at", label, FILTER, "cutoff").stdout == "30.0\n"
    assert run(recorded, "at", shown[2], FILTER, "cutoff").stdout == "20.0\n"


def test_recordings_are_listed_with_how_they_ended(recorded: Path) -> None:
    shown = lines(run(recorded, "recordings"))
    of_lab = told(recorded, "recordings", "lab")

    assert shown[0] == "3 recordings"
    assert re.search(r"^lab raw #1  seq 6 on, .*  goes on, or nobody ended it  by ", shown[1])
    assert re.search(r"^lab raw #2  seq 6 to 7, .* for 1\.0s  failed  by ", shown[2])
    assert re.search(r"^rig raw #1  seq 4 to 6, .* for 1m 30s  by ", shown[3])
    assert [(each["last_seq"], each["failed"]) for each in of_lab] == [(None, False), (7, True)]


def test_a_file_that_nobody_recorded_is_said_to_be_none(recorded: Path) -> None:
    done = run(recorded, "recordings", "--of", "three.h5")

    assert (done.exit_code, "no recording has a file 'three.h5'" in done.stderr) == (1, True)
    assert run(recorded, "recordings", "nosuch").stdout == "no recordings\n"


# --- TAB ---


def offered(file: Path, words: list[str], incomplete: str) -> list[str]:
    """Return what bash is offered for the word behind these."""
    typed = ["ezgraph", words[0], "--journal", str(file), *words[1:]]
    asked = {
        "_EZGRAPH_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join([*typed, incomplete]),
        "COMP_CWORD": str(len(typed)),
    }
    return CliRunner().invoke(app, [], env=asked, prog_name="ezgraph").stdout.split()


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        (["tag"], "", ["other", "rig", "third"]),
        (["untag", "rig"], "", ["better"]),
        (["untag"], "", ["other@good", "rig@better", "third@good"]),
        (["diff"], "", ["other@good", "rig@better", "third@good", "live"]),
        (["diff"], "rig", ["rig@better"]),
        (["diff", "live"], "li", ["live"]),
        (["diff", "rig", "@"], "", ["@better"]),  # as bash breaks rig@
        (["diff", "rig", "@"], "be", ["@better"]),
        (["diff", "rig"], "@", ["@better"]),
        (["diff", "live", "other"], "@", ["@good"]),
        (["diff", "rig", "@", "better"], "oth", ["other@good"]),
        (["diff", "live", "other", "@"], "", ["@good"]),
        (["at", "rig@better"], "RIG/F", ["RIG/FILTER"]),
        (["at", "rig", "@", "better"], "", ["RIG/AMP", "RIG/FILTER"]),
        (["at", "1"], "", []),
        (["at", "nosuch"], "", []),
    ],
)
def test_tab_offers_names_tags_and_addresses(
    tagged: Path, words: list[str], incomplete: str, found: list[str]
) -> None:
    assert offered(tagged, words, incomplete) == found


def test_tab_offers_nothing_where_there_is_no_journal(tmp_path: Path) -> None:
    assert offered(tmp_path / "nosuch.db", ["diff"], "rig") == []


def test_words_that_bash_broke_at_the_sign_are_put_together() -> None:
    assert completion._put_together(["rig", "@", "good", "live"]) == (["rig@good", "live"], None)
    assert completion._put_together(["rig", "@"]) == ([], "rig")
    assert completion._put_together(["rig@good", "rig@"]) == (["rig@good"], "rig")
    assert completion._put_together(["live"]) == (["live"], None)
