"""Pictures of a snapshot as text: Mermaid, Graphviz, a plain tree, HTML. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ezgraph.protocol.snapshot import GraphSnapshot

Direction = Literal["LR", "RL", "TB", "BT"]


def mermaid(
    snapshot: GraphSnapshot, *, direction: Direction = "LR", compact_level: int | None = None
) -> str:
    """Return the wiring as Mermaid text."""
    raise NotImplementedError


def graphviz(
    snapshot: GraphSnapshot, *, direction: Direction = "LR", compact_level: int | None = None
) -> str:
    """Return the wiring as Graphviz text."""
    raise NotImplementedError


def text(snapshot: GraphSnapshot) -> str:
    """Return the wiring as a plain tree."""
    raise NotImplementedError


def snapshot_html(snapshot: GraphSnapshot) -> str:
    """Return the picture for a notebook."""
    raise NotImplementedError
