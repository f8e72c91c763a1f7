"""Three hosts: a graph is served on one, found at a broker on another, read on the third.

Each host is a network namespace of this test's own (`conftest.Lab`). The programs that run there
stand at the end of this file.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph import GraphServer, sync
from ezgraph.config import Address, BrokerConfig
from ezgraph.nodes import ArrayNode, RootNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.integration.conftest import Lab, Program

pytestmark = pytest.mark.integration

HOSTS = {"broker": "10.93.8.1", "rig": "10.93.8.2", "viewer": "10.93.8.3"}
NUMBERS = np.arange(10_000.0)


@pytest.fixture(scope="module")
def lab(lay_out: Callable[[Mapping[str, str]], Lab]) -> Lab:
    return lay_out(HOSTS)


@pytest.fixture
def run(lab: Lab) -> Iterator[Callable[..., Program]]:
    """Starts one of this file's programs on a host."""
    with ExitStack() as stack:

        def start(host: str, role: str, *words: str) -> Program:
            program = lab.run(host, __file__, role, *words)
            stack.callback(program.kill)
            return program

        yield start


def test_a_graph_is_read_at_its_own_host_encrypted(
    lab: Lab, run: Callable[..., Program]
) -> None:
    broker = run("broker", "broker", HOSTS["broker"]).hear()["address"]
    rig = run("rig", "serve", broker).hear()
    viewer = run("viewer", "read", broker)

    told: dict[str, Any] = viewer.hear()

    assert told["is_equal"]
    assert told["endpoints"] == [rig["address"]]
    assert rig["address"].startswith(f"{HOSTS['rig']}:")
    assert told["has_key"]
    assert rig["address"] in lab.peers("viewer")
    assert told["note"] == ""


def test_a_graph_on_loopback_of_the_brokers_host_is_read_through_that_host(
    lab: Lab, run: Callable[..., Program]
) -> None:
    port = run("broker", "broker", "0.0.0.0").hear()["address"].rpartition(":")[2]
    rig = run("broker", "serve", f"127.0.0.1:{port}").hear()
    viewer = run("viewer", "read", f"{HOSTS['broker']}:{port}")

    told: dict[str, Any] = viewer.hear()

    assert told["is_equal"]
    assert told["endpoints"] == [rig["address"]]
    assert rig["address"].startswith("127.0.0.1:")
    assert told["note"].startswith(f"relayed by {HOSTS['broker']}:")
    assert {each.rpartition(":")[0] for each in lab.peers("viewer")} == {HOSTS["broker"]}


# --- the programs ---


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(role: str, *words: str) -> None:
    if role == "broker":
        config = BrokerConfig(address=Address(words[0], 0), insecure=True)
        with GraphServer(config=config) as server:
            say(address=str(server.address))
            sys.stdin.read()
        return
    with sync.GraphContext(words[0]) as ctx:
        if role == "serve":
            root = RootNode(edges={"long": ArrayNode(NUMBERS, chunks=(1_000,))})
            say(address=str(ctx.serve(root, "run42").address))
        else:
            (found,) = ctx.nodes.found()
            node = ctx.nodes["run42"]["long"]
            is_equal = np.array_equal(node[:], NUMBERS)
            (host,) = found.hosts
            say(
                is_equal=is_equal,
                endpoints=host.endpoints,
                has_key=host.public_key is not None,
                note=node.description().note,
            )
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
