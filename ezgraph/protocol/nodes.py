"""Data nodes: the requests they answer, and what the answers say. Pure.

A request is ``{"request": NAME, "uid": TEXT, "kwargs": {…}}``; the names are those of `NodeVerb`
and no others, and each takes the keywords of `KEYWORDS` (for `send_data` a type of node may
understand more, and says which). ``send_root`` alone needs no uid.

================  ==================================================================
send_root         `NodeOpening` of the root
send_node         `NodeOpening` of a node: what it is, and (the first of) its edges
send_info         ``{"module": …, "class": …, "version": …}``
send_edges        ``{label: uid}`` from ``start`` on, at most ``limit``; none: there are no more
send_meta         what the node says about its data
send_data         partition ``index``; of arrays only the ``part`` that is asked for
send_fingerprints of chunks, as many of ``indexes`` as can be said soon, in their order
send_growth       `GrowthReport`, once there is more than ``after`` or ``wait_s`` have passed
send_tree         `TreePage`: the nodes below, each once, breadth first
send_matches      `MatchPage`: those of them whose meta fits a query
================  ==================================================================
"""

from __future__ import annotations

import enum
import reprlib
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

from ezgraph.errors import InvalidKeyError, NodeRequestError
from ezgraph.names import topic_of

Label = str | int
"""What an edge between nodes is called."""

MAX_LABEL_CHARACTERS = 1_000


class NodeVerb(enum.Enum):
    """What a node, or the graph of them, can be asked to send."""

    ROOT = "send_root"
    NODE = "send_node"
    INFO = "send_info"
    EDGES = "send_edges"
    META = "send_meta"
    DATA = "send_data"
    FINGERPRINTS = "send_fingerprints"
    GROWTH = "send_growth"
    TREE = "send_tree"
    MATCHES = "send_matches"


_VERBS = {verb.value: verb for verb in NodeVerb}

KEYWORDS: dict[NodeVerb, frozenset[str]] = {
    NodeVerb.ROOT: frozenset(),
    NodeVerb.NODE: frozenset(),
    NodeVerb.INFO: frozenset(),
    NodeVerb.EDGES: frozenset({"start", "limit"}),
    NodeVerb.META: frozenset(),
    NodeVerb.DATA: frozenset({"index"}),
    NodeVerb.FINGERPRINTS: frozenset({"indexes"}),
    NodeVerb.GROWTH: frozenset({"after", "wait_s"}),
    NodeVerb.TREE: frozenset({"start", "limit"}),
    NodeVerb.MATCHES: frozenset({"query", "prefix", "start", "limit"}),
}


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """A request whose form was checked: the verb is known, the keywords are text."""

    verb: NodeVerb
    uid: str | None
    kwargs: dict[str, Any]


def parse_request(message: object) -> NodeRequest:
    """Return the request that a message is.

    Raises:
        NodeRequestError: it is none; says what is wrong with it.
    """
    if not isinstance(message, dict):
        raise NodeRequestError(
            f"{reprlib.repr(message)} is no request; "
            f"give {{'request': …, 'uid': …, 'kwargs': {{…}}}}"
        )
    if unknown := [key for key in message if key not in ("request", "uid", "kwargs")]:
        raise NodeRequestError(
            f"a request has 'request', 'uid' and 'kwargs', not {reprlib.repr(unknown)}"
        )
    verb = _verb_of(message.get("request"))
    kwargs = message.get("kwargs") or {}
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise NodeRequestError(f"kwargs of {verb.value!r} are no mapping: {reprlib.repr(kwargs)}")
    return NodeRequest(verb, _uid_of(message.get("uid"), verb), kwargs)


def _verb_of(name: object) -> NodeVerb:
    if not isinstance(name, str) or name not in _VERBS:
        raise NodeRequestError(
            f"nodes answer no request {reprlib.repr(name)}, only {', '.join(_VERBS)}"
        )
    return _VERBS[name]


