"""The frames between a reader of data nodes and the process that serves them.

A request is one frame: magic ``eZn``, a format byte, the request id (8 bytes, big-endian), one
byte that says how the answer is wanted, then the request as a value. An answer begins with magic,
format, the request id and one byte for its kind:

====  =========================================================================
V     the rest of the frame is the encoded answer
E     the rest is a refusal: ``[code, message, floor]``
A     the rest is the head of an array; its bytes are the next frame, as they are
====  =========================================================================

What does not start so is not ours and gets no answer. Through a relay something is said before
(`ezgraph.wire.relaying`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ezgraph.errors import (
    CompactedError,
    EzGraphError,
    LimitError,
    MalformedMessageError,
    from_code,
)
from ezgraph.protocol.nodes import (
    GrowthReport,
    MatchPage,
    NodeDescription,
    NodeOpening,
    TreePage,
)
from ezgraph.wire import codec, values
from ezgraph.wire.arrays import array_from, array_head, raw_bytes
from ezgraph.wire.relaying import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from ezgraph.wire.arrays import AnyArray

FORMAT = 1
_START = b"eZn%c" % FORMAT
_HEAD = struct.Struct("!4sQc")
HEAD_BYTES = _HEAD.size
AS_VALUE, AS_FRAMES = b"V", b"F"
_VALUE, _ERROR, _ARRAY = b"V", b"E", b"A"
_MESSAGES = (NodeOpening, NodeDescription, GrowthReport, TreePage, MatchPage)
MAX_DEPTH = 32
MAX_REFUSAL_CHARACTERS = 10_000


class Fingerprinted(NamedTuple):
    """An array, and the fingerprint of its bytes as the server has them."""

    array: AnyArray
    fingerprint: bytes


class Incoming(NamedTuple):
    """A request as it came: its id, whether arrays may come as frames, and what it says."""

    request_id: int
    takes_frames: bool
    message: object


# --- requests ---


def request_frame(request_id: int, message: object, *, takes_frames: bool) -> bytes:
    """Return the frame of a request.

    Raises:
        MalformedMessageError: it holds what cannot be encoded.
        LimitError: it is too long.
    """
    how = AS_FRAMES if takes_frames else AS_VALUE
    frame = _HEAD.pack(_START, request_id, how) + values.pack(message)
    if len(frame) > MAX_REQUEST_BYTES:
        raise LimitError(
            f"a request of {len(frame)} bytes; at most {MAX_REQUEST_BYTES} are taken: ask for less "
            f"at once, or with shorter labels and values"
        )
    return frame


def read_request_id(frame: bytes) -> int:
    """Return whose answer it will be.

    Raises:
        MalformedMessageError: these bytes are no request of this protocol.
    """
    return _read_head(frame)[0]


def read_request(frame: bytes) -> Incoming:
    """Return what a frame asks.

    Raises:
        MalformedMessageError: these bytes are no request of this protocol.
    """
    request_id, how = _read_head(frame)
    message = values.unpack(memoryview(frame)[HEAD_BYTES:])
    values.check_depth(message, MAX_DEPTH)
    return Incoming(request_id, how == AS_FRAMES, message)


def _read_head(frame: bytes | memoryview) -> tuple[int, bytes]:
    if len(frame) < HEAD_BYTES or bytes(frame[:4]) != _START:
        raise MalformedMessageError(f"{len(frame)} bytes are no message of data nodes")
    _, request_id, kind = _HEAD.unpack_from(frame)
    return request_id, kind


# --- answers ---


def encode_answer(answer: object) -> bytes:
    """Return an answer as bytes, arrays in it included.

    Raises:
        MalformedMessageError: it holds what cannot be encoded; says where and what.
    """
    if isinstance(answer, _MESSAGES):
        return codec.encode(answer)
    return values.pack(answer)


def answer_frames(request_id: int, answer: object, *, takes_frames: bool) -> list[Any]:
    """Return the frames of an answer; that of an array is its own memory where it lies well.

    Raises:
        MalformedMessageError: it holds what cannot be encoded; says where and what.
        NodeDtypeError: it is an array whose items have no bytes.
        LimitError: it is larger than a reader takes.
    """
    if takes_frames and isinstance(answer, np.ndarray):
        return _array_frames(request_id, answer, None)
    if takes_frames and isinstance(answer, Fingerprinted):
        return _array_frames(request_id, answer.array, answer.fingerprint)
    encoded = encode_answer(answer)
    _check_size(len(encoded) + HEAD_BYTES, "make it an array, which is sent in chunks")
    return [_HEAD.pack(_START, request_id, _VALUE) + encoded]


def _array_frames(request_id: int, array: AnyArray, fingerprint: bytes | None) -> list[Any]:
    _check_size(array.nbytes, "have it made of smaller items")
    head = array_head(array)
    if fingerprint is not None:
        head["fingerprint"] = fingerprint
    return [_HEAD.pack(_START, request_id, _ARRAY) + values.pack(head), raw_bytes(array)]


def _check_size(size_bytes: int, otherwise: str) -> None:
    """Refuse what a reader would hang up on, and ask for again."""
    if size_bytes > MAX_ANSWER_BYTES:
        raise LimitError(
            f"an answer of {size_bytes} bytes; readers take at most {MAX_ANSWER_BYTES}: give the "
            f"node smaller partitions, or {otherwise}"
        )


def error_frame(request_id: int, error: EzGraphError) -> bytes:
    """Return the frame of a refusal."""
    floor = error.floor if isinstance(error, CompactedError) else 0
    said = values.pack([error.code, _sayable(str(error)), floor])
    return _HEAD.pack(_START, request_id, _ERROR) + said


def _sayable(words: str) -> str:
    """Return words as UTF-8 has them, not too many: names of files may hold what it has not."""
    return words[:MAX_REFUSAL_CHARACTERS].encode("utf-8", "backslashreplace").decode()


class Answer(NamedTuple):
    """An answer as it came; `value` or `array` says what it is, or raises the refusal."""

    request_id: int
    kind: bytes
    rest: memoryview
    buffer: memoryview | None

    def value(self) -> bytes:
        """Return the encoded answer.

        Raises:
            EzGraphError: the request was refused; of the class that the server raised.
            MalformedMessageError: it is none.
        """
        self.check()
        if self.kind != _VALUE:
            raise MalformedMessageError(f"an answer of kind {self.kind!r} where a value was due")
        return bytes(self.rest)

    def array(self) -> tuple[AnyArray, bytes | None]:
        """Return the array, as a view of the received frame, and its fingerprint if it has one.

        Raises:
            EzGraphError: the request was refused; of the class that the server raised.
            MalformedMessageError: head and bytes do not fit.
        """
        self.check()
        if self.kind != _ARRAY or self.buffer is None:
            raise MalformedMessageError(f"an answer of kind {self.kind!r} where an array was due")
        head = values.unpack(self.rest)
        array = array_from(head, self.buffer)
        fingerprint = head.get("fingerprint")
        return array, fingerprint if isinstance(fingerprint, bytes) else None

    def check(self) -> None:
        """Raise the refusal that the answer is, if it is one."""
        if self.kind == _ERROR:
            raise _refusal(values.unpack(self.rest))


def read_answer(head: memoryview, buffer: memoryview | None) -> Answer:
    """Return the answer that one or two frames are; the array in it is not looked at yet.

    Raises:
        MalformedMessageError: these bytes are no answer of this protocol.
    """
    request_id, kind = _read_head(head)
    return Answer(request_id, kind, head[HEAD_BYTES:], buffer)


def _refusal(said: object) -> EzGraphError:
    match said:
        case [str(code), str(message), int(floor)]:
            if code == CompactedError.code:
                return CompactedError(message, floor=floor)
            return from_code(code, message)
        case _:
            return MalformedMessageError(f"{said!r:.200} is no refusal")
