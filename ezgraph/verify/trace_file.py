r"""A trace as a file: a line of JSON for each record, written when it happens.

Each line ends with a checksum of what stands before it, so that people can read it, other
programs can parse it, and no changed bit is taken for what was seen::

    {"trace":"5f0c…","n":12,"mono":81.204113,"wall":1790000000.25,"what":"event",…,"crc":"9a3b1c77"}\n

``trace`` names the file they belong to, ``n`` counts them; line 0 is the header. A line is one
``write``, so a process that is killed leaves whole lines and perhaps the beginning of one more.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ezgraph.errors import ConfigError, MalformedMessageError
from ezgraph.protocol.commands import Command
from ezgraph.verify.records import (
    FORMAT,
    TAGS,
    Asked,
    Body,
    Damage,
    Ended,
    Ending,
    Fault,
    Header,
    Noted,
    TraceRecord,
)
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MARK = b',"crc":"'
_TAIL = len(_MARK) + len('01234567"}')
_START_BYTES = 10_000
_TAG_OF = {kind: tag for tag, kind in TAGS.items()}
_FIELDS = {kind: tuple(each.name for each in fields(kind)) for kind in TAGS.values()}
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode
_decode_command: Callable[[bytes], Command] = codec.decoder_of(Command)


def _line(content: dict[str, Any]) -> bytes:
    text = _to_json(content).encode()[:-1]
    return b'%b%b%08x"}\n' % (text, _MARK, crc32(text))


class TraceWriter:
    """Appends to a new trace file; each record is with the system before `write` returns.

    Raises:
        ConfigError: there is such a file already, or it cannot be made.
    """

    def __init__(self, path: Path, header: Header, *, mono: float, wall: float) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except OSError as error:
            raise ConfigError(
                f"cannot begin the trace {str(path)!r}: {error}; give each process a new file"
            ) from error
        self._trace = header.trace
        self._number = 0
        os.write(self._fd, header_line(header, mono=mono, wall=wall))

    def write(self, body: Body, *, mono: float, wall: float) -> None:
        """Append a record."""
        self._number += 1
        os.write(self._fd, record_line(self._trace, self._number, body, mono=mono, wall=wall))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def header_line(header: Header, *, mono: float, wall: float) -> bytes:
    """Return the first line of a trace."""
    about = asdict(header)
    version, trace = about.pop("format"), about.pop("trace")
    at = {"mono": round(mono, 6), "wall": round(wall, 6)}
    return _line({"trace": trace, "n": 0, **at, "ezgraph_trace": version, **about})


def record_line(trace: str, number: int, body: Body, *, mono: float, wall: float) -> bytes:
    """Return the line of a record."""
    kind = type(body)
    content: dict[str, Any] = {
        "trace": trace, "n": number, "mono": round(mono, 6), "wall": round(wall, 6),
        "what": _TAG_OF[kind],
    }
    for name in _FIELDS[kind]:
        if (value := getattr(body, name)) is not None:
            content[name] = value
    if isinstance(body, Asked) and body.command is not None:
        content["command"] = base64.b64encode(codec.encode(body.command)).decode()
    elif isinstance(body, Noted):
        content["fault"] = body.fault.value
    return _line(content)


class TraceFile:
    """A trace as it was found. Iterate over it once; then ``ending`` and ``count`` are known.

    Raises:
        ConfigError: the file cannot be read, or is no trace at all.
    """

    def __init__(self, path: Path, *, name: str | None = None) -> None:
        self.name = name or str(path)
        self._path = path
        self.header: Header | None = None
        self.ending = Ending.AT_A_RECORD
        self.count = 0
        self._trace: str | None = None
        self._last = -1
        self._damaged = 0
        start = self._read(_START_BYTES)
        if start and not _looks_like_trace(start):
            raise ConfigError(
                f"{self.name!r} is no trace of ezgraph; a Recorder of ezgraph.testing writes them"
            )

    def __repr__(self) -> str:
        return f"<TraceFile {self.name} {self.count} records>"

    def _read(self, size: int = -1) -> bytes:
        try:
            with self._path.open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise ConfigError(f"cannot read the trace {self.name!r}: {error}") from error

    def __iter__(self) -> Iterator[TraceRecord | Damage]:
        """Yield what the file holds, in order, and each place where it is damaged."""
        *lines, tail = self._read().split(b"\n")
        if tail and _is_whole(tail):
            lines, tail = [*lines, tail], b""
        for number, line in enumerate(lines, 1):
            yield from self._take_line(number, line)
            if self.header is not None and self.header.format > FORMAT:
                return
        if _MARK in tail and b'"}' in tail[tail.rindex(_MARK) + len(_MARK) :]:
            yield Damage(self._last, f"line {len(lines) + 1} is damaged at its end")
        elif tail or not lines:
            self.ending = Ending.IN_MID_RECORD

    def _take_line(self, number: int, line: bytes) -> Iterator[TraceRecord | Damage]:
        if not _is_whole(line):
            self._damaged += 1
            yield Damage(self._last, f"line {number} is damaged: its checksum does not fit")
            return
        content = _from_json(line.decode())
        if self._trace is None:
            self._trace = content["trace"]
        if content["trace"] != self._trace:
            yield Damage(
                self._last,
                f"line {number} is of trace {content['trace']}, among those of {self._trace}: "
                f"files were mixed",
            )
        elif "ezgraph_trace" in content:
            yield from self._take_header(number, content)
        else:
            yield from self._take_record(number, content)

    def _take_header(self, number: int, content: dict[str, Any]) -> Iterator[Damage]:
        if self._last >= 0:
            yield Damage(self._last, f"line {number} is a second header: files were mixed")
            return
        self._last = 0
        known = {each.name for each in fields(Header)} & content.keys()
        version = content["ezgraph_trace"]
        given = {name: content[name] for name in known}
        self.header = Header(**{**given, "format": version, "trace": content["trace"]})
        if version > FORMAT:
            yield Damage(
                0, f"it is in format {version}, written by ezgraph {self.header.version}; this one "
                f"reads format {FORMAT}: verify it with that version"
            )

    def _take_record(
        self, number: int, content: dict[str, Any]
    ) -> Iterator[TraceRecord | Damage]:
        at = content["n"]
        missing = at - self._last - 1 - self._damaged
        if at <= self._last:
            yield Damage(self._last, f"line {number} is record {at}, again or out of order")
            return
        if missing > 0:
            before = self._last
            yield Damage(before, f"{missing} of the records {before + 1} to {at - 1} are missing")
        self._last, self._damaged = at, 0
        try:
            body = _body(content)
        except (KeyError, TypeError, ValueError, MalformedMessageError) as error:
            yield Damage(at, f"record {at} says nothing that this version knows: {error!r}")
            return
        self.count += 1
        if isinstance(body, Ended):
            self.ending = Ending.CLOSED
        yield TraceRecord(at, content["mono"], content["wall"], body)


def _looks_like_trace(content: bytes) -> bool:
    """Return whether this is a trace, perhaps damaged, rather than some other file."""
    first, _, rest = content.partition(b"\n")
    start = b'{"trace":"'
    return (
        _MARK in first or first[: len(start)] == start[: len(first)] or _MARK in rest
    )


def _is_whole(line: bytes) -> bool:
    start = len(line) - _TAIL
    if start <= 0:
        return False
    return line[start:] == b'%b%08x"}' % (_MARK, crc32(line[:start]))


def _body(content: dict[str, Any]) -> Body:
    kind = TAGS[content["what"]]
    given = {name: content[name] for name in _FIELDS[kind] if name in content}
    if kind is Asked and "command" in given:
        given["command"] = _decode_command(_unbase64(given["command"]))
    elif kind is Noted:
        given["fault"] = Fault(given["fault"])
    for name in _NONE_BY_DEFAULT.get(kind, ()):
        given.setdefault(name, None)
    body: Body = kind(**given)
    return body


_NONE_BY_DEFAULT = {TAGS["watched"]: ("after",), TAGS["began"]: ("after",)}


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
