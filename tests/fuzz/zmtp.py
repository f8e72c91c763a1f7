"""ZMTP as a liar speaks it: greetings, handshakes and frames, most of them wrong somewhere.

One thing is never said: an identity that begins with a zero byte. Such are given out by the
ROUTER itself, and to collide with one aborts libzmq 4.3.5 (a known limit); no broker on it
can prevent that.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.fuzz.mutation import Mutator

GREETING_BYTES = 64
MORE, LONG, COMMAND = 1, 2, 4
MECHANISMS = (b"NULL", b"NULL", b"NULL", b"CURVE", b"PLAIN", b"GSSAPI", b"", b"null", b"\xff" * 20)
SOCKET_TYPES = (b"DEALER", b"REQ", b"ROUTER", b"SUB", b"XSUB", b"PUB", b"XPUB", b"PAIR", b"", b"\0")
IDENTITIES = (b"", b"me", b"x" * 255, b"y" * 256, b"\1\0\0\0\1", b"\xff" * 5, b"z" * 70_000)
SIZES = (0, 1, 255, 256, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, (64 << 20) + 1)
FOREIGN = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(256)),
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\0" * 300,
    b"\xff" * 300,
    b"\x01\0",  # ZMTP 1: an anonymous peer
    b"\x04\0abc\x03\0xy",  # ZMTP 1: a named one, and a message
    b"\xff" + bytes(8) + b"\x7f\x01\x05\0\0\0\x02hi",  # ZMTP 2: a DEALER
)
_FORGED = re.compile(rb"(identity.{4})\0", re.IGNORECASE | re.DOTALL)


def greeting(mechanism: bytes = b"NULL", *, minor: int = 0, as_server: int = 0) -> bytes:
    """Return the first 64 bytes of a peer that speaks ZMTP 3."""
    signature = b"\xff" + bytes(8) + b"\x7f\x03" + bytes([minor])
    return signature + mechanism.ljust(20, b"\0")[:20] + bytes([as_server]) + bytes(31)


def frame(body: bytes, flags: int = 0) -> bytes:
    """Return a frame that is what it says."""
    if len(body) < 256 and not flags & LONG:
        return bytes([flags, len(body)]) + body
    return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body


def lying_frame(random: Random, body: bytes) -> bytes:
    """Return a frame whose size or flags are not what follows."""
    flags = random.choice((0, MORE, COMMAND, MORE | COMMAND, 8, 0x80, 0xFF)) | LONG
    return bytes([flags]) + struct.pack("!Q", random.choice(SIZES)) + body


def command(name: bytes, body: bytes) -> bytes:
    """Return a command frame."""
    return frame(bytes([len(name)]) + name + body, COMMAND)


def ready(socket_type: bytes, identity: bytes = b"") -> bytes:
    """Return what ends the handshake of the NULL mechanism."""
    metadata = {b"Socket-Type": socket_type, b"Identity": identity}
    return command(b"READY", b"".join(_property(*each) for each in metadata.items()))


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack("!I", len(value)) + value


def conversation(
    random: Random, mutator: Mutator, requests: Sequence[bytes], topics: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return what one connection says at once, and what when the greeting has been answered."""
    match random.randrange(8):
        case 0:
            said = random.choice(FOREIGN) + random.randbytes(random.randrange(200))
        case 1:
            said = random.randbytes(random.choice((1, 9, 64, 1_000, 9_000)))
        case 2:
            said = mutator.changed_bytes(greeting()) + ready(b"DEALER") + frame(requests[0])
        case 3:
            said = _handshake(random) + mutator.changed_bytes(ready(b"DEALER")) + frame(requests[0])
        case 4:
            said = _handshake(random) + _security_command(random)
        case 5:
            said = greeting(minor=random.choice((0, 1))) + ready(
                random.choice(SOCKET_TYPES), random.choice(IDENTITIES)
            )
            said += b"".join(_traffic(random, requests, topics) for _ in range(5))
        case 6:
            said = greeting() + ready(b"DEALER") + b"".join(map(frame, requests))
            said += lying_frame(random, requests[0])
        case _:
            said = greeting() + ready(b"SUB")
            for _ in range(10):
                said += frame(random.choice((b"\0", b"\0", b"\1")) + random.choice(topics))
            said += lying_frame(random, b"\1" + topics[0])
    if random.random() < 0.3:
        said = said[: random.randrange(len(said) + 1)]  # and then says no more
    said = _FORGED.sub(rb"\1x", said)
    at = GREETING_BYTES if random.random() < 0.9 else len(said)
    return said[:at], said[at:]


def _handshake(random: Random) -> bytes:
    minor, as_server = random.choice((0, 1, 9)), random.choice((0, 1, 255))
    return greeting(random.choice(MECHANISMS), minor=minor, as_server=as_server)


def _security_command(random: Random) -> bytes:
    name = random.choice((b"HELLO", b"WELCOME", b"INITIATE", b"READY", b"ERROR", b"MESSAGE", b""))
    return command(name, random.randbytes(random.choice((0, 1, 8, 194, 260, 2_000))))


def _traffic(random: Random, requests: Sequence[bytes], topics: Sequence[bytes]) -> bytes:
    request, topic = random.choice(requests), random.choice(topics)
    match random.randrange(7):
        case 0:
            return frame(request)
        case 1:
            return frame(b"", MORE) + frame(request, MORE) * 3 + frame(request)
        case 2:
            return command(random.choice((b"SUBSCRIBE", b"CANCEL", b"JOIN")), topic)
        case 3:
            name = random.choice((b"PING", b"PONG"))
            return command(name, random.randbytes(random.randrange(40)))
        case 4:
            return frame(random.choice((b"\0", b"\1", b"\2")) + topic)
        case 5:
            return lying_frame(random, request)
        case _:
            return frame(request, random.choice((8, 16, 0x80, COMMAND, COMMAND | MORE)))
