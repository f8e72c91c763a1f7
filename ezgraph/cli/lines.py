"""Events as lines: ``seq time verb key what who``, or one JSON object each."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ezgraph.cli import as_json, words
from ezgraph.cli.paper import Part, paper, say
from ezgraph.protocol.events import EdgeConnected, EdgeDisconnected, SettingsChanged
from ezgraph.protocol.key_text import key_text
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.protocol.events import Event

_KEY_WIDTH = 24
_VERB_WIDTH = 9


class EventLines:
    """Writes events for people; remembers settings, to show what is new in the next ones.

    ``dated``: every line has its date; else only those that are not of today.
    """

    def __init__(self, *, dated: bool) -> None:
        self._dated = dated
        self._last: dict[str, dict[str, str]] = {}

    def write(self, event: Event) -> None:
        """Write one event."""
        told = words.tell(event.body)
        today = None if self._dated else dt.datetime.now(dt.UTC).astimezone().date()
        what = self._what(event, told)
        asked_by = event.body.asked_by if isinstance(event.body, SettingsChanged) else None
        reason = event.source.reason or (asked_by.reason if asked_by else None)
        if reason:
            what.append((f"  because: {visible(reason)}", "italic"))
        asked = [(f"  asked by {words.who(asked_by)}", "")] if asked_by else []
        paper().line(
            (f"{event.seq:>6}  ", "bold"),
            (f"{words.moment(event.wall_time, today=today)}  ", "dim"),
            (f"{told.verb:<{_VERB_WIDTH}}  ", told.style),
            (f"{_key(event):<{_KEY_WIDTH}}  ", "cyan"),
            middle=what,
            end=[*asked, (f"  by {words.who(event.source)}", "dim")],
        )

    def _what(self, event: Event, told: words.Told) -> list[Part]:
        body = event.body
        if not isinstance(body, SettingsChanged):
            return [(told.what, "")]
        before, now = self._last.get(body.address), words.fields_of(body.value)
        self._last[body.address] = now
        if before is None or "" in now or told.verb != "changed":
            return [(told.what, "")]
        parts: list[Part] = []
        for name, value in now.items():
            old = before.get(name)
            parts.append((" " if parts else "", ""))
            if old == value:
                parts.append((f"{name}={value}", "dim"))
            else:
                was = f" (was {old})" if old is not None else ""
                parts.append((f"{name}={value}{was}", "bold"))
        return parts


def _key(event: Event) -> str:
    """Return the key; of an edge, which is hard to read as a key, the room and the topics."""
    match event.body:
        case EdgeConnected() | EdgeDisconnected() as edge:
            return visible(f"edge {edge.from_topic} -> {edge.to_topic}")
        case _:
            return key_text(event.key)


def write_json(event: Event) -> None:
    """Write one event as one JSON line."""
    say(as_json.dumps(as_json.event(event)))
