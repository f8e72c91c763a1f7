"""How ``ezgraph serve`` is configured: files, options, and the default journal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import ConfigError
from ezgraph.cli.serve_config import broker_config, data_folder, make_room, read_file
from ezgraph.config import Address
from ezgraph.keys.pair import make_pair

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EZGRAPH_ADDR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("sys.platform", "linux")


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rig.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_every_field(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        address = "127.0.0.1:4000"
        backend = "/data/rig.db"
        durability = "normal"
        events-port = 4005
        advertise = "lab.local"
        ttl_s = 3
        insecure = true
        require_keys = true
        key = "rig"
        trusted = "/etc/rig/trusted.toml"
        roles = "/etc/rig/roles.toml"
        checkpoint_events = 10
        journal_warning_bytes = 1000
        [limits]
        max_leases = 7
        guest_ttl_s = 5
        """,
    )

    config = broker_config(read_file(path))

    assert config.address == Address("127.0.0.1", 4000)
    assert config.backend == "sqlite:////data/rig.db?synchronous=NORMAL"
    assert (config.events_port, config.advertise, config.insecure) == (4005, "lab.local", True)
    assert (config.require_keys, config.key) == (True, "rig")
    assert (config.trusted, config.roles) == ("/etc/rig/trusted.toml", "/etc/rig/roles.toml")
    assert (config.ttl_s, config.checkpoint_events, config.journal_warning_bytes) == (3.0, 10, 1000)
    assert (config.limits.max_leases, config.limits.guest_ttl_s) == (7, 5.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('adress = "x"', "unknown field 'adress'; did you mean 'address'"),
        ("ttl_s = 'six'", "ttl_s = 'six' should be a number"),
        ("insecure = 1", "insecure = 1 should be true or false"),
        ("require_keys = 'yes'", "require_keys = 'yes' should be true or false"),
        ("trusted = 1", "trusted = 1 should be text in quotes"),
        ("events_port = true", "events_port = True should be a whole number"),
        ("events_port = 4.5", "should be a whole number"),
        ("[limits]\nmax_lease = 1", "did you mean 'max_leases'"),
        ("[limits]\nmax_leases = 'x'", r"\[limits\].*max_leases = 'x' should be a whole number"),
        ("limits = 3", "should be a table"),
        ("ttl_s = 1\nttl-s = 2", "gives 'ttl_s' twice"),
        ("ttl_s =", "no valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        read_file(_file(tmp_path, text))

    assert "rig.toml" in str(refused.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read: No such file"):
        read_file(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"events_port": 70_000}, "between 0 and 65535"),
        ({"ttl_s": 0.0}, "ttl_s = 0.0 should be more than 0"),
        ({"ttl_s": float("nan")}, "ttl_s = nan"),
        ({"limits": {"max_leases": 0}}, "max_leases = 0"),
        ({"durability": "maybe"}, "none of full, normal"),
        ({"backend": "memory", "durability": "full"}, "means nothing with memory"),
        ({"backend": "sqlite:///a.db?synchronous=FULL", "durability": "normal"}, "keep one"),
        ({"backend": "etcd://host", "durability": "full"}, "for sqlite journals"),
        ({"address": "a:1,b:2"}, "names several"),
    ],
)
def test_values_out_of_range_or_in_contradiction_are_refused(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        broker_config(given)


def test_by_default_the_journal_is_a_durable_file_of_this_user_and_port(tmp_path: Path) -> None:
    config = broker_config({})

    assert config.backend == f"sqlite:///{tmp_path}/data/ezgraph/bus-25979.db"
    assert not (tmp_path / "data").exists()
    make_room(config)
    assert data_folder().is_dir()


def test_the_environment_names_the_address_unless_one_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EZGRAPH_ADDR", "127.0.0.1:4000,127.0.0.1:5000")

    assert broker_config({}).address == Address("127.0.0.1", 4000)
    assert broker_config({"address": "[::1]:7"}).address == Address("::1", 7)


@pytest.mark.parametrize(
    ("backend", "durability", "url"),
    [
        ("memory", None, "memory://"),
        ("memory://", None, "memory://"),
        ("/a dir/rig?.db", "full", "sqlite:////a%20dir/rig%3F.db"),
        ("sqlite:///a.db", None, "sqlite:///a.db"),
        ("sqlite:////a.db", "normal", "sqlite:////a.db?synchronous=NORMAL"),
    ],
)
def test_a_backend_is_a_url_a_file_or_memory(
    backend: str, durability: str | None, url: str
) -> None:
    assert broker_config({"backend": backend, "durability": durability}).backend == url


def test_a_folder_of_the_users_choice_is_not_made(tmp_path: Path) -> None:
    make_room(broker_config({"backend": str(tmp_path / "else" / "rig.db")}))

    assert not (tmp_path / "else").exists()


def test_a_data_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")

    with pytest.raises(ConfigError, match="name another place with --backend"):
        make_room(broker_config({}))


def test_relative_files_of_keys_are_made_absolute_and_names_are_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rig.secret").touch()

    files = broker_config({"key": "rig.secret", "trusted": "a.toml", "roles": "./b/c.toml"})

    assert files.key == str(tmp_path / "rig.secret")
    assert files.trusted == str(tmp_path / "a.toml")
    assert files.roles == str(tmp_path / "b" / "c.toml")
    assert broker_config({"key": "rig"}).key == "rig"
    assert broker_config({"key": "keys/rig"}).key == str(tmp_path / "keys" / "rig")


def test_a_pair_of_the_users_own_is_meant_before_a_file_of_that_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rig").touch()
    make_pair("rig", at=datetime.now(UTC))

    assert broker_config({"key": "rig"}).key == "rig"


@pytest.mark.parametrize("named", ["key", "trusted", "roles"])
def test_whoever_names_files_of_keys_asks_for_keys(named: str) -> None:
    assert broker_config({named: "some"}).asks_for_keys
    assert not broker_config({}).asks_for_keys
