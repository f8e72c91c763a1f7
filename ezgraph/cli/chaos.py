"""``chaos``: the way into its room, which is loaded when it is asked for."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Annotated

import typer

from ezgraph.cli.options import JsonOption
from ezgraph.errors import ConfigError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SEEDS = 1 << 32


def seconds(typed: str) -> float:
    """Return the seconds that ``typed`` names: 30s, 10m, 2h, or a plain number of seconds.

    Raises:
        ConfigError: it is none of these.
    """
    found = _SPAN.fullmatch(typed.strip())
    if found is None:
        raise ConfigError(f"{typed!r} is no time; say 30s, 10m or 2h")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def chaos(
    for_: Annotated[
        str, typer.Option("--for", metavar="30s|10m|2h", help="How long faults go on.")
    ] = "30s",
    clients: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many client processes.")
    ] = 20,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The schedule of faults of an earlier run. Default: a new one.",
            show_default=False,
        ),
    ] = None,
    with_keys: Annotated[
        bool,
        typer.Option(
            "--with-keys", help="Have the broker admit only clients with a key, and encrypt all."
        ),
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep journal, traces and logs there. Default: a temporary folder, kept only "
            "if a promise was broken.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Write lines, on a terminal as well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Kill, stop, cut and starve a broker and its clients, then check every promise.

    All of it runs on this host. Exit code 1 if a promise was broken; the report names it.
    """
    from ezgraph.chaos.main import run_chaos

    code = run_chaos(
        for_s=seconds(for_),
        clients=clients,
        seed=secrets.randbelow(_SEEDS) if seed is None else seed,
        with_keys=with_keys,
        keep=keep,
        plain=True if plain else None,
        as_json=as_json,
    )
    raise typer.Exit(code)
