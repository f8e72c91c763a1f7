"""What is published in one read scope: to whom, with which links, and the notes.

A broker has one broadcast for everything, and one more for each read scope that is less
(`ezgraph.protocol.roles`). Each is a stream of its own: links and notes count only what is
published in it, so that who may read a part is complete or told for that part, and learns of
nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.broker.watches import Watches
from ezgraph.errors import InvalidKeyError, LimitError
from ezgraph.names import key_of, note_topic, prefix_of_note
from ezgraph.protocol.notes import Note
from ezgraph.wire import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.protocol.events import Event
    from ezgraph.protocol.roles import ReadScope
    from ezgraph.wire.codec import EncodedEvent

Message = list[bytes]


class Broadcast:
    """The subscribers of one read scope, and what waits to be sent to them."""

    def __init__(self, scope: ReadScope, cluster_id: str, max_prefixes: int) -> None:
        self.scope = scope
        self.watches = Watches(max_prefixes)
        self._cluster_id = cluster_id
        self._max_prefixes = max_prefixes
        self._subscribed: set[bytes] = set()
        self._has_more_subscribers = False
        self._messages: list[Message] = []

    def __repr__(self) -> str:
        return f"<Broadcast {self.scope} topics={len(self._subscribed)}>"

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody would be sent anything."""
        return bool(self._subscribed) or self._has_more_subscribers

    def take_subscription(self, message: bytes, *, epoch: int, head: int, now: float) -> None:
        r"""Take note of one subscription (``\x01`` + topic) or unsubscription (``\x00``)."""
        topic = message[1:]
        prefix = prefix_of_note(topic)
        if message[:1] == b"\x01":
            if len(self._subscribed) < 2 * self._max_prefixes:
                self._subscribed.add(topic)
            else:
                self._has_more_subscribers = True  # than are counted: publish, whoever leaves
            if prefix is not None and self._may_watch(prefix):
                last = self.watches.add(prefix, head=head, now=now)
                if last is not None:
                    self._send_note(prefix, last, epoch, head)
        elif message[:1] == b"\x00":
            self._subscribed.discard(topic)
            if prefix is not None:
                self.watches.remove(prefix, now=now)

    def _may_watch(self, prefix: bytes) -> bool:
        """Return whether there is such a prefix, with something under it that may be read here."""
        try:
            return self.scope.touches(key_of(prefix))
        except InvalidKeyError:
            return False

    def refuse_full(self, prefix: bytes) -> None:
        """Refuse a prefix that nobody watches yet when there are as many as there may be.

        Raises:
            LimitError: there are.
        """
        if self.watches.last_under(prefix) is None and len(self.watches) >= self._max_prefixes:
            raise LimitError(
                f"{len(self.watches)} prefixes are watched already, the limit of this broker "
                f"(max_watched_prefixes); close some watches, or watch a shorter prefix"
            )

    def publish(
        self,
        events: Sequence[Event],
        topics: Sequence[bytes],
        encoded: Sequence[EncodedEvent],
        *,
        now: float,
    ) -> None:
        """Put what the scope has of one transaction in line to be sent."""
        seqs = [event.seq for event in events]
        if not self.scope.is_full:
            here = [n for n, event in enumerate(events) if self.scope.has(event.key)]
            if not here:
                return
            seqs, topics, encoded = (
                [seqs[n] for n in here], [topics[n] for n in here], [encoded[n] for n in here]
            )
        links = self.watches.link(seqs, topics, now=now)
        if self.has_subscribers:
            for topic, each, its_links in zip(topics, encoded, links, strict=True):
                self._messages.append([topic, frames.links_frame(its_links), each.event])

    def send_notes(self, *, epoch: int, head: int, now: float) -> None:
        """Put the notes that are due in line."""
        for prefix, last in self.watches.due(now=now):
            self._send_note(prefix, last, epoch, head)

    def _send_note(self, prefix: bytes, last: int, epoch: int, head: int) -> None:
        note = Note(self._cluster_id, epoch, last, head)
        self._messages.append([note_topic(prefix), frames.note_frame(note)])

    def take(self) -> list[Message]:
        """Return the multipart messages to send, once, in order."""
        messages, self._messages = self._messages, []
        return messages
