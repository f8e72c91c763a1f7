"""Served graphs: data nodes that a process keeps, found by name through the broker.

On the bus a served graph is ``("node", NAME, uid)`` of its root, and so is each of its nodes that
is announced; ``node/NAME/`` in a role, or watched, is that one graph. Several sessions may serve a
name at once, if what they serve has the same root (*replicas*): a reader goes on with another where
one is lost. What is announced belongs to the graph, and goes with the last who serves it.

The data never passes the broker's sockets. A reader dials the endpoints of a host and shows it a
*ticket*: who it is, and what it may read, vouched for by the broker with a secret that only the two
of them know. So the host judges alone, node by node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ezgraph.errors import InvalidKeyError
from ezgraph.protocol.key_text import escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOM = "node"


@dataclass(frozen=True, slots=True)
class NodeCard:
    """What is announced of a node: the first way to it from the root, its class, a few words.

    ``depth`` is how many labels that way has; ``path`` has the first of them, and mostly all.
    """

    uid: str
    path: list[str | int]
    depth: int
    class_name: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class FoundHost:
    """One of those who serve a graph.

    Attributes:
        owner: the client id of the lease that the serving ends with.
        by: who that is, in words, as they have said it themselves.
        incarnation: changes when the host is made anew.
        endpoints: ``host:port`` each, to be tried in turn.
        public_key: of the host, 32 bytes; None: what is said with it can be listened to.
        ticket: what to show it first (`ezgraph.wire.tickets`).
    """

    owner: str
    by: str
    incarnation: str
    endpoints: list[str]
    public_key: bytes | None
    ticket: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FoundGraph:
    """A served graph, as somebody may read it who asks for it.

    Attributes:
        nodes: how many are announced; None: not told to who may not read all of the graph.
        hosts: who serves it, who has done so for longest first.
        ticket_life_s: how long the tickets are good for, from now.
        relay_port: where the broker's host passes on what is asked of those that cannot be
            reached; to be joined to the host at which one has reached the broker. None: nowhere.
    """

    name: str
    root_uid: str
    nodes: int | None
    hosts: list[FoundHost]
    ticket_life_s: float
    relay_port: int | None = None

    @property
    def incarnation(self) -> str:
        """Changes when what a copy remembers of the graph is to be asked for anew."""
        return self.hosts[0].incarnation if self.hosts else ""


def node_path_text(path: Sequence[str | int]) -> str:
    """Return the labels on the way to a node as they are typed: ``ecg/[3]``; the root is ``/``.

    A ``/`` or ``%`` in a label, a ``[`` at its beginning, and what is not printable, is written as
    ``%XX`` for each byte of its UTF-8; so a text stands for one way.
    """
    return "/".join(map(_label_text, path)) or "/"


def _label_text(label: str | int) -> str:
    if isinstance(label, int):
        return f"[{label}]"
    if not label:
        return _EMPTY
    return escaped(label[0], "%/[") + escaped(label[1:], "%/")


def parse_node_path(text: str) -> list[str | int]:
    """Return the labels that a text stands for; nothing, or ``/``, is the root.

    Raises:
        InvalidKeyError: an empty label, or something in brackets that is no integer.
    """
    trimmed = text.removeprefix("/").removesuffix("/")
    return [_label(each, text) for each in trimmed.split("/")] if trimmed else []


def _label(typed: str, path: str) -> str | int:
    if typed == _EMPTY:
        return ""
    if not typed:
        raise InvalidKeyError(
            f"{path!r} has an empty label; write a '/' that is part of a label as %2F, and a label "
            f"without a character as {_EMPTY}"
        )
    if not typed.startswith("["):
        return unescaped(typed)
    inside = typed[1:].removesuffix("]")
    if not typed.endswith("]") or not _INTEGER.fullmatch(inside):
        raise InvalidKeyError(
            f"{typed!r} in {path!r} is no integer label, such as [3]; a text that begins with '[' "
            f"is written with %5B"
        )
    return int(inside)


_EMPTY = "[]"
_INTEGER = re.compile("-?[0-9]{1,19}")
