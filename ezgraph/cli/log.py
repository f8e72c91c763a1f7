"""``ezgraph log``: the stored events, and who caused them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from ezgraph.cli.options import JsonOption, Target, on_broker
from ezgraph.cli.paper import is_terminal, tell
from ezgraph.protocol.events import AccessRefused, SettingsChanged
from ezgraph.protocol.key_text import KeyFilter, parse_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.cli.when import When
    from ezgraph.protocol.events import Event, Source

WHEN = "a seq, or a time: 14:03, 2026-11-22T14:03:22, 10m or 2h (ago)"


@on_broker
def log(
    broker: Target,
    after: Annotated[
        str | None,
        typer.Option(metavar="SEQ|TIME", help=f"Only what came after {WHEN}.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="SEQ|TIME", help=f"Only up to {WHEN}.", show_default=False),
    ] = None,
    key: Annotated[
        str,
        typer.Option(metavar="PREFIX", help="Only these keys, as for watch.", show_default=False),
    ] = "",
    who: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Only what was caused by (or refused to) a session, process, program, host, login "
            "or key whose name has this in it.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="Only the newest N of them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show stored events, oldest first.

    One line each: seq, time, what happened, key, details, who. Where history was compacted, the
    first seq that is left is told on standard error.
    """
    from ezgraph.cli.lines import EventLines, write_json
    from ezgraph.cli.when import parse_when
    from ezgraph.clock import SystemClock

    wanted, now = parse_filter(key), SystemClock().wall()
    start = parse_when(after or "0", now=now)
    end = parse_when(until, now=now) if until is not None else None
    write = write_json if as_json else EventLines(dated=not is_terminal()).write
    found = (
        event
        for event in _stored(broker, wanted, start, end)
        if wanted.matches(event.key) and (who is None or concerns(event, who))
    )
    _write_newest(found, limit, write)


def _write_newest(
    found: Iterator[Event], limit: int | None, write: Callable[[Event], None]
) -> None:
    for event in found if limit is None else deque(found, maxlen=limit):
        write(event)


def concerns(event: Event, text: str) -> bool:
    """Return whether a name of who caused it, or was refused, has ``text`` in it; in any case."""
    body = event.body
    refused = body.who if isinstance(body, AccessRefused) else None
    asked_by = body.asked_by if isinstance(body, SettingsChanged) else None
    names = [refused, *_names(event.source), *(_names(asked_by) if asked_by else ())]
    return any(text.casefold() in str(name).casefold() for name in names if name is not None)


def _names(source: Source) -> Iterator[object]:
    yield from (source.session_id, source.process_id, source.client, source.program)
    yield from (source.host, source.login, source.key_name)


def _stored(broker: Target, wanted: KeyFilter, start: When, end: When | None) -> Iterator[Event]:
    """Yield the stored events in (start, end], told where history before was compacted.

    Times are compared with each event's own: the broker's wall clock may have been set back.
    """
    from ezgraph.cli.guest import guest
    from ezgraph.cli.journaled import stored

    through = end.seq if end is not None else None
    with guest(broker) as session:
        found = stored(
            session,
            wanted.prefix,
            after=start.seq or 0,
            through=through,
            timeout_s=broker.timeout_s,
            on_floor=lambda floor: tell(
                f"what was before seq {floor:,} was compacted; the log begins there"
            ),
        )
        for event in found:
            if start.is_before(event) and not (end is not None and end.is_before(event)):
                yield event
