"""``ezgraph config``: the entries of the configuration, by type and key.

What is put here is persistent. Entries that end with a session (ephemeral ones) are for programs
that live: a command's own session would end, and the entry with it, before anybody read it.
"""

from __future__ import annotations

import difflib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli import completion
from ezgraph.cli.options import (
    JsonOption,
    ReasonOption,
    Target,
    after_option,
    bulk_s,
    on_broker,
)
from ezgraph.cli.paper import paper, say, tell
from ezgraph.errors import ConfigError, UnknownConfigKeyError
from ezgraph.protocol.config import as_config_key, config_key_text, parse_config_key
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.graph.configuration.blocking import ConfigKeys
    from ezgraph.protocol.config import ConfigEntry
    from ezgraph.protocol.replies import ConfigChanged

app = typer.Typer(
    name="config",
    help="See and change configuration: entries by type and key, each with a version.",
    epilog="ezgraph config put active-flow chunker:default '{\"size\": 100}' --reason 'smaller'",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TypeArgument = Annotated[
    str,
    typer.Argument(
        metavar="TYPE",
        help="A type of configuration, such as active-flow.",
        autocompletion=completion.config_types,
    ),
]
AnyTypeArgument = Annotated[
    str,
    typer.Argument(
        metavar="TYPE",
        help="A type of configuration; without it: the types there are.",
        show_default=False,
        autocompletion=completion.config_types,
    ),
]
KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Names joined with ':', such as chunker:default; a ':' in a name is %3A.",
        autocompletion=completion.config_keys,
    ),
]
PrefixArgument = Annotated[
    str,
    typer.Argument(
        metavar="PREFIX",
        help="Only keys that begin with these names: chunker has chunker:default, and not "
        "chunker2:default. Without it: all.",
        show_default=False,
        autocompletion=completion.config_keys,
    ),
]
IfSeqOption = Annotated[
    int | None,
    typer.Option(
        "--if-seq",
        min=0,
        metavar="SEQ",
        help="Only if the entry is still that of this seq (see get --json); 0: only if there is "
        "none.",
        show_default=False,
    ),
]

@contextmanager
def configuration(broker: Target) -> Iterator[ConfigKeys]:
    """Join as a guest, and look at the configuration."""
    from ezgraph.cli.guest import guest
    from ezgraph.graph.configuration.blocking import ConfigKeys

    with guest(broker) as session:
        yield ConfigKeys.of(session)


# --- one entry ---


@app.command(cls=completion.KeyedCommand)
@on_broker
def get(
    broker: Target, kind: TypeArgument, key: KeyArgument, as_json: JsonOption = False
) -> None:
    """Show the value of an entry: text as it is, all else as JSON.

    With --json: also its seq, which is its version, its owner, and who put it when.
    """
    from ezgraph.cli.as_json import dumps

    with configuration(broker) as config:
        entry = config.entry(kind, key, timeout=broker.timeout_s)
        if entry is None:
            raise _unknown(config, kind, key, broker)
    if as_json:
        say(dumps(entry.to_json(), indent=2))
    elif isinstance(entry.value, str):
        say(entry.value)
    else:
        say(dumps(entry.value, indent=2))


def _unknown(config: ConfigKeys, kind: str, key: str, broker: Target) -> UnknownConfigKeyError:
    keys = [config_key_text(each) for each in config.keys(kind, timeout=bulk_s(broker))]
    near = difflib.get_close_matches(config_key_text(as_config_key(key)), keys, 1)
    meant = f"; is {near[0]!r} meant?" if near else ""
    return UnknownConfigKeyError(
        f"there is no configuration {kind!r} {key!r}; `ezgraph config keys {kind}` lists what "
        f"there is{meant}"
    )


