"""What callers were told, compared with the journal: G4, G5, G8, G9. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.errors import DeadlineError, RefusedError, from_code
from ezgraph.protocol.commands import ChangeConfig, Command, Goodbye
from ezgraph.protocol.config import config_key_text
from ezgraph.protocol.replies import Done, Refusal
from ezgraph.verify.effects import CHANGES, is_true
from ezgraph.verify.findings import Finding, Place

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterator

    from ezgraph.state.graph import GraphState
    from ezgraph.verify.history import Executed, History

LEAST_WORDS = 20
"""A message with fewer characters cannot say what happened and what to do."""
MOST_SHOWN = 5
_ADDRESS = re.compile(r"[\w.\]]:\d+\b")

Outcome = Done | Refusal | str
"""A call's result: what it reached, the error it got, or the name of another reply."""


@dataclass(frozen=True, slots=True)
class CallSeen:
    """One call of one client. Times are seconds on the client's monotonic clock.

    ``clients`` are the public ids that its lease had; ``name`` is the command's, which is None
    where only that is known. ``outcome`` None: it never ended. ``pid`` tells the holders of a
    lease apart (None: it had one): after a restart of the broker, which has forgotten what it
    refused, the next holder may count on from before the last request of the one before.
    """

    place: Place
    clients: Collection[str]
    kind: str
    request_id: int
    name: str
    command: Command | None
    asked: float
    deadline: float
    outcome: Outcome | None = None
    ended: float | None = None
    pid: int | None = None

    def __str__(self) -> str:
        who = "/".join(sorted(self.clients)) or "nobody yet"
        about = f" {shown(self.command)}" if self.command is not None else ""
        return f"call {self.request_id} ({self.name}{about}) of {self.kind} {who}"


def shown(command: Command | None) -> str:
    """Return what a command is about, in a few words."""
    if isinstance(command, ChangeConfig):
        return " ".join(config_key_text(each.key) for each in command.operations[:MOST_SHOWN])
    words = [
        str(value)
        for name in (
            "from_topic", "to_topic", "address", "paused", "added", "removed", "name", "tag"
        )
        if (value := getattr(command, name, None)) is not None
    ]
    return " ".join(words)


def _found(guarantee: str, call: CallSeen, what: str, *seqs: int) -> Finding:
    return Finding(guarantee, call.place, f"{call} {what}", seqs=seqs)


def transactions_of(history: History, call: CallSeen) -> list[Executed]:
    """Return the transactions that a call caused."""
    executed, pid = history.executed, call.pid
    return [
        caused
        for client in call.clients
        for caused in executed.get((client, call.request_id), ())
        if pid is None or caused.pid in (None, pid)
    ]


def check_effect(
    history: History, call: CallSeen, checked: Counter[str]
) -> Iterator[Finding]:
    """G4, G5, G8: a call took effect once at most, an answered one as it was told."""
    caused = transactions_of(history, call)
    checked["G5"] += 1
    if len(caused) > 1:
        seqs = [each.last for each in caused]
        yield _found("G5", call, f"was executed {len(caused)} times", *seqs)
    match call.outcome:
        case Refusal(code=code, message=message):
            yield from _check_refusal(call, code, message, caused, checked)
        case Done(seq=seq) if seq > history.head:
            checked["G4"] += 1
            yield _found("G4", call, f"was answered with {seq}, which is not in the journal", seq)
        case Done(seq=seq) if caused and all(seq != each.last for each in caused):
            checked["G4"] += 1
            what = f"was answered with {seq}, but caused {_spans(caused)}"
            yield _found("G4", call, what, seq)
        case Done():
            checked["G4"] += 1
        case _:
            pass


def _spans(caused: list[Executed]) -> str:
    return ", ".join(f"{each.first}..{each.last}" for each in caused)


def _check_refusal(
    call: CallSeen, code: str, message: str, caused: list[Executed], checked: Counter[str]
) -> Iterator[Finding]:
    checked["G8"] += 1
    kind = type(from_code(code, message))
    if issubclass(kind, RefusedError) and caused:
        what = f"was refused ({code}), and yet made {_spans(caused)}"
        yield _found("G8", call, what, caused[0].first)
    if len(message) < LEAST_WORDS:
        yield _found("G8", call, f"got an error that says nothing: {code} {message!r}")
    if issubclass(kind, DeadlineError) and not _ADDRESS.search(message):
        yield _found("G9", call, f"got an error that names no address: {message!r}")


def wants_state(call: CallSeen) -> int | None:
    """Return the seq at which the state shows whether a call was answered truly, or None."""
    if isinstance(call.outcome, Done) and isinstance(call.command, CHANGES):
        return call.outcome.seq
    return None


def check_answer(call: CallSeen, state: GraphState) -> Iterator[Finding]:
    """G4: what an answered call asked for holds at the seq it was answered with."""
    if call.command is not None and not any(
        is_true(state, call.command, client, call.kind) for client in call.clients
    ):
        yield _found("G4", call, "was answered, and what it asked is not so there", state.seq)


def check_ended(call: CallSeen, now: float | None, allowed_s: float) -> Iterator[Finding]:
    """G9: a call ends by its deadline. ``now`` is until when its client surely lived."""
    latest = call.deadline + allowed_s
    if call.ended is None:
        if now is not None and now > latest:
            late = now - call.deadline
            yield _found("G9", call, f"has not ended {late:.3f} s after its deadline")
    elif call.ended > latest:
        late = call.ended - call.deadline
        yield _found("G9", call, f"ended {late:.3f} s after its deadline of "
                     f"{call.deadline - call.asked:g} s")


def is_goodbye(call: CallSeen) -> bool:
    """Return whether this call ended its lease, and was told so."""
    return isinstance(call.command, Goodbye) and isinstance(call.outcome, Done)
