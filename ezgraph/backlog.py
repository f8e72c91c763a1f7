"""What peers have sent that ZeroMQ holds and has not handed out. Linux; elsewhere it is not known.

ZeroMQ hands out whole messages, and bounds how many of them wait; but it takes the parts of a
message that has no end for as long as there is memory. How much has come in on a connection, the
system tells (``TCP_INFO``); what was read of it, `wire_bytes` counts as ZMTP 3 spells it.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_RECEIVED = struct.Struct("=128xQ")  # struct tcp_info: tcpi_bytes_received
_CURVE_BYTES = 33  # "\x07MESSAGE", a nonce, a MAC, and flags
_SHORT = 255


def wire_bytes(sizes: Iterable[int], *, is_secured: bool) -> int:
    """Return how many bytes the frames of these sizes took on the wire."""
    total, extra = 0, _CURVE_BYTES if is_secured else 0
    for size in sizes:
        body = size + extra
        total += body + (2 if body <= _SHORT else 9)
    return total


def received_bytes(fd: int) -> int:
    """Return how many bytes have come in on the connection at ``fd``; 0 where it is not known."""
    if _TCP_INFO is None:
        return 0
    try:
        with socket.socket(fileno=os.dup(fd)) as copied:
            told = copied.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RECEIVED.size)
    except OSError:
        return 0  # it has gone by itself
    return int(_RECEIVED.unpack(told)[0]) if len(told) == _RECEIVED.size else 0


def resident_bytes() -> int:
    """Return how much memory this process takes; 0 where it is not known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
