"""The plain kinds of nodes: the root, those without data, and those whose class is unknown here."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ezgraph.errors import NodeError
from ezgraph.nodes.base import BaseNode, Dataless
from ezgraph.nodes.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ezgraph.nodes.factory import ServerLike


class _WithoutData(Dataless, BaseNode):
    """What `RootNode` and `EmptyNode` share: a warning where data is asked for."""

    def read(self) -> None:
        """Warn that there is nothing to read, and return None."""
        self._warn()

    def load_meta(self) -> None:
        """Warn likewise; what meta it was given stays."""
        self._warn()

    def load_data(self) -> None:
        """Warn likewise."""
        self._warn()

    def append(self, partition: Any) -> int:  # noqa: ANN401
        """Refuse to take data."""
        raise NodeError(
            f"{self!r} has no data, so {type(partition).__name__} cannot be appended to it; use a "
            f"GenericNode, or ArrayNode.growing(…)"
        )

    def _warn(self) -> None:
        name = type(self).__name__
        warnings.warn(f"This is a {name}, it has no data to read.", stacklevel=3)

    def _load_own_meta(self) -> None:
        asked = None if self.server is None else self._makers.get_meta(self.server, self.uid)
        self._meta = {} if asked is None else asked

    def _load_own_data(self) -> None:
        self._data = []


@register
class RootNode(_WithoutData):
    """Where a graph begins. With a server it is a copy of the server's root, else an ordinary node.

    ``server`` is anything with ``request``, such as a `GraphServer` or `NodeServer` in this program
    or a `RemoteTree`; or a context, or the address of a broker, where one graph is served.
    """

    def __init__(
        self,
        server: ServerLike | None = None,
        *,
        uid: str | None = None,
        edges: Mapping[Any, BaseNode | str] | None = None,
        meta: Any = None,  # noqa: ANN401
    ) -> None:
        from ezgraph.nodes.factory import NodeFactory, as_server

        home = None if server is None else as_server(server)
        if home is None or uid is not None:
            super().__init__(uid, edges, meta, server=home)
            return
        factory = NodeFactory()
        opening = factory.open_root(home)
        super().__init__(opening.description.uid, meta=meta, server=home)
        factory.adopt(self, opening)


@register
class EmptyNode(_WithoutData):
    """A node that only groups others."""


class GenericNode(BaseNode):
    """A node of any class that is not known here: it can be walked, and read as it is sent.

    On a serving side it holds the partitions it is given.
    """

    def read(self) -> Sequence[Any]:
        """Return the partitions, as they are."""
        partitions: Sequence[Any] = self.data
        return partitions

    def load_meta(self) -> None:
        """Have no meta but the given one."""
        self.meta = self._meta or {}

    def load_data(self) -> None:
        """Have no data but the given one."""
        self.data = self._data or []


register(GenericNode)
