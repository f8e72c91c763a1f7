"""One campaign: many inputs from one seed, each timed, and memory looked at along the way.

Input ``n`` of seed ``s`` depends on ``s`` and ``n`` alone. A failure says both, and the input.
"""

from __future__ import annotations

import gc
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.fuzz.mutation import Mutator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ezgraph.errors import EzGraphError
    from tests.fuzz.mutation import Sample

SEED = 1
SLOWEST_S, SLOWEST_S_PER_BYTE = 0.5, 2e-6


def allowed_mib(inputs: int) -> float:
    """Return what fragments of a heap and caches that fill may add up to.

    That is bytes per input in a long campaign, and a kilobyte in a short one.
    """
    return min(4.0 + inputs / 10_000, 24.0)


@dataclass(frozen=True)
class Target:
    """What reads hostile bytes, the samples it is meant for, and the only errors it may raise."""

    kinds: tuple[str, ...]
    read: Callable[[bytes], object]
    documented: tuple[type[EzGraphError], ...]


def random_of(seed: int, number: int) -> Random:
    """Return the random numbers of one input."""
    return Random(seed << 32 | number)


def resident_mib(pid: int | str = "self") -> float:
    """Return the resident memory of a process; 0 where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def told(seed: int, number: int, shown: bytes) -> Iterator[None]:
    """Add to whatever fails in the block how to have it again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}, input {number}: {shown[:3_000]!r}; repeat with --seed {seed}")
        raise


def attack(target: Target, corpus: Sequence[Sample], *, seed: int, inputs: int) -> int:
    """Read so many mutated samples; return how many were accepted.

    An input in ten is meant for another reader.
    """
    own = [sample for sample in corpus if sample.kind in target.kinds]
    mutator, accepted, weighed = Mutator(random_of(seed, 0), corpus), 0, 0.0
    began = time.perf_counter()
    for number in range(inputs):
        mutator.random = random = random_of(seed, number)
        sample = random.choice(own if random.random() < 0.9 else corpus)
        shown = mutator.mutated(sample)
        with told(seed, number, shown):
            accepted += _read(target, shown)
        if number == inputs // 3:
            weighed = _weight()
    growth = _weight() - weighed
    rate = inputs / (time.perf_counter() - began)
    sys.stdout.write(
        f"{'/'.join(target.kinds)}: seed {seed}, {inputs} inputs, {accepted} accepted, "
        f"{rate:.0f}/s, {growth:+.1f} MiB\n"
    )
    assert growth < allowed_mib(inputs), f"{growth:.1f} MiB more after {inputs} of seed {seed}"
    return accepted


def _read(target: Target, given: bytes) -> bool:
    began = time.thread_time()
    try:
        target.read(given)
        accepted = True
    except target.documented:
        accepted = False
    took = time.thread_time() - began
    assert took < SLOWEST_S + SLOWEST_S_PER_BYTE * len(given), f"{took:.2f} s for {len(given)} B"
    return accepted


def _weight() -> float:
    gc.collect()
    return resident_mib()
