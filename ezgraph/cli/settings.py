"""``ezgraph settings``: every setting of the rig now, what it takes, and how it came to be so."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli import completion
from ezgraph.cli.log import WHEN
from ezgraph.cli.options import JsonOption, ReasonOption, Target, after_option, on_broker
from ezgraph.cli.paper import paper, say, tell
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.protocol.key_text import KeyFilter
    from ezgraph.protocol.replies import SettingsSet
    from ezgraph.state.graph import GraphState

app = typer.Typer(
    name="settings",
    help="See and change settings: what they are, what they take, who changed them and when.",
    epilog="ezgraph settings set SYS/FILTER cutoff=30 order=4 --reason 'line noise'",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ComponentArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS",
        help="The component, such as SYS/FILTER.",
        autocompletion=completion.addresses,
    ),
]
FieldArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FIELD",
        help="One of its fields, with dots into it (notch.hz); without it, all.",
        show_default=False,
        autocompletion=completion.fields,
    ),
]
PrefixArgument = Annotated[
    str,
    typer.Argument(
        metavar="PREFIX",
        help="Which components: SYS/FILTER is one, SYS/ all below SYS/. Without it: all.",
        show_default=False,
        autocompletion=completion.addresses,
    ),
]


class TableForm(enum.StrEnum):
    """How settings over time are written."""

    TABLE = "table"
    CSV = "csv"
    JSON_LINES = "json-lines"


def _filter(prefix: str) -> KeyFilter:
    from ezgraph.protocol.key_text import parse_filter

    return parse_filter(f"settings/{prefix}")


# --- now ---


@app.command("ls")
@on_broker
def list_settings(
    broker: Target,
    prefix: PrefixArgument = "",
    as_json: JsonOption = False,
) -> None:
    """List the settings of every component, and who set them last."""
    from ezgraph.cli.listing import read
    from ezgraph.cli.words import count

    wanted = _filter(prefix)
    listing = read(broker, ["settings"])
    settings = listing.state.settings
    for each in [each for each in settings if not wanted.matches(("settings", each))]:
        del settings[each]
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps(listing.records("settings"), indent=2))
        return
    heads, rows, right = listing.columns("settings")
    title = f"settings of {count(len(rows), 'component')}" if rows else "no settings"
    paper().line((title, "bold" if rows else "dim"))
    if rows:
        paper().table(heads, rows, right=right)


@app.command()
@on_broker
def get(
    broker: Target,
    component: ComponentArgument,
    field: FieldArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Show the settings of a component, or the value of one field alone."""
    from ezgraph.cli import as_json as json_form
    from ezgraph.cli.component import dotted, entry_at, held_at, shown_form
    from ezgraph.cli.words import short
    from ezgraph.settings.columns import leaves

    state = _state(broker)
    entry = entry_at(state, component)
    held = shown_form(entry.value) if field is None else held_at(entry.value, field)
    if as_json:
        head = {"address": component, "seq": entry.seq}
        what = {"settings": held} if field is None else {"field": field, "value": held}
        say(json_form.dumps({**head, **what}, indent=2))
    elif field is None and isinstance(held, dict):
        rows = [[dotted(path), short(value)] for path, value in leaves(held).items()]
        paper().table(["field", "value"], rows)
    else:
        say(short(held))


def _state(broker: Target) -> GraphState:
    from ezgraph.cli.component import fetch
    from ezgraph.cli.guest import guest

    with guest(broker) as session:
        return fetch(session, timeout_s=broker.timeout_s)


