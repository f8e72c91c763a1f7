"""``ezgraph context``: brokers by name, each with its addresses and the key to show it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ezgraph.cli.options import JsonOption
from ezgraph.cli.paper import paper, say
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.keys.contexts import Contexts, NamedContext

_NONE = "-"

app = typer.Typer(
    name="context",
    help="Give brokers names: ezgraph -c NAME, and @NAME in place of an address.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")]


@app.command()
def add(
    name: NameArgument,
    address: Annotated[
        str,
        typer.Argument(metavar="HOST:PORT[,…]", help="The broker; several are tried in turn."),
    ],
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="The key pair to show there.", show_default=False
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="LINE|FILE",
            help="The broker's own key, to know it by (as ezgraph keys pin).",
            show_default=False,
        ),
    ] = None,
    select_it: Annotated[
        bool, typer.Option("--select", help="Mean it where no broker is named.")
    ] = False,
) -> None:
    """Keep a broker under a name."""
    from ezgraph.cli.keys import given_key
    from ezgraph.config import parse_addresses
    from ezgraph.keys.contexts import NamedContext, add_context, select_context
    from ezgraph.keys.folder import contexts_file

    path, addresses = contexts_file(), parse_addresses(address)
    shown = None if keys is None else _checked(keys)
    public = None if broker is None else given_key([broker]).public
    add_context(path, NamedContext(name, addresses, shown), public=public)
    if select_it:
        select_context(path, name)
    paper().line((name, "bold"), (f" is {', '.join(map(str, addresses))}", ""))


def _checked(keys: str) -> str:
    """Return the name of a pair that there is; a file with its whole path."""
    from ezgraph.keys.client_keys import find_pair
    from ezgraph.keys.pair import pair_names

    find_pair(keys)
    return keys if keys in pair_names() else str(Path(keys).expanduser().absolute())


@app.command()
def select(
    name: Annotated[
        str, typer.Argument(metavar="NAME|-", help="Which one; - selects none.")
    ],
) -> None:
    """Mean a context where no broker is named."""
    from ezgraph.keys.contexts import select_context
    from ezgraph.keys.folder import contexts_file

    select_context(contexts_file(), None if name == _NONE else name)
    said = "no context is selected" if name == _NONE else f"{name} is selected"
    paper().line((said, ""))


@app.command()
def remove(name: NameArgument) -> None:
    """Forget a context; the key its broker is known by stays."""
    from ezgraph.keys.contexts import remove_context
    from ezgraph.keys.folder import contexts_file

    remove_context(contexts_file(), name)
    paper().line((f"{name} is forgotten", ""))


@app.command("list")
def list_contexts(as_json: JsonOption = False) -> None:
    """List the contexts; * marks the selected one."""
    from ezgraph.keys.contexts import read_contexts
    from ezgraph.keys.folder import contexts_file

    known = read_contexts(contexts_file())
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps([_record(known, each) for each in known.contexts.values()], indent=2))
    elif not known.contexts:
        paper().line(("no contexts; `ezgraph context add NAME HOST:PORT` makes one", "dim"))
    else:
        paper().table(
            ["name", "", "address", "keys", "broker's key"],
            [_row(known, each) for each in known.contexts.values()],
        )


def _record(known: Contexts, context: NamedContext) -> dict[str, object]:
    pins = {str(each): known.pin_of(each) for each in context.addresses}
    return {
        "name": context.name,
        "selected": context.name == known.selected,
        "addresses": list(pins),
        "keys": context.key,
        "brokers": {
            address: None if public is None else public.hex() for address, public in pins.items()
        },
    }


def _row(known: Contexts, context: NamedContext) -> list[str]:
    pins = [known.pin_of(each) for each in context.addresses]
    return [
        context.name,
        "*" if context.name == known.selected else "",
        visible(", ".join(map(str, context.addresses))),
        visible(context.key or _NONE),
        ", ".join(_NONE if public is None else f"{public.hex()[:16]}…" for public in pins),
    ]
