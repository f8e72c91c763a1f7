"""``freeze``, ``tag``, ``tags``, ``untag``, ``diff``, ``restore``, ``at``: the rig's time machine.

What a rig was is named as `ezgraph.cli.looking_back.points` says. Where no broker runs,
``--journal FILE`` asks the file.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli import codes, completion
from ezgraph.cli.looking_back.points import LIVE, POINT, SHOWN_DIGITS
from ezgraph.cli.options import (
    JournalFile,
    JsonOption,
    ReasonOption,
    Target,
    bulk_s,
    on_broker,
    on_past,
)
from ezgraph.cli.paper import paper, say
from ezgraph.errors import ConfigError, EzGraphError, TagExistsError
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.backends.connection import Connection
    from ezgraph.protocol.graphs import Snapshot
    from ezgraph.protocol.listing import SnapshotInfo, TagChange, TagInfo

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The graph's name, such as rig: tags are its own.",
        autocompletion=completion.graph_names,
    ),
]
TagArgument = Annotated[
    str, typer.Argument(metavar="TAG", help="The tag.", autocompletion=completion.tags)
]


def _say_json(record: object) -> None:
    from ezgraph.cli.as_json import dumps

    say(dumps(record, indent=2))


def _record(info: SnapshotInfo | None) -> dict[str, Any]:
    """Return a stored snapshot as a script reads it; None: of a tag that was removed."""
    from ezgraph.cli.as_json import iso

    if info is None:
        return {"fingerprint": None}
    return {
        "fingerprint": str(info.fingerprint),
        "epoch": info.epoch,
        "seq": info.seq,
        "time": iso(info.time),
        "reason": info.reason,
    }


def _set_record(info: TagInfo | TagChange) -> dict[str, Any]:
    """Return a tag, or one step of its history, as a script reads it."""
    from ezgraph.cli.as_json import iso

    by = {"set_at": iso(info.wall_time), "set_by": info.author}
    return {"name": info.name, "tag": info.tag, **_record(info.snapshot), **by}


@contextmanager
def _told_here() -> Iterator[None]:
    """Say of a tag that is taken what to type, and not what to pass."""
    try:
        yield
    except TagExistsError as error:
        told = str(error).replace("overwrite=True", "--overwrite")
        raise TagExistsError(told, fingerprint=error.fingerprint) from error


# --- tags ---


@on_past
def tag(
    place: Target | JournalFile,
    name: NameArgument,
    tag: Annotated[str, typer.Argument(metavar="TAG", help="The tag to set.")],
    at: Annotated[
        str | None,
        typer.Argument(
            metavar="AT",
            help=f"What it is to point to: another tag, {POINT}. Default: the newest snapshot of "
            "NAME.",
            show_default=False,
            autocompletion=completion.points,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Move the tag if it is set already.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give a snapshot a name, so that it is found again.

    A seq or a time is stored as a snapshot first: what was then, as long as the journal knows it.
    """
    from ezgraph.cli.looking_back.place import open_past
    from ezgraph.cli.looking_back.points import find

    with open_past(place) as past:
        snapshot = find(past, at, name) if at is not None else _newest(past.connection, name)
        if snapshot.name != name:
            raise ConfigError(
                f"{at!r} is of graph {snapshot.name!r}, and a tag of {name!r} points to a snapshot "
                f"of {name!r}; say: ezgraph tag {snapshot.name} {tag} {at}"
            )
        with _told_here():
            past.connection.write_snapshot_tag(snapshot, tag, overwrite=overwrite)
    if as_json:
        _say_json({"name": name, "tag": tag, **_stored_record(snapshot)})
    else:
        what = f"{name}@{tag} is {str(snapshot.fingerprint)[:SHOWN_DIGITS]}"
        paper().line((visible(what), ""), (f"  (as of seq {snapshot.seq})", "dim"))


def _stored_record(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "fingerprint": str(snapshot.fingerprint),
        "epoch": snapshot.epoch,
        "seq": snapshot.seq,
    }


def _newest(connection: Connection, name: str) -> Snapshot:
    from ezgraph.cli.looking_back.points import every_snapshot

    newest: SnapshotInfo | None = None
    for each in every_snapshot(connection, name):
        newest = each
    if newest is None:
        raise ConfigError(
            f"there is no snapshot of {name!r} yet; `ezgraph freeze {name}` takes one of what is "
            f"now, and a seq or time behind the tag one of what was"
        )
    return connection.read_snapshot(name, newest.fingerprint)


