from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ezgraph.demo.record import RecordFile, is_recorded, line_of, plain
from ezgraph.errors import EzGraphError

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.protocol.events import Event


def test_settings_and_topology_events_are_recorded_and_no_others(history: list[Event]) -> None:
    assert [event.seq for event in history if is_recorded(event)] == [2, 4, 5, 6, 7]


def test_a_line_gives_back_what_it_was_made_from(history: list[Event]) -> None:
    for event in history:
        line = line_of(event)

        assert "\n" not in line
        assert json.loads(line) == plain(event)


def test_a_new_record_begins_at_seq_0_and_a_later_one_where_it_ended(
    tmp_path: Path, history: list[Event]
) -> None:
    path = tmp_path / "record.jsonl"

    with RecordFile(path) as record:
        assert record.last_seq == 0
        record.write(history[1])
        record.write(history[3])

    with RecordFile(path) as record:
        assert (record.last_seq, record.lines, record.cut_bytes) == (4, 2, 0)


def test_what_is_written_is_in_the_file_before_it_is_closed(
    tmp_path: Path, history: list[Event]
) -> None:
    path = tmp_path / "record.jsonl"

    with RecordFile(path) as record:
        record.write(history[1])

        assert path.read_text() == line_of(history[1]) + "\n"


@pytest.mark.parametrize("torn", [b'{"seq": 5, "ki', b"\xe2\x86", b"{"])
def test_a_half_written_last_line_is_cut_off_and_written_again(
    tmp_path: Path, history: list[Event], torn: bytes
) -> None:
    path = tmp_path / "record.jsonl"
    with RecordFile(path) as record:
        record.write(history[3])
    with path.open("ab") as file:
        file.write(torn)

    with RecordFile(path) as record:
        assert (record.last_seq, record.cut_bytes) == (4, len(torn))
        record.write(history[4])

    assert path.read_text() == f"{line_of(history[3])}\n{line_of(history[4])}\n"


def test_a_file_of_nothing_but_a_torn_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"seq"')

    with RecordFile(path) as record:
        assert (record.last_seq, record.lines) == (0, 0)

    assert path.read_bytes() == b""


def test_a_whole_last_line_that_is_no_event_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text("hello\n")

    with pytest.raises(EzGraphError, match="move the file away"):
        RecordFile(path)
