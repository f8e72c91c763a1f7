"""What the integration tests share: a broker in a thread of the test run, and hosts on a switch."""

from __future__ import annotations

import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

import ezgraph
from ezgraph import GraphServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(ezgraph.__file__).parents[1]
ANSWER_S = 20.0


@pytest.fixture
def server() -> Iterator[GraphServer]:
    """A broker on a free port that forgets everything afterwards."""
    with GraphServer() as running:
        yield running


# --- hosts ---


class Lab:
    """Hosts on a switch, each a network namespace. Everything in it ends with `close`.

    The switch is a bridge in a namespace too, so nothing of the machine is touched. A cable is
    pulled at the switch: the host sees no carrier, its packets go nowhere, and nobody is told
    anything, as when a plug is pulled.
    """

    def __init__(self, hosts: Mapping[str, str]) -> None:
        """``hosts``: their names, of at most ten letters, and addresses."""
        self._name = f"ezg{os.getpid()}{secrets.token_hex(2)}"
        self._made: list[str] = []
        try:
            self._build(hosts)
        except BaseException:
            self.close()
            raise

    def _build(self, hosts: Mapping[str, str]) -> None:
        self._add_host("switch")
        ip("-n", self.space("switch"), "link", "add", "switch", "type", "bridge")
        ip("-n", self.space("switch"), "link", "set", "switch", "up")
        for host, address in hosts.items():
            self._add_host(host)
            self._plug_in(host, address)

    def _add_host(self, host: str) -> None:
        ip("netns", "add", self.space(host))
        self._made.append(host)
        ip("-n", self.space(host), "link", "set", "lo", "up")

    def _plug_in(self, host: str, address: str) -> None:
        """Lay a cable from the host to a small switch of its own, and one from there to the big."""
        here, wall = self.space(host), ("-n", self.space("switch"))
        ip("link", "add", "eth0", "netns", here, "type", "veth", "peer", host, "netns", wall[1])
        self.give_address(host, address)
        ip("-n", here, "link", "set", "eth0", "up")
        ip(*wall, "link", "add", f"{host}-wall", "type", "bridge")
        ip(*wall, "link", "add", f"{host}-up", "type", "veth", "peer", f"{host}-far")
        for port, switch in ((host, f"{host}-wall"), (f"{host}-up", f"{host}-wall")):
            ip(*wall, "link", "set", port, "master", switch, "up")
        ip(*wall, "link", "set", f"{host}-far", "master", "switch", "up")
        ip(*wall, "link", "set", f"{host}-wall", "up")

    def give_address(self, host: str, address: str) -> None:
        """Give a host an address, or one more."""
        ip("-n", self.space(host), "address", "add", f"{address}/24", "dev", "eth0")

    def space(self, host: str) -> str:
        """The name of a host's network namespace."""
        return f"{self._name}-{host}"

    def pull(self, cable: str) -> float:
        """Pull a cable, a host's own or (``rig-far``) the one behind its switch; return when."""
        ip("-n", self.space("switch"), "link", "set", cable, "down")
        return monotonic()

    def plug(self, cable: str) -> float:
        """Put it back; return when."""
        ip("-n", self.space("switch"), "link", "set", cable, "up")
        return monotonic()

    def peers(self, host: str) -> set[str]:
        """Return the other ends of a host's TCP connections, host:port each."""
        said = ip("netns", "exec", self.space(host), "ss", "-tnH", "state", "established")
        return {line.split()[3] for line in said.splitlines()}

    def listens(self, host: str) -> set[str]:
        """Return what a host listens on for TCP connections, address:port each."""
        said = ip("netns", "exec", self.space(host), "ss", "-ltnH")
        return {line.split()[3] for line in said.splitlines()}

    def on(self, host: str, *command: str) -> list[str]:
        """Return the command that runs another on a host."""
        return ["ip", "netns", "exec", self.space(host), *command]

    def run(self, host: str, *command: str) -> Program:
        """Start a Python program on a host."""
        return Program(self.on(host, sys.executable, *command))

    def close(self) -> None:
        for host in self._made:
            ip("netns", "delete", self.space(host))


def ip(*arguments: str) -> str:
    """Run iproute2 and return what it says."""
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, check=True, text=True, timeout=10
    )
    return done.stdout


class Program:
    """A program on a host, which is asked and answers in lines of JSON."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def hear(self) -> Any:
        """Return its next line."""
        line = self._lines.get(timeout=ANSWER_S)
        assert line, f"{self._process.args!r} ended with {self._process.wait(5)}"
        return json.loads(line)

    def tell(self, do: str, **what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()

    def ask(self, do: str, **what: object) -> Any:
        """Return its answer."""
        self.tell(do, **what)
        return self.hear()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="module")
def lay_out() -> Iterator[Callable[[Mapping[str, str]], Lab]]:
    """Lays hosts out on a switch; skips the test where that is not allowed."""
    with ExitStack() as stack:

        def made(hosts: Mapping[str, str]) -> Lab:
            try:
                lab = Lab(hosts)
            except (OSError, subprocess.CalledProcessError) as error:
                why = getattr(error, "stderr", None) or str(error)
                pytest.skip(f"root and iproute2 are needed for network namespaces: {why.strip()}")
            stack.callback(lab.close)
            return lab

        yield made
