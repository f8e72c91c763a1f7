"""``ezgraph journal``: what is done to a journal's file besides running a broker on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ezgraph.cli import codes
from ezgraph.cli.options import JsonOption
from ezgraph.cli.paper import paper, say, tell
from ezgraph.cli.words import count, size
from ezgraph.errors import ConfigError, JournalError
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.backends.base import Journal
    from ezgraph.backends.maintenance import Progress
    from ezgraph.backends.reader import JournalReader
    from ezgraph.cli.journal_state import Verdict


class _Commands(TyperGroup):
    """Ends with 1 when a journal is damaged, in use, or in the way."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except JournalError as error:
            name = "\x1b[31mezgraph:\x1b[0m" if sys.stderr.isatty() else "ezgraph:"
            tell(f"{name} {visible(str(error))}")
            raise typer.Exit(codes.REFUSED) from error


app = typer.Typer(
    cls=_Commands,
    name="journal",
    help="Check, back up, restore, repair, compact and export a journal.",
    epilog="A journal is a file or its address: rig.db, sqlite:///rig.db. check, backup and export "
    "may be used while a broker runs on it. Exit code 1: it is damaged, in use, or in the way.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JournalArgument = Annotated[str, typer.Argument(metavar="JOURNAL", help="A file or its address.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def journal_file(typed: str) -> Path:
    """Return the file that a journal's address, or a bare path, names.

    Raises:
        ConfigError: it names none.
    """
    from ezgraph.backends.base import Backend, masked
    from ezgraph.backends.sqlite import SQLiteBackend

    if typed in ("memory", "memory://"):
        raise ConfigError(
            "memory:// keeps its journal in the broker's own process and nothing of it in a file; "
            "start the broker with --backend rig.db to have one"
        )
    if "://" not in typed and not typed.startswith("sqlite:"):
        return Path(SQLiteBackend(os.path.expanduser(typed)).path)
    backend = Backend.from_url(typed)
    if not isinstance(backend, SQLiteBackend):
        raise ConfigError(f"{masked(typed)!r} is no file; this is for sqlite journals")
    return Path(backend.path)


# --- check ---


@app.command()
def check(journal: JournalArgument, as_json: JsonOption = False) -> None:
    """Read all of a journal and say whether it is sound; a running broker is not disturbed.

    Every checksum, the numbers without a hole, the epochs; that each checkpoint is the state its
    history adds up to; and every graph, snapshot, tag and partition beside it. The first damage is
    named with its record, and what it costs.
    """
    from ezgraph.cli.journal_state import examine

    path = journal_file(journal)
    with _bar("checking") as progress:
        verdict = examine(path, progress)
    if as_json:
        _say_json(verdict)
    else:
        _write_verdict(verdict)
    if not verdict.is_sound:
        raise typer.Exit(codes.REFUSED)


def _write_verdict(verdict: Verdict) -> None:
    if verdict.cluster_id is not None:
        for name, text in _facts(verdict):
            paper().line((f"{name:<12}", "bold"), (text, ""))
    for remark in verdict.remarks:
        say(f"note: {remark}")
    if verdict.damage is None:
        sound = ": every record and checkpoint verifies, and every stored row"
        paper().line(("sound", "bold green"), (sound, ""))
        return
    paper().line(("DAMAGED", "bold red"))
    say(visible(verdict.damage.what))
    say(f"This means: {verdict.damage.meaning}.")


def _facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield "cluster", verdict.cluster_id or ""
    yield "events", _numbered(verdict.floor, verdict.head, verdict.events)
    for span in verdict.epochs:
        last = verdict.head if span.last_seq is None else span.last_seq
        given = f"{span.first_seq} to {last}" if last >= span.first_seq else "no events"
        yield f"epoch {span.epoch}", given
    yield "checkpoints", ", ".join(map(str, verdict.checkpoints)) or "none"
    yield "size", f"{size(verdict.size_bytes)}, {size(verdict.used_bytes)} in use"


def _numbered(first: int, last: int, number: int) -> str:
    if not number:
        return f"none, the last seq given is {last}"
    return f"{first} to {last} ({count(number, 'event')})"


# --- backup, restore, repair ---


@app.command()
def backup(
    journal: JournalArgument,
    dest: Annotated[Path, typer.Argument(metavar="BACKUP", help="The file to make.")],
    as_json: JsonOption = False,
) -> None:
    """Copy a journal into one file, also while a broker runs on it.

    The copy has everything acknowledged before the command began, and is verified before it gets
    its name. A broker's journal file grows while it is copied, and is cut back later.
    """
    from ezgraph.backends import maintenance

    path = journal_file(journal)
    with _bar("copying") as progress:
        held = maintenance.backup(path, dest, progress)
    if as_json:
        _say_json(held)
        return
    say(
        f"{dest}: {size(held.size_bytes)}, verified, events {held.floor} to {held.head} of epoch "
        f"{held.epoch}"
    )


@app.command()
def restore(
    source: Annotated[str, typer.Argument(metavar="BACKUP", help="What backup made.")],
    dest: Annotated[str, typer.Argument(metavar="JOURNAL", help="The journal to make of it.")],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put it in the place of a journal, which is kept aside."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a journal of a backup, in a new epoch.

    Its numbers go on above every one that was ever given, so that none is used twice: clients that
    have seen what is lost are told so, and take a snapshot. The broker must not be running.
    """
    from ezgraph.backends import maintenance
    from ezgraph.cli.journal_state import settle
    from ezgraph.clock import SystemClock

    do = maintenance.restore_over if replace else maintenance.restore
    backup_file, journal = journal_file(source), journal_file(dest)
    _check_replaceable(journal, replace=replace)
    with _bar("restoring") as progress:
        done = do(backup_file, journal, settle, wall=SystemClock().wall(), progress=progress)
    if as_json:
        _say_json(done)
        return
    say(
        f"{journal}: events up to {done.old_head} of epoch {done.old_epoch}; it goes on with seq "
        f"{done.base + 1} in epoch {done.epoch}"
    )
    if done.aside is not None:
        say(f"what was there is kept as {done.aside}")


def _check_replaceable(journal: Path, *, replace: bool) -> None:
    if journal.exists() and not replace:
        raise JournalError(
            f"{str(journal)!r} exists; say --replace to put the backup in its place (the file is "
            f"kept beside it, under another name)"
        )


@app.command()
def repair(
    journal: JournalArgument,
    dest: Annotated[Path, typer.Argument(metavar="NEW", help="The journal to make.")],
    as_json: JsonOption = False,
) -> None:
    """Save what verifies of a damaged journal into a new one, and say what is lost.

    Kept is what leads to the newest state: the events up to the damage, or those from the best
    checkpoint behind it on. The damaged journal is only read. The new one is in a new epoch.
    """
    from ezgraph.backends import maintenance
    from ezgraph.cli.journal_state import settle
    from ezgraph.clock import SystemClock

    path, wall = journal_file(journal), SystemClock().wall()
    with _bar("reading") as progress:
        done = maintenance.repair(path, dest, settle, wall=wall, progress=progress)
    if as_json:
        _say_json(done)
        return
    if done.damage is not None:
        say(visible(done.damage))
    for line in _saved(path, dest, done):
        say(line)


def _saved(source: Path, dest: Path, done: Any) -> Iterator[str]:  # noqa: ANN401 - loaded late
    start = "from the first event on"
    if done.floor > 1:
        start = f"from the checkpoint at {done.checkpoint_seq} on"
    events = f"events {done.floor} to {done.last}" if done.last >= done.floor else "no events"
    yield f"{dest}: {start}, {events}"
    for first, last in done.lost:
        covered = done.checkpoint_seq is not None and last <= done.checkpoint_seq
        what = "their effect is in the checkpoint" if covered else "their effect is gone"
        yield f"lost: seq {first} to {last} ({count(last - first + 1, 'event')}), {what}"
    if done.lost:
        yield f"what of these can still be read is in {source}: see 'ezgraph journal export'"
    else:
        yield "no event is lost"
    if done.stored_damage is not None:
        yield f"of the graphs, snapshots, tags and partitions {done.stored_rows} rows are kept"
        yield visible(done.stored_damage)
    yield f"it goes on with seq {done.base + 1} in epoch {done.epoch}"


# --- compact ---


@app.command()
def compact(
    journal: JournalArgument,
    keep_events: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Keep the newest N events.", show_default=False),
    ] = None,
    keep_age: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Keep what is younger: 90d, 12h.", show_default=False),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop old events for good, keep the state, and make the file smaller.

    Without --keep-events and --keep-age nothing but the state is kept. With both, an event stays
    that either of them keeps. The broker must not be running.
    """
    from ezgraph.backends import maintenance
    from ezgraph.backends.sqlite import SQLiteBackend
    from ezgraph.cli.journal_state import settle

    path, cutoff = journal_file(journal), _cutoff(keep_age)
    check_exists(path)
    with SQLiteBackend(path).connect() as connection, connection.open_journal() as opened:
        floor, before = _floor(opened, keep_events, cutoff), opened.size_bytes()
        gone = opened.count_given(opened.floor, floor)
        if not yes:
            _ask_to_drop(opened, floor, gone)
        with _bar("compacting") as progress:
            maintenance.compact(opened, floor, settle, progress)
        after = opened.size_bytes()
    if as_json:
        _say_json({"floor": floor, "dropped": gone, "size_before": before, "size_after": after})
        return
    say(f"{path}: {size(before)} before, {size(after)} now; {count(gone, 'event')} dropped")


def check_exists(path: Path) -> None:
    """Raise JournalError where there is no journal, before one is made."""
    if not path.exists():
        raise JournalError(f"there is no journal at {str(path)!r}; see that the path is right")


def _cutoff(keep_age: str | None) -> float | None:
    """Return the wall time that an age reaches back to."""
    from ezgraph.cli.when import parse_when
    from ezgraph.clock import SystemClock

    if keep_age is None:
        return None
    wall = parse_when(keep_age, now=SystemClock().wall()).wall_time
    if wall is None:
        raise ConfigError(f"--keep-age {keep_age} is no age; say 90d, 12h or 30m")
    return wall


def _floor(reader: JournalReader, keep_events: int | None, cutoff: float | None) -> int:
    """Return the oldest seq to keep."""
    if keep_events is None and cutoff is None:
        return reader.head + 1
    floors = [reader.before(reader.head, keep_events or 0) + 1]
    if cutoff is not None:
        floors.append(_first_since(reader, cutoff))
    return max(reader.floor, min(floors))


def _first_since(reader: JournalReader, cutoff: float) -> int:
    from ezgraph.cli.journal_state import events

    for _, part in events(reader, reader.floor - 1):
        for event in part:
            if event.wall_time >= cutoff:
                return event.seq
    return reader.head + 1


def _ask_to_drop(journal: Journal, floor: int, gone: int) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"this drops {count(gone, 'event')} of {journal.name} for good, and there is nobody "
            f"to ask; say --yes"
        )
    tell(
        f"{count(gone, 'event')}, {journal.floor} to {floor - 1}, will be gone for good: who did "
        f"what, and every older value. The state stays as it is. Only a backup brings them back."
    )
    typer.confirm("Drop them?", abort=True, err=True)


# --- export ---


@app.command()
def export(
    journal: JournalArgument,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A new file. Default: standard output."),
    ] = None,
    after: Annotated[
        int | None, typer.Option(metavar="SEQ", min=0, help="Only what came after.")
    ] = None,
    through: Annotated[
        int | None, typer.Option(metavar="SEQ", min=0, help="Only up to this.")
    ] = None,
    key: Annotated[str, typer.Option(metavar="PREFIX", help="Only these keys, as for watch.")] = "",
) -> None:
    """Write the events as JSON lines, oldest first, as ``ezgraph log --json`` does.

    Complete or not at all: where an event is damaged it ends with exit code 1, and leaves no file.
    """
    from ezgraph.backends.sqlite import open_reader

    path = journal_file(journal)
    with open_reader(Path(os.path.realpath(path))) as reader, _lines_to(to) as write:
        start = reader.floor - 1 if after is None else after
        if after is None and reader.floor > 1:
            tell(f"what came before seq {reader.floor} was compacted")
        written = _export(reader, start, through, key, write)
    if to is not None:
        say(f"{to}: {count(written, 'event')}")