@app.command(cls=completion.KeyedCommand)
@on_broker
def put(
    broker: Target,
    kind: TypeArgument,
    key: KeyArgument,
    value: Annotated[
        str,
        typer.Argument(
            metavar="VALUE",
            help="A number, true or false, none, JSON for lists and mappings, else text; - reads "
            "it from standard input.",
        ),
    ],
    if_seq: IfSeqOption = None,
    is_text: Annotated[
        bool, typer.Option("--text", help="Take the value as text, whatever it looks like.")
    ] = False,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have an entry with this value; if it is so already nothing happens, and nobody is told.

    The entry stays until somebody deletes it.
    """
    from ezgraph.cli.typed import guess

    names = parse_config_key(key)
    text = sys.stdin.read().removesuffix("\n") if value == "-" else value
    with configuration(broker) as config:
        done = config.put(
            kind,
            names,
            text if is_text else guess(text),
            if_seq=if_seq,
            reason=reason,
            timeout=broker.timeout_s,
        )
    _say_done(done, f"{kind} {key} is put", f"{kind} {key} is so already", as_json=as_json)


@app.command(cls=completion.KeyedCommand)
@on_broker
def delete(
    broker: Target,
    kind: TypeArgument,
    key: KeyArgument,
    if_seq: IfSeqOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have no such entry; if there is none nothing happens, and nobody is told."""
    names = parse_config_key(key)
    with configuration(broker) as config:
        done = config.delete(kind, names, if_seq=if_seq, reason=reason, timeout=broker.timeout_s)
    _say_done(done, f"{kind} {key} is gone", f"there is no {kind} {key}", as_json=as_json)


def _say_done(done: ConfigChanged, changed: str, unchanged: str, *, as_json: bool) -> None:
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps(done))
    elif done.changed:
        paper().line((visible(changed), ""), (f"  (seq {done.seq})", "dim"))
    else:
        paper().line((visible(unchanged), "dim"), ("; nothing has changed", "dim"))


# --- many entries ---


@app.command(cls=completion.KeyedCommand)
@on_broker
def scan(
    broker: Target,
    kind: TypeArgument,
    prefix: PrefixArgument = "",
    match: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only keys of as many names, each of which matches: '*:default', 'chunk*:*'.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List entries with their values: all as of one seq, in order of their keys."""
    from ezgraph.cli.as_json import dumps
    from ezgraph.cli.words import count, inner, moment

    with configuration(broker) as config:
        found = list(config.scan(kind, prefix, match, timeout=bulk_s(broker)))
    if as_json:
        say(dumps([each.to_json() for each in found], indent=2))
        return
    title = f"{count(len(found), 'entry')} of {visible(kind)}"
    paper().line((title, "bold" if found else "dim"))
    if found:
        heads = ["key", "value", "seq", "owner", "when", "by"]
        rows = [
            [
                visible(each.key_text),
                inner(each.value),
                str(each.seq),
                _owner(each),
                moment(each.wall_time),
                visible(each.author),
            ]
            for each in found
        ]
        paper().table(heads, rows, right=[2])


def _owner(entry: ConfigEntry) -> str:
    return "persistent" if entry.owner is None else f"session {visible(entry.owner)}"


@app.command("keys", cls=completion.KeyedCommand)
@on_broker
def list_keys(
    broker: Target,
    kind: AnyTypeArgument = "",
    prefix: PrefixArgument = "",
    as_json: JsonOption = False,
) -> None:
    """List keys, one a line; without a type: the types that have entries or a schema."""
    from ezgraph.cli.as_json import dumps

    with configuration(broker) as config:
        if kind:
            keys = config.keys(kind, prefix, timeout=bulk_s(broker))
            found = [config_key_text(each) for each in keys]
        else:
            found = config.types(timeout=bulk_s(broker))
    if as_json:
        say(dumps(found, indent=2))
        return
    for each in found:
        say(visible(each))


# --- over time ---


class _ThenCommand(completion.KeyedCommand):
    """What stands behind ``--`` is a command to run, whatever stands before it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's Click
        cut = args.index("--") if "--" in args else len(args)
        left = super().parse_args(ctx, args[:cut])
        if ctx.resilient_parsing and cut == len(args):
            return left  # the shell asks; what it has is no command yet
        if ctx.params.get("command"):
            raise ConfigError(f"write -- before the command: -- {' '.join(ctx.params['command'])}")
        ctx.params["command"] = args[cut + 1 :]
        return left


@app.command(cls=_ThenCommand)
@on_broker
def watch(
    broker: Target,
    kind: TypeArgument,
    prefix: PrefixArgument = "",
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND",
            help="A program to run for each change.",
            show_default=False,
            autocompletion=completion.rest_of_key,
        ),
    ] = None,
    after: Annotated[
        int | None, after_option("with the entries that are there, then what comes")
    ] = None,
    stop_on_failure: Annotated[
        bool,
        typer.Option(
            "--stop-on-failure",
            help="End (code 1) when COMMAND fails, and say from which --after to go on.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show entries as they change: first what is there, then each change, until Ctrl-C (code 0).

    When the broker goes, it waits and goes on where it was: nothing is shown twice or left out.

    With -- COMMAND it runs that for each, one at a time, in order, none skipped: changes wait while
    it runs. It is given one JSON object on standard input (kind, type, key, seq, value, previous,
    ...), and in its environment EZGRAPH_KIND (initial, put or deleted), EZGRAPH_TYPE, EZGRAPH_KEY
    and EZGRAPH_SEQ. If it fails that is told, and the next change is its business again. It may
    take as long as it likes: put timeout(1) before it if it must not.
    """
    from ezgraph.cli.configuration.watch import CommandRunner, EntryLines, follow, write_json

    if command:
        runner = CommandRunner(command, stop_on_failure=stop_on_failure)
        follow(broker, kind, prefix, after, runner.take)
    elif stop_on_failure:
        raise ConfigError("--stop-on-failure is about a command: give one behind --")
    else:
        follow(broker, kind, prefix, after, write_json if as_json else EntryLines().write)


# --- files ---


@app.command("import")
@on_broker
def import_file(
    broker: Target,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON, or YAML (.yaml, .yml); - reads it from "
                            "standard input.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE",
            help="A type that has, in the old layout, one blob of variants for each processor; "
            "active-flow and flows-active are known.",
            show_default=False,
        ),
    ] = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have all entries and schemas of a file, as export writes it; others are left alone.

    It also reads the older layout, with one blob of all variants for each processor, and splits
    the blobs into keys. What is there already is not put again. If somebody changes one of the
    entries meanwhile, it is refused.
    """
    from ezgraph.cli.configuration.files import import_into, read_file

    import_into(
        broker, read_file(file, split or ()), reason, dry_run=dry_run, as_json=as_json
    )


@app.command()
@on_broker
def export(
    broker: Target,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TYPE...",
            help="Only these types.",
            show_default=False,
            autocompletion=completion.config_types,
        ),
    ] = None,
) -> None:
    """Write persistent entries and schemas as JSON that import reads, all as of one seq.

    The order is always the same, so that two files compare well. Values that JSON has not (bytes,
    times, arrays, ...) are marked, and come back as they were.
    """
    import json

    from ezgraph.cli.configuration.files import exported

    document, left_out = exported(broker, kinds or ())
    say(json.dumps(document, indent=2))
    if left_out:
        from ezgraph.cli.words import count

        tell(f"left out: {count(left_out, 'entry')} that will end with a session")


