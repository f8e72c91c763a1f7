"""A trace as a file: what was written is read, and whatever happened to it is named."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from ezgraph.errors import ConfigError
from ezgraph.protocol.commands import Connect
from ezgraph.testing.traces import header
from ezgraph.verify.records import (
    TAGS,
    Answered,
    Asked,
    Began,
    Body,
    Bound,
    Cancelled,
    Damage,
    Ended,
    Ending,
    Fault,
    Fingerprinted,
    Given,
    Joining,
    Left,
    Lost,
    Noted,
    Progressed,
    Reached,
    Renewed,
    Repeated,
    Returned,
    Skipped,
    TraceRecord,
    Unwatched,
    Watched,
)
from ezgraph.verify.trace_file import TraceFile, TraceWriter, header_line, record_line

if TYPE_CHECKING:
    from pathlib import Path

EVERY_KIND: list[Body] = [
    Joining(1, "session", "räm", ["127.0.0.1:25979"]),
    Bound(1, "c", "c1" * 16, 1, 5, 1, 6.0, resumed=False, id_offset=3),
    Lost(1, "session_expired", "the lease ran out\nwhile nobody renewed it"),
    Renewed(1, 0.25),
    Asked(1, 7, "Connect", "a b", 10.0, by_program=True, command=Connect("a", "b", '"')),
    Asked(1, 8, "Sync", "", 10.0, by_program=False),
    Repeated(1, 7),
    Answered(1, 7, "Done", 6),
    Answered(1, 8, code="deadline", message="no answer from 127.0.0.1:1"),
    Cancelled(1, 9),
    Returned(1, 7, 6, 5),
    Reached(1, 6, 6),
    Reached(1, 9, 6, "deadline"),
    Watched(1, 1, ["edge", "a/b"], None, is_replica=False),
    Watched(1, 2, [], 4, is_replica=False),
    Began(1, None),
    Began(2, 4),
    Given(2, 1, 5, "EdgeConnected", "edge/a/b", "00ff00ff00ff00ff", 0),
    Progressed(2, 6, 0),
    Skipped(1, 1, 6, 4, "f" * 32, diverged=True, left=2),
    Fingerprinted(1, "replica", 1, 6, "f" * 32),
    Unwatched(1),
    Unwatched(2, "unreachable", "nothing was heard"),
    Left(1),
    Noted(Fault.KILLED, 4711),
    Noted(Fault.BROKER_DOWN),
    Ended(),
]


def written(path: Path, bodies: list[Body], *, pid: int = 1) -> bytes:
    writer = TraceWriter(path, header(pid), mono=1.0, wall=1e9)
    for n, body in enumerate(bodies, 1):
        writer.write(body, mono=1.0 + n, wall=1e9 + n)
    writer.close()
    return path.read_bytes()


def found(path: Path) -> tuple[list[TraceRecord], list[Damage], Ending]:
    file = TraceFile(path)
    items = list(file)
    records = [each for each in items if isinstance(each, TraceRecord)]
    return records, [each for each in items if isinstance(each, Damage)], file.ending


def test_every_kind_of_record_comes_back_as_it_was(tmp_path: Path) -> None:
    written(tmp_path / "t", EVERY_KIND)

    file = TraceFile(tmp_path / "t")
    items = list(file)

    assert [each.body for each in items if isinstance(each, TraceRecord)] == EVERY_KIND
    assert {type(body) for body in EVERY_KIND} == set(TAGS.values())
    assert items[6] == TraceRecord(7, 8.0, 1e9 + 7, EVERY_KIND[6])
    assert file.header == header(1)
    assert file.ending is Ending.CLOSED
    assert file.count == len(EVERY_KIND)


def test_each_line_is_json_that_other_programs_read(tmp_path: Path) -> None:
    lines = written(tmp_path / "t", EVERY_KIND).decode().splitlines()

    contents = [json.loads(line) for line in lines]

    assert [each["n"] for each in contents] == list(range(len(EVERY_KIND) + 1))
    assert contents[0]["ezgraph_trace"] == 1
    assert contents[5]["what"] == "asked"
    assert contents[5]["about"] == "a b"


def test_no_field_of_a_record_has_the_name_of_one_of_the_line() -> None:
    own = {"trace", "n", "mono", "wall", "what", "crc", "ezgraph_trace"}

    assert not any(own & {each.name for each in fields(kind)} for kind in TAGS.values())


def test_a_trace_is_never_written_over(tmp_path: Path) -> None:
    before = written(tmp_path / "t", [Ended()])

    with pytest.raises(ConfigError, match="each process a new file"):
        written(tmp_path / "t", [Ended()])
    with pytest.raises(ConfigError, match="cannot begin the trace"):
        written(tmp_path / "nowhere" / "t", [Ended()])

    assert (tmp_path / "t").read_bytes() == before


# --- damage ---

SHORT: list[Body] = [Joining(1, "session", "p", []), Progressed(1, 5, 0), Left(1), Ended()]


def test_a_trace_cut_at_any_byte_is_a_prefix_and_says_how_it_ends(tmp_path: Path) -> None:
    whole = written(tmp_path / "t", SHORT)
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    cut = tmp_path / "cut"

    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        records, damage, ending = found(cut)
        lines = sum(end <= size for end in ends) + (size + 1 in ends)  # only its line end is gone

        assert not damage, size
        assert [each.body for each in records] == SHORT[: max(0, lines - 1)], size
        if lines == len(ends):
            assert ending is Ending.CLOSED, size
        elif size in ends or size + 1 in ends:
            assert ending is Ending.AT_A_RECORD, size
        else:
            assert ending is Ending.IN_MID_RECORD, size
            assert "was killed" in ending.value


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_a_bit_flipped_at_any_offset_is_found_and_its_line_named(tmp_path: Path, mask: int) -> None:
    whole = written(tmp_path / "t", SHORT)
    flipped = tmp_path / "flipped"

    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= mask
        flipped.write_bytes(content)
        records, damage, _ = found(flipped)

        assert damage, at
        line = whole[:at].count(b"\n") + 1
        assert any(f"line {line} " in each.what for each in damage), (at, damage)
        assert {each.number: each.body for each in records}.items() <= dict(
            enumerate(SHORT, 1)
        ).items(), at


def test_missing_records_are_counted_and_numbered(tmp_path: Path) -> None:
    lines = written(tmp_path / "t", EVERY_KIND).splitlines(keepends=True)
    (tmp_path / "t").write_bytes(b"".join(lines[:4] + lines[6:]))

    records, damage, _ = found(tmp_path / "t")

    assert [each.what for each in damage] == ["2 of the records 4 to 5 are missing"]
    assert len(records) == len(EVERY_KIND) - 2


def test_a_missing_header_is_a_missing_record(tmp_path: Path) -> None:
    lines = written(tmp_path / "t", SHORT).splitlines(keepends=True)
    (tmp_path / "t").write_bytes(b"".join(lines[1:]))

    _, damage, _ = found(tmp_path / "t")

    assert [each.what for each in damage] == ["1 of the records 0 to 0 are missing"]


def test_records_twice_or_out_of_order_are_named(tmp_path: Path) -> None:
    lines = written(tmp_path / "t", SHORT).splitlines(keepends=True)
    (tmp_path / "t").write_bytes(b"".join([*lines[:3], lines[2], *lines[3:]]))

    _, damage, _ = found(tmp_path / "t")

    assert [each.what for each in damage] == ["line 4 is record 2, again or out of order"]


def test_files_that_were_mixed_are_named(tmp_path: Path) -> None:
    one = written(tmp_path / "one", SHORT[:3], pid=1).splitlines(keepends=True)
    other = written(tmp_path / "other", SHORT, pid=2).splitlines(keepends=True)
    (tmp_path / "mixed").write_bytes(b"".join([*one, other[2], other[0]]))
    (tmp_path / "joined").write_bytes(b"".join(one + one))

    mixed, joined = found(tmp_path / "mixed")[1], found(tmp_path / "joined")[1]

    assert [each.what for each in mixed] == [
        "line 5 is of trace 00000002, among those of 00000001: files were mixed",
        "line 6 is of trace 00000002, among those of 00000001: files were mixed",
    ]
    assert joined[0].what == "line 5 is a second header: files were mixed"


def test_a_trace_from_the_future_is_named_and_not_read(tmp_path: Path) -> None:
    lines = written(tmp_path / "t", SHORT).splitlines(keepends=True)
    text = lines[0].replace(b'"ezgraph_trace":1', b'"ezgraph_trace":2')
    text = text[: text.rindex(b',"crc"')]
    lines[0] = b'%b,"crc":"%08x"}\n' % (text, crc32(text))
    (tmp_path / "t").write_bytes(b"".join(lines))

    records, damage, _ = found(tmp_path / "t")

    assert not records
    assert "format 2" in damage[0].what
    assert "reads format 1" in damage[0].what


def test_a_record_of_a_kind_this_version_does_not_know_is_named(tmp_path: Path) -> None:
    line = record_line("00000001", 1, Ended(), mono=1.0, wall=1.0)
    text = line.replace(b'"what":"end"', b'"what":"dreamt"')
    text = text[: text.rindex(b',"crc"')]
    head = header_line(header(1), mono=1.0, wall=1.0)
    (tmp_path / "t").write_bytes(head + b'%b,"crc":"%08x"}\n' % (text, crc32(text)))

    _, damage, _ = found(tmp_path / "t")

    assert "record 1 says nothing that this version knows" in damage[0].what


@pytest.mark.parametrize("content", [b"hello\n", b"\x00" * 50, b"[1, 2]\n" * 100, b"SQLite format"])
def test_another_file_is_no_trace(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)

    with pytest.raises(ConfigError, match="is no trace of ezgraph"):
        TraceFile(tmp_path / "t")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the trace"):
        TraceFile(tmp_path / "nowhere")
