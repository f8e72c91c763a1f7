"""What a reader of data nodes says first to a relay, and how large what then passes may be.

The frame is the magic ``eZy``, a format byte, and ``[name, owner]``: whose host of which graph is
meant. All that follows, both ways, is as without a relay (`ezgraph.wire.nodes`).
"""

from __future__ import annotations

from ezgraph.errors import MalformedMessageError
from ezgraph.wire import values

RELAY_PREAMBLE = b"eZy\1"
MAX_PREAMBLE_BYTES = 4096
MAX_REQUEST_BYTES = 256 << 10
MAX_ANSWER_BYTES = 256 << 20


def relay_frame(name: str, owner: str) -> bytes:
    """Return what a relay is told first: which of the hosts of a graph is meant."""
    return RELAY_PREAMBLE + values.pack([name, owner])


def read_relay_frame(frame: bytes) -> tuple[str, str]:
    """Return the name of a graph, and the owner of the host that is meant.

    Raises:
        MalformedMessageError: these bytes do not say so.
    """
    if not frame.startswith(RELAY_PREAMBLE) or len(frame) > MAX_PREAMBLE_BYTES:
        raise MalformedMessageError(f"{len(frame)} bytes do not say what host is meant")
    match values.unpack(memoryview(frame)[len(RELAY_PREAMBLE) :]):
        case [str(name), str(owner)]:
            return name, owner
        case said:
            raise MalformedMessageError(f"{said!r:.200} is no graph and owner")
