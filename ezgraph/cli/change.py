"""``connect``, ``disconnect``, ``pause``, ``resume``, ``shutdown``: what changes the rig."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ezgraph.cli.options import JsonOption, ReasonOption, Target, on_broker
from ezgraph.cli.paper import paper, say
from ezgraph.errors import LiveSessionsError
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.graph.service import GraphService

FromArgument = Annotated[str, typer.Argument(metavar="FROM", help="The topic that is read.")]
ToArgument = Annotated[str, typer.Argument(metavar="TO", help="The topic it leads to.")]


def _service(broker: Target) -> GraphService:
    """Return a service whose coroutines `ezgraph.client.blocking.run` drives to their end."""
    from ezgraph.cli.guest import PROGRAM
    from ezgraph.client.blocking import Session
    from ezgraph.graph.service import GraphService

    make = partial(Session, program=PROGRAM)
    return GraphService(broker.addresses, keys=broker.keys, session_factory=make)


def _done(seq: int, sentence: str, *, as_json: bool) -> None:
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps({"seq": seq}))
    else:
        paper().line((visible(sentence), ""), (f"  (seq {seq})", "dim"))


@on_broker
def connect(
    broker: Target,
    from_topic: FromArgument,
    to_topic: ToArgument,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a persistent edge: it stays until somebody disconnects it."""
    from ezgraph.client.blocking import run

    call = _service(broker).connect(from_topic, to_topic, reason=reason, timeout=broker.timeout_s)
    _done(run(call), f"{from_topic} -> {to_topic} is persistent", as_json=as_json)


@on_broker
def disconnect(
    broker: Target,
    from_topic: FromArgument,
    to_topic: ToArgument,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a persistent edge.

    Sessions that hold it too go on holding it.
    """
    from ezgraph.client.blocking import run

    service = _service(broker)
    call = service.disconnect(from_topic, to_topic, reason=reason, timeout=broker.timeout_s)
    _done(run(call), f"{from_topic} -> {to_topic} is no longer persistent", as_json=as_json)


@on_broker
def pause(broker: Target, as_json: JsonOption = False) -> None:
    """Ask publishers of samples to pause."""
    from ezgraph.client.blocking import run

    _done(run(_service(broker).pause(timeout=broker.timeout_s)), "paused", as_json=as_json)


@on_broker
def resume(broker: Target, as_json: JsonOption = False) -> None:
    """Ask publishers of samples to go on."""
    from ezgraph.client.blocking import run

    _done(run(_service(broker).resume(timeout=broker.timeout_s)), "resumed", as_json=as_json)


@on_broker
def shutdown(
    broker: Target,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Do not ask; end live sessions too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop the broker.

    While sessions live it asks first on a terminal, and refuses elsewhere (exit code 1).
    """
    from ezgraph.client.blocking import run

    service = _service(broker)
    try:
        run(service.shutdown(force, timeout=broker.timeout_s))
    except LiveSessionsError as error:
        if not sys.stdin.isatty():
            raise LiveSessionsError(f"{error} (--force)") from error
        typer.confirm(f"{visible(str(error))}.\nStop it anyway?", abort=True, err=True)
        run(service.shutdown(force=True, timeout=broker.timeout_s))
    if as_json:
        say('{"stopped": true}')
    else:
        paper().line((f"the broker at {broker} stops", ""))
