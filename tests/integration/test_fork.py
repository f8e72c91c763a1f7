"""A context inherited by fork belongs to the parent: the child is told, the parent goes on.

The program that forks stands at the end of this file; it looks for the public calls itself.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ezgraph
from ezgraph import (
    ContextClosedError,
    EzGraphError,
    GraphContext,
    GraphMetadata,
    GraphServer,
    ProcessControlClient,
    sync,
)
from ezgraph.nodes import EmptyNode
from ezgraph.protocol.artifacts import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]

ROOT = Path(ezgraph.__file__).parents[1]
ENDING = {"close", "close_session"}
"""Leaving a ``with`` block in the child is no error, and ends nothing of the parent's."""

ARGUMENTS: dict[str, Any] = {
    "from_topic": "c",
    "to_topic": "d",
    "metadata": GraphMetadata(),
    "units": ["SYS/B"],
    "component_address": "SYS/A",
    "value": {"gain": 1},
    "seq": 10**9,
    "subscription": None,
    "address": "SYS/A",
    "field_path": "gain",
    "unit": "SYS/A",
    "operation": "PING",
    "root": EmptyNode(),
    "name": "run",
    "when": 1,
    "old": 1,
    "tag_or_fingerprint": "good",
    "artifact": Artifact("raw"),
}
LOCAL = {"set_request_handler", "take_changes", "take_no_changes"}
"""What only notes what is to be done when somebody asks."""


def public_calls(client: object) -> list[str]:
    """Return the methods of a client that use its connection."""
    return sorted(
        name
        for name, _ in inspect.getmembers(type(client), inspect.isfunction)
        if not name.startswith("_") and name not in ENDING | LOCAL
    )


def outcome(client: object, name: str) -> str:
    """Call a method, an async one as far as it goes by itself; return how it ended."""
    method = getattr(client, name)
    needed = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    try:
        result = method(**{each: ARGUMENTS[each] for each in needed})
        if name == "record":  # it asks when its block is entered
            result = getattr(result, "__aenter__", None) or result.__enter__
            result = result()
        if inspect.iscoroutine(result):
            result.send(None)
    except ContextClosedError as error:
        return str(error)
    except StopIteration:
        return "it returned"
    except (EzGraphError, OSError, RuntimeError) as error:
        return repr(error)
    return "it returned, or waits"


def test_every_call_of_an_inherited_context_refuses_and_the_parent_goes_on(
    server: GraphServer,
) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(server.address)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    in_child, in_parent = map(json.loads, done.stdout.splitlines())
    assert len(in_child) > 45
    for call, said in in_child.items():
        assert "inherited by fork" in said, f"{call}: {said}"
        assert "open a new one here" in said, f"{call}: {said}"
    assert in_parent == [["a", "b"], ["async", "b"], ["g", "h"], ["own", "child"]]


# --- the program ---


def refusals(clients: dict[str, object]) -> Iterator[tuple[str, str]]:
    for form, client in clients.items():
        for name in public_calls(client):
            yield f"{form}.{name}", outcome(client, name)


def be_child(clients: dict[str, object], address: str) -> None:
    """Try everything; then do what the error says."""
    print(json.dumps(dict(refusals(clients))), flush=True)  # noqa: T201 - what it is asked for
    for each in ("blocking", "blocking process"):
        clients[each].close()  # type: ignore[attr-defined]
    sync.GraphService(address).connect("own", "child")


async def be_parent(address: str) -> None:
    ctx = await GraphContext(address, replica=True).open()
    process = await ProcessControlClient(address).connect()
    await ctx.connect("async", "b")
    blocking = sync.GraphContext(address, replica=True).open()
    blocking_process = sync.ProcessControlClient(address).connect()
    blocking.connect("a", "b")
    clients = {
        "async": ctx,
        "async replica": ctx.replica,
        "async process": process,
        "blocking": blocking,
        "blocking replica": blocking.replica,
        "blocking process": blocking_process,
    }
    if (child := os.fork()) == 0:
        try:
            be_child(clients, address)
        except BaseException:  # noqa: BLE001 - it must not run on as a second parent
            traceback.print_exc()
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    blocking.connect("g", "h")
    print(json.dumps(sorted((await ctx.dag()).edge_owners)))  # noqa: T201 - as above
    await ctx.close()
    await process.close()
    blocking.close()
    blocking_process.close()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # that a process with threads forks is what this is about
    asyncio.run(be_parent(sys.argv[1]))
