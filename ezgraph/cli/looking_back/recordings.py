"""``ezgraph recordings``: what was recorded, and which snapshots are behind a file."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli import completion
from ezgraph.cli.looking_back.points import SHOWN_DIGITS, every_tag, pages
from ezgraph.cli.options import JournalFile, JsonOption, Target, on_past
from ezgraph.cli.paper import paper, say
from ezgraph.errors import UnknownRecordingError
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.backends.connection import Connection
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.recordings import RecordedPartition, Recording, RecordingInfo

Labels = dict[tuple[str, "Fingerprint"], str]


@on_past
def recordings(
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
    of: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The snapshots behind this file (its name, or its whole location).",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List recordings; with --of FILE, say which wiring and settings made that file.

    What it names is shown by ezgraph at, and compared by ezgraph diff.
    """
    from ezgraph.cli.looking_back.place import open_past

    with open_past(place) as past:
        connection = past.connection
        found = list(pages(lambda after: connection.list_recordings(name, after=after)))
        if of is None:
            _write_list(found, as_json=as_json)
        else:
            _write_files(connection, found, of, as_json=as_json)


def _write_list(found: list[RecordingInfo], *, as_json: bool) -> None:
    from ezgraph.cli.words import count

    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps([_record(each) for each in found], indent=2))
        return
    title = count(len(found), "recording") if found else "no recordings"
    paper().line((title, "bold" if found else "dim"))
    widest = max((len(_label(each)) for each in found), default=0)
    for each in found:
        style, state = _state(each)
        paper().line(
            (f"{_label(each):<{widest}}  ", "bold"),
            (_lasted(each), ""),
            (f"  {state}" if state else "", style),
            end=[(f"  by {visible(each.author)}", "dim")],
        )


def _label(info: RecordingInfo) -> str:
    return visible(f"{info.name} {info.artifact_key} #{info.number}")


def _lasted(info: RecordingInfo) -> str:
    from ezgraph.cli.words import age, moment

    start = f"seq {info.first_seq} on, {moment(info.began)}"
    if info.last_seq is None or info.ended is None:
        return start
    seqs = f"seq {info.first_seq} to {info.last_seq}"
    return f"{seqs}, {moment(info.began)} for {age(info.ended - info.began)}"


def _state(info: RecordingInfo) -> tuple[str, str]:
    if not info.has_ended:
        return "yellow", "goes on, or nobody ended it"
    return ("red", "failed") if info.failed else ("", "")


def _record(info: RecordingInfo) -> dict[str, Any]:
    from ezgraph.cli.as_json import iso

    return {
        "name": info.name,
        "artifact": info.artifact_key,
        "number": info.number,
        "epoch": info.epoch,
        "first_seq": info.first_seq,
        "last_seq": info.last_seq,
        "began": iso(info.began),
        "ended": None if info.ended is None else iso(info.ended),
        "failed": info.failed,
        "start": str(info.start),
        "end": str(info.end) if info.has_ended else None,
        "by": info.author,
    }


# --- what is behind a file ---


def _write_files(
    connection: Connection, found: list[RecordingInfo], of: str, *, as_json: bool
) -> None:
    labels: Labels = {
        (each.name, each.snapshot.fingerprint): f"{each.name}@{each.tag}"
        for each in every_tag(connection)
    }
    made = list(_made(connection, found, of))
    if not made:
        raise UnknownRecordingError(
            f"no recording has a file {of!r}; `ezgraph recordings` lists the recordings there are"
        )
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps([_file_record(*each, labels) for each in made], indent=2))
        return
    for recording, partition in made:
        _write_file(recording, partition, labels)


def _made(
    connection: Connection, found: list[RecordingInfo], of: str
) -> Iterator[tuple[Recording, RecordedPartition]]:
    meant = {of, str(Path(of).absolute())}
    for info in found:
        recording = connection.read_recording(info.name, info.artifact_key, info.number)
        for each in recording.partitions:
            location = each.partition.location
            if location and meant & {location, PurePath(location).name}:
                yield recording, each


def _write_file(recording: Recording, made: RecordedPartition, labels: Labels) -> None:
    from ezgraph.cli.words import count

    paper().line(
        (f"{visible(str(made.partition.location))}  ", "bold"),
        (f"{_label(recording.info)}, stored at seq {made.seq}", ""),
    )
    for fingerprint in made.snapshots:
        what = labels.get((recording.info.name, fingerprint), "")
        digits = f"{recording.info.name}@{str(fingerprint)[:SHOWN_DIGITS]}"
        paper().line(
            (f"  {visible(what or digits)}", "cyan"), (f"  ({digits})" if what else "", "dim")
        )
    if recording.changes:
        places = ", ".join(f"{each.address} at seq {each.seq}" for each in recording.changes)
        told = f"{count(len(recording.changes), 'change')} of settings during it: {places}"
        paper().line((f"  {visible(told)}", "yellow"))


def _file_record(
    recording: Recording, made: RecordedPartition, labels: Labels
) -> dict[str, Any]:
    return {
        "location": made.partition.location,
        "key": made.partition.key,
        "seq": made.seq,
        "recording": _record(recording.info),
        "snapshots": [
            {
                "fingerprint": str(each),
                "label": labels.get((recording.info.name, each)),
            }
            for each in made.snapshots
        ],
        "changes": [{"seq": each.seq, "address": each.address} for each in recording.changes],
    }