@app.command()
@on_broker
def describe(
    broker: Target,
    component: ComponentArgument,
    field: FieldArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Say of each field what it takes, what it is, and who set it when.

    Two lines each: value and unit, type, bounds or choices, default; then when it was set, by whom,
    and why.
    """
    from ezgraph.cli.description import describe_component

    described = describe_component(broker, component, field)
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps(described.record(), indent=2))
    else:
        described.write(paper())


# --- changing ---


@app.command("set")
@on_broker
def set_settings(
    broker: Target,
    component: ComponentArgument,
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE...",
            help="Several are one change. A VALUE is a number, true or false, none, a choice, "
            "text, or JSON for a list ('[1, 2]').",
            autocompletion=completion.assignments,
        ),
    ],
    reason: ReasonOption = None,
    expected_seq: Annotated[
        int | None,
        typer.Option(
            "--expected-seq",
            min=0,
            metavar="SEQ",
            help="Only if the settings are still those of that seq (see get --json).",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have the program that runs a component change its settings.

    It is done when this returns: checked against the schema, made by its program (which may refuse
    it, and says why), stored, and told to everybody. Else nothing has changed (exit code 1).
    """
    from ezgraph.cli.component import schema_at, shown_form
    from ezgraph.cli.guest import ask, guest
    from ezgraph.cli.typed import parse_assignments
    from ezgraph.protocol.commands import ChangeSettings
    from ezgraph.protocol.replies import SettingsSet

    parse_assignments(changes, None, None)  # what cannot be meant is said before anybody is asked
    before = _state(broker)
    entry = before.settings.get(component)  # None: not to be seen by this key, or not there
    form = None if entry is None else shown_form(entry.value)
    current = form if isinstance(form, dict) else None
    wanted = parse_assignments(changes, schema_at(before, component), current)
    owner_s = broker.timeout_s * _WAY_BACK
    command = ChangeSettings(component, wanted, False, expected_seq, reason, owner_s)
    with guest(broker) as session:
        done = ask(session, command, SettingsSet, timeout_s=broker.timeout_s)
    _show_set(component, list(wanted), current, done, as_json=as_json)


_WAY_BACK = 0.9
"""The part of the time that the owner is given; the rest is for the way back."""


def _show_set(
    address: str,
    wanted: list[str],
    before: dict[Any, Any] | None,
    done: SettingsSet,
    *,
    as_json: bool,
) -> None:
    from ezgraph.cli.component import ABSENT, dotted, is_in, shown_form
    from ezgraph.cli.words import inner
    from ezgraph.settings.columns import differ, leaves

    form = shown_form(done.value)
    if as_json:
        from ezgraph.cli.as_json import dumps

        record = {"address": address, "seq": done.seq, "before": before, "settings": form}
        say(dumps(record, indent=2))
        return
    paper().line((visible(address), "bold"), (f"  (seq {done.seq})", "dim"))
    now = leaves(form)
    old = now if before is None else leaves(before)
    told = {}
    for path in {**now, **old}:
        was, held = old.get(path, ABSENT), now.get(path, ABSENT)
        if differ(was, held):
            texts = ["none" if each is ABSENT else inner(each) for each in (was, held)]
            told[dotted(path)] = (" -> ".join(texts), "bold")
        elif any(is_in(path, each) for each in wanted):
            told[dotted(path)] = (f"{inner(held)}{'' if before is None else ' as before'}", "dim")
    widest = max(map(len, told), default=0)
    for name, part in told.items():
        paper().line((f"  {name:<{widest}}  ", "cyan"), part)


# --- over time ---


@app.command()
@on_broker
def watch(
    broker: Target,
    prefix: PrefixArgument = "",
    after: Annotated[int | None, after_option("what comes from now on")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show changes of settings as they happen; as ezgraph watch does."""
    from ezgraph.cli.watch import follow

    follow(broker, _filter(prefix), after, as_json=as_json)


@app.command()
@on_broker
def history(
    broker: Target,
    component: ComponentArgument,
    field: FieldArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Show every stored change of a component's settings: when, what, by whom, why.

    On a terminal numbers are drawn over time, too.
    """
    from ezgraph.cli.past import read_past

    past = read_past(broker, component, field)
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps(past.records(), indent=2))
    else:
        past.write(paper())


@app.command()
@on_broker
def table(
    broker: Target,
    prefix: PrefixArgument = "",
    form: Annotated[
        TableForm, typer.Option("--as", help="csv and json-lines have the values exactly.")
    ] = TableForm.TABLE,
    after: Annotated[
        str | None,
        typer.Option(metavar="SEQ|TIME", help=f"Only what came after {WHEN}.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="SEQ|TIME", help=f"Only up to {WHEN}.", show_default=False),
    ] = None,
) -> None:
    """Write settings over time: a row for each change, a column for each setting.

    For example: ezgraph settings table SYS/ --as csv > settings.csv
    """
    from ezgraph.cli.over_time import read_table, rows_within
    from ezgraph.cli.when import parse_when
    from ezgraph.clock import SystemClock

    now = SystemClock().wall()
    start = parse_when(after, now=now) if after is not None else None
    end = parse_when(until, now=now) if until is not None else None
    found, moments = read_table(broker, _filter(prefix))
    chosen = rows_within(found, moments, start, end)
    match form:
        case TableForm.TABLE:
            from ezgraph.cli.over_time import write_columns

            write_columns(paper(), found, chosen)
        case TableForm.CSV:
            for line in found.csv_lines(chosen):
                say(line.removesuffix("\n").removesuffix("\r"))
        case TableForm.JSON_LINES:
            for line in found.json_lines(chosen):
                say(line.removesuffix("\n"))
    if not found.changes:
        tell("no settings were changed")
