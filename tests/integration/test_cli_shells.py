"""TAB in real shells, on a terminal: what is in the line when it is sent off.

A shell that is not installed is skipped; bash is everywhere.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from ezgraph import (
    DynamicSettingsMetadata,
    Graph,
    GraphMetadata,
    GraphServer,
    Snapshot,
    UnitMetadata,
    sync,
)
from ezgraph.backends import SQLiteBackend
from ezgraph.clock import Deadline
from tests.integration.test_cli_settings import SCHEMA, START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal"),
]

WAIT_S = 20.0
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SHOW = {
    # In place of the program, once its completion is there: what it would have been given.
    "bash": r"""ezgraph() { printf 'GOT%s' :; printf '[%s]' "$@"; echo :END; }""",
    "zsh": r"""ezgraph() { printf 'GOT%s' :; printf '[%s]' "$@"; echo :END; }""",
    "fish": r"""function ezgraph; printf 'GOT%s' :; printf '[%s]' $argv; echo :END; end""",
}
BEFORE = {"bash": "", "zsh": "autoload -U compinit; compinit -u -D;", "fish": ""}
EVIL = [r"EVIL/1\$(touch pwned1)", "EVIL/2;touch pwned2"]
"""What zsh would run as it offers it, and what bash would run when the line is sent off."""


class Shell:
    """A shell on a terminal, in which ``ezgraph`` shows what it is given."""

    def __init__(self, name: str, home: Path, address: str) -> None:
        self.name = name
        self._home = home
        self._env = {
            "PATH": f"{home}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "EZGRAPH_ADDR": address,
            "fish_features": "no-query-term",
        }
        program = home / "ezgraph"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ezgraph "$@"\n')
        program.chmod(0o755)

    def __repr__(self) -> str:
        return f"<Shell {self.name}>"

    def script(self) -> Path:
        """The file that a user of this shell would source."""
        done = subprocess.run(
            [self._home / "ezgraph"],
            env=self._env | {"_EZGRAPH_COMPLETE": f"source_{self.name}"},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.stderr == ""
        path = self._home / "script"
        path.write_text(done.stdout)
        return path

    def given(self, *typed: str, begin: str | None = None) -> list[list[str]]:
        """Type lines, in which TABs are; return the words that the program was given each time."""
        if begin is None:
            begin = f"{BEFORE[self.name]} source {self.script()};"
        with self._terminal() as (write, read_until):
            write(f"{begin} {SHOW[self.name]}; echo READY''-NOW\n")
            read_until("READY-NOW\r?\n")
            found = []
            for line in typed:
                write(f"{line}\n")
                shown = read_until(r"GOT:(.*?):END")
                found.append(re.findall(r"\[(.*?)\]", shown))
            write("exit\n")
            return found

    @contextmanager
    def _terminal(self) -> Iterator[tuple[Callable[[str], None], Callable[[str], str]]]:
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self._home)
            os.execvpe(SHELLS[self.name][0], SHELLS[self.name], self._env)
        heard = ""

        def write(text: str) -> None:
            os.write(fd, text.encode())

        def read_until(pattern: str) -> str:
            nonlocal heard
            deadline = Deadline(WAIT_S)
            while (found := re.search(pattern, heard, re.DOTALL)) is None:
                assert select.select([fd], [], [], deadline.left())[0], f"in vain: {heard!r}"
                heard += os.read(fd, 4096).decode(errors="replace")
            heard = heard[found.end() :]
            return found[found.re.groups]

        try:
            yield write, read_until
        finally:
            with suppress(OSError):  # at its end a terminal cannot be read any more
                while select.select([fd], [], [], WAIT_S)[0] and os.read(fd, 4096):
                    pass
            os.close(fd)
            os.waitpid(pid, 0)


def unit(address: str) -> UnitMetadata:
    name = address.rpartition("/")[2]
    dynamic = DynamicSettingsMetadata(enabled=True)
    return UnitMetadata(
        address, name, "rig.F", "rig.S", (None, START), dynamic, settings_schema=SCHEMA
    )


@pytest.fixture(params=SHELLS)
def shell(
    request: pytest.FixtureRequest, server: GraphServer, tmp_path: Path
) -> Iterator[Shell]:
    """A shell, and a broker that has settings at some addresses, of good will and of bad."""
    if shutil.which(SHELLS[request.param][0]) is None:
        pytest.skip(f"{request.param} is not installed")
    metadata = GraphMetadata()
    for each in ("SYS/FILTER", "SYS/OTHER", *EVIL):
        metadata.components[each] = unit(each)
    with sync.GraphContext(server.address) as ctx:
        ctx.register_metadata(metadata)
        yield Shell(request.param, tmp_path, str(server.address))


def test_a_tab_completes_addresses_fields_and_values(shell: Shell) -> None:
    found = shell.given("ezgraph settings set SYS/F\torder=4 mo\tex\t")

    assert found == [["settings", "set", "SYS/FILTER", "order=4", "mode=exact"]]


def test_a_tab_completes_a_tag_behind_its_graph(shell: Shell, tmp_path: Path) -> None:
    journal = tmp_path / "rig.db"
    with SQLiteBackend(journal).connect() as conn:
        for name, tag in (("rig", "good"), ("rig", "old"), ("lab", "better")):
            conn.write_snapshot_tag(Snapshot(Graph(name)), tag)

    found = shell.given(f"ezgraph diff --journal {journal} rig@g\tlab@\t")

    assert found == [["diff", "--journal", str(journal), "rig@good", "lab@better"]]


def test_what_others_have_named_is_never_run(shell: Shell, tmp_path: Path) -> None:
    found = shell.given("ezgraph settings get EVIL/1\t", "ezgraph settings get EVIL/2\t")

    assert not list(tmp_path.glob("pwned*"))
    assert found == [["settings", "get", "EVIL/1"], ["settings", "get", "EVIL/2"]]


def test_the_first_tab_after_an_installation_completes(shell: Shell, tmp_path: Path) -> None:
    if shell.name != "zsh":
        pytest.skip("others load their scripts at the start")
    folder = tmp_path / ".zfunc"
    folder.mkdir()
    (folder / "_ezgraph").write_text(_installed("zsh"))

    begin = f"fpath+={folder}; autoload -Uz compinit; compinit -u -D;"

    assert shell.given("ezgraph settings get SYS/F\t", begin=begin) == [
        ["settings", "get", "SYS/FILTER"]
    ]


def _installed(shell: str) -> str:
    """What ``--install-completion`` writes down."""
    from typer._completion_shared import get_completion_script

    import ezgraph.cli.main  # noqa: F401 - it has its say

    return get_completion_script(
        prog_name="ezgraph", complete_var="_EZGRAPH_COMPLETE", shell=shell
    )