def _export(
    reader: JournalReader,
    after: int,
    through: int | None,
    key: str,
    write: Callable[[str], None],
) -> int:
    from ezgraph.cli import as_json
    from ezgraph.cli.journal_state import events
    from ezgraph.names import topic_of
    from ezgraph.protocol.key_text import parse_filter

    wanted, written, done = parse_filter(key), 0, 0
    end = reader.head if through is None else min(through, reader.head)
    total = reader.count_given(after + 1, end + 1)
    with _bar("exporting") if write is not say else nullcontext(_silent) as progress:
        for reached, part in events(reader, after, through=through, prefix=topic_of(wanted.prefix)):
            for event in filter(lambda each: wanted.matches(each.key), part):
                write(as_json.dumps(as_json.event(event)))
                written += 1
            done = reader.count_given(after + 1, reached + 1)
            progress(done, total)
    return written


@contextmanager
def _lines_to(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Yield what writes a line; a file gets its name when it is complete."""
    if path is None:
        yield say
        return
    if path.exists():
        raise JournalError(f"{str(path)!r} exists already, and nothing is overwritten")
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            yield lambda line: print(line, file=file)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError as error:
        raise JournalError(f"cannot write {str(path)!r} ({error}); free disk space") from error
    finally:
        new.unlink(missing_ok=True)


# --- saying it ---


def _say_json(value: object) -> None:
    from ezgraph.cli import as_json

    say(as_json.dumps(value))


def _silent(done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """Yield what shows how far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            if done < bar.tasks[0].completed:  # the next of its passes, with an estimate of its own
                bar.reset(task)
            bar.update(task, completed=done, total=total)

        yield show
