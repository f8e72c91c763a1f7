"""``ezgraph keys``, ``context`` and ``roles``: files in, files out."""

from __future__ import annotations

import json
import re
import shlex
import stat
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner
from zmq.utils import z85

from ezgraph.cli.main import app
from ezgraph.keys.folder import contexts_file, trusted_file
from ezgraph.keys.pair import read_pair
from ezgraph.keys.trusted import read_trusted

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

HOSTILE = "x\x1b[31m\n$(touch gone) `id` 'q' \"d\" --role admin é"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user's folder of its own."""
    for name in ("EZGRAPH_ADDR", "EZGRAPH_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "ezgraph"


def ezgraph(*words: str, stdin: str = "") -> Result:
    """Run one command."""
    return CliRunner().invoke(app, words, input=stdin)


def done(*words: str, stdin: str = "") -> str:
    """Run one command that has nothing to complain about; return what it says."""
    said = ezgraph(*words, stdin=stdin)
    assert (said.exit_code, said.stderr) == (0, "")
    return said.stdout


def refused(*words: str) -> str:
    """Run one command that cannot be meant; return the one line that says why."""
    said = ezgraph(*words)
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("ezgraph: ")
    return said.stderr


def listed() -> Any:
    return json.loads(done("keys", "list", "--json"))


def test_a_pair_is_made_and_its_line_can_be_trusted(folder: Path) -> None:
    line = done("keys", "new", "alice", "--comment", HOSTILE)

    assert line == done("keys", "export", "alice")
    assert stat.S_IMODE((folder / "keys" / "alice.secret").stat().st_mode) == 0o600
    said = done("keys", "trust", *shlex.split(line), "--role", "operator")
    assert "alice" in said
    assert "operator" in said
    (trusted,) = listed()["trusted"]
    assert (trusted["role"], trusted["comment"]) == ("operator", HOSTILE)


@pytest.mark.parametrize("form", ["one word", "file", "public file", "standard input"])
def test_a_key_is_given_in_several_forms(form: str, folder: Path) -> None:
    line = done("keys", "new", "alice").rstrip("\n")
    done("keys", "export", "alice", "--to", "a line")
    word = {
        "one word": line,
        "file": "a line",
        "public file": str(folder / "keys" / "alice.public"),
        "standard input": "-",
    }[form]

    done("keys", "trust", word, "--role", "owner:RIG/ARM", "--as", "al", stdin=line)

    assert read_trusted(trusted_file()).keys["al"].role == "owner:RIG/ARM"


def test_a_revoked_key_is_trusted_again_only_if_that_is_said() -> None:
    line = done("keys", "new", "alice")
    done("keys", "trust", line, "--role", "observer")
    done("keys", "revoke", "alice")

    assert "revoked as 'alice'" in refused("keys", "trust", line, "--role", "admin")
    assert [each["name"] for each in listed()["revoked"]] == ["alice"]
    done("keys", "trust", line, "--role", "admin", "--again")
    assert not listed()["revoked"]


def test_a_role_must_be_there_to_be_given(folder: Path, tmp_path: Path) -> None:
    line = done("keys", "new", "alice")
    assert "did you mean 'observer'" in refused("keys", "trust", line, "--role", "obsever")
    roles = "[roles.display]\nread = ['/']\n"
    (folder / "roles.toml").write_text(roles)
    (tmp_path / "lab.toml").write_text(roles.replace("display", "lab"))

    done("keys", "trust", line, "--role", "display")
    assert "there is no role 'lab'" in refused("keys", "trust", line, "--role", "lab")
    done("keys", "trust", line, "--role", "lab", "--roles", "lab.toml", "--trusted", "list.toml")

    assert read_trusted(tmp_path / "list.toml").keys["alice"].role == "lab"
    assert read_trusted(trusted_file()).keys["alice"].role == "display"


def test_a_pin_is_changed_only_if_that_is_said() -> None:
    one, other = done("keys", "new", "one"), done("keys", "new", "other")
    done("keys", "pin", "lab-pc:1,127.0.0.1:1", one)

    assert "somebody else answers there" in refused("keys", "pin", "lab-pc:1", other)
    assert "somebody else" in refused("context", "add", "lab", "lab-pc:1", "--broker", other)
    assert json.loads(done("context", "list", "--json")) == []
    done("keys", "pin", "lab-pc:1", other, "--replace")

    assert read_pair("other").public.hex() in contexts_file().read_text()


def test_contexts_are_added_selected_listed_and_removed() -> None:
    line = done("keys", "new", "alice")
    done("context", "add", "lab", "lab-pc:1,127.0.0.1:2", "--keys", "alice", "--broker", line)
    done("context", "add", "home", "127.0.0.1:3", "--select")

    lab, home = json.loads(done("context", "list", "--json"))
    public = read_pair("alice").public.hex()
    assert lab == {
        "name": "lab",
        "selected": False,
        "addresses": ["lab-pc:1", "127.0.0.1:2"],
        "keys": "alice",
        "brokers": {"lab-pc:1": public, "127.0.0.1:2": public},
    }
    assert (home["selected"], home["brokers"]) == (True, {"127.0.0.1:3": None})
    assert re.search(r"^home +\* +127\.0\.0\.1:3 +- +-$", done("context", "list"), re.MULTILINE)
    done("context", "select", "lab")
    done("context", "remove", "lab")
    done("context", "select", "-")
    assert "no context is called 'lab'" in refused("context", "select", "lab")
    assert "no key pair is called 'bob'" in refused("context", "add", "a", "h:1", "--keys", "bob")


def test_the_roles_of_a_file_are_shown_and_checked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "roles.toml").write_text(
        "[roles.display]\ncomment = 'the \\u001b[31m display'\nconnect = ['edge/*/D%2F*']\n"
        '[roles.none]\ncomment = "\\u001b[31m"'
    )

    said = done("roles", "check", "roles.toml")

    assert "connect  edge/*/D%2F*" in said
    assert "grants nothing" in said
    assert all(line.isprintable() for line in said.splitlines())
    everything = json.loads(done("roles", "list", "roles.toml", "--json"))
    assert [each["name"] for each in everything] == [
        "observer",
        "operator",
        "admin",
        "owner:PREFIX",
        "display",
        "none",
    ]
    assert re.search(r"^report +/$", done("roles", "list"), re.MULTILINE)
    assert "no file of roles" in refused("roles", "check")
    (tmp_path / "roles.toml").write_text("[roles.display]\nconect = ['/']")
    assert "did you mean 'connect'" in refused("roles", "check", "roles.toml")


