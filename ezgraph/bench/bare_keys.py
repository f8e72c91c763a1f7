"""The yardstick of keys: a bare relay of transactions, and a bare subscriber that only counts.

**Bare relay of transactions.** As the relay of `ezgraph.bench.bare`, but it gets a transaction of
puts and publishes each put under its key, so that every subscriber gets what is its own: the same
number of messages, and the same choice among subscribers, as a broker has.

``python -m ezgraph.bench.bare_keys`` is that relay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from ezgraph.bench.bare import request_frame
from ezgraph.bench.children import end_with_parent, say
from ezgraph.names import topic_of
from ezgraph.protocol.commands import ChangeConfig
from ezgraph.protocol.config import bus_key
from ezgraph.protocol.replies import Done
from ezgraph.wire import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOST = "tcp://127.0.0.1"


def relay() -> None:
    """Answer every transaction and publish each of its puts by itself, for ever."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router, pub = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
    pub.set(zmq.SNDHWM, 0)
    end_with_parent()
    say(port=router.bind_to_random_port(_HOST), events_port=pub.bind_to_random_port(_HOST))
    count = 0
    while True:
        peer, frame = router.recv_multipart()
        header = frames.read_header(frame)
        command = frames.read_command(frame)
        puts = command.puts if isinstance(command, ChangeConfig) else []
        count += len(puts)
        router.send_multipart([peer, frames.reply_frame(header.request_id, Done(count))])
        for put in puts:
            topic = topic_of(bus_key(put.type, put.key))
            pub.send_multipart([topic, request_frame(count, ChangeConfig([put]))])


class Bystander:
    """A bare subscriber to some topics, which tells what reaches it."""

    def __init__(self, events_port: int, topics: Sequence[bytes]) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.connect(f"{_HOST}:{events_port}")
        for topic in topics:
            self._socket.subscribe(topic)

    def __repr__(self) -> str:
        return f"<Bystander {self._socket!r}>"

    def hear(self, wait_s: float) -> list[list[bytes]]:
        """Return the messages that came, when there was none for so long."""
        found = []
        while self._socket.poll(round(wait_s * 1000)):
            found.append(self._socket.recv_multipart())
        return found

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)


if __name__ == "__main__":
    relay()
