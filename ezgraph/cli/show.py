"""``status`` and ``ls``: how the broker is, and what there is."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli.options import JsonOption, Target, on_broker
from ezgraph.cli.paper import Part, paper, say, tell
from ezgraph.errors import BrokerUnreachableError

if TYPE_CHECKING:
    from ezgraph.cli.listing import Listing
    from ezgraph.protocol.replies import StatusReport

_WAIT_STEP_S = 2.0
_FOREVER_S = 10 * 365 * 86400.0


# --- status ---


@on_broker
def status(
    broker: Target,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait until a broker answers; without end, unless --timeout is given."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say how the broker is: sessions, seq, epoch, journal, disk, uptime."""
    report, answered_at = _status(broker, wait=wait)
    if as_json:
        from ezgraph.cli.as_json import dumps, plain

        say(dumps({"address": answered_at, **plain(report)}, indent=2))
        return
    from ezgraph.protocol.wiring import visible

    write = paper().line
    rows = _status_rows(report, answered_at)
    widest = max(len(name) for name, _ in rows)
    for name, parts in rows:
        write((f"{name:<{widest}}  ", "dim"), *parts)
    for warning in (report.journal_warning, report.access_warning):
        if warning:
            write((f"warning: {visible(warning)}", "yellow"))


def _status(broker: Target, *, wait: bool) -> tuple[StatusReport, str]:
    if not wait:
        return _ask_status(broker)
    from ezgraph.clock import SystemClock

    clock = SystemClock()
    deadline = clock.monotonic() + (broker.timeout_s if broker.timeout_given else _FOREVER_S)
    told = False
    while True:
        left = deadline - clock.monotonic()
        step = replace(broker, timeout_s=max(0.05, min(_WAIT_STEP_S, left)))
        try:
            return _ask_status(step)
        except BrokerUnreachableError:
            if left <= _WAIT_STEP_S:
                raise
            if not told:
                tell(f"waiting for a broker at {broker}")
            told = True


def _ask_status(broker: Target) -> tuple[StatusReport, str]:
    from ezgraph.cli.guest import ask, guest
    from ezgraph.protocol.commands import GetStatus
    from ezgraph.protocol.replies import StatusReport

    with guest(broker) as session:
        report = ask(session, GetStatus(), StatusReport, timeout_s=broker.timeout_s)
        return report, str(session.address)


def _status_rows(report: StatusReport, address: str) -> list[tuple[str, list[Part]]]:
    from ezgraph.cli.words import age, count, size
    from ezgraph.protocol.wiring import visible

    state = [("paused", "yellow bold")] if report.paused else [("running", "green")]
    free = "" if report.free_disk_bytes is None else f", {size(report.free_disk_bytes)} free"
    oldest = "" if report.floor <= 1 else f", replayable from {report.floor:,}"
    return [
        ("broker", [(address, "bold"), (f", {_events_ports(report)}", "")]),
        ("program", [(f"ezgraph {report.version}, pid {report.pid}", "")]),
        ("state", [*state, (f", up {age(report.uptime_s)}", "")]),
        ("keys", _admitted(report)),
        ("seq", [(f"{report.head:,}", "bold"), (f"  epoch {report.epoch}{oldest}", "")]),
        (
            "has",
            [
                (
                    f"{count(report.sessions, 'session')}, {count(report.processes, 'process')}, "
                    f"{count(report.components, 'component')}, {count(report.edges, 'edge')}, "
                    f"{count(report.config_entries, 'config key')}, "
                    f"{count(report.served_graphs, 'served graph')}, "
                    f"{report.watched_prefixes:,} watched",
                    "",
                )
            ],
        ),
        ("journal", [(visible(report.backend), "")]),
        ("size", [(f"{size(report.journal_bytes)}{free}", "")]),
        ("cluster", [(visible(report.cluster_id), "")]),
    ]


def _admitted(report: StatusReport) -> list[Part]:
    """Return who may command the broker."""
    if report.insecure:
        return [("none, insecure: anybody who reaches it may command it", "yellow")]
    if report.keys is None:
        return [("none: every user of its host may command it", "")]
    return [("asked for" if report.filtered else f"{report.keys:,} admitted", "")]


def _events_ports(report: StatusReport) -> str:
    """Return which ports, beside the address's, a firewall has to let in."""
    others = [str(port) for port in report.scope_ports if port != report.events_port]
    more = f", of other read scopes on {', '.join(others)}" if others else ""
    relay = "" if report.relay_port is None else f", relay of nodes on {report.relay_port}"
    return f"events on port {report.events_port}{more}{relay}"


# --- ls ---


class Room(enum.StrEnum):
    """What ``ls`` can list."""

    SESSIONS = "sessions"
    PROCESSES = "processes"
    EDGES = "edges"
    COMPONENTS = "components"
    SETTINGS = "settings"


@on_broker
def ls(
    broker: Target,
    what: Annotated[
        Room | None,
        typer.Argument(metavar="WHAT", help="One of them; without it, all.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what there is: sessions, processes, edges, components, settings."""
    from ezgraph.cli.listing import read

    rooms = [what] if what is not None else list(Room)
    listing = read(broker, [room.value for room in rooms])
    if as_json:
        from ezgraph.cli.as_json import dumps

        found: Any = {room.value: listing.records(room.value) for room in rooms}
        say(dumps(found if what is None else found[what.value], indent=2))
        return
    for number, room in enumerate(rooms):
        if number:
            paper().line(("", ""))
        _write_room(listing, room, with_title=what is None)


def _title(room: Room, number: int) -> str:
    from ezgraph.cli.words import count

    match room:
        case Room.SETTINGS:
            return f"settings of {count(number, 'component')}"
        case Room.PROCESSES:
            return count(number, "process")
        case _:
            return count(number, room.value.removesuffix("s"))


def _write_room(listing: Listing, room: Room, *, with_title: bool) -> None:
    heads, rows, right = listing.columns(room.value)
    if with_title or not rows:
        title = _title(room, len(rows)) if rows else f"no {room.value}"
        paper().line((title, "bold" if rows else "dim"))
    if rows:
        paper().table(heads, rows, right=right)
