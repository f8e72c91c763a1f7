"""A program ends promptly, whatever it has open: contexts, subscriptions, a broker in a thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

import ezgraph

if TYPE_CHECKING:
    from ezgraph import GraphServer

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
PROMPT_S = 2.0
"""From the program's last line to its end; an interpreter alone takes some 0.05 s."""

BLOCKING = """
import sys
from ezgraph import sync
ctx = sync.GraphContext(sys.argv[1]).open()
ctx.connect("a", "b")
stream = ctx.subscribe((), 0)
next(stream)
process = sync.ProcessControlClient(sys.argv[1]).connect()
process.register(["RIG/AMP"])
"""
ASYNC = """
import asyncio, sys
from ezgraph import GraphContext, ProcessControlClient
async def main():
    global ctx, stream, process
    ctx = await GraphContext(sys.argv[1], replica=True).open()
    await ctx.connect("a", "b")
    stream = ctx.subscribe((), 0)
    await anext(aiter(stream))
    process = await ProcessControlClient(sys.argv[1]).connect()
    await process.register(["RIG/AMP"])
    {end}
"""
SERVER = """
from ezgraph import GraphServer, sync
server = GraphServer().start()
ctx = sync.GraphContext(server.address).open()
ctx.connect("a", "b")
"""
READY = 'print("ready", flush=True)\n'
RUN = "asyncio.run(main())\n"
WAIT_BLOCKING = READY + "for item in stream: pass\n"
WAIT_ASYNC = "async for item in stream: pass"


def ended(
    program: str, server: GraphServer, number: signal.Signals | None = None
) -> tuple[int, str, float]:
    """Run a program, signal it when it is ready; return its code, errors and time to end."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program, str(server.address)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            begun = monotonic()
            if number is not None:
                os.kill(process.pid, number)
            _, errors = process.communicate(timeout=15)
        finally:
            process.kill()
    return process.returncode, errors, monotonic() - begun


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(BLOCKING + READY, id="blocking clients open"),
        pytest.param(ASYNC.format(end="") + RUN + READY, id="async clients open, loop closed"),
        pytest.param(SERVER + READY, id="a broker in a thread and its client open"),
        pytest.param(BLOCKING + SERVER + READY, id="all of it"),
        pytest.param(
            BLOCKING + "import threading\nthreading.Thread(target=lambda: list(stream), "
            "daemon=True).start()\n" + READY,
            id="a thread waits in a subscription",
        ),
    ],
)
def test_a_program_that_leaves_things_open_ends_at_once_and_silently(
    server: GraphServer, program: str
) -> None:
    code, errors, took = ended(program, server)

    assert (code, errors) == (0, "")
    assert took < PROMPT_S


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(BLOCKING + READY + "1 / 0\n", id="blocking"),
        pytest.param(ASYNC.format(end=READY.strip() + "; 1 / 0") + RUN, id="async"),
        pytest.param(SERVER + READY + "1 / 0\n", id="with a broker in a thread"),
        pytest.param(
            "from ezgraph import GraphServer, sync\n"
            "with GraphServer() as server, sync.GraphContext(server.address) as ctx:\n"
            "    ctx.connect('a', 'b')\n    " + READY + "    1 / 0\n",
            id="in with blocks",
        ),
    ],
)
def test_a_program_that_fails_ends_at_once_with_its_own_traceback_only(
    server: GraphServer, program: str
) -> None:
    code, errors, took = ended(program, server)

    assert code == 1
    assert errors.endswith("ZeroDivisionError: division by zero\n")
    assert errors.count("Traceback") == 1
    assert took < PROMPT_S


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(BLOCKING + WAIT_BLOCKING, id="blocking"),
        pytest.param(ASYNC.format(end=READY.strip() + "\n    " + WAIT_ASYNC) + RUN, id="async"),
    ],
)
def test_a_program_that_waits_in_a_subscription_ends_at_once_by_a_signal(
    server: GraphServer, program: str, number: signal.Signals
) -> None:
    code, errors, took = ended(program, server, number)

    assert code == -number
    assert ("KeyboardInterrupt" in errors) is (number is signal.SIGINT)
    assert took < PROMPT_S


def test_a_program_that_turns_sigterm_into_an_exit_leaves_its_with_blocks(
    server: GraphServer,
) -> None:
    program = (
        "import signal, sys\nfrom ezgraph import sync\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "with sync.GraphContext(sys.argv[1]) as ctx:\n"
        "    ctx.connect('a', 'b')\n    stream = ctx.subscribe((), 0)\n    "
        + READY
        + "    for item in stream: pass\n"
    )

    code, errors, took = ended(program, server, signal.SIGTERM)

    assert (code, errors) == (7, "")
    assert took < PROMPT_S
