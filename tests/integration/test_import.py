"""What `import ezgraph` loads, and what the package says it offers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ezgraph

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
HEAVY = ("numpy", "typer", "rich", "click", "sqlite3", "zmq", "msgpack", "asyncio", "pywt")


def loaded_by(program: str) -> set[str]:
    """Return which of the heavy packages a program has loaded at its end."""
    tell = f"import json, sys; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{tell}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_ezgraph_loads_nothing_heavy() -> None:
    assert loaded_by("import ezgraph; ezgraph.__version__") == set()


def test_errors_and_addresses_are_cheap_too() -> None:
    assert loaded_by("from ezgraph import CyclicException, Address, BrokerConfig, DAG") == set()


def test_a_client_loads_neither_numpy_nor_a_database_nor_a_command_line() -> None:
    loaded = loaded_by("from ezgraph import GraphContext, ProcessControlClient, sync")

    assert loaded.isdisjoint({"numpy", "typer", "rich", "click", "sqlite3", "pywt"})


RUN_A_RIG = """
from ezgraph import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata, GraphServer, sync
part = ComponentMetadata("A", "A", "m.A", "m.S", (None, {"gain": 1.5, "taps": (1, 2)}),
                         DynamicSettingsMetadata(False))
with GraphServer() as server, sync.GraphContext(server.address) as ctx:
    ctx.register_metadata(GraphMetadata(components={"A": part}))
    ctx.snapshot(), ctx.replica.fingerprint(), next(ctx.subscribe((), 0))
"""


def test_a_whole_rig_without_arrays_runs_without_numpy() -> None:
    assert loaded_by(RUN_A_RIG).isdisjoint({"numpy", "sqlite3", "typer", "rich"})


NODES = """
from ezgraph.nodes import EmptyNode, RootNode
root = RootNode(edges={"a": EmptyNode()})
assert list(root.keys()) == ["a"]
"""


def test_nodes_are_made_and_walked_without_anything_heavy() -> None:
    assert loaded_by(NODES) - {"msgpack"} == set()


def test_every_public_name_of_nodes_is_there_and_says_what_it_is() -> None:
    nodes = importlib.import_module("ezgraph.nodes")

    for name in nodes.__all__:
        assert getattr(nodes, name).__doc__, name
    assert sorted(nodes.__all__) == list(nodes.__all__)


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in ezgraph.__all__:
        found = getattr(ezgraph, name)
        assert found is not None
        if isinstance(found, type):
            assert found.__doc__, name
            assert found.__name__ == name


def test_the_names_stand_in_order_and_are_offered_for_completion() -> None:
    assert len(set(ezgraph.__all__)) == len(ezgraph.__all__)
    assert set(ezgraph.__all__) <= set(dir(ezgraph))
    assert {"sync", "GraphContext"} <= set(dir(ezgraph))
    assert importlib.import_module("ezgraph.sync").__all__


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ezgraph' has no attribute 'GraphKontext'"):
        _ = ezgraph.GraphKontext


SYSTEM_0 = """
    CollectionMetadata CompactedError ComponentMetadata CyclicException DAG DynamicSettingsMetadata
    Edge GraphContext GraphMetadata GraphServer GraphService GraphSnapshot InputStreamMetadata
    OutputStreamMetadata ProcessControlClient SettingsChangedEvent SettingsEventType
    SettingsSnapshotValue SnapshotProcess SnapshotSession StreamMetadata TaskMetadata
    TopologyChangedEvent UnitMetadata ClientInfo
"""


def test_the_names_an_ezmsg_user_knows_are_exported() -> None:
    assert set(SYSTEM_0.split()) <= set(ezgraph.__all__)
