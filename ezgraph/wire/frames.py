"""The frames around messages: request and reply headers, links, notes.

A message to the broker is one or more requests, a frame each, and a message from it one or more
replies: what was ready together travels together. A request is magic ``eZ``, a format byte, a pad
byte, the request id and the lowest open id (8 bytes each, big-endian), then the encoded command.
A reply is magic, format, pad, the request id, then the encoded reply. What does not start so is
not ours and gets no answer.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol.commands import Command
from ezgraph.protocol.notes import Link, Note
from ezgraph.protocol.replies import Reply
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1
_START = b"eZ%c\0" % FORMAT
_REQUEST = struct.Struct("!4sQQ")
_REPLY = struct.Struct("!4sQ")
_NOTE = struct.Struct("!4s16sQQQ")
HEADER_BYTES = _REQUEST.size
_LINK = struct.Struct("!Q")
_LINK_BYTES = _LINK.size
_LINKS = [struct.Struct(f"!{count}Q") for count in range(40)]


_decode_command = codec.decoder_of(Command)
_decode_reply = codec.decoder_of(Reply)


class Header(NamedTuple):
    """What can be read of a request before its command."""

    request_id: int
    lowest_open: int


def request_frame(request_id: int, lowest_open: int, command: bytes) -> bytes:
    """Return the frame of a request whose command is encoded."""
    return _REQUEST.pack(_START, request_id, lowest_open) + command


def read_header(frame: bytes) -> Header:
    """Return the ids of a request.

    Raises:
        MalformedMessageError: these bytes are no request of this protocol.
    """
    if len(frame) < _REQUEST.size or frame[:4] != _START:
        raise MalformedMessageError(f"{len(frame)} bytes do not start like a request")
    _, request_id, lowest_open = _REQUEST.unpack_from(frame)
    return Header(request_id, lowest_open)


def read_command(frame: bytes) -> Command:
    """Return the command of a request whose header was read.

    Raises:
        MalformedMessageError: there is none; says which field.
    """
    command: Command = _decode_command(memoryview(frame)[HEADER_BYTES:])
    return command


def reply_frame(request_id: int, reply: Reply) -> bytes:
    """Return the frame of a reply."""
    return _REPLY.pack(_START, request_id) + codec.encode(reply)


def read_reply(frame: bytes) -> tuple[int, Reply]:
    """Return the request id and the reply.

    Raises:
        MalformedMessageError: these bytes are no reply of this protocol.
    """
    if len(frame) < _REPLY.size or frame[:4] != _START:
        raise MalformedMessageError(f"{len(frame)} bytes do not start like a reply")
    _, request_id = _REPLY.unpack_from(frame)
    return request_id, _decode_reply(memoryview(frame)[_REPLY.size :])


def links_frame(links: Sequence[Link]) -> bytes:
    """Return the frame that links an event to its predecessors, one link per prefix."""
    return _LINKS[len(links)].pack(*[2 * (link.prev + 1) + link.more for link in links])


def read_link(frame: bytes, depth: int) -> Link:
    """Return the link for the prefix of ``depth`` segments.

    Raises:
        MalformedMessageError: the frame has none.
    """
    try:
        (packed,) = _LINK.unpack_from(frame, depth * _LINK_BYTES)
    except struct.error as error:
        raise MalformedMessageError(f"no link at depth {depth}: {error}") from error
    return Link((packed >> 1) - 1, bool(packed & 1))


def note_frame(note: Note) -> bytes:
    """Return the frame of a note."""
    cluster = bytes.fromhex(note.cluster_id)
    return _NOTE.pack(_START, cluster, note.epoch, note.last, note.head)


def read_note(frame: bytes) -> Note:
    """Return the note that these bytes spell.

    Raises:
        MalformedMessageError: they spell none.
    """
    if len(frame) != _NOTE.size or frame[:4] != _START:
        raise MalformedMessageError(f"{len(frame)} bytes are no note")
    _, cluster, epoch, last, head = _NOTE.unpack(frame)
    return Note(cluster.hex(), epoch, last, head)
