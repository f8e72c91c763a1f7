"""How much is measured: a full run, a quick look, or the least that exercises every row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of one run; the defaults are what the goals are stated for.

    ``seconds`` is how long each rate is measured in each round, ``holding_s`` how long the broker
    is looked at while sessions are held, and is left with a new rig before it is frozen.
    """

    rounds: int = 5
    seconds: float = 0.25
    in_flight: int = 64
    reports: int = 150
    subscribers: int = 32
    subscriber_processes: int = 4
    reports_to_many: int = 40
    history: tuple[int, int] = (10_000, 100_000)
    edges: tuple[int, int, int] = (1_000, 10_000, 100_000)
    components: tuple[int, int] = (1_000, 5_000)
    events_in_memory: int = 100_000
    starts: int = 5
    sessions: int = 1_000
    holding_s: float = 3.0
    owned_edges: int = 10_000
    journal_events: int = 1_000_000
    processors: int = 100
    variants: int = 10
    flows: int = 30
    config_entries: tuple[int, int] = (1_000, 100_000)
    watches: int = 5_000
    chunks: int = 32
    chunk_bytes: int = 8 << 20
    samples: int = 10_000_000
    slices: int = 200
    children: int = 10_000
    flow_bytes: int = 1 << 30
    partitions: int = 100_000


def full(rounds: int) -> Scale:
    """Return the sizes that count."""
    return Scale(rounds=rounds, starts=rounds)


def quick(rounds: int) -> Scale:
    """Return the sizes of a quick look, about half a minute."""
    rounds = min(rounds, 2)
    return Scale(
        rounds=rounds,
        seconds=0.1,
        reports=60,
        reports_to_many=15,
        history=(2_000, 20_000),
        edges=(1_000, 3_000, 10_000),
        components=(200, 1_000),
        events_in_memory=10_000,
        starts=rounds,
        sessions=200,
        holding_s=1.0,
        owned_edges=2_000,
        journal_events=50_000,
        processors=20,
        flows=10,
        config_entries=(1_000, 10_000),
        watches=500,
        chunks=8,
        slices=50,
        flow_bytes=1 << 28,
        partitions=20_000,
    )
