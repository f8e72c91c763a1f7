"""How a command talks to the broker: as a guest, which owns nothing and leaves no trace."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ezgraph.client.blocking import Session, run
from ezgraph.errors import MalformedMessageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.cli.options import Target
    from ezgraph.protocol.commands import Command

T = TypeVar("T")
PROGRAM = "ezgraph"


@contextmanager
def guest(target: Target, *, patience_s: float = 60.0) -> Iterator[Session]:
    """Join as a guest, and leave at the end.

    Raises:
        BrokerUnreachableError: nobody answered in time.
    """
    session = Session(
        target.addresses, kind="guest", program=PROGRAM, patience_s=patience_s, keys=target.keys
    )
    run(session.open(timeout=target.timeout_s))
    try:
        yield session
    finally:
        run(session.close())


def ask(session: Session, command: Command, kind: type[T], *, timeout_s: float) -> T:
    """Return the broker's reply, which is of ``kind``.

    Raises:
        DeadlineError: no answer in time.
        MalformedMessageError: an answer of another kind.
    """
    reply = run(session.call(command, timeout=timeout_s))
    if not isinstance(reply, kind):
        raise MalformedMessageError(
            f"{type(command).__name__} was answered with {type(reply).__name__}, not "
            f"{kind.__name__}; is the broker of the same version?"
        )
    return reply
