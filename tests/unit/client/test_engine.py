"""The client's engine: what is done with the replies of one message, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.client.core import JOIN_ID
from ezgraph.client.engine import ClientEngine
from ezgraph.config import Address
from ezgraph.protocol.commands import Hello, Sync
from ezgraph.protocol.replies import HANDED_ID, Done, Handed, Welcome
from ezgraph.protocol.routed import ProcessControlRequest
from ezgraph.testing import ManualClock
from ezgraph.wire import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.client.core import Handshake

HELLO = Hello(1, "process", "nonce", "p", "h", 1, "l")
WELCOME = Welcome(1, "0", "c" * 32, 1, 1, 1, "p1", b"token", 6.0, 1234)


class NoSockets:
    """A transport that leads nowhere."""

    def dial(self, address: Address) -> None: ...
    def reconnect(self) -> None: ...
    def redial(self) -> None: ...
    def stop_watching(self) -> None: ...
    def send(self, message: Sequence[bytes]) -> None: ...
    def listen(self, address: Address) -> None: ...
    def subscribe(self, topic: bytes) -> None: ...
    def unsubscribe(self, topic: bytes) -> None: ...
    def handshake_failure(self) -> Handshake | None:
        return None


def test_what_is_asked_of_a_process_is_begun_after_its_own_requests_are_answered() -> None:
    heard: list[str] = []
    engine = ClientEngine(HELLO, [Address("h", 1)], NoSockets(), ManualClock())
    engine.on_handed = lambda request: heard.append(request.request_id)
    engine.start()
    engine.take_replies([frames.reply_frame(JOIN_ID, WELCOME)])
    number = engine.submit(Sync(), deadline=9.0, on_result=lambda _: heard.append("synced"))
    handed = Handed(ProcessControlRequest("asked", "U", "move"))

    engine.take_replies(
        [frames.reply_frame(HANDED_ID, handed), frames.reply_frame(number, Done(1))]
    )

    assert heard == ["synced", "asked"]
