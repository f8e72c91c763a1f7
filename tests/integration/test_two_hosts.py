"""The page of ``examples/09_two_hosts``: its commands as they stand there, on hosts of our own.

What a block of the page has for its host is run on that host, a network namespace with the page's
addresses and a user's folder of its own. Lines of keys are put in as a reader would (``…``). In
place of ``ssh -L`` a program passes bytes on, from the same ports to the same ports.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import pytest

import ezgraph
from ezgraph.clock import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from tests.integration.conftest import Lab

pytestmark = pytest.mark.integration

ROOT = Path(ezgraph.__file__).parents[1]
EXAMPLE = ROOT / "examples" / "09_two_hosts"
HOSTS = {"lab": "10.0.0.5", "desk": "10.0.0.9", "stranger": "10.0.0.66"}
STAYS = ("ezgraph serve ", "python ")
"""What such commands start goes on until it is stopped."""

COMMANDS_PORT, EVENTS_PORT = 25979, 25980
RUN_S = 20.0
REVOKED_S = 2.0
_IMPATIENT = "from ezgraph.cli import main, watch; watch._SILENT_S = 1.0; main.main()"
_BLOCK = re.compile(r"^```sh (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_GIVEN_LINE = re.compile(r"'ezgraph-key (\w+) …'")
_SHOWN_LINE = re.compile(r"^ezgraph-key (\w+) .*$", re.MULTILINE)


class Said(NamedTuple):
    """What came of a command that has ended."""

    code: int
    out: str
    err: str


class Running:
    """A command that goes on, and each line it has written, with when."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=EXAMPLE,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self.lines: list[tuple[float, str]] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with self._more:
                self.lines.append((monotonic(), line.rstrip("\n")))
                self._more.notify_all()

    def find(self, text: str, *, after: float = 0.0) -> str:
        """Return the first line with ``text`` in it that came after a time; wait for it."""

        def found() -> str | None:
            return next((line for at, line in self.lines if at > after and text in line), None)

        with self._more:
            line = self._more.wait_for(found, RUN_S)
        assert line is not None, f"{text!r} is not in {self.lines!r}"
        return line

    def end(self) -> int:
        """Wait until it has ended by itself; return its exit code."""
        code = self._process.wait(RUN_S)
        self._reader.join(RUN_S)
        return code

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(RUN_S)
        self._reader.join(RUN_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Page:
    """The page, and what its commands have come to so far."""

    def __init__(self, lab: Lab, folder: Path, stack: ExitStack) -> None:
        self.lab = lab
        self._stack = stack
        self._folder = folder
        self._lines: dict[str, str] = {}
        self._sections: dict[str, list[tuple[str, str]]] = {}
        for section in (EXAMPLE / "README.md").read_text(encoding="utf-8").split("\n## "):
            self._sections[section.partition("\n")[0]] = _BLOCK.findall(section)
        self._put_on_path("ezgraph", f'exec "{sys.executable}" -m ezgraph "$@"')
        self._put_on_path("python", f'exec "{sys.executable}" "$@"')

    def _put_on_path(self, name: str, script: str) -> None:
        program = self._folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def _env(self, host: str) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("EZGRAPH_")}
        return env | {
            "XDG_CONFIG_HOME": str(self._folder / host),
            "XDG_DATA_HOME": str(self._folder / host / "data"),
            "PATH": f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "LC_ALL": "C.UTF-8",
        }

    def blocks(self, section: str) -> list[tuple[str, str]]:
        """Return the blocks of the section whose title has that in it: host and commands."""
        [found] = [blocks for title, blocks in self._sections.items() if section in title]
        return found

    def play(self, section: str, *, of: str = "") -> list[Running]:
        """Run the commands of a section, those ``of`` one host; return what goes on."""
        running = []
        for host, commands in self.blocks(section):
            if host not in HOSTS or (of and host != of):
                continue
            for command in commands.splitlines():
                if command.startswith(STAYS):
                    running.append(self.start(host, command))
                else:
                    said = self.run(host, command)
                    assert (said.code, said.err) == (0, ""), f"{host}$ {command}\n{said}"
        return running

    def run(self, host: str, command: str) -> Said:
        """Run a command on a host; note the lines of keys that it shows."""
        done = subprocess.run(
            self.lab.on(host, "sh", "-c", self._with_lines(command)),
            cwd=EXAMPLE,
            env=self._env(host),
            capture_output=True,
            encoding="utf-8",
            timeout=RUN_S,
            check=False,
        )
        self._lines |= {line[1]: line[0] for line in _SHOWN_LINE.finditer(done.stdout)}
        return Said(done.returncode, done.stdout, done.stderr)

    def start(self, host: str, command: str) -> Running:
        """Start a command that goes on, and wait for its first line."""
        words = self.lab.on(host, "sh", "-c", f"exec {self._with_lines(command)}")
        running = Running(words, self._env(host))
        self._stack.callback(running.stop)
        running.find("")
        return running

    def _with_lines(self, command: str) -> str:
        return _GIVEN_LINE.sub(lambda found: f"'{self._lines[found[1]]}'", command)