@on_past
def untag(
    place: Target | JournalFile,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@TAG]",
            help="The graph's name, or both as one.",
            autocompletion=completion.stored_points,
        ),
    ],
    tag: Annotated[
        str | None,
        typer.Argument(
            metavar="TAG", help="The tag.", show_default=False, autocompletion=completion.tags
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a tag; its history and the snapshot stay."""
    from ezgraph.cli.looking_back.place import open_past

    graph, gone = _name_and_tag(name, tag)
    with open_past(place) as past:
        past.connection.untag(graph, gone)
    if as_json:
        _say_json({"name": graph, "tag": gone})
    else:
        paper().line((visible(f"{graph}@{gone} is gone"), ""))


def _name_and_tag(name: str, tag: str | None) -> tuple[str, str]:
    if tag is not None:
        return name, tag
    graph, sign, rest = name.partition("@")
    if not sign:
        raise ConfigError(f"which tag of {name!r}? say {name} TAG, or {name}@TAG")
    return graph, rest


@on_past
def tags(
    place: Target | JournalFile,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Those of this graph only.",
            show_default=False,
            autocompletion=completion.graph_names,
        ),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="What this tag of NAME has pointed to, and since when.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Snapshots that have no tag, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List tags: what each points to, who set it."""
    from ezgraph.cli.looking_back.place import open_past

    if history is not None and name is None:
        raise ConfigError(f"of which graph? say: ezgraph tags NAME --history {history}")
    with open_past(place) as past:
        if history is not None and name is not None:
            _write_history(past.connection, name, history, as_json=as_json)
        else:
            _write_tags(past.connection, name, every=every, as_json=as_json)


def _write_tags(
    connection: Connection, name: str | None, *, every: bool, as_json: bool
) -> None:
    from ezgraph.cli.looking_back.points import every_snapshot, every_tag

    found = list(every_tag(connection, name))
    tagged = {_identity(each.snapshot) for each in found}
    rest = [
        each
        for each in (every_snapshot(connection, name) if every else ())
        if _identity(each) not in tagged
    ]
    if as_json:
        untagged = [{"name": each.name, **_record(each)} for each in rest]
        listed = [_set_record(each) for each in found]
        _say_json({"tags": listed, "untagged": untagged} if every else listed)
        return
    from ezgraph.cli.words import count

    title = count(len(found), "tag") if found else "no tags"
    more = f", {count(len(rest), 'snapshot')} without" if every else ""
    paper().line((title + more, "bold" if found or rest else "dim"))
    _write_stored(
        [
            *((f"{each.name}@{each.tag}", each.snapshot, each.author) for each in found),
            *((f"{each.name}@{_digits(each)}", each, each.author) for each in rest),
        ]
    )


def _identity(info: SnapshotInfo) -> tuple[object, ...]:
    return info.name, info.fingerprint, info.epoch, info.seq


def _write_stored(stored: list[tuple[str, SnapshotInfo | None, str]]) -> None:
    """Write a line each: what it is called, which snapshot that is, who said so."""
    names = max((len(visible(label)) for label, _, _ in stored), default=0)
    seqs = max((len(str(info.seq)) for _, info, _ in stored if info is not None), default=0)
    for label, info, author in stored:
        what = "removed" if info is None else _when(info, seqs)
        because = f"  because: {visible(info.reason)}" if info is not None and info.reason else ""
        paper().line(
            (f"{visible(label):<{names}}  ", "bold"),
            (what, ""),
            middle=[(because, "italic")],
            end=[(f"  by {visible(author)}", "dim")],
        )


def _when(info: SnapshotInfo, seqs: int) -> str:
    from ezgraph.cli.words import moment

    at = moment(info.time) if info.time else "before everything"
    return f"seq {info.seq:>{seqs}}, {at}  {_digits(info)}"


def _digits(info: SnapshotInfo) -> str:
    return str(info.fingerprint)[:SHOWN_DIGITS]


def _write_history(connection: Connection, name: str, tag: str, *, as_json: bool) -> None:
    from ezgraph.cli.looking_back.points import pages
    from ezgraph.cli.words import moment

    found = list(pages(lambda after: connection.tag_history(name, tag, after=after)))
    if as_json:
        _say_json([_set_record(each) for each in found])
        return
    paper().line((visible(f"{name}@{tag}"), "bold"))
    _write_stored([(moment(each.wall_time), each.snapshot, each.author) for each in found])


# --- what is live ---


@on_broker
def freeze(
    broker: Target,
    name: NameArgument,
    tag: Annotated[
        str | None, typer.Option("--tag", "-t", metavar="TAG", help="Give it this name, too.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Move the tag if it is set already.")
    ] = False,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store what the rig is now: wiring, components, settings, configuration, all at one seq."""
    from ezgraph.cli.guest import ask, guest
    from ezgraph.protocol.replies import Frozen
    from ezgraph.protocol.stored_commands import Freeze

    with guest(broker) as session:
        wanted = Freeze(name, tag, overwrite, reason)
        with _told_here():
            done = ask(session, wanted, Frozen, timeout_s=bulk_s(broker))
    info = done.snapshot
    if as_json:
        _say_json({"name": info.name, "tag": done.tag, **_record(info)})
        return
    label = f"{info.name}@{_digits(info) if done.tag is None else done.tag}"
    said = f"{label} is the rig as of seq {info.seq}"
    digits = "" if done.tag is None else f"  ({_digits(info)})"
    paper().line((visible(said), ""), (digits, "dim"))


@on_broker
def restore(
    broker: Target,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@TAG]",
            help="The graph's name, or both as one.",
            autocompletion=completion.stored_points,
        ),
    ],
    tag: Annotated[
        str | None,
        typer.Argument(
            metavar="TAG",
            help="A tag, or a whole fingerprint.",
            show_default=False,
            autocompletion=completion.tags,
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it. Without it only what would change is said.")
    ] = False,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the rig be as it was in a snapshot: without --yes, say what would change.

    The programs that run the components are asked first: any of them may refuse, and then nothing
    changes. Exit code 1: somebody or something stands in the way.
    """
    from ezgraph.cli.looking_back.restoring import restored

    graph, stored = _name_and_tag(name, tag)
    told = restored(broker, graph, stored, reason, dry_run=not yes)
    if as_json:
        say(told.report.to_json(indent=2))
    else:
        told.write(paper())
    if not told.is_possible:
        raise typer.Exit(codes.REFUSED)


# --- looking back ---


@on_past
def diff(
    place: Target | JournalFile,
    old: Annotated[
        str,
        typer.Argument(metavar="A", help=f"Before: {POINT}.", autocompletion=completion.points),
    ],
    new: Annotated[
        str,
        typer.Argument(
            metavar="B", help="After; without it, live.", autocompletion=completion.points
        ),
    ] = LIVE,
    as_json: JsonOption = False,
) -> None:
    """Say what differs: settings field by field, edges, components, metadata, configuration.

    Exit code 0: nothing differs. 1: something does. 2: one of them cannot be found, or cannot be
    meant.
    """
    from ezgraph.protocol.differences import difference

    before, after = _both(place, old, new)
    found = difference(before.graph, after.graph)
    if as_json:
        say(found.to_json(indent=2))
    else:
        from ezgraph.cli.looking_back.as_it_was import when_it_was
        from ezgraph.cli.looking_back.differences import write_difference

        widest = max(map(len, (old, new)))
        for word, typed, snapshot in (("from", old, before), ("to", new, after)):
            paper().line(
                (f"{word:<4}  ", "dim"), (f"{visible(typed):<{widest}}  ", "bold"),
                (when_it_was(snapshot), ""),
                middle=[(f"  {visible(snapshot.reason)}" if snapshot.reason else "", "italic")],
            )
        write_difference(paper(), found)
    if found:
        raise typer.Exit(codes.REFUSED)


def _both(place: Target | JournalFile, old: str, new: str) -> tuple[Snapshot, Snapshot]:
    """Return both snapshots; where that is refused, the exit code must not say that they differ."""
    from ezgraph.cli.looking_back.place import open_past
    from ezgraph.cli.looking_back.points import find

    try:
        with open_past(place) as past:
            return find(past, old), find(past, new)
    except EzGraphError as error:
        if codes.code_of(error) == codes.REFUSED:
            raise ConfigError(str(error)) from error
        raise


@on_past
def at(
    place: Target | JournalFile,
    when: Annotated[
        str,
        typer.Argument(metavar="WHEN", help=f"{POINT}.", autocompletion=completion.points),
    ],
    component: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS",
            help="Only the settings of this component; SYS/ is all below SYS/.",
            show_default=False,
            autocompletion=completion.addresses_then,
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Argument(
            metavar="FIELD",
            help="Only the value of this field, with dots into it (notch.hz).",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the rig was: settings, wiring, components, configuration.

    ezgraph at 14:03 SYS/FILTER cutoff says what the cutoff was at that time.
    """
    from ezgraph.cli.looking_back.place import open_past
    from ezgraph.cli.looking_back.points import find

    with open_past(place) as past:
        snapshot = find(past, when)
    if component is None:
        from ezgraph.cli.looking_back.as_it_was import write_snapshot

        if as_json:
            say(snapshot.to_json(indent=2))
        else:
            write_snapshot(paper(), snapshot)
    else:
        _show_settings(snapshot, component, field, as_json=as_json)


def _show_settings(
    snapshot: Snapshot, address: str, field: str | None, *, as_json: bool
) -> None:
    from ezgraph.cli.as_json import iso
    from ezgraph.cli.component import shown_form
    from ezgraph.cli.looking_back.as_it_was import chosen, field_at, when_it_was, write_settings
    from ezgraph.cli.words import short

    addresses = chosen(snapshot.graph, address)
    if field is not None and len(addresses) > 1:
        raise ConfigError(f"{address!r} is several components; name one to see its {field!r}")
    if field is not None:
        held: Any = {"address": addresses[0], "field": field}
        held["value"] = field_at(snapshot.graph, addresses[0], field)
    else:
        held = {"settings": {each: shown_form(snapshot.graph.settings[each]) for each in addresses}}
    if as_json:
        head = {"epoch": snapshot.epoch, "seq": snapshot.seq, "time": iso(snapshot.time)}
        _say_json({**head, **held})
    elif field is not None:
        say(short(held["value"]))
    else:
        paper().line((f"as of {when_it_was(snapshot)}", "bold"))
        write_settings(paper(), snapshot.graph, addresses)
