"""Which class a copy gets: registered ones, those that packages offer, generic ones."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.errors import NodeError
from ezgraph.nodes import BaseNode, GenericNode, NodeServer, RootNode, register, registry
from ezgraph.testing import NumpyTestNode

if TYPE_CHECKING:
    from collections.abc import Callable


def served(node: BaseNode) -> Any:
    """Return the copy of a node."""
    return RootNode(NodeServer(RootNode(edges={"n": node})))["n"]


class Stranger(NumpyTestNode):
    """Known to nobody but the server."""


def test_a_node_of_an_unknown_class_can_be_walked_and_read_raw() -> None:
    inner = NumpyTestNode()

    copy = served(Stranger(edges={"inner": inner}))

    assert type(copy) is GenericNode
    assert copy.info["class"] == "Stranger"
    assert copy.read() == [list(range(10))] * 20
    assert copy.meta == {"field1": "testing"}
    assert copy["inner"].read().sum() == 900


def test_a_name_from_the_wire_is_never_imported(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "evil_module_of_a_node.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    Evil = type("Evil", (NumpyTestNode,), {"__module__": "evil_module_of_a_node"})  # noqa: N806

    copy = served(Evil())

    assert type(copy) is GenericNode
    assert copy.info["module"] == "evil_module_of_a_node"
    assert "evil_module_of_a_node" not in sys.modules


def test_a_class_is_known_once_it_is_registered() -> None:
    @register
    class Mine(NumpyTestNode):
        pass

    assert type(served(Mine())) is Mine


def test_two_classes_of_one_name_are_refused() -> None:
    other = type("NumpyTestNode", (NumpyTestNode,), {"__module__": NumpyTestNode.__module__})

    with pytest.raises(NodeError, match=r"another class ezgraph.testing.nodes.NumpyTestNode"):
        register(other)
    assert registry.registered("ezgraph.testing.nodes", "NumpyTestNode") is NumpyTestNode


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has an installed package offer an entry point of the group."""

    def offered(value: str) -> None:
        entry = EntryPoint("any name", value, registry.ENTRY_POINTS)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry])

    return offered


def test_an_installed_package_offers_its_classes_by_their_names(
    offer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = "ezgraph.testing.nodes", "NumpyTestNode"
    monkeypatch.delitem(registry._known, (module, name))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])  # this package's own
    assert type(served(NumpyTestNode())) is GenericNode

    offer(f"{module}:{name}")

    assert type(served(NumpyTestNode())) is NumpyTestNode


def test_an_offer_that_is_no_class_of_nodes_gives_a_generic_node_and_a_warning(
    offer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = type("Counter", (NumpyTestNode,), {"__module__": "collections"})
    offer("collections:Counter")

    with pytest.warns(UserWarning, match="is installed, but cannot be loaded"):
        copy = served(odd())

    assert type(copy) is GenericNode


def test_our_own_classes_are_known_to_a_reader_that_has_not_loaded_them() -> None:
    for module, name in registry._OURS:
        kind = registry.registered(module, name)

        assert kind is not None
        assert (kind.__module__, kind.__qualname__) == (module, name)


@register
class OfItsOwnMaking(BaseNode):
    """A class whose constructor takes neither uid nor server."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def read(self) -> str:
        return "".join(self.data)

    def load_meta(self) -> None:
        self.meta = {"path": self.path}

    def load_data(self) -> None:
        self.data = list(self.path)


def test_a_class_with_a_constructor_of_its_own_has_copies_too() -> None:
    copy = served(OfItsOwnMaking("abc"))

    assert type(copy) is OfItsOwnMaking
    assert copy.read() == "abc"
    assert copy.meta == {"path": "abc"}
    assert not hasattr(copy, "path")
