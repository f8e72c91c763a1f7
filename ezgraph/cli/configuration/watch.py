"""Entries of the configuration as they change: as lines, as JSON, or a command for each."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, assert_never, cast

import typer

from ezgraph.cli import as_json, codes
from ezgraph.cli.paper import is_terminal, paper, say, tell
from ezgraph.cli.watch import Silence
from ezgraph.cli.words import inner
from ezgraph.errors import ConfigError
from ezgraph.graph.configuration.keys import ConfigKeys
from ezgraph.graph.configuration.watch import ConfigWatchEvent, ConfigWatchKind
from ezgraph.protocol.config import config_key_text
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.cli.options import Target
    from ezgraph.client.blocking import Session, Subscription
    from ezgraph.graph.sessions import AnySession
    from ezgraph.names import Key
    from ezgraph.protocol.config import ConfigKey

_LOOK_S = 1.0
_KEY_WIDTH = 24
_VERB_WIDTH = 9


def follow(
    broker: Target,
    kind: str,
    prefix: str,
    after: int | None,
    take: Callable[[ConfigWatchEvent], None],
) -> None:
    """Hand each event to ``take``, in order, until Ctrl-C."""
    from ezgraph.cli.guest import guest
    from ezgraph.client.blocking import run

    try:
        with guest(broker, patience_s=math.inf) as session:
            attended = cast("AnySession", _Attended(session))
            watch = ConfigKeys(attended).watch(kind, prefix, after)
            while True:
                take(run(watch.__anext__()))
    except KeyboardInterrupt:
        if is_terminal():
            sys.stdout.write("\n")


class _Attended:
    """A session whose watches look after the broker while nothing comes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.call = session.call
        self.patience_s = session.patience_s

    def watch(self, prefix: Key, after: int | None, *, with_state: bool) -> _AttendedSubscription:
        return _AttendedSubscription(
            self._session, self._session.watch(prefix, after, with_state=with_state)
        )


class _AttendedSubscription:
    def __init__(self, session: Session, subscription: Subscription) -> None:
        self._subscription = subscription
        self._silence = Silence(session, subscription)

    async def __anext__(self) -> object:
        while (item := self._subscription.next_within(_LOOK_S)) is None:
            self._silence.look()
        return item


# --- as lines ---


class EntryLines:
    """Writes events for people: ``seq verb key value who``."""

    def write(self, event: ConfigWatchEvent) -> None:
        """Write one event; the end of what is there is told on a terminal only."""
        match event.kind:
            case ConfigWatchKind.INITIAL:
                self._write(event, "is", "dim")
            case ConfigWatchKind.PUT:
                self._write(event, "put", "yellow" if event.previous else "green")
            case ConfigWatchKind.DELETED:
                self._write(event, "deleted", "red")
            case ConfigWatchKind.END_OF_INITIAL:
                if is_terminal():
                    tell(f"that was all, as of seq {event.seq}; Ctrl-C ends")
            case ConfigWatchKind.RESET:
                gone = ", ".join(map(config_key_text, event.vanished)) or "no key"
                tell(f"history was compacted; gone meanwhile: {visible(gone)}; this is there now:")
            case _:
                assert_never(event.kind)

    def _write(self, event: ConfigWatchEvent, verb: str, style: str) -> None:
        before = "" if event.previous is None else inner(event.previous.value)
        now = "" if event.entry is None else inner(event.entry.value)
        was = f" (was {before})" if before else ""
        by = "" if event.entry is None else f"  by {visible(event.entry.author)}"
        paper().line(
            (f"{event.seq:>6}  ", "bold"),
            (f"{verb:<{_VERB_WIDTH}}  ", style),
            (f"{visible(event.key_text):<{_KEY_WIDTH}}  ", "cyan"),
            middle=[(now, ""), (was.lstrip() if not now else was, "dim")],
            end=[(by, "dim")],
        )


def record(event: ConfigWatchEvent) -> dict[str, Any]:
    """Return an event as one JSON object; what it is not about is not in it."""
    found: dict[str, Any] = {"kind": str(event.kind), "type": event.type, "seq": event.seq}
    if event.key is not None:
        found |= {"key": list(event.key), "key_text": event.key_text}
    if event.entry is not None:
        entry = event.entry
        found |= {"value": entry.value, "owner": entry.owner, "author": entry.author}
        found["time"] = as_json.iso(entry.wall_time)
    if event.previous is not None:
        found["previous"] = event.previous.value
    if event.kind is ConfigWatchKind.RESET:
        found["vanished"] = [config_key_text(each) for each in event.vanished]
    return found


def write_json(event: ConfigWatchEvent) -> None:
    """Write one event as one JSON line."""
    say(as_json.dumps(record(event)))


# --- a command for each ---


class CommandRunner:
    """Runs a command for each change, one after the other.

    After a fresh start it is told what has really changed: of entries that vanished meanwhile that
    they were deleted, and of others only if they are not what it was told of before.
    """

    def __init__(self, command: list[str], *, stop_on_failure: bool) -> None:
        """Find the program.

        Raises:
            ConfigError: there is no such program.
        """
        if shutil.which(command[0]) is None:
            raise ConfigError(f"there is no program {command[0]!r} to run; is it on the PATH?")
        self._command = command
        self._stop_on_failure = stop_on_failure
        self._told: dict[ConfigKey, int] = {}

    def take(self, event: ConfigWatchEvent) -> None:
        """Run the command for an event, and wait for its end.

        Raises:
            typer.Exit: it failed, and that is to end all.
        """
        for each in self._changes(event):
            code = self._run(each)
            if code:
                self._tell_failure(each, code)

    def _changes(self, event: ConfigWatchEvent) -> Iterator[ConfigWatchEvent]:
        """Yield what the command is to be told of."""
        kind = event.kind
        if kind is ConfigWatchKind.RESET:
            for key in event.vanished:
                yield ConfigWatchEvent(ConfigWatchKind.DELETED, event.seq, event.type, key)
                self._told.pop(key, None)
        elif event.key is not None:
            if self._told.get(event.key) != event.seq:
                yield event
            if kind is ConfigWatchKind.DELETED:
                self._told.pop(event.key, None)
            else:
                self._told[event.key] = event.seq

    def _run(self, event: ConfigWatchEvent) -> int | str:
        """Return the exit code; text: why it could not be run."""
        about = {
            "EZGRAPH_KIND": str(event.kind),
            "EZGRAPH_TYPE": event.type,
            "EZGRAPH_KEY": event.key_text,
            "EZGRAPH_SEQ": str(event.seq),
        }
        said = json.dumps(as_json.plain(record(event)), allow_nan=False)
        try:
            done = subprocess.run(
                self._command,
                input=f"{said}\n".encode(),
                env={**os.environ, **about},
                check=False,
            )
        except OSError as error:
            return error.strerror or str(error)
        return done.returncode

    def _tell_failure(self, event: ConfigWatchEvent, code: int | str) -> None:
        ended = f"ended with code {code}" if isinstance(code, int) else f"cannot be run: {code}"
        what = f"{self._command[0]} {ended} for {event.kind} {event.type} {event.key_text}"
        if not self._stop_on_failure:
            tell(visible(f"{what} (seq {event.seq}); going on"))
            return
        again = f"--after {event.seq - 1} begins with it" if event.kind != "initial" else "it ends"
        tell(visible(f"{what} (seq {event.seq}): {again}"))
        raise typer.Exit(codes.REFUSED)
