"""`GraphServer`: a broker in a thread or a process, and who may have its port and its journal."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

import ezgraph
from ezgraph import (
    Address,
    AddressInUseError,
    Backend,
    BrokerConfig,
    ConfigError,
    ContextClosedError,
    GraphServer,
    InsecureAddressError,
    JournalError,
    JournalLockedError,
    sync,
)

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
Where = Literal["thread", "process"]
HOLD_A_BROKER = """
import sys
from ezgraph import GraphServer
server = GraphServer(run_in="process").start()
print(server.address, server.pid, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["thread", "process"])
def where(request: pytest.FixtureRequest) -> Where:
    """Both places where a broker can run."""
    chosen: Where = request.param
    return chosen


def test_a_server_takes_commands_as_soon_as_it_is_started(where: Where) -> None:
    with GraphServer(run_in=where) as server:
        assert server.running
        assert server.start() is server
        assert sync.GraphService(server.address).connect("a", "b") == 1

    assert not server.running


def test_a_stopped_server_has_no_address_and_can_be_started_again(where: Where) -> None:
    server = GraphServer(run_in=where)
    with pytest.raises(ContextClosedError, match=r"start\(\) it first"):
        _ = server.address

    for _ in range(2):
        with server:
            assert sync.GraphService(server.address).sync() == 0
    server.stop()

    with pytest.raises(ContextClosedError):
        _ = server.address


def test_a_server_can_be_told_where_to_listen_when_it_starts(where: Where) -> None:
    with GraphServer() as other:
        free = other.address

    server = GraphServer(run_in=where)
    with closing_server(server.start(str(free))):
        assert server.address == free


def closing_server(server: GraphServer) -> closing[_Stopping]:
    return closing(_Stopping(server))


class _Stopping:
    def __init__(self, server: GraphServer) -> None:
        self.close = server.stop


def test_a_server_shows_its_address_and_what_it_holds() -> None:
    server = GraphServer()
    assert repr(server) == "<GraphServer tcp://127.0.0.1:0 stopped>"

    with server, sync.GraphContext(server.address) as ctx:
        ctx.connect("a", "b")
        assert repr(server) == f"<GraphServer tcp://{server.address} seq=2 sessions=1>"

    with GraphServer(run_in="process") as server:
        assert repr(server) == f"<GraphServer tcp://{server.address} pid={server.pid}>"


def test_a_second_broker_on_the_same_port_is_refused(server: GraphServer, where: Where) -> None:
    with pytest.raises(AddressInUseError) as refused:
        GraphServer(server.address, run_in=where).start()

    assert f"somebody listens on {server.address} already" in str(refused.value)
    assert "connect to that broker, stop it, or choose another port" in str(refused.value)
    assert sync.GraphService(server.address).sync() == 0


def test_a_taken_events_port_is_refused_by_its_number(where: Where) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = BrokerConfig(address=Address("127.0.0.1", 0), events_port=port)

        with pytest.raises(AddressInUseError, match=f"somebody listens on 127.0.0.1:{port}"):
            GraphServer(config=config, run_in=where).start()


def test_events_come_on_the_port_they_were_given() -> None:
    with GraphServer() as other:
        port = other.address.port
    config = BrokerConfig(address=Address("127.0.0.1", 0), events_port=port)

    with GraphServer(config=config) as server, sync.GraphContext(server.address) as ctx:
        stream = ctx.subscribe((), after_seq=0)
        next(stream)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_second_broker_on_the_same_journal_is_refused(tmp_path: Path, where: Where) -> None:
    url = f"sqlite:///{tmp_path}/rig.db"
    with GraphServer(backend=url) as server:
        with pytest.raises(JournalLockedError, match=r"rig.db' is held by .*: a journal has one"):
            GraphServer(backend=url, run_in=where).start()

        assert sync.GraphService(server.address).connect("a", "b") == 1


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path, where: Where) -> None:
    with pytest.raises(JournalError, match="create it, or correct the path"):
        GraphServer(backend=f"sqlite:///{tmp_path}/no/such/rig.db", run_in=where).start()
    with pytest.raises(ConfigError, match=r"known schemes are .*memory.*sqlite"):
        GraphServer(backend="nosuch://rig", run_in=where).start()


