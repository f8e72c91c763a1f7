"""What goes wrong, when, and with whom: the same seed gives the same schedule. Pure.

Two lanes run side by side, each with its kinds in turn, in an order drawn anew for each round.
In the one, faults of the broker and those that are to end a lease follow each other; in the other
the rest come, often, while earlier ones go on. None overlaps another of the same client.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LAST_S = 1.0
"""No fault lasts into the last second: what comes after belongs to recovery."""

_GAP_S = (0.15, 0.75)
_ALONE_GAP_S = (0.7, 1.1)
_STOPPED_S = 3.0


class Kind(enum.Enum):
    """A kind of fault, in the words of the report."""

    KILL_BROKER = "broker killed"
    KILL_BROKER_LONGER = "broker killed, away for a while"
    END_BROKER = "broker ended by SIGTERM"
    STOP_BROKER = "broker stopped"
    FILL_DISK = "disk full"
    KILL_CLIENT = "client killed"
    TAKE_OVER = "client killed, its lease taken over"
    END_CLIENT = "client ended in order"
    STOP_CLIENT = "client stopped"
    STOP_CLIENT_LONGER = "client stopped for longer than its TTL"
    CUT = "cable cut"
    PULL = "cable pulled"
    PULL_LONGER = "cable pulled for longer than the TTL"
    SILENCE = "cable silent one way"
    DELAY = "cable slow to answer"
    THROTTLE = "cable throttled"
    REFUSE = "connections refused"
    HALF_OPEN = "connection half open"


BROKER_KINDS = frozenset(
    {
        Kind.KILL_BROKER,
        Kind.KILL_BROKER_LONGER,
        Kind.END_BROKER,
        Kind.STOP_BROKER,
        Kind.FILL_DISK,
    }
)
CABLE_KINDS = frozenset(
    {
        Kind.CUT,
        Kind.PULL,
        Kind.PULL_LONGER,
        Kind.SILENCE,
        Kind.DELAY,
        Kind.THROTTLE,
        Kind.REFUSE,
        Kind.HALF_OPEN,
    }
)
_ALONE = BROKER_KINDS | {Kind.STOP_CLIENT_LONGER, Kind.PULL_LONGER}
"""One after the other: a broker that restarts gives every lease a fresh TTL, and then the client
that is away for longer than its TTL would not lose its lease."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One fault: ``at_s`` after the start, for ``for_s`` seconds, at client number ``client``.

    ``strength`` in [0, 1) is drawn for whatever else the fault has to choose.
    """

    at_s: float
    kind: Kind
    client: int | None
    for_s: float
    strength: float

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s


def lasts_s(kind: Kind, ttl_s: float, rng: random.Random) -> float:
    """Draw how long a fault lasts; the broker's include the time it needs to come back."""
    match kind:
        case Kind.KILL_BROKER | Kind.END_BROKER:
            return 0.8
        case Kind.FILL_DISK:
            return 1.5
        case Kind.KILL_BROKER_LONGER:
            return rng.uniform(1.2, 2.5)
        case Kind.STOP_BROKER:
            return rng.choice([rng.uniform(0.1, 0.5), rng.uniform(0.5, _STOPPED_S)])
        case Kind.STOP_CLIENT | Kind.PULL | Kind.REFUSE | Kind.HALF_OPEN:
            return rng.uniform(0.2, 0.8) * ttl_s
        case Kind.STOP_CLIENT_LONGER | Kind.PULL_LONGER:
            return ttl_s + rng.uniform(1.2, 1.7)
        case Kind.SILENCE:
            return rng.uniform(0.3, 1.5) * ttl_s
        case Kind.DELAY | Kind.THROTTLE:
            return rng.uniform(1.0, 3.0)
        case _:
            return 0.0


def schedule(
    *,
    seed: int,
    for_s: float,
    clients: int,
    cabled: Sequence[int],
    kinds: Sequence[Kind],
    ttl_s: float,
    first_s: float = 2.0,
) -> list[Plan]:
    """Return the faults of a run of ``for_s`` seconds, by time.

    Args:
        seed: the same gives the same.
        for_s: the last fault is over one second before.
        clients: how many there are.
        cabled: the numbers of those behind a cable.
        kinds: what may happen (those of cables only where there are any).
        ttl_s: the TTL of the clients' leases.
        first_s: when the first fault comes.
    """
    rng = random.Random(seed)
    possible = [kind for kind in kinds if clients and (cabled or kind not in CABLE_KINDS)]
    plans: list[Plan] = []
    for kinds_of_lane, lane_gap in (
        ([kind for kind in possible if kind in _ALONE], _after),
        ([kind for kind in possible if kind not in _ALONE], _soon),
    ):
        at_s = first_s
        for kind in _rounds(kinds_of_lane, rng):
            if at_s > for_s - LAST_S:
                break
            wanted = Plan(at_s, kind, None, lasts_s(kind, ttl_s, rng), rng.random())
            plan = _fit(wanted, _whom(kind, clients, cabled, rng), plans)
            if plan is not None and plan.until_s <= for_s - LAST_S:
                plans.append(plan)
            at_s = lane_gap(wanted, rng)
    return sorted(plans, key=lambda plan: plan.at_s)


def _rounds(kinds: Sequence[Kind], rng: random.Random) -> Iterator[Kind]:
    while kinds:
        yield from rng.sample(kinds, len(kinds))


def _after(plan: Plan, rng: random.Random) -> float:
    return plan.until_s + rng.uniform(*_ALONE_GAP_S)


def _soon(plan: Plan, rng: random.Random) -> float:
    return plan.at_s + rng.uniform(*_GAP_S)


def _whom(
    kind: Kind, clients: int, cabled: Sequence[int], rng: random.Random
) -> Sequence[int | None]:
    """Return whom a fault may befall, in order of preference; None: the broker."""
    if kind in BROKER_KINDS:
        return [None]
    among = list(cabled) if kind in CABLE_KINDS else list(range(clients))
    return rng.sample(among, len(among))


def _fit(wanted: Plan, whom: Sequence[int | None], plans: Sequence[Plan]) -> Plan | None:
    """Return the plan for the first client to whom nothing else happens then."""
    at_work = [plan for plan in plans if _overlap(plan, wanted)]
    taken = {plan.client for plan in at_work if plan.client is not None}
    for client in whom:
        if client not in taken:
            return replace(wanted, client=client)
    return None


def _overlap(one: Plan, other: Plan) -> bool:
    gap_s = _GAP_S[1]
    return one.at_s < other.until_s + gap_s and other.at_s < one.until_s + gap_s
