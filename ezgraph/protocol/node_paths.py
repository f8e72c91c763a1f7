"""Ways to nodes as they are typed and shown: ``run42/probe 1/[3]``. Pure.

* ``/`` parts the labels; one inside a label is written ``%2F``, and ``%`` itself ``%25``
  (`ezgraph.protocol.key_text`).
* ``[3]`` is the label 3, an integer; ``3`` the label "3", a text. A text that looks like an
  integer's label has its bracket escaped: ``%5B3]``.
* A ``/`` at the end changes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import InvalidKeyError
from ezgraph.protocol.key_text import escaped, unescaped
from ezgraph.protocol.nodes import check_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.protocol.nodes import Label

_INTEGER = re.compile(r"\[(-?[0-9]{1,100})\]")


class NodePath(NamedTuple):
    """A graph by its name, and labels from its root on."""

    graph: str
    labels: tuple[Label, ...]

    def __str__(self) -> str:
        return "/".join(filter(None, (label_text(self.graph), labels_text(self.labels))))


def parse_node_path(typed: str) -> NodePath:
    """Return the way that ``NAME/LABEL/…`` spells.

    Raises:
        InvalidKeyError: the graph has no name.
        NodeRequestError: a label is too long.
    """
    name, _, rest = typed.partition("/")
    if not name:
        raise InvalidKeyError(
            f"{typed!r} names no graph; give its name first, as in run42/eeg (ezgraph nodes ls "
            f"lists them)"
        )
    return NodePath(unescaped(name), parse_labels(rest))


def parse_labels(typed: str) -> tuple[Label, ...]:
    """Return the labels that ``LABEL/LABEL/…`` spells; none if nothing is typed.

    Raises:
        NodeRequestError: one is too long.
    """
    parts = typed.removesuffix("/").split("/") if typed else []
    return tuple(check_label(_label(part)) for part in parts)


def _label(typed: str) -> Label:
    integer = _INTEGER.fullmatch(typed)
    return unescaped(typed) if integer is None else int(integer[1])


def labels_text(labels: Iterable[Label]) -> str:
    """Return labels as they would be typed."""
    return "/".join(map(label_text, labels))


def label_text(label: Label) -> str:
    """Return a label as it would be typed."""
    if isinstance(label, int):
        return f"[{label}]"
    text = escaped(label, "%/")
    return text if _INTEGER.fullmatch(text) is None else f"%5B{text[1:]}"
