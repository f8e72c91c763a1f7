"""Nodes served on one host and read on another, with keys; directly, and behind a firewall.

Each host is a network namespace of this test's own (`conftest.Lab`). The programs that run on them
stand at the end of this file.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph import Address, BrokerConfig, GraphServer, sync
from ezgraph.keys import contexts, folder, pair, trusted
from ezgraph.nodes import ArrayNode, RootNode
from tests.integration.conftest import ip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.integration.conftest import Lab

pytestmark = pytest.mark.integration

HOSTS = {"lab": "10.93.8.1", "rig": "10.93.8.2", "desk": "10.93.8.3"}
BROKER = Address(HOSTS["lab"], 25979)
AT = datetime(2026, 1, 31, tzinfo=UTC)
SIGNAL = np.arange(300_000.0)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the keys of the broker, of who serves and of who reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, role in (("broker", None), ("rig", "admin"), ("anna", "observer")):
        pair.make_pair(name, at=AT)
        if role is not None:
            trusted.trust(folder.trusted_file(), pair.read_public(name), role=role, at=AT)
    contexts.pin(folder.contexts_file(), [BROKER], pair.read_pair("broker").public)


def test_nodes_of_another_host_are_read_directly_and_where_that_cannot_be_relayed(
    lay_out: Callable[[Mapping[str, str]], Lab], keys: None
) -> None:
    lab = lay_out(HOSTS)
    with ExitStack() as stack:

        def start(host: str, part: str) -> Any:
            program = lab.run(host, __file__, part)
            stack.callback(program.kill)
            return program

        assert start("lab", "broker").hear() == "up"
        assert start("rig", "serve").hear() == "serving"
        reader = start("desk", "read")
        direct = reader.hear()
        ip("-n", lab.space("rig"), "route", "add", "blackhole", f"{HOSTS['desk']}/32")
        relayed = reader.ask("read again")

    assert direct == {"sum": SIGNAL.sum(), "note": ""}
    assert relayed == {"sum": SIGNAL.sum(), "note": f"relayed by {HOSTS['lab']}:25981"}


# --- the programs ---


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def broker() -> None:
    with GraphServer(config=BrokerConfig(address=BROKER)):
        say("up")
        sys.stdin.read()


def serve() -> None:
    with sync.GraphContext(BROKER, keys="rig") as ctx:
        ctx.serve(RootNode(edges={"signal": ArrayNode(SIGNAL)}), "run42")
        say("serving")
        sys.stdin.read()


def read() -> None:
    for _ in range(2):
        with sync.GraphContext(BROKER, keys="anna") as ctx:
            node: Any = ctx.nodes["run42"]["signal"]
            say({"sum": float(node.read(verify=True).sum()), "note": node.description().note})
        sys.stdin.readline()


if __name__ == "__main__":
    {"broker": broker, "serve": serve, "read": read}[sys.argv[1]]()
