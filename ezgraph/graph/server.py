"""A broker to hold in a program: in a thread of it, or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from ezgraph.backends.base import Backend
from ezgraph.broker.service import BrokerService
from ezgraph.config import Address, AddressLike, BrokerConfig, parse_address
from ezgraph.errors import ContextClosedError, EzGraphError, from_code
from ezgraph.graph.own_graph import OwnGraph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from ezgraph.client.broker_choice import KeysLike
    from ezgraph.nodes.base import BaseNode

_START_S = 10.0
_STOP_S = 10.0


class GraphServer:
    """One broker. ``start`` returns when it takes commands, ``stop`` when it has ended.

    With a graph of data nodes it answers for them, also without being started: ``request``, and
    ``RootNode(server)``. Once it is started, others find them on this bus under the name "root".

    Args:
        root: the graph's root; an address in its place is taken as ``address``.
        address: where it listens; None: a free port on 127.0.0.1.
        backend: where it keeps its journal, such as ``sqlite:///rig.db``, or a `Backend`.
        run_in: ``"thread"`` of this program, or a ``"process"`` of its own.
        config: everything else; ``address`` and ``backend`` override it.
        keys: the key pair with which the graph is served, on a broker that asks for keys.
    """

    def __init__(
        self,
        root: BaseNode | AddressLike | None = None,
        *,
        address: AddressLike | None = None,
        backend: str | Backend[Any] | None = None,
        run_in: Literal["thread", "process"] = "thread",
        config: BrokerConfig | None = None,
        keys: KeysLike | None = None,
    ) -> None:
        if root is None or isinstance(root, str | tuple):
            address, root = root if address is None else address, None
        wanted = config or BrokerConfig(address=Address("127.0.0.1", 0))
        if address is not None:
            wanted = replace(wanted, address=parse_address(address))
        if backend is not None:
            url = backend if isinstance(backend, str) else backend.url
            wanted = replace(wanted, backend=url)
        self.config = wanted
        self._runner: _ThreadRunner | _ProcessRunner | None = None
        self._run_in = run_in
        self._own = OwnGraph(keys)
        if root is not None:
            self._own.load(root)

    def __repr__(self) -> str:
        where = self.config.address if self._runner is None else self.address
        state = "stopped" if self._runner is None else self._runner.describe()
        return f"<GraphServer tcp://{where} {state}>"

    @property
    def address(self) -> Address:
        """Where it takes commands.

        Raises:
            ContextClosedError: it is not running.
        """
        if self._runner is None:
            raise ContextClosedError("this GraphServer is not running; start() it first")
        return self._runner.address

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self._runner is not None and self._runner.alive()

    @property
    def pid(self) -> int | None:
        """The process id, where it runs as a process of its own."""
        return self._runner.pid if isinstance(self._runner, _ProcessRunner) else None

    def start(self, address: AddressLike | None = None) -> Self:
        """Start it and return it; a port of 0 takes a free one.

        Raises:
            AddressInUseError: somebody listens there.
            JournalError: the journal cannot be opened.
        """
        if self._runner is not None:
            return self
        config = self.config
        if address is not None:
            config = replace(config, address=parse_address(address))
        self._runner = _ThreadRunner(config) if self._run_in == "thread" else _ProcessRunner(config)
        try:
            self._own.begin(self.address, self.config)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Drain, write a checkpoint, end. May be called twice."""
        self._own.end()
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.stop()

    def kill(self) -> None:
        """End its process at once, as a crash would (only with ``run_in="process"``)."""
        if not isinstance(self._runner, _ProcessRunner):
            raise ContextClosedError("only a broker in a process of its own can be killed")
        self._runner.kill()
        self._runner = None
        self._own.end()

    # --- data nodes ---

    def load_graph(self, root: BaseNode) -> None:
        """Serve the graph that begins at ``root``, in place of what was served before.

        Raises:
            NodeError: two nodes in it have one uid, or a node is itself a copy. Nothing changed.
        """
        self._own.load(root)
        if self._runner is not None:
            self._own.begin(self.address, self.config)

    def request(self, message: Mapping[str, Any], /) -> bytes:
        """Return the encoded answer to a request about nodes (`ezgraph.protocol.nodes`).

        Raises:
            NodeRequestError: it is no listed request, or has other keywords.
            UnknownNodeError: no such node is listed.
            NodeSourceError: what is behind the node failed, or gave what cannot be sent.
            NodeError: no graph was loaded.
        """
        return self._own.request(message)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _ThreadRunner:
    """A broker in a thread of this process."""

    def __init__(self, config: BrokerConfig) -> None:
        self._outcome: BrokerService | BaseException | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(
            target=self._main, args=(config,), name="ezgraph-broker", daemon=True
        )
        self._thread.start()
        if not self._up.wait(_START_S):
            raise EzGraphError(f"the broker was not up after {_START_S:g} s; look at its log")
        service = self._started()
        if service.address is None:
            raise EzGraphError("the broker ended while it started; look at its log")
        self.address: Address = service.address

    def _started(self) -> BrokerService:
        """Return the service that the thread has made, or raise what it met instead."""
        if isinstance(self._outcome, BrokerService):
            return self._outcome
        self._thread.join()
        raise self._outcome or EzGraphError("the broker ended while it started")

    def _main(self, config: BrokerConfig) -> None:
        try:
            with Backend.from_url(config.backend).connect() as connection:
                service = BrokerService(config, connection.open_journal())
                try:
                    service.bind()
                except BaseException:
                    service.close()
                    raise
                self._outcome = service
                self._up.set()
                service.run()
        except BaseException as error:  # noqa: BLE001 - handed to whoever called start()
            self._outcome = error
            self._up.set()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def describe(self) -> str:
        service = self._outcome
        if not isinstance(service, BrokerService):
            return f"failed {service!r}"
        if not self.alive():
            return "ended"
        return f"seq={service.engine.state.seq} sessions={service.engine.sessions}"

    def stop(self) -> None:
        if isinstance(self._outcome, BrokerService):
            self._outcome.stop()
        self._thread.join(_STOP_S)


class _ProcessRunner:
    """A broker in a process of its own, which ends with the pipe to this one."""

    def __init__(self, config: BrokerConfig) -> None:
        command = [sys.executable, "-m", "ezgraph.broker", config_to_json(config)]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for its starter, whose end it notices
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        said = json.loads(line) if line.strip() else {}
        if "address" not in said:
            self._end()
            raise from_code(
                said.get("code", "error"),
                said.get("message", f"the broker process ended with {self._process.returncode}"),
            )
        self.address: Address = parse_address(said["address"])
        self.pid = self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def describe(self) -> str:
        return f"pid={self.pid}" if self.alive() else f"ended code={self._process.returncode}"

    def stop(self) -> None:
        self._process.terminate()
        self._end()

    def kill(self) -> None:
        self._process.kill()
        self._end()

    def _end(self) -> None:
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def config_to_json(config: BrokerConfig) -> str:
    """Return a configuration as a broker process is given it."""
    return json.dumps(
        {
            "address": str(config.address),
            "events_port": config.events_port,
            "advertise": config.advertise,
            "backend": config.backend,
            "insecure": config.insecure,
            "require_keys": config.require_keys,
            "key": config.key,
            "trusted": config.trusted,
            "roles": config.roles,
            "ttl_s": config.ttl_s,
            "checkpoint_events": config.checkpoint_events,
            "journal_warning_bytes": config.journal_warning_bytes,
            "retention": asdict(config.retention),
            "limits": asdict(config.limits),
        }
    )
