"""Addresses and options: what is accepted, and what the refusal says."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ezgraph.config import (
    ADDRESS_VARIABLE,
    Address,
    BrokerConfig,
    Limits,
    address_from_environment,
    default_addresses,
    is_loopback,
    parse_address,
    parse_addresses,
    resolve_loopback,
)
from ezgraph.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:25979", Address("127.0.0.1", 25979)),
        ("rig-1.lab:1", Address("rig-1.lab", 1)),
        ("tcp://localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        (("host", 7), Address("host", 7)),
        (Address("host", 7), Address("host", 7)),
        (["host", 7], Address("host", 7)),
    ],
)
def test_an_address_is_read_from_text_or_a_pair(given: Any, expected: Address) -> None:
    assert parse_address(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "localhost",
        "localhost:",
        ":25979",
        "localhost:port",
        "localhost:-1",
        "localhost:65536",
        "localhost:25 979",
        ("host",),
        ("host", 1, 2),
        ("host", "1"),
        ("host", True),
        ("", 1),
        (b"host", 1),
        3,
        None,
    ],
)
def test_what_is_no_address_is_refused_with_what_was_given(given: object) -> None:
    with pytest.raises(ConfigError, match="address") as refused:
        parse_address(cast("Any", given))

    assert repr(given) in str(refused.value)


@pytest.mark.parametrize("text", ["127.0.0.1:25979", "rig.lab:1", "[::1]:5"])
def test_an_address_reads_as_it_was_written(text: str) -> None:
    assert str(parse_address(text)) == text
    assert parse_address(text).endpoint == f"tcp://{text}"
    assert parse_address(str(parse_address(text))) == parse_address(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a:1", (Address("a", 1),)),
        ("a:1, b:2", (Address("a", 1), Address("b", 2))),
        (("a", 1), (Address("a", 1),)),
        (Address("a", 1), (Address("a", 1),)),
        (["a:1", "b:2"], (Address("a", 1), Address("b", 2))),
        (("a:1", "b:2"), (Address("a", 1), Address("b", 2))),
        ([("a", 1), "b:2"], (Address("a", 1), Address("b", 2))),
    ],
)
def test_one_address_or_several_are_read(given: Any, expected: tuple[Address, ...]) -> None:
    assert parse_addresses(given) == expected


@pytest.mark.parametrize("given", [[], (), "", "a:1,", ["a"], [3]])
def test_an_empty_or_malformed_list_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="address"):
        parse_addresses(cast("Any", given))


def test_the_environment_names_an_address_or_the_default_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    assert address_from_environment() is None
    assert default_addresses() == (Address("127.0.0.1", 25979),)

    monkeypatch.setenv(ADDRESS_VARIABLE, "")
    assert address_from_environment() is None

    monkeypatch.setenv(ADDRESS_VARIABLE, "rig:5, spare:6")
    assert default_addresses() == (Address("rig", 5), Address("spare", 6))


@pytest.mark.parametrize(
    ("host", "numeric", "is_loopback"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.5.5.5", "127.5.5.5", True),
        ("::1", "::1", True),
        ("0.0.0.0", "0.0.0.0", False),
        ("*", "0.0.0.0", False),
        ("10.1.2.3", "10.1.2.3", False),
        ("::", "::", False),
    ],
)
def test_a_host_to_listen_on_is_loopback_or_not(host: str, numeric: str, is_loopback: bool) -> None:
    assert resolve_loopback(host) == (numeric, is_loopback)


def test_localhost_is_loopback() -> None:
    assert resolve_loopback("localhost")[1]


def test_a_host_without_an_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"host 'no\.such\.host\.invalid' cannot be resolved"):
        resolve_loopback("no.such.host.invalid")


def test_options_are_values() -> None:
    assert BrokerConfig() == BrokerConfig(limits=Limits())
    assert hash(BrokerConfig()) == hash(BrokerConfig())
    with pytest.raises(AttributeError):
        BrokerConfig().ttl_s = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("lab", False),
        ("fe80::1%eth0", False),
    ],
)
def test_a_host_is_loopback_by_what_is_written(host: str, wanted: bool) -> None:
    assert is_loopback(host) is wanted