def _uid_of(uid: object, verb: NodeVerb) -> str | None:
    if uid is None and verb is NodeVerb.ROOT:
        return None
    if not isinstance(uid, str):
        raise NodeRequestError(f"{verb.value!r} needs the uid of a node, not {reprlib.repr(uid)}")
    return uid


def check_uid(uid: Any) -> str:  # noqa: ANN401 - what it is, is checked
    """Return ``uid``, a non-empty text that fits into a key of the bus.

    Raises:
        NodeRequestError: it is none.
    """
    try:
        topic_of(("node", uid))
    except (InvalidKeyError, TypeError) as error:
        raise NodeRequestError(f"{reprlib.repr(uid)} is no uid of a node: {error}") from error
    return str(uid)


def check_label(label: object) -> Label:
    """Return ``label``: a text, or an integer of any type as an ``int``.

    Raises:
        NodeRequestError: it is neither, or too long.
    """
    if isinstance(label, str):
        if len(label) > MAX_LABEL_CHARACTERS:
            raise NodeRequestError(
                f"a label of {len(label)} characters; at most {MAX_LABEL_CHARACTERS} are allowed"
            )
        return label
    if type(label) is bool or not isinstance(label, Integral):
        raise NodeRequestError(
            f"{reprlib.repr(label)} ({type(label).__name__}) is no label: labels are text or "
            f"integers"
        )
    return int(label)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """What a reader must know of an array to ask for its parts.

    Attributes:
        dtype: as `ezgraph.wire.values` spells dtypes.
        shape: of the whole.
        chunks: the shape of its largest chunk.
        bounds: where the chunks begin and end along the first axis, if they are not all of one
            length there (the last one may always be shorter); None: they are.
    """

    dtype: Any
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    bounds: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What a node is, without its data.

    Attributes:
        uid: its identity.
        module, name, version: where its class comes from; a reader never imports it.
        labels: how many edges it has.
        partitions: how many parts its data has had so far, those that are gone included; None:
            nobody has asked for them yet, and a `GrowthReport` will tell.
        first_partition: the first that is still there.
        is_growing: there may come more.
        is_stable: what is there will not change, so that fingerprints can be remembered.
        incarnation: changes when the node is made anew, under whatever uid.
        layout: of an array; None for other nodes.
        note: how it is reached, if not directly.
    """

    uid: str
    module: str
    name: str
    version: str
    labels: int
    partitions: int | None
    first_partition: int
    is_growing: bool
    is_stable: bool
    incarnation: str
    layout: ArrayLayout | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class NodeOpening:
    """A node's description with its edges, or the first of them (``description.labels``)."""

    description: NodeDescription
    edges: dict[str | int, str]


@dataclass(frozen=True, slots=True)
class GrowthReport:
    """How far a node's data has grown; see `NodeDescription` for the fields."""

    first_partition: int
    partitions: int
    is_growing: bool
    incarnation: str


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One edge on a walk over the graph.

    Attributes:
        parent: the number of the row it hangs on; -1 for the row of the node asked.
        label: what the edge is called; None for that first row.
        summary: what is there, in a few words.
        is_again: the node has a row before this one, so nothing is listed below this one.
    """

    parent: int
    label: str | int | None
    uid: str
    summary: str
    is_again: bool = False


@dataclass(frozen=True, slots=True)
class TreePage:
    """Rows from ``start`` on, breadth first; ``is_last``: there are no more."""

    rows: list[TreeRow]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Match:
    """A node found, and the first way to it."""

    path: list[str | int]
    description: NodeDescription


@dataclass(frozen=True, slots=True)
class MatchPage:
    """What was found among the nodes up to ``position``; ``is_last``: these were all."""

    found: list[Match]
    position: int
    is_last: bool


class Partition(NamedTuple):
    """A part of a node's data, and its number."""

    number: int
    value: Any
