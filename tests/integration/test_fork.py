"""A context inherited by fork belongs to the parent: the child is told, the parent goes on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ezgraph import GraphServer

pytestmark = pytest.mark.integration

PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
from ezgraph import ContextClosedError, sync
ctx = sync.GraphContext(sys.argv[1]).open()
ctx.connect("a", "b")
child = os.fork()
if child == 0:
    try:
        ctx.connect("c", "d")
    except ContextClosedError as error:
        print("child:", error, flush=True)
    ctx.close()
    with sync.GraphContext(sys.argv[1]) as own:
        own.connect("e", "f")
    os._exit(0)
os.waitpid(child, 0)
ctx.connect("g", "h")
print("parent:", sorted(ctx.dag().edge_owners), flush=True)
ctx.close()
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_context_inherited_by_fork_refuses_and_the_parent_goes_on(server: GraphServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(server.address)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    child, parent = done.stdout.splitlines()
    assert "inherited by fork" in child
    assert "open a new one here" in child
    assert parent == "parent: [('a', 'b'), ('g', 'h')]"
