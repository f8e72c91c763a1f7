"""A relay under siege through raw connections, and a reader beside it that must notice nothing.

They say what is no ZMTP, or is until somewhere, and what is no way to a host, or is, and then no
request of data nodes. The broker is a process of its own, so that its death is seen.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ezgraph import GraphServer, sync
from ezgraph.client.broker_choice import Broker
from ezgraph.nodes import ArrayNode, RemoteTree, RootNode
from ezgraph.nodes.directory import Directory
from ezgraph.wire.nodes import request_frame
from tests.fuzz.campaign import SEED, allowed_mib, random_of, resident_mib, told
from tests.fuzz.mutation import Mutator
from tests.fuzz.recording import recorded
from tests.fuzz.zmtp import conversation

if TYPE_CHECKING:
    from random import Random

    from ezgraph.nodes.endpoint import Endpoint

pytestmark = pytest.mark.integration

NAME = "run42"
INPUTS, SOAK_INPUTS = 150, 20_000
OPEN_STRANGERS = 40
SIGNAL = np.arange(1_000.0)


def besiege(server: GraphServer, *, seed: int, inputs: int) -> None:
    with ExitStack() as stack:
        ctx = stack.enter_context(sync.GraphContext(server.address))
        ctx.serve(RootNode(uid="root", edges={"signal": ArrayNode(SIGNAL)}), NAME)
        _, way = Directory(Broker((server.address,), None, may_start=False)).find(NAME)
        (relayed,) = [each for each in way.endpoints if each.route is not None]
        node = RootNode(stack.enter_context(RemoteTree([relayed])))["signal"]
        mutator = Mutator(random_of(seed, 0), recorded().everything)
        strangers: deque[socket.socket] = deque()
        stack.callback(_close, strangers)
        before = resident_mib(server.pid or 0)
        for number in range(inputs):
            mutator.random = random = random_of(seed, number)
            with told(seed, number, b""):
                strangers.append(_say(random, mutator, relayed))
                if len(strangers) > OPEN_STRANGERS:
                    _leave(strangers.popleft())
                if number % 50 == 0:
                    np.testing.assert_array_equal(node.read(), SIGNAL)
                    assert server.running
        np.testing.assert_array_equal(node.read(), SIGNAL)
        assert ctx.connect("a", "b") > 0
        growth = resident_mib(server.pid or 0) - before
        sys.stdout.write(f"relay: seed {seed}, {inputs} inputs, {growth:+.1f} MiB\n")
        assert growth < allowed_mib(inputs), f"the broker has {growth:.1f} MiB more"


def _say(random: Random, mutator: Mutator, relayed: Endpoint) -> socket.socket:
    """Open a connection, say something, and leave it open for a while."""
    route, ticket = relayed.route or b"", relayed.ticket or b""
    asked = request_frame(random.randrange(1 << 32), {"request": "send_root"}, takes_frames=True)
    said = [route, ticket, asked, asked]
    for _ in range(random.randrange(3)):
        place = random.randrange(len(said))
        said[place] = mutator.changed_bytes(said[place])
    first, rest = conversation(random, mutator, said, [b"", route, b"node/"])
    stranger = socket.create_connection(relayed.address, timeout=10.0)
    with suppress(ConnectionError, TimeoutError):
        stranger.sendall(first)
        if rest:
            stranger.settimeout(0.02)
            stranger.recv(1_000)
            stranger.sendall(rest)
    return stranger


def _close(strangers: deque[socket.socket]) -> None:
    for each in strangers:
        each.close()


def _leave(stranger: socket.socket) -> None:
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stranger.close()


def test_a_reader_beside_a_besieged_relay_notices_nothing(seed_option: int | None) -> None:
    with GraphServer(run_in="process") as server:
        besiege(server, seed=seed_option or SEED, inputs=INPUTS)


@pytest.mark.soak
def test_tens_of_thousands_of_raw_connections_to_the_relay(seed_option: int | None) -> None:
    with GraphServer(run_in="process") as server:
        besiege(server, seed=seed_option or SEED + 1, inputs=SOAK_INPUTS)