def test_no_secret_is_shown_by_any_command(folder: Path) -> None:
    secrets = []
    said = []
    for name in ("alice", "bob"):
        said.append(done("keys", "new", name))
        secrets.append(read_pair(name).secret)
    (folder / "keys" / "bob.secret").chmod(0o644)
    for words in (
        ["keys", "list"],
        ["keys", "list", "--json"],
        ["keys", "export", "alice"],
        ["keys", "export", "bob"],
        ["keys", "trust", str(folder / "keys" / "alice.secret"), "--role", "admin"],
        ["keys", "new", "alice"],
        ["--keys", "bob", "status"],
        ["--keys", "alice", "status"],
    ):
        told = ezgraph(*words)
        said.append(told.stdout + told.stderr + repr(told.exception))

    assert "chmod 600" in "".join(said)
    assert "is the secret part" in "".join(said)
    for secret in secrets:
        spelled = (secret.hex(), repr(secret)[2:-1], b64encode(secret), z85.encode(secret))
        for each in (each.decode() if isinstance(each, bytes) else each for each in spelled):
            assert each not in "".join(said)


def test_a_pair_that_is_wrong_is_told_and_the_others_are_listed(folder: Path) -> None:
    done("keys", "new", "alice")
    done("keys", "new", "bob")
    (folder / "keys" / "bob.secret").write_text("secret = 1")

    said = ezgraph("keys", "list")

    assert said.exit_code == 0
    assert re.search(r"^alice +[0-9a-f]{64}", said.stdout, re.MULTILINE)
    assert "warning: " in said.stderr
    assert "bob.secret" in said.stderr


def test_a_broker_is_not_started_at_a_context() -> None:
    assert "`ezgraph serve` is told where to listen" in refused("-c", "lab", "serve")