@app.command()
@on_broker
def schema(
    broker: Target,
    kind: TypeArgument,
    set_from: Annotated[
        str | None,
        typer.Option(
            "--set",
            metavar="FILE",
            help="Judge values by this JSON Schema (2020-12) from now on; - reads standard input.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Judge values by none.")] = False,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show, set or remove the JSON Schema that values of a type are judged by.

    A schema that entries which are there do not fit is refused, and says which. Nothing that a
    schema refers to is ever fetched.
    """
    from ezgraph.cli.as_json import dumps

    if remove and set_from is not None:
        raise ConfigError("--set and --remove contradict each other; give one of them")
    if set_from is None and not remove:
        with configuration(broker) as config:
            found = config.schema(kind, timeout=broker.timeout_s)
        say(dumps(found, indent=2))
        return
    wanted = None if set_from is None else _read_schema(set_from)
    with configuration(broker) as config:
        seq = config.set_schema(kind, wanted, reason=reason, timeout=broker.timeout_s)
    if as_json:
        say(dumps({"seq": seq}))
    else:
        said = "judged by no schema" if wanted is None else "judged by the schema"
        paper().line((f"values of {visible(kind)} are {said}", ""), (f"  (seq {seq})", "dim"))


def _read_schema(file: str) -> dict[str, Any]:
    from ezgraph.cli.configuration.files import read_document

    found = read_document(file)
    if not isinstance(found, dict):
        raise ConfigError(f"a schema is a mapping, and {file} has {type(found).__name__}")
    return found
