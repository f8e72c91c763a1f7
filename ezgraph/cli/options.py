"""The options that several commands share, and what they come to."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer

from ezgraph.config import (
    DEFAULT_ADDRESS,
    Address,
    ClientKeys,
    address_text_from_environment,
)
from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.keys.client_keys import Place

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT_S = 3.0
_BULK_S = 60.0
"""How long to wait for what may be large, unless a time is given."""

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="HOST:PORT",
        help="The broker; several with commas are tried in turn. Default: EZGRAPH_ADDR, else the "
        "selected context, else 127.0.0.1:25979.",
        show_default=False,
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        "-c",
        metavar="NAME",
        help="The broker, and the key to show it, of a named context (see ezgraph context).",
        show_default=False,
    ),
]
KeysOption = Annotated[
    str | None,
    typer.Option(
        "--keys",
        metavar="NAME|FILE",
        help="The key pair to show. Default: the context's, else EZGRAPH_KEYS, else none.",
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
JournalOption = Annotated[
    str | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Ask a journal's file (or sqlite:// address) instead of a broker.",
        show_default=False,
    ),
]
ReasonOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Why; stored with the event.", show_default=False),
]


def after_option(default: str) -> Any:  # noqa: ANN401 - what Typer takes
    """Return the option that says with what a watch begins; ``default``: what it is without it."""
    return typer.Option(
        "--after",
        min=0,
        metavar="SEQ",
        help=f"Begin with what came after this seq (0: with all there is). Default: {default}.",
        show_default=False,
    )


@dataclass(frozen=True, slots=True)
class Given:
    """What stood before the command's name, or after it."""

    address: str | None = None
    context: str | None = None
    keys: str | None = None
    timeout_s: float | None = None

    def over(self, before: Given) -> Given:
        """Return these options, and those of ``before`` that are not among them."""
        return Given(
            self.address or before.address,
            self.context or before.context,
            self.keys or before.keys,
            before.timeout_s if self.timeout_s is None else self.timeout_s,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Which broker is meant, how long to wait for it, and what to show it."""

    addresses: tuple[Address, ...]
    timeout_s: float
    timeout_given: bool
    keys: ClientKeys | None = None

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))


def bulk_s(broker: Target) -> float:
    """Return how long to wait for what may be large."""
    return broker.timeout_s if broker.timeout_given else _BULK_S


@dataclass(frozen=True, slots=True)
class JournalFile:
    """A journal as it was named: a file or its address."""

    typed: str


def target(ctx: typer.Context, own: Given) -> Target:
    """Return what a command and the options before it name; the command's own win.

    Raises:
        ConfigError: an address is malformed, or there is no such context or key.
    """
    from ezgraph.keys.client_keys import find_keys

    given = own.over(ctx.obj or Given())
    place = _place(given)
    return Target(
        place.addresses,
        TIMEOUT_S if given.timeout_s is None else given.timeout_s,
        given.timeout_s is not None,
        find_keys(given.keys or place.key, place.addresses),
    )


def on_broker(command: Callable[Concatenate[Target, P], R]) -> Callable[..., R]:
    """Return a command that takes the options which say what broker is meant, and is handed it.

    Typer reads what a command takes from its signature; these four stand there once, below.
    """
    return _taking(_broker_options, _target_of, command)


def on_past(command: Callable[Concatenate[Target | JournalFile, P], R]) -> Callable[..., R]:
    """Return a command as `on_broker` does, which may also be handed a journal's file."""
    return _taking(_past_options, _past_of, command)


def _taking(
    options: Callable[..., None],
    read: Callable[[typer.Context, dict[str, Any]], Any],
    command: Callable[..., R],
) -> Callable[..., R]:
    """Return a command that takes ``options`` too, and is handed what ``read`` makes of them."""
    own = inspect.signature(command, eval_str=True)
    ctx, *more = inspect.signature(options, eval_str=True).parameters.values()
    _, *rest = own.parameters.values()

    @wraps(command)
    def called(*, ctx: typer.Context, **words: Any) -> R:  # noqa: ANN401
        given = {each.name: words.pop(each.name) for each in more}
        return command(read(ctx, given), **words)

    taken = [ctx, *rest, *more]
    called.__annotations__ = {each.name: each.annotation for each in taken}
    vars(called)["__signature__"] = own.replace(parameters=taken)
    return called


def _broker_options(
    ctx: typer.Context,
    address: AddressOption = None,
    context: ContextOption = None,
    keys: KeysOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Take what a command of `on_broker` takes beside its own, in the order of `Given`."""


def _target_of(ctx: typer.Context, given: dict[str, Any]) -> Target:
    return target(ctx, Given(*given.values()))


def _past_options(
    ctx: typer.Context,
    journal: JournalOption = None,
    address: AddressOption = None,
    context: ContextOption = None,
    keys: KeysOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Take what a command of `on_past` takes beside its own."""


def _past_of(ctx: typer.Context, given: dict[str, Any]) -> Target | JournalFile:
    journal = given.pop("journal")
    if journal is None:
        return _target_of(ctx, given)
    for name in ("address", "context"):
        if given[name]:
            raise ConfigError(
                f"--journal is read without a broker, and --{name} names one; give one of them"
            )
    return JournalFile(journal)


def _place(given: Given) -> Place:
    """With an address and a context, the context only says which key is shown there."""
    from ezgraph.keys.client_keys import (
        Place,
        expand_addresses,
        resolve_context,
        selected_context,
    )

    context = resolve_context(given.context) if given.context else None
    text = given.address or (None if context else address_text_from_environment())
    if not text:
        return context or selected_context() or Place((DEFAULT_ADDRESS,), None)
    place = expand_addresses(text)
    return place if context is None or place.key else Place(place.addresses, context.key)
