"""``ezgraph watch``: events as they happen, and those one has missed."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ezgraph.cli.options import JsonOption, Target, after_option, on_broker
from ezgraph.cli.paper import is_terminal, say, tell
from ezgraph.protocol.key_text import KeyFilter, parse_filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.client.blocking import Session, Subscription
    from ezgraph.client.watch import Compacted
    from ezgraph.protocol.events import Event

PrefixArgument = Annotated[
    str,
    typer.Argument(
        metavar="PREFIX",
        help="Which keys: settings/SYS/UNIT_A is one component, settings/SYS/ all below SYS/, "
        "settings or edge a whole room; edge/FROM/TO, with a slash inside a topic as %2F. "
        "Without it: everything.",
        show_default=False,
    ),
]

_LOOK_S = 1.0
_SILENT_S = 8.0
_PROBE_S = 2.0


@on_broker
def watch(
    broker: Target,
    prefix: PrefixArgument = "",
    after: Annotated[int | None, after_option("what comes from now on")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show events as they happen.

    One line each: seq, time, what happened, key, details, who. When the broker goes, it waits and
    goes on where it was: no event is shown twice and none is left out. Ctrl-C ends it (code 0).
    """
    wanted = parse_filter(prefix)
    follow(broker, wanted, after, as_json=as_json)


def follow(broker: Target, wanted: KeyFilter, after: int | None, *, as_json: bool) -> None:
    """Show events as they happen, until Ctrl-C."""
    from ezgraph.cli.lines import EventLines, write_json

    write = write_json if as_json else EventLines(dated=False).write
    try:
        _follow(broker, wanted, after, write, as_json=as_json)
    except KeyboardInterrupt:
        if is_terminal():
            sys.stdout.write("\n")


def _follow(
    broker: Target,
    wanted: KeyFilter,
    after: int | None,
    write: Callable[[Event], None],
    *,
    as_json: bool,
) -> None:
    from ezgraph.cli.guest import guest
    from ezgraph.client.watch import Compacted, Progress
    from ezgraph.protocol.events import Event

    with guest(broker, patience_s=math.inf) as session:
        subscription = session.watch(wanted.prefix, after)
        is_live = False
        silence = Silence(session, subscription)
        while True:
            match subscription.next_within(_LOOK_S):
                case None:
                    silence.look()
                case Event() as event:
                    if wanted.matches(event.key):
                        write(event)
                case Compacted() as gap:
                    _tell_gap(gap, as_json=as_json)
                case Progress(seq=seq) if not is_live:
                    is_live = True
                    if is_terminal():
                        keys = str(wanted) if wanted.prefix else "everything"
                        tell(f"watching {keys} at {session.address} from seq {seq}; Ctrl-C ends")
                case _:
                    pass


class Silence:
    """Notices when the broker is silent, asks whether it lives, and says so once; or why."""

    def __init__(self, session: Session, subscription: Subscription) -> None:
        from ezgraph.clock import SystemClock

        self._session = session
        self._watch = subscription.watch
        self._clock = SystemClock()
        self._asked_at = self._clock.monotonic()
        self._is_gone = self._is_shut_out = self._is_deaf = False

    def look(self) -> None:
        """Ask after the broker when nothing was heard for a while.

        The answer also tells this client anew where events are published, after a restart.
        """
        from ezgraph.client.blocking import run
        from ezgraph.errors import DeadlineError, NotAdmittedError
        from ezgraph.protocol.commands import Sync

        now = self._clock.monotonic()
        pause_s = 0.0 if self._is_gone else _SILENT_S
        if now - max(self._watch.last_heard, self._asked_at) < pause_s:
            return
        try:
            run(self._session.call(Sync(), timeout=_PROBE_S))
        except NotAdmittedError as error:
            if not self._is_shut_out:
                tell(f"{error}; waiting to be admitted again")
            self._is_gone = self._is_shut_out = True
        except DeadlineError:
            if not self._is_gone:
                tell(f"no answer from {self._session.address}: waiting for the broker to come back")
            self._is_gone = True
        else:
            if self._is_gone:
                tell(f"{self._session.address} answers again")
            elif self._watch.last_heard < self._asked_at:
                self._tell_deaf()
            self._is_gone = self._is_shut_out = False
        self._asked_at = self._clock.monotonic()

    def _tell_deaf(self) -> None:
        """Say once that commands get through, and events do not."""
        welcome = self._session.welcome
        if not self._is_deaf and welcome is not None:
            tell(
                f"{self._session.address} answers, but no events come from its port "
                f"{welcome.events_port}: is that let in by every firewall, and in the tunnel?"
            )
        self._is_deaf = True


def _tell_gap(gap: Compacted, *, as_json: bool) -> None:
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps({"kind": "Compacted", "floor": gap.floor, "snapshot_seq": gap.snapshot.seq}))
    tell(
        f"history up to seq {gap.floor} was compacted and cannot be shown; going on from the "
        f"state at seq {gap.snapshot.seq}: see `ezgraph snapshot`"
    )