def test_an_address_other_hosts_can_reach_is_refused_without_insecure(where: Where) -> None:
    with pytest.raises(InsecureAddressError, match="or say --insecure"):
        GraphServer("0.0.0.0:0", run_in=where).start()


def test_an_insecure_broker_listens_everywhere_if_told_so() -> None:
    config = BrokerConfig(address=Address("0.0.0.0", 0), insecure=True)
    with GraphServer(config=config) as server:
        local = replace_host(server.address, "127.0.0.1")
        with sync.GraphContext(local) as ctx:
            assert next(iter(ctx.subscribe((), after_seq=0)))
            assert ctx.status().insecure


def replace_host(address: Address, host: str) -> Address:
    return Address(host, address.port)


def test_a_host_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"host 'no\.such\.host\.invalid' cannot be resolved"):
        GraphServer("no.such.host.invalid:0").start()


def test_clients_are_told_to_dial_the_advertised_host_for_events() -> None:
    config = BrokerConfig(address=Address("127.0.0.1", 0), advertise="localhost")
    with GraphServer(config=config) as server, sync.GraphContext(server.address) as ctx:
        stream = ctx.subscribe((), after_seq=0)
        assert next(stream)
        session = ctx._sessions[-1]
        assert session.welcome is not None
        assert session.welcome.advertise == "localhost"


def test_what_one_run_stored_the_next_one_has(tmp_path: Path, where: Where) -> None:
    url = f"sqlite:///{tmp_path}/rig.db"
    for number in range(2):
        with GraphServer(backend=url, run_in=where) as server:
            sync.GraphService(server.address).connect("a", f"b{number}")

    with GraphServer(backend=url, run_in=where) as server:
        status = sync.GraphService(server.address).status()

    assert (status.head, status.edges, status.epoch) == (2, 2, 1)
    assert status.backend == url


def test_stopping_writes_a_checkpoint(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rig.db"
    with GraphServer(backend=url) as server:
        sync.GraphService(server.address).connect("a", "b")

    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        assert journal.checkpoint_seq == journal.head == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_broker_process_ends_well_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path}/rig.db"
    server = GraphServer(backend=url, run_in="process").start()
    sync.GraphService(server.address).connect("a", "b")
    process = server._runner._process  # type: ignore[union-attr]

    process.send_signal(number)

    assert process.wait(10) == 0
    server.stop()
    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        assert journal.checkpoint_seq == journal.head == 1


def test_a_broker_process_ends_with_the_program_that_started_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_BROKER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        address, pid = program.stdout.readline().split()
        assert sync.GraphService(address).sync() == 0
        program.kill()

    assert gone(int(pid))


def gone(pid: int) -> bool:
    """Whether a process that is no child of ours ends within ten seconds."""
    waiting = threading.Event()
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        waiting.wait(0.05)
    return False


def test_only_a_broker_in_a_process_can_be_killed(tmp_path: Path) -> None:
    with GraphServer() as server, pytest.raises(ContextClosedError, match="can be killed"):
        server.kill()


def test_options_of_a_config_are_kept(where: Where) -> None:
    config = replace(BrokerConfig(address=Address("127.0.0.1", 0)), ttl_s=2.5)
    with (
        GraphServer(config=config, run_in=where) as server,
        sync.GraphContext(server.address) as ctx,
    ):
        (client,) = ctx.clients()
        assert client.ttl_s == 2.5


FLOOD = """
import sys, zmq
from ezgraph.protocol.commands import Sync
from ezgraph.wire import codec, frames
dealer = zmq.Context().socket(zmq.DEALER)
dealer.connect("tcp://" + sys.argv[1])
message = [frames.request_frame(1, 1, codec.encode(Sync()))] * 100
for _ in range(1_500):  # more than the broker can have decided on
    dealer.send_multipart(message)
print("flooding", flush=True)
while True:
    dealer.send_multipart(message)
"""


def test_a_broker_stops_although_a_client_never_pauses() -> None:
    server = GraphServer().start()
    runner = server._runner
    assert runner is not None
    with subprocess.Popen(
        [sys.executable, "-c", FLOOD, str(server.address)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as flood:
        try:
            assert flood.stdout is not None
            assert flood.stdout.readline() == "flooding\n"

            server.stop()

            assert not runner.alive()
        finally:
            flood.kill()
