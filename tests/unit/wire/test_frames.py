"""The frames around messages: they begin in one way, and what does not is not ours."""

from __future__ import annotations

import struct

import pytest

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol.commands import Connect, Sync
from ezgraph.protocol.notes import UNWATCHED, Link, Note
from ezgraph.protocol.replies import Done, Refusal
from ezgraph.wire import codec, frames

CLUSTER = "0123456789abcdef" * 2


def test_a_request_gives_back_its_ids_and_its_command() -> None:
    frame = frames.request_frame(2**64 - 1, 7, codec.encode(Connect("a", "b")))

    assert frames.read_header(frame) == (2**64 - 1, 7)
    assert frames.read_command(frame) == Connect("a", "b")


def test_a_request_begins_with_magic_format_and_ids() -> None:
    frame = frames.request_frame(1, 2, codec.encode(Sync()))

    assert frame[:4] == b"eZ\x01\x00"
    assert struct.unpack("!QQ", frame[4:20]) == (1, 2)
    assert frame[20:] == codec.encode(Sync())


def test_a_reply_gives_back_its_id_and_what_it_says() -> None:
    for reply in (Done(3), Refusal("cyclic", "no", None)):
        assert frames.read_reply(frames.reply_frame(9, reply)) == (9, reply)


STRANGE = [b"", b"e", b"eZ\x01\x00", b"eZ\x01\x00" + bytes(7), b"eZ\x02\x00" + bytes(16), bytes(40)]


@pytest.mark.parametrize("frame", [*STRANGE, b"eZ\x01\x00" + bytes(15), bytes(range(64))])
def test_what_does_not_begin_like_a_request_is_none(frame: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="do not start like a request"):
        frames.read_header(frame)


@pytest.mark.parametrize("frame", STRANGE)
def test_what_does_not_begin_like_a_reply_is_none(frame: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="do not start like a reply"):
        frames.read_reply(frame)


def test_a_reply_cut_off_is_malformed() -> None:
    frame = frames.reply_frame(9, Done(3))

    for length in range(12, len(frame)):
        with pytest.raises(MalformedMessageError):
            frames.read_reply(frame[:length])


LINKS = [
    Link(0, more=False),
    Link(UNWATCHED, more=False),
    Link(2**62, more=True),
    Link(7, more=True),
]


def test_links_come_back_by_depth() -> None:
    frame = frames.links_frame(LINKS)

    assert [frames.read_link(frame, depth) for depth in range(4)] == LINKS
    assert len(frame) == 8 * len(LINKS)


def test_a_key_of_the_greatest_depth_has_its_links() -> None:
    links = [Link(number, more=False) for number in range(33)]

    assert frames.read_link(frames.links_frame(links), 32) == links[32]


def test_a_link_that_is_not_there_is_malformed() -> None:
    frame = frames.links_frame(LINKS)

    for bad, depth in ((frame, 4), (frame[:-1], 3), (b"", 0)):
        with pytest.raises(MalformedMessageError, match=f"no link at depth {depth}"):
            frames.read_link(bad, depth)


def test_a_note_comes_back() -> None:
    note = Note(CLUSTER, 3, 2**63, 2**64 - 1)

    assert frames.read_note(frames.note_frame(note)) == note


@pytest.mark.parametrize("change", ["shorter", "longer", "magic"])
def test_what_is_no_note_is_malformed(change: str) -> None:
    frame = frames.note_frame(Note(CLUSTER, 1, 2, 3))
    bad = {"shorter": frame[:-1], "longer": frame + b"\0", "magic": b"XX" + frame[2:]}[change]

    with pytest.raises(MalformedMessageError, match="are no note"):
        frames.read_note(bad)
