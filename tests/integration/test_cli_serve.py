"""``ezgraph serve`` as a process: where it listens, how it ends, and what stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import EzGraphError, GraphServer, sync
from ezgraph.backends.base import Backend
from ezgraph.config import ClientKeys, parse_address
from ezgraph.keys.pair import make_pair
from ezgraph.keys.trusted import trust

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ezgraph.keys.pair import KeyPair

pytestmark = pytest.mark.integration

WAIT_S = 30.0
SERVE = "import sys; from ezgraph.cli.main import main; sys.exit(main())"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "EZGRAPH_ADDR"}
    folders = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    return {**kept, **folders}


@contextmanager
def _serve(
    environment: dict[str, str], *words: str, before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Run ``ezgraph serve``; ``before`` is Python to run first in its process."""
    command = [sys.executable, "-c", f"{before}\n{SERVE}", "serve", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _ready(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)


def _connect_many(service: sync.GraphService, edges: int) -> None:
    for number in range(edges):
        service.connect(f"{number} {'x' * 3_000}", "sink", timeout=5.0)


def _fails(environment: dict[str, str], *words: str) -> tuple[int, str]:
    """Return the exit code and the last line of a broker that cannot start."""
    with _serve(environment, *words) as process:
        said, complaint = process.communicate(timeout=WAIT_S)
    assert said == ""
    assert "Traceback" not in complaint
    return process.returncode, complaint.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_checkpoint_and_exit_code_0(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    journal = tmp_path / "rig.db"
    words = ["--address", "127.0.0.1:0", "--backend", str(journal), "--json"]
    with _serve(environment, *words) as process:
        address = _ready(process)["address"]
        with sync.GraphContext(address) as ctx:
            ctx.connect("a", "b")
            sync.GraphService(address).connect("c", "d")

            process.send_signal(number)
            code = process.wait(WAIT_S)
            assert process.stderr is not None
            assert process.stderr.read() == ""

    assert code == 0
    with Backend.from_url(f"sqlite:///{journal}").connect() as connection:
        kept = connection.open_journal()
        assert kept.head == 3
        assert kept.checkpoint_seq == kept.head


def test_without_options_it_keeps_a_durable_journal_and_says_where(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with _serve(environment, "--address", "127.0.0.1:0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        remark = process.communicate(timeout=WAIT_S)[1]

    journal = tmp_path / "data" / "ezgraph" / "bus-any-port.db"
    assert f"journal {journal} (full), seq 0, epoch 1, no keys" in line
    assert remark == (
        "no keys: every user of this host may command it (--require-keys asks for keys)\n"
    )
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert journal.is_file()


def test_what_it_kept_is_there_again_at_the_next_start(environment: dict[str, str]) -> None:
    with _serve(environment, "-a", "127.0.0.1:0", "--json") as process:
        sync.GraphService(_ready(process)["address"]).connect("a", "b")
        process.terminate()
        process.wait(WAIT_S)

    with _serve(environment, "-a", "127.0.0.1:0", "--json") as process:
        said = _ready(process)
        edges = sync.GraphService(said["address"]).dag().edge_owners
        process.terminate()
        process.wait(WAIT_S)

    assert (said["seq"], list(edges)) == (1, [("a", "b")])


def test_a_file_configures_it_and_options_win(environment: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "rig.toml"
    config.write_text(f'address = "127.0.0.1:0"\nbackend = "{tmp_path}/a.db"\nttl_s = 2.5\n')
    words = ["--config", str(config), "--durability", "normal", "--ttl", "3.5", "--json"]

    with _serve(environment, *words) as process:
        said = _ready(process)
        with sync.GraphContext(said["address"]) as ctx:
            ttl_s = ctx.clients()[0].ttl_s
        process.terminate()
        process.wait(WAIT_S)

    assert (said["journal"], said["durability"]) == (f"{tmp_path}/a.db", "normal")
    assert ttl_s == 3.5


def test_a_taken_port_is_exit_code_4(environment: dict[str, str]) -> None:
    with GraphServer() as other:
        address = other.address
        code, line = _fails(environment, "-a", str(address), "--backend", "memory")

    assert code == 4
    assert f"ezgraph: somebody listens on {address} already" in line


def test_a_journal_of_another_broker_is_exit_code_4(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with GraphServer(backend=f"sqlite:///{tmp_path}/rig.db"):
        words = ["-a", "127.0.0.1:0", "--backend", f"{tmp_path}/rig.db"]
        code, line = _fails(environment, *words)

    assert code == 4
    assert f"{tmp_path}/rig.db" in line


def test_a_place_outside_loopback_needs_insecure(environment: dict[str, str]) -> None:
    code, line = _fails(environment, "-a", "0.0.0.0:0", "--backend", "memory")

    assert code == 2
    assert "--insecure" in line


def test_an_insecure_broker_says_so_at_every_start(environment: dict[str, str]) -> None:
    words = ["-a", "0.0.0.0:0", "--insecure", "--backend", "memory", "--json"]
    with _serve(environment, *words) as process:
        said = _ready(process)
        process.terminate()
        warning = process.communicate(timeout=WAIT_S)[1]

    assert (said["insecure"], said["keys"]) == (True, None)
    assert "WARNING" in warning
    assert "whoever reaches this broker may command it" in warning
    assert warning.count("\n") == 1


@pytest.mark.parametrize("words", [["--require-keys"], ["--trusted", "nobody.toml"]])
def test_keys_that_are_asked_for_and_not_there_are_exit_code_2(
    environment: dict[str, str], words: list[str]
) -> None:
    code, line = _fails(environment, "-a", "127.0.0.1:0", "--backend", "memory", *words)

    assert code == 2
    assert "`ezgraph keys new broker` makes one" in line


def test_insecure_and_keys_contradict_each_other(environment: dict[str, str]) -> None:
    code, line = _fails(environment, "-a", "0.0.0.0:0", "--insecure", "--require-keys")

    assert code == 2
    assert "leave one of them out" in line


@pytest.fixture
def rig_key(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> KeyPair:
    """A broker's pair of this user."""
    monkeypatch.setenv("XDG_CONFIG_HOME", environment["XDG_CONFIG_HOME"])
    return make_pair("rig", at=datetime.now(UTC))


def test_a_broker_with_keys_says_how_many_it_admits(
    environment: dict[str, str], rig_key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trusted = tmp_path / "trusted.toml"
    alice = make_pair("alice", at=datetime.now(UTC))
    trust(trusted, alice.public_key, role="operator", at=datetime.now(UTC))
    words = ["-a", "127.0.0.1:0", "--key", "rig", "--trusted", "trusted.toml", "--json"]

    with _serve(environment, *words) as process:
        said = _ready(process)
        address = parse_address(said["address"])
        keys = ClientKeys("alice", alice.public, alice.secret, {address: rig_key.public})
        with sync.GraphContext(address, keys=keys) as ctx:
            status = ctx.status()
        process.terminate()
        process.communicate(timeout=WAIT_S)

    assert (said["keys"], said["insecure"]) == (1, False)
    assert (status.keys, status.insecure) == (1, False)


def test_a_broker_that_admits_nobody_yet_says_how_to_admit_somebody(
    environment: dict[str, str], rig_key: KeyPair
) -> None:
    with _serve(environment, "-a", "127.0.0.1:0", "--key", "rig") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        remark = process.communicate(timeout=WAIT_S)[1]

    assert ", 0 keys admitted; " in line
    assert "nobody is admitted yet" in remark
    assert "ezgraph keys trust LINE --role ROLE --trusted /" in remark


def test_a_wrong_configuration_file_is_exit_code_2_and_names_the_field(
    environment: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "rig.toml"
    config.write_text("durabilty = 'full'\n")

    code, line = _fails(environment, "--config", str(config))

    assert code == 2
    assert "'durabilty'; did you mean 'durability'?" in line


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_journal_that_fails_is_exit_code_4_and_one_last_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    full = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))  # as a full disk would"
    )
    words = ["-a", "127.0.0.1:0", "--backend", f"{tmp_path}/rig.db", "--json"]

    with _serve(environment, *words, before=full) as process:
        service = sync.GraphService(_ready(process)["address"])
        with pytest.raises(EzGraphError):
            _connect_many(service, 200)
        _, complaint = process.communicate(timeout=WAIT_S)

    assert process.returncode == 4
    assert "Traceback" not in complaint
    assert complaint.splitlines()[-1].startswith("ezgraph: ")
    assert "rig.db" in complaint.splitlines()[-1]


def test_a_file_is_put_before_anybody_is_answered_and_once_for_all_starts(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "flows.json"
    file.write_text('{"active-flow": {"chunker": {"default": {"size": 1}, "fast": {}}}}')
    words = ["--backend", str(tmp_path / "rig.db"), "--import", str(file), "--json"]
    words += ["--address", "127.0.0.1:0"]

    with _serve(environment, *words) as process:
        ready = _ready(process)
        with sync.GraphContext(ready["address"]) as ctx:
            begun = list(ctx.config.scan("active-flow"))
            ctx.config.delete("active-flow", "chunker:fast")
        process.terminate()
        process.wait(WAIT_S)
    with _serve(environment, *words) as process:
        with sync.GraphContext(_ready(process)["address"]) as ctx:
            again = ctx.config.keys("active-flow")
        process.terminate()
        process.wait(WAIT_S)

    assert [(each.key_text, each.seq) for each in begun] == [
        ("chunker:default", 1),
        ("chunker:fast", 2),
    ]
    assert ready["seq"] == 3
    assert again == [("chunker", "default")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"t": {"a:b": 1}, "t": {}}', "flows.json cannot be read: the name 't' is there 2 times"),
        (
            '{"ezgraph_config": 1, "values": {"t": {"a": 5}}, "schemas": {"t": {"type": "null"}}}',
            "5 is not of type 'null'",
        ),
    ],
)
def test_a_file_that_cannot_be_put_keeps_a_broker_from_starting_and_nothing_of_it_stays(
    environment: dict[str, str], tmp_path: Path, text: str, why: str
) -> None:
    file, journal = tmp_path / "flows.json", tmp_path / "rig.db"
    file.write_text(text)
    words = ["--backend", str(journal), "--import", str(file), "--address", "127.0.0.1:0"]

    code, complaint = _fails(environment, *words)

    assert (code, why in complaint) == (2, True), complaint
    if journal.exists():
        with Backend.from_url(f"sqlite:///{journal}").connect() as connection:
            assert connection.open_journal().head == 0
