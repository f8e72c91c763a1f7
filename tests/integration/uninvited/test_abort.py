"""The abort by a forged routing id: it cannot be prevented, and the journal makes it a restart."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

import ezgraph
from ezgraph import Address, BrokerConfig, sync
from ezgraph.config import parse_address
from ezgraph.graph.server import config_to_json
from ezgraph.protocol.commands import Sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.config import ClientKeys
    from tests.integration.uninvited.conftest import Peer, Rig

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]

TELLS_ROUTING_IDS = """
import resource, sys
from ezgraph.broker import __main__, service
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
admit = service.BrokerService._admit
def tell(self, arrived, now):
    print(arrived.peer.hex(), flush=True)
    admit(self, arrived, now)
service.BrokerService._admit = tell
sys.exit(__main__.main())
"""


class Supervised:
    """A broker as a process of its own, started again whenever it ends by a signal.

    ``routing_ids`` are those of the peers it hears, in order.
    """

    def __init__(self, config: BrokerConfig) -> None:
        self.exit_codes: list[int] = []
        self.routing_ids: list[bytes] = []
        self._config = config
        self._process = self._started()
        self._stopping = False
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TELLS_ROUTING_IDS, config_to_json(self._config)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        self.address = parse_address(said["address"])
        self._config = replace(self._config, address=self.address)
        return process

    def _supervise(self) -> None:
        while True:
            process = self._process
            assert process.stdout is not None
            for line in process.stdout:
                self.routing_ids.append(bytes.fromhex(line))
            self.exit_codes.append(process.wait())
            self._close_pipes(process)
            if self._stopping:
                return
            self._process = self._started()

    def _close_pipes(self, process: subprocess.Popen[str]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def next_routing_id(self, latest: Peer) -> bytes:
        """The id that is given out after that of the peer that came last."""
        latest.send(Sync(), 1)
        latest.reply(1)
        highest = max(int.from_bytes(each[1:], "big") for each in self.routing_ids)
        return b"\0" + (highest + 1).to_bytes(4, "big")

    def close(self) -> None:
        self._stopping = True
        self._process.terminate()
        self._thread.join()


def wait_until(reached: Callable[[], object], timeout: float = 10.0) -> None:
    deadline = monotonic() + timeout
    while not reached():
        assert monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.fixture
def supervised(rig: Rig, tmp_path: Path) -> Iterator[Supervised]:
    backend = f"sqlite:///{tmp_path / 'supervised.db'}"
    found = Supervised(BrokerConfig(Address("127.0.0.1", 0), backend=backend, require_keys=True))
    rig.pin(found.address)
    yield found
    found.close()


class Writer(threading.Thread):
    """Makes one edge after the other in a session of its own, and keeps which were answered."""

    def __init__(self, address: Address, keys: ClientKeys) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.sessions: set[str] = set()
        self.enough, self.done = threading.Event(), threading.Event()
        self.leave = threading.Event()
        self._address, self._keys = address, keys

    def run(self) -> None:
        with sync.GraphContext(self._address, keys=self._keys) as ctx:
            while not self.enough.is_set():
                name = f"to{len(self.answered)}"
                ctx.connect("from", name)
                self.sessions.add(ctx.session_id)
                self.answered.append(name)
            self.done.set()
            self.leave.wait(20)


def test_who_claims_the_next_routing_id_ends_the_broker_and_the_journal_makes_it_a_restart(
    rig: Rig, supervised: Supervised
) -> None:
    """Known of libzmq 4.3.5: where a peer has the id that is given out next, an assertion fails.

    The attacker is told the number, which is otherwise one of four thousand millions to guess.
    """
    writer = Writer(supervised.address, rig.keys["operator"])
    writer.start()
    try:
        wait_until(lambda: len(writer.answered) > 20)
        keys = rig.keys["nothing"]
        here = rig.dealer("nothing", keys).dial(*supervised.address)
        forged = supervised.next_routing_id(here)
        claimant = rig.dealer("nothing", keys, routing_id=forged).dial(*supervised.address)
        assert claimant.handshake() == "welcome"

        rig.dealer("nothing", keys).dial(*supervised.address)
        wait_until(lambda: supervised.exit_codes)
        answered = len(writer.answered)
        for peer in rig.raw:
            peer.cut()
        wait_until(lambda: len(writer.answered) > answered + 20)
        writer.enough.set()
        assert writer.done.wait(10)
        with sync.GraphContext(supervised.address, keys=rig.keys["observer"]) as witness:
            snapshot, events = witness.snapshot(), witness.events()
    finally:
        writer.enough.set()
        writer.leave.set()
        writer.join()

    assert supervised.exit_codes == [-signal.SIGABRT]
    assert len(writer.sessions) == 1
    assert snapshot.graph["from"] == sorted(writer.answered)
    assert writer.sessions < set(snapshot.sessions)
    assert [each.seq for each in events] == list(range(1, len(events) + 1))


FIRST_ROUTING_ID = """
import zmq
from ezgraph.backends.base import Backend
from ezgraph.broker.service import BrokerService
from ezgraph.config import Address, BrokerConfig
with Backend.from_url("memory://").connect() as connection, zmq.Context() as context:
    service = BrokerService(BrokerConfig(Address("127.0.0.1", 0)), connection.open_journal())
    with context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(service.bind().endpoint)
        dealer.send(b"x")
        print(service._router.recv_multipart()[0].hex())
    service.close()
"""


def test_nobody_can_guess_the_routing_ids_that_a_broker_gives_out() -> None:
    asked = [sys.executable, "-c", FIRST_ROUTING_ID]
    processes = [
        subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    first, second = (each.communicate(timeout=20)[0].strip() for each in processes)

    assert re.fullmatch("00[0-9a-f]{8}", first)
    assert first != second
