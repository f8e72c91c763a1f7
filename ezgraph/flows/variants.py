"""What a processor is to run and what it runs: which handler is to be called next. Pure.

A *variant* is one of the things a processor can run at a time; its configuration is the value of
the key ``("active-flow", (processor, variant))``, and the seq of that value is its version. Of a
variant the program sees::

    (absent) ──Start──▶ running ──Change──▶ running ──Stop──▶ (absent)
        ▲         └─raises─▶ failed ──a newer version: Start──▶ …
        └──────no longer wanted──┘

What is wanted comes from a watch: first a whole picture, then every change. After a picture that
had to be taken anew (history was compacted meanwhile) whatever is not in it is no longer wanted.
`Variants.next_step` compares, one variant at a time:

* It gives no step while a picture is under way: nobody is stopped only because the rest of it has
  not arrived.
* What must stop stops before anything starts, so that it gives free what the others may need.
* Only the newest version of a variant is handed out, each at most once, whether or not the handler
  raises. So a slow handler is not followed by a queue of outdated values.
* A variant that was removed and put again is stopped and started, as far as that was seen: in a
  picture taken anew it is a variant with a newer version, hence a Change.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, assert_never

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Version:
    """The configuration of a variant, and the seq that it came with."""

    value: object
    seq: int


@dataclass(frozen=True, slots=True)
class Start:
    """The variant is to run."""

    variant: str
    version: Version


@dataclass(frozen=True, slots=True)
class Change:
    """The variant runs, and is to go on with another configuration."""

    variant: str
    version: Version


@dataclass(frozen=True, slots=True)
class Stop:
    """The variant runs, and is not to run any longer."""

    variant: str


Step: TypeAlias = Start | Change | Stop


class Variants:
    """What is wanted, what runs, and the difference."""

    def __init__(self) -> None:
        self._wanted: dict[str, Version] = {}
        self._picture: dict[str, Version] | None = {}  # one under way
        self._running: dict[str, Version] = {}
        self._failed: dict[str, BaseException] = {}
        self._handed: dict[str, int] = {}  # the newest version that a handler was given
        self._to_stop: dict[str, None] = {}  # a set that keeps its order
        self._to_apply: dict[str, None] = {}
        self._under_way: Step | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Variants {self.summary()}>"

    def summary(self) -> str:
        """Return how many there are, in a few words."""
        counts = (len(self._wanted), len(self._running), len(self._failed))
        return "wanted={} running={} failed={}".format(*counts)

    @property
    def wanted(self) -> Mapping[str, Version]:
        """What is to run, as far as it is known."""
        return MappingProxyType(self._wanted)

    @property
    def running(self) -> Mapping[str, Version]:
        """What runs, with the version it runs with."""
        return MappingProxyType(self._running)

    @property
    def failed(self) -> Mapping[str, BaseException]:
        """What the handler of the newest version raised, for those variants where it did."""
        return MappingProxyType(self._failed)

    @property
    def is_settled(self) -> bool:
        """Whether a whole picture is there and every difference has been handed out and done."""
        idle = self._under_way is None and not self._to_stop and not self._to_apply
        return idle and self._picture is None

    @property
    def is_closed(self) -> bool:
        """Whether nothing is wanted any more."""
        return self._is_closed

    # --- what is wanted ---

    def begin_picture(self) -> None:
        """A picture of everything begins; what is not in it by its end is not wanted."""
        if not self._is_closed:
            self._picture = {}

    def put(self, variant: str, value: object, seq: int) -> None:
        """The variant is wanted, with this configuration."""
        if self._is_closed:
            return
        version = Version(value, seq)
        if self._picture is not None:
            self._picture[variant] = version
        else:
            self._wanted[variant] = version
            self._to_apply[variant] = None

    def delete(self, variant: str) -> None:
        """The variant is not wanted any longer."""
        if self._picture is not None:
            self._picture.pop(variant, None)
        elif self._wanted.pop(variant, None) is not None:
            self._to_apply.pop(variant, None)
            self._to_stop[variant] = None

    def end_picture(self) -> None:
        """The picture is whole."""
        if self._picture is None:
            return
        before, self._wanted, self._picture = self._wanted, self._picture, None
        again = [variant for variant in self._to_stop if variant in self._wanted]
        self._to_stop.update(dict.fromkeys(each for each in before if each not in self._wanted))
        for variant in again:  # removed and put again meanwhile: a newer version of it
            del self._to_stop[variant]
        by_seq = sorted(self._wanted, key=lambda each: self._wanted[each].seq)
        self._to_apply = dict.fromkeys(by_seq)

    def close(self) -> None:
        """Nothing is wanted from now on: whatever runs is to be stopped."""
        self._is_closed = True
        self._picture = {}
        self.end_picture()
        self._to_stop.update(dict.fromkeys(self._running))

    # --- what is done ---

    def next_step(self) -> Step | None:
        """Return what is to be done next, until `done`; None: nothing, for now."""
        if self._picture is not None or self._under_way is not None:
            return None
        self._under_way = self._next_stop() or self._next_version()
        return self._under_way

    def _next_stop(self) -> Step | None:
        while self._to_stop:
            variant = next(iter(self._to_stop))
            del self._to_stop[variant]
            if variant in self._running:
                return Stop(variant)
            self._forget(variant)  # it never came to run
        return None

    def _next_version(self) -> Step | None:
        while self._to_apply:
            variant = next(iter(self._to_apply))
            del self._to_apply[variant]
            version = self._wanted[variant]
            if self._handed.get(variant) != version.seq:
                self._handed[variant] = version.seq
                runs = variant in self._running
                return Change(variant, version) if runs else Start(variant, version)
        return None

    def done(self, error: BaseException | None = None) -> None:
        """The handler of the step under way has returned, or raised ``error``."""
        step, self._under_way = self._under_way, None
        match step:
            case Start() | Change():
                self._failed.pop(step.variant, None)
                if error is None:
                    self._running[step.variant] = step.version
                else:
                    self._failed[step.variant] = error
            case Stop():
                self._forget(step.variant)
            case None:
                raise AssertionError("no step was under way")
            case _:
                assert_never(step)

    def _forget(self, variant: str) -> None:
        for each in (self._running, self._failed, self._handed):
            each.pop(variant, None)
