"""What a trace is made of: one record for each thing that a client program saw. Pure.

A trace is the file of one process. ``session`` numbers the leases it had, ``watch`` its watchers,
in the order they were opened; ``call`` is the number of a call in its session. `TAGS` gives each
kind of record its name in the file.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.protocol.commands import Command

FORMAT = 1


class Fault(enum.Enum):
    """What an observer did to a process, to its network, or to the broker."""

    KILLED = "killed"
    STOPPED = "stopped"
    CONTINUED = "continued"
    CUT = "cut"
    HEALED = "healed"
    BROKER_DOWN = "broker_down"
    BROKER_UP = "broker_up"


@dataclass(frozen=True, slots=True)
class Header:
    """Who wrote a trace. ``boot`` names the run of the host that its monotonic clock counts."""

    format: int
    trace: str
    version: str
    program: str
    pid: int
    host: str
    clock: str
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Joining:
    """A session says HELLO."""

    session: int
    kind: str
    program: str
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class Bound:
    """The broker admitted it: a new lease, one resumed, or one of another program.

    The broker knows the session's call ``n`` as request ``n + id_offset``.
    """

    session: int
    client: str
    cluster_id: str
    epoch: int
    head: int
    floor: int
    ttl_s: float
    resumed: bool
    id_offset: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease is over, and this is what the program is told."""

    session: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Left:
    """The program closed the session; its sockets are closed."""

    session: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """The keep-alive sends a heartbeat (or resumes)."""

    session: int
    main_loop_age_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A call. ``command`` is kept where it changes something; ``about`` is for people.

    ``by_program``: not one that a watcher or a snapshot makes.
    """

    session: int
    call: int
    name: str
    about: str
    timeout_s: float
    by_program: bool
    command: Command | None = None


@dataclass(frozen=True, slots=True)
class Repeated:
    """A request went out again."""

    session: int
    call: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A call's result: ``reply`` and the ``seq`` it reached, or an error's code and message."""

    session: int
    call: int
    reply: str | None = None
    seq: int | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The program waits for this call no longer."""

    session: int
    call: int


@dataclass(frozen=True, slots=True)
class Returned:
    """A call that reached ``seq`` returns, and the session's replica is at ``replica``."""

    session: int
    call: int
    seq: int
    replica: int


@dataclass(frozen=True, slots=True)
class Reached:
    """A wait for ``seq`` in the replica ended with the replica at ``replica``, or in an error."""

    session: int
    seq: int
    replica: int
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """A watcher was opened. ``after`` None: from now on."""

    session: int
    watch: int
    prefix: list[str]
    after: int | None
    is_replica: bool


@dataclass(frozen=True, slots=True)
class Began:
    """A watcher's first item comes; it begins after ``after`` (None: with a snapshot)."""

    watch: int
    after: int | None


@dataclass(frozen=True, slots=True)
class Given:
    """The consumer took an event; ``left`` items were still at hand."""

    watch: int
    epoch: int
    seq: int
    kind: str
    key: str
    digest: str
    left: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """The consumer took a word of progress."""

    watch: int
    seq: int
    left: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """The consumer took a snapshot in place of history (`Compacted`, or a replica's first).

    ``fingerprint`` is empty where it reads by itself what it needs.
    """

    watch: int
    epoch: int
    seq: int
    floor: int
    fingerprint: str
    diverged: bool
    left: int


@dataclass(frozen=True, slots=True)
class Unwatched:
    """A watcher was closed, or has failed with an error."""

    watch: int
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Fingerprinted:
    """A replica, or a snapshot that the program fetched, has this fingerprint at ``seq``."""

    session: int
    of: str
    epoch: int
    seq: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What an observer did, to the process ``pid`` (None: to everybody)."""

    fault: Fault
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The recorder was closed; there is no more."""


Body = (
    Joining
    | Bound
    | Lost
    | Left
    | Renewed
    | Asked
    | Repeated
    | Answered
    | Cancelled
    | Returned
    | Reached
    | Watched
    | Began
    | Given
    | Progressed
    | Skipped
    | Unwatched
    | Fingerprinted
    | Noted
    | Ended
)

TAGS: dict[str, type[Body]] = {
    "joining": Joining,
    "bound": Bound,
    "lost": Lost,
    "left": Left,
    "renewed": Renewed,
    "asked": Asked,
    "repeated": Repeated,
    "answered": Answered,
    "cancelled": Cancelled,
    "returned": Returned,
    "reached": Reached,
    "watched": Watched,
    "began": Began,
    "event": Given,
    "progress": Progressed,
    "snapshot": Skipped,
    "unwatched": Unwatched,
    "state": Fingerprinted,
    "noted": Noted,
    "end": Ended,
}


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One record: its number, when it was (monotonic and wall seconds), and what."""

    number: int
    mono: float
    wall: float
    body: Body


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a trace is not as it was written: after record ``after``."""

    after: int
    what: str


class Ending(enum.Enum):
    """How a trace ends."""

    CLOSED = "complete"
    AT_A_RECORD = "ends without its end record (the process was killed, or still runs)"
    IN_MID_RECORD = "ends in mid-record (the process was killed)"
