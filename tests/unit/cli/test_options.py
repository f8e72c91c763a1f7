"""Which broker a command means, and what it shows there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from ezgraph import ConfigError
from ezgraph.cli.options import Given, target
from ezgraph.config import Address
from ezgraph.errors import KeyFileError
from ezgraph.keys.contexts import NamedContext, add_context, pin, select_context
from ezgraph.keys.folder import contexts_file
from ezgraph.keys.pair import KeyPair, make_pair

if TYPE_CHECKING:
    from pathlib import Path

    import typer

PUBLIC = bytes([1] * 32)


def at(port: int) -> Address:
    return Address("127.0.0.1", port)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EZGRAPH_ADDR", "EZGRAPH_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    for number, name in enumerate(["zero", "one", "two"]):
        add_context(contexts_file(), NamedContext(name, (at(number),)))


@pytest.fixture
def alice() -> KeyPair:
    return make_pair("alice", at=datetime(2026, 1, 31, tzinfo=UTC))


class _Command:
    """As much of Typer's context as is looked at."""

    def __init__(self, before: Given | None) -> None:
        self.obj = before


def meant(own: Given, before: Given | None = None) -> Any:
    return target(cast("typer.Context", _Command(before)), own)


def test_the_broker_meant_is_the_one_named_most_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    def port(own: Given, before: Given | None = None) -> int:
        (address,) = meant(own, before).addresses
        return int(address.port)

    assert port(Given()) == 25979
    select_context(contexts_file(), "zero")
    assert port(Given()) == 0
    monkeypatch.setenv("EZGRAPH_ADDR", "127.0.0.1:7")
    assert port(Given()) == 7
    assert port(Given(), Given(context="one")) == 1
    assert port(Given(context="two"), Given(context="one")) == 2
    assert port(Given(), Given(context="one", address="127.0.0.1:8")) == 8
    assert port(Given(context="one"), Given(address="127.0.0.1:8")) == 8
    assert port(Given(address="@zero"), Given(context="one")) == 0
    monkeypatch.setenv("EZGRAPH_ADDR", "@two")
    assert port(Given()) == 2
    with pytest.raises(KeyFileError, match="no context is called 'tow'; did you mean 'two'"):
        meant(Given(), Given(context="tow"))


def test_a_user_without_a_home_has_the_usual_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)

    assert meant(Given()).addresses == (at(25979),)
    with pytest.raises(ConfigError, match="no home folder"):
        meant(Given(keys="alice"))


def test_the_time_to_wait_may_stand_before_or_after() -> None:
    assert meant(Given(), Given(timeout_s=2.0)).timeout_s == 2.0
    assert meant(Given(timeout_s=1.0), Given(timeout_s=2.0)).timeout_s == 1.0
    assert not meant(Given()).timeout_given


def test_keys_are_those_named_else_the_contexts_else_the_environments(
    alice: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = make_pair("bob", at=alice.created)
    pin(contexts_file(), [at(8), at(9)], PUBLIC)
    add_context(contexts_file(), NamedContext("lab", (at(9),), "bob"))

    def shown(own: Given) -> bytes | None:
        keys = meant(own).keys
        return None if keys is None else keys.public

    assert shown(Given(address="127.0.0.1:7")) is None
    with pytest.raises(KeyFileError, match="known to have a key"):
        shown(Given(address="127.0.0.1:8"))
    monkeypatch.setenv("EZGRAPH_KEYS", "alice")
    assert shown(Given(address="127.0.0.1:8")) == alice.public
    assert shown(Given(context="lab")) == bob.public
    assert shown(Given(address="@lab")) == bob.public
    assert shown(Given(address="127.0.0.1:8", context="lab")) == bob.public
    assert shown(Given(context="lab", keys="alice")) == alice.public


def test_keys_are_shown_only_to_a_broker_that_is_pinned(alice: KeyPair) -> None:
    with pytest.raises(KeyFileError, match=r"no key is pinned for the broker at 127\.0\.0\.1:8"):
        meant(Given(address="127.0.0.1:8", keys="alice"))

    pin(contexts_file(), [at(8)], PUBLIC)

    assert meant(Given(address="127.0.0.1:8", keys="alice")).keys.brokers == {at(8): PUBLIC}
