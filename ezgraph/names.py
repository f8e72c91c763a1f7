r"""Keys, their wire form, and the prefixes that match them.

A **key** is a tuple of segments: ``("settings", "SYS/UNIT_A")``. Its wire form, the *topic*, is
each segment escaped and **followed by** ``/``, the last one too: ``settings/SYS%2FUNIT_A/``.
So a raw ZeroMQ prefix match is a match of whole segments: ``chunker/`` is no prefix of
``chunker2/``. Escaped are ``%``, ``/`` and the control characters, as ``%XX`` of their UTF-8
bytes; NUL therefore never occurs in a topic, and marks the note topics of the broker
(``\0 topic \0``). Each key has exactly one spelling: a topic that decodes to a key which
encodes differently is refused.
"""

from __future__ import annotations

import re
import reprlib
from functools import lru_cache

from ezgraph.errors import InvalidKeyError

Key = tuple[str, ...]

MAX_SEGMENTS = 32
MAX_TOPIC_BYTES = 4096

_MUST_ESCAPE = re.compile(r"[%/\x00-\x1f\x7f]")
_ESCAPE = re.compile(r"%([0-9A-F]{2})")


def _escape(segment: str) -> str:
    return _MUST_ESCAPE.sub(lambda found: f"%{ord(found.group()):02X}", segment)


def _unescape(segment: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found.group(1), 16)), segment)


_shown = reprlib.repr  # of what may be anything: as deep, as long as it likes


def check_key(key: object) -> Key:
    """Return ``key`` as a tuple of non-empty text segments.

    Raises:
        InvalidKeyError: a segment is empty or no text, or there are too many.
    """
    if isinstance(key, str) or not isinstance(key, tuple | list):
        raise InvalidKeyError(
            f"{_shown(key)} is no key: give a tuple of segments such as ('settings', 'SYS/UNIT_A')"
        )
    for segment in key:
        if not isinstance(segment, str) or not segment:
            raise InvalidKeyError(
                f"segment {_shown(segment)} of key {_shown(key)} is not a non-empty text; "
                f"every segment must have at least one character"
            )
    if len(key) > MAX_SEGMENTS:
        raise InvalidKeyError(f"a key of {len(key)} segments; at most {MAX_SEGMENTS} are allowed")
    return tuple(key)


@lru_cache(maxsize=8192)
def topic_of(key: Key) -> bytes:
    """Return the wire form of ``key``; the empty key gives the empty topic, a prefix of all.

    Raises:
        InvalidKeyError: a segment is empty, has lone surrogates, or the topic is too long.
    """
    try:
        text = "\0".join(check_key(key))
        if len(_MUST_ESCAPE.findall(text)) == max(len(key) - 1, 0):  # nothing but the separators
            topic = (text.replace("\0", "/") + "/").encode() if key else b""
        else:
            topic = "".join([f"{_escape(segment)}/" for segment in key]).encode()
    except UnicodeEncodeError as error:
        raise InvalidKeyError(f"key {key!r} cannot be written as UTF-8: {error}") from error
    if len(topic) > MAX_TOPIC_BYTES:
        raise InvalidKeyError(
            f"a key of {len(topic)} bytes, starting {topic[:40]!r}; "
            f"at most {MAX_TOPIC_BYTES} are allowed: shorten its segments"
        )
    return topic


@lru_cache(maxsize=8192)
def key_of(topic: bytes) -> Key:
    """Return the key that ``topic`` spells.

    Raises:
        InvalidKeyError: these bytes are not the one spelling of a key.
    """
    if not topic:
        return ()
    try:
        text = topic.decode()
    except UnicodeDecodeError as error:
        raise InvalidKeyError(f"topic {topic[:60]!r} is not UTF-8: {error}") from error
    key = tuple(_unescape(segment) for segment in text.removesuffix("/").split("/"))
    if not text.endswith("/") or "" in key or topic_of(key) != topic:
        raise InvalidKeyError(f"topic {topic[:60]!r} is not the one spelling of a key")
    return key


@lru_cache(maxsize=8192)
def ancestors(topic: bytes) -> tuple[bytes, ...]:
    """Return the topics of every prefix of a key, from the empty one to the key itself.

    Raises:
        InvalidKeyError: no key is so long.
    """
    if len(topic) > MAX_TOPIC_BYTES or topic.count(b"/") > MAX_SEGMENTS:
        raise InvalidKeyError(f"topic {topic[:60]!r} of {len(topic)} bytes is that of no key")
    found = [b""]
    end = topic.find(b"/") + 1
    while end > 0:
        found.append(topic[:end])
        end = topic.find(b"/", end) + 1
    return tuple(found)


def note_topic(prefix: bytes) -> bytes:
    """Return the topic under which notes for exactly ``prefix`` are published."""
    return b"\0" + prefix + b"\0"


def prefix_of_note(topic: bytes) -> bytes | None:
    """Return the prefix a note topic belongs to, or None for any other topic."""
    if len(topic) >= 2 and topic[:1] == b"\0" and topic[-1:] == b"\0":
        return topic[1:-1]
    return None
