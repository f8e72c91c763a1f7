"""Roles: what the holder of a key may do, and to which keys. Pure.

A role grants *verbs*, each on the keys that its patterns mean (`ezgraph.protocol.patterns`):

========  ====================================================  =========================
verb      lets one                                              judged by the key
========  ====================================================  =========================
read      get events, snapshots, listings; watch                of each event
connect   hold and let go of edges                              ``edge/FROM/TO``
register  register components with their metadata               ``component/ADDRESS``
run       take units for a process                              ``component/ADDRESS``
report    report the settings of units one runs                 ``settings/ADDRESS``
set       have an owner change its settings                     ``settings/ADDRESS``
request   have a process do what its units understand           ``component/ADDRESS``
config    put and delete entries of the configuration    ``config/TYPE/NAME/…``
store     store and delete snapshots, tags, partitions          ``snapshot/NAME``,
                                                                ``tag/NAME/TAG``,
                                                                ``partitions/ARTIFACT``,
                                                                ``recording/NAME/ARTIFACT``
restore   have the rig be as in a snapshot, by what is one's    ``snapshot/NAME``
          own to change (this and the verbs for what changes)
serve     serve graphs of data nodes                            ``node/NAME``
pause     ask publishers to pause, or to go on                  ``control/pause``
shutdown  stop the broker                                       ``control/broker``
========  ====================================================  =========================

Partitions are judged by the key of the artifact, and by the keys of all artifacts that have written
where it says its data is: a storage is what it is, whatever an artifact that names it is called.
A schema of configuration is set with ``config`` on all of its type (``config/TYPE``). What a change
of configuration is to depend on (its conditions), one must be able to read.

The state as it was, and which seq a time stands for, is for who may read everything.

What needs no verb: holding a lease and all that renews, reverts or ends it (``HELLO``, ``RESUME``,
``TAKEOVER``, heartbeats, goodbyes), ``SYNC``, and the status (without numbers, for who may not
read everything). A command that names several keys needs the verb on each of them.

Reading is the one verb that also bounds what is *published* to a client: keys with the same read
patterns share a **read scope**, a stream of events of its own on a port of its own.

Four roles are always there: `observer`, `operator`, `admin`, and ``owner:PREFIX`` for each prefix
of addresses. An owner may change what is at ``PREFIX`` and below, connect whatever leads there (who
receives decides), change the configuration whose keys begin with such a name, and serve graphs of
such names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.protocol.patterns import EVERY_KEY, KeyPattern, Matcher, NamePattern, matcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ezgraph.names import Key

VERBS = (
    "read", "connect", "register", "run", "report", "set", "request", "config", "serve",
    "pause", "shutdown", "store", "restore",
)
OWNER = "owner:"
PUBLIC_BYTES = 32
Patterns = tuple[KeyPattern, ...]
EVERYTHING: Patterns = (EVERY_KEY,)
_REMEMBERED = 20_000
_REMEMBERED_CHARACTERS = 250
"""Longer keys are judged anew: what a client sends must not be kept by being refused."""


@dataclass(frozen=True)
class Role:
    """A name, and for each verb the keys it may be used on."""

    name: str
    grants: Mapping[str, Patterns]
    comment: str = ""
    _judged: dict[tuple[str, Key], bool] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _matchers: dict[str, Matcher] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __str__(self) -> str:
        return self.name

    @property
    def reads(self) -> Patterns:
        """What it may read; equal for roles that share a read scope."""
        return normal(self.grants.get("read", ()))

    def may(self, verb: str, key: Key) -> bool:
        """Return whether it grants ``verb`` on ``key``."""
        patterns = self.grants.get(verb, ())
        if patterns == EVERYTHING:
            return True
        found = self._judged.get((verb, key))
        if found is None:
            found = self._matches(verb)(key)
            if sum(map(len, key)) <= _REMEMBERED_CHARACTERS:
                self._remember(verb, key, found)
        return found

    def may_somewhere(self, verb: str, prefix: Key) -> bool:
        """Return whether it grants ``verb`` on anything under ``prefix``."""
        return any(pattern.touches(prefix) for pattern in self.grants.get(verb, ()))

    def _remember(self, verb: str, key: Key, found: bool) -> None:  # noqa: FBT001 - what is kept
        if len(self._judged) >= _REMEMBERED:
            self._judged.clear()
        self._judged[verb, key] = found

    def _matches(self, verb: str) -> Matcher:
        found = self._matchers.get(verb)
        if found is None:
            found = self._matchers[verb] = matcher(self.grants.get(verb, ()))
        return found


def normal(patterns: Iterable[KeyPattern]) -> Patterns:
    """Return the same keys by patterns in one order, each once; everything is one pattern."""
    found = set(patterns)
    return EVERYTHING if EVERY_KEY in found else tuple(sorted(found, key=str))


def _role(name: str, comment: str, grants: dict[str, Patterns]) -> Role:
    return Role(name, MappingProxyType(grants), comment)


_CHANGES = (
    "connect", "register", "run", "report", "set", "request", "config", "serve", "pause",
    "store", "restore",
)
OBSERVER = _role("observer", "reads everything, changes nothing", {"read": EVERYTHING})
OPERATOR = _role(
    "operator", "reads and changes everything", dict.fromkeys(("read", *_CHANGES), EVERYTHING)
)
ADMIN = _role("admin", "an operator who may stop the broker", dict.fromkeys(VERBS, EVERYTHING))
BUILT_IN = {role.name: role for role in (OBSERVER, OPERATOR, ADMIN)}


def owner_of(prefix: str) -> Role:
    """Return the role of who owns the addresses ``prefix`` and ``prefix/…``."""
    at, below = NamePattern(prefix, is_open=False), NamePattern(f"{prefix}/", is_open=True)
    anything = NamePattern("", is_open=True)

    def named(*before: NamePattern) -> Patterns:
        return KeyPattern((*before, at)), KeyPattern((*before, below))

    components = named(NamePattern("component", is_open=False))
    settings = named(NamePattern("settings", is_open=False))
    return _role(
        f"{OWNER}{prefix}",
        f"reads everything, changes {prefix} and what is below",
        {
            "read": EVERYTHING,
            "connect": named(NamePattern("edge", is_open=False), anything),
            "register": components,
            "run": components,
            "request": components,
            "report": settings,
            "set": settings,
            "config": named(NamePattern("config", is_open=False), anything),
            "serve": named(NamePattern("node", is_open=False)),
        },
    )


class Identity(NamedTuple):
    """Whose a connection is, as its key has proved. ``public`` is 64 hexadecimal digits."""

    name: str
    public: str
    role: Role


@dataclass(frozen=True)
class ReadScope:
    """What one stream of events has. Number 0 has everything, and ``is_full``.

    ``has(key)`` says whether the event (or the entry of a snapshot) under ``key`` is in it.
    """

    number: int
    patterns: Patterns
    is_full: bool = field(init=False, repr=False, compare=False)
    has: Matcher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_full", self.patterns == EVERYTHING)
        object.__setattr__(self, "has", matcher(self.patterns))

    def touches(self, prefix: Key) -> bool:
        """Return whether anything under ``prefix`` may be in it."""
        return any(pattern.touches(prefix) for pattern in self.patterns)

    def __str__(self) -> str:
        return ", ".join(map(str, self.patterns)) or "nothing"


FULL_SCOPE = ReadScope(0, EVERYTHING)


class Access:
    """Who is admitted, and as what: one reading of the allow-list and the roles. Never changed."""

    def __init__(self, identities: Iterable[Identity], *, before: Access | None = None) -> None:
        """``before``: the reading that this one follows; scopes that stay keep their numbers."""
        self._by_public = {each.public: each for each in identities}
        self._scope_of: dict[str, ReadScope] = {}
        known = dict(before.scopes) if before is not None else {}
        self.scopes: dict[Patterns, ReadScope] = {EVERYTHING: FULL_SCOPE}
        taken = {scope.number for scope in known.values()} | {0}
        for each in self._by_public.values():
            patterns = each.role.reads
            scope = self.scopes.get(patterns) or known.get(patterns)
            if scope is None:
                scope = ReadScope(max(taken) + 1, patterns)
                taken.add(scope.number)
            self.scopes[patterns] = self._scope_of[each.public] = scope

    def __repr__(self) -> str:
        return f"<Access keys={len(self)} scopes={len(self.scopes)}>"

    def __len__(self) -> int:
        return len(self._by_public)

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._by_public.values())

    def identity(self, public: str | None) -> Identity | None:
        """Return who has this key; None: nobody that is admitted."""
        return self._by_public.get(public) if public is not None else None

    def scope_of(self, identity: Identity) -> ReadScope:
        """Return what they may read."""
        return self._scope_of[identity.public]


def stands_otherwise(public: str, before: Access, access: Access) -> bool:
    """Return whether a key may read something else than before, or is not admitted any more."""
    then, now = before.identity(public), access.identity(public)
    if then is None or now is None:
        return now is None
    return before.scope_of(then) != access.scope_of(now)
