"""Metadata collected from a tree of objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ezgraph.errors import InvalidCommandError
from ezgraph.protocol.metadata import (
    CollectionMetadata,
    InputStreamMetadata,
    OutputStreamMetadata,
    TaskMetadata,
    UnitMetadata,
)
from ezgraph.settings import Settings, crawl_components


class FilterSettings(Settings):
    cutoff: float = 30.0


@dataclass
class Node:
    address: str
    settings: Any = None
    streams: dict[str, Any] = field(default_factory=dict)
    tasks: list[Any] = field(default_factory=list)
    children: Any = ()


def tree() -> Node:
    inlet = InputStreamMetadata("INPUT_SETTINGS", "SYS/FILTER/SETTINGS", "FilterSettings")
    outlet = OutputStreamMetadata("OUT", "SYS/FILTER/OUT", "Array")
    filtering = Node(
        "SYS/FILTER",
        FilterSettings(),
        {"INPUT_SETTINGS": inlet, "OUT": outlet, "PRIVATE": object()},
        [TaskMetadata("run", None, ["OUT"]), "tidy"],
    )
    return Node("SYS", {"rate": 1}, children={"amp": Node("SYS/AMP"), "filter": filtering})


def test_a_tree_becomes_collections_and_units() -> None:
    graph = crawl_components(tree())

    assert graph.root_name == "SYS"
    assert list(graph.components) == ["SYS", "SYS/AMP", "SYS/FILTER"]
    root, unit = graph.components["SYS"], graph.components["SYS/FILTER"]
    assert isinstance(root, CollectionMetadata)
    assert root.children == ["SYS/AMP", "SYS/FILTER"]
    assert root.initial_settings == (None, {"rate": 1})
    assert isinstance(unit, UnitMetadata)
    assert unit.initial_settings == (None, {"cutoff": 30.0})
    assert list(unit.streams) == ["INPUT_SETTINGS", "OUT"]
    assert [each.name for each in unit.tasks] == ["run", "tidy"]
    assert unit.settings_schema is not None
    assert [each.name for each in unit.settings_schema.fields] == ["cutoff"]


def test_an_inlet_for_settings_makes_them_dynamic() -> None:
    components = crawl_components(tree()).components

    dynamic = components["SYS/FILTER"].dynamic_settings
    assert (dynamic.enabled, dynamic.input_topic) == (True, "SYS/FILTER/SETTINGS")
    assert not components["SYS/AMP"].dynamic_settings.enabled


def test_a_deep_tree_is_walked_without_recursion() -> None:
    node = Node("LEAF")
    for number in range(5_000):
        node = Node(f"N{number}", children=[node])

    assert len(crawl_components(node).components) == 5_001


@pytest.mark.parametrize(
    ("root", "why"),
    [
        (Node("A", children=[Node("B"), Node("B")]), "two components of the tree are at 'B'"),
        (Node(""), "has no address"),
        (Node("A", children=[object()]), "has no address"),
    ],
)
def test_a_tree_that_cannot_be_registered_is_refused(root: Node, why: str) -> None:
    with pytest.raises(InvalidCommandError, match=why):
        crawl_components(root)


def test_a_tree_that_goes_in_a_circle_is_refused() -> None:
    root = Node("A", children=[])
    root.children.append(Node("B", children=[root]))

    with pytest.raises(InvalidCommandError, match="below itself"):
        crawl_components(root)