@pytest.fixture(scope="module")
def page(
    lay_out: Callable[[Mapping[str, str]], Lab], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """The page as it stands when its reader has everything running but the viewer."""
    with ExitStack() as stack:
        page = Page(lay_out(HOSTS), tmp_path_factory.mktemp("hosts"), stack)
        page.play("1. ")
        page.play("2. ")
        yield page


@pytest.fixture(scope="module")
def viewer(page: Page) -> Running:
    [viewer] = page.play("3. ")
    return viewer


def test_the_short_form_in_the_readme_is_of_the_same_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    short = re.findall(r"^(lab|desk)\$ +(.+)$", text, re.MULTILINE)
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    typed = [(host, line) for host, block in _BLOCK.findall(page) for line in block.splitlines()]

    assert short
    assert set(short) <= set(typed)


def test_the_viewer_sees_what_is_set_on_the_other_host_and_whose_key_set_it(
    viewer: Running,
) -> None:
    first, second = (viewer.find(f"'gain': {gain}") for gain in (1000.0, 2000.0))

    line = viewer.find(" set with key ")
    assert "RIG_A/AMPLIFIER" in first
    assert "RIG_A/AMPLIFIER" in second
    assert "RIG_A/AMPLIFIER" in line
    assert "set with key rig by rig.py[" in line


def test_the_key_that_only_looks_can_look_at_all_the_page_names(
    page: Page, viewer: Running
) -> None:
    log = page.run("desk", "ezgraph log --who rig")
    listed = page.run("desk", "ezgraph ls sessions")

    assert "settings/RIG_A/AMPLIFIER" in log.out
    assert "key rig" in log.out
    assert all(f"key {name}" in listed.out for name in ("rig", "anna"))


def test_the_key_that_only_looks_can_change_nothing_and_trying_stands_in_the_log(
    page: Page, viewer: Running
) -> None:
    said = page.run("desk", "ezgraph connect A B")
    stopped = page.run("desk", "ezgraph shutdown --force")
    paused = page.run("desk", "ezgraph pause")

    assert [each.code for each in (said, stopped, paused)] == [1, 1, 1]
    assert "key 'anna' (role observer) may not connect edge/A/B" in said.err
    assert "may not shutdown" in stopped.err
    edges = page.run("lab", "ezgraph ls edges")
    assert "RIG_A/RECORDER/INPUT" in edges.out
    assert "B" not in edges.out.split()
    refused = page.run("lab", "ezgraph log --key audit")
    assert "audit/anna" in refused.out


def test_the_key_of_the_rig_changes_what_is_its_own_and_nothing_else(page: Page) -> None:
    own = page.run("lab", "ezgraph connect SYNC/OUT RIG_A/SYNC/INPUT")
    other = page.run("lab", "ezgraph connect RIG_A/AMPLIFIER/SIGNAL RIG_B/INPUT")

    assert (own.code, other.code) == (0, 1)
    assert "key 'rig' (role owner:RIG_A) may not connect" in other.err


@pytest.mark.parametrize(
    ("prepare", "options", "why"),
    [
        ("", "-a 10.0.0.5:25979", "admits only clients with keys"),
        (
            "ezgraph keys new eve; ezgraph context add eve 10.0.0.5:25979 --keys eve "
            "--broker 'ezgraph-key broker …'",
            "-c eve",
            "does not admit key 'eve'",
        ),
        (
            "ezgraph keys new mallory; ezgraph keys pin 10.0.0.5:25979 --replace "
            "$(ezgraph keys export mallory)",
            "-a 10.0.0.5:25979 --keys mallory",
            "broke the connection off",
        ),
    ],
    ids=["no keys", "a key that is not admitted", "another broker's key is pinned"],
)
def test_a_stranger_gets_nothing(page: Page, prepare: str, options: str, why: str) -> None:
    assert page.run("stranger", prepare).code == 0

    said = page.run("stranger", f"ezgraph --timeout 1.5 {options} status")

    assert (said.code, said.out) == (3, "")
    assert why in said.err


def test_the_broker_listens_on_the_ports_that_the_page_lets_in_and_on_no_other(page: Page) -> None:
    rules = page.blocks("firewall")[0][1].splitlines()

    named = [set(re.findall(r"\b\d{5}\b", rule)) for rule in rules]

    assert {f"0.0.0.0:{port}" for port in named[0]} == page.lab.listens("lab")
    assert all(each == named[0] for each in named)
    told = page.run("lab", "ezgraph status").out
    assert f"10.0.0.5:{COMMANDS_PORT}, events on port {EVENTS_PORT}\n" in told


def test_through_a_tunnel_the_viewer_sees_the_same(page: Page) -> None:
    [(_, ssh)] = [block for block in page.blocks("ssh") if block[0] == "tunnel"]
    forwards = re.findall(r"-L (\d+):localhost:(\d+)", ssh)
    pairs = " ".join(f"{here}:{HOSTS['lab']}:{there}" for here, there in forwards)
    tunnel = page.start("desk", f"python {__file__} {pairs}")

    [viewer] = page.play("ssh", of="desk")

    began = monotonic()
    assert "set with key rig" in viewer.find(" set with key ", after=began)
    tunnelled = {f"127.0.0.1:{COMMANDS_PORT}", f"127.0.0.1:{EVENTS_PORT}"}
    assert page.lab.peers("desk") >= tunnelled
    tunnel.stop()
    viewer.find("what is shown may be old", after=began)
    viewer.stop()


def test_where_only_the_port_for_commands_is_let_in_watch_says_so(page: Page) -> None:
    port = COMMANDS_PORT + 1_000
    page.start("desk", f"python {__file__} {port}:{HOSTS['lab']}:{COMMANDS_PORT}")
    page.run("desk", f"ezgraph keys pin localhost:{port} 'ezgraph-key broker …'")

    watch = page.start("desk", f"python -c '{_IMPATIENT}' -a localhost:{port} --keys anna watch")

    watch.find(f"answers, but no events come from its port {EVENTS_PORT}")


def test_whose_key_is_revoked_is_cut_off_at_once_and_comes_back_when_it_is_trusted_again(
    page: Page, viewer: Running
) -> None:
    viewer.find(" set with key ")
    began = monotonic()

    page.play("leaves")

    revoked = monotonic()
    assert viewer.end() == 1
    shown = [at for at, line in viewer.lines if at > began and " set with key " in line]
    assert all(at < revoked + REVOKED_S for at in shown)
    assert "does not admit key 'anna'" in viewer.lines[-1][1]
    refused = page.run("desk", "ezgraph status")
    assert (refused.code, refused.out) == (3, "")
    assert "key anna" in page.run("lab", "ezgraph log --who anna").out

    page.run("lab", "ezgraph keys trust 'ezgraph-key anna …' --role observer --again")
    patience = Deadline(RUN_S)
    while page.run("desk", "ezgraph --timeout 1 status").code != 0:
        assert patience.left() > 0


# --- in place of ssh -L ---


async def forward(pairs: list[str]) -> None:
    """Listen on the first port of each ``PORT:HOST:PORT``, on loopback, and pass bytes on."""
    for pair in pairs:
        here, host, there = pair.split(":")
        await asyncio.start_server(_to(host, int(there)), "127.0.0.1", int(here))
    sys.stdout.write(f"forwarding {pairs}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _to(
    host: str, port: int
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    return carry


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(forward(sys.argv[1:]))
