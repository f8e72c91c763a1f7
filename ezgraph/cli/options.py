"""The options that several commands share, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from ezgraph.config import Address, default_addresses, parse_addresses

TIMEOUT_S = 3.0

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="HOST:PORT",
        help="The broker; several with commas are tried in turn. Default: EZGRAPH_ADDR, "
        "else 127.0.0.1:25979.",
        show_default=False,
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.05,
        help=f"How long to wait for an answer ({TIMEOUT_S:g}).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]


@dataclass(frozen=True, slots=True)
class Given:
    """What stood before the command's name."""

    address: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Which broker is meant, and how long to wait for it."""

    addresses: tuple[Address, ...]
    timeout_s: float
    timeout_given: bool

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))


def target(ctx: typer.Context, address: str | None, timeout_s: float | None) -> Target:
    """Return what a command and the options before it name; the command's own win.

    Raises:
        ConfigError: an address is malformed.
    """
    given: Given = ctx.obj or Given()
    text = address or given.address
    chosen_s = timeout_s if timeout_s is not None else given.timeout_s
    return Target(
        parse_addresses(text) if text else default_addresses(),
        TIMEOUT_S if chosen_s is None else chosen_s,
        chosen_s is not None,
    )
