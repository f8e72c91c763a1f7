"""Named brokers and pins, and what a client makes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ezgraph.config import Address, ClientKeys
from ezgraph.errors import ConfigError, KeyFileError
from ezgraph.keys.client_keys import (
    Place,
    expand_addresses,
    find_keys,
    find_pair,
    resolve_context,
    selected_context,
)
from ezgraph.keys.contexts import (
    Contexts,
    NamedContext,
    add_context,
    pin,
    pin_instead,
    read_contexts,
    remove_context,
    select_context,
    unpin,
)
from ezgraph.keys.folder import contexts_file
from ezgraph.keys.pair import KeyPair, make_pair, secret_file

if TYPE_CHECKING:
    from pathlib import Path

LAB, SPARE = Address("lab-pc", 25979), Address("::1", 7)
ONE, TWO = bytes([1] * 32), bytes([2] * 32)


@pytest.fixture
def path() -> Path:
    return contexts_file()


@pytest.fixture
def alice() -> KeyPair:
    return make_pair("alice", at=datetime(2026, 1, 31, tzinfo=UTC))


def test_contexts_and_pins_read_back_equal(path: Path) -> None:
    lab = NamedContext("lab", (LAB, SPARE), 'a "key" \n/é')
    add_context(path, lab)
    add_context(path, NamedContext("home", (LAB,)))
    select_context(path, "lab")
    pin(path, [LAB, SPARE], ONE)

    assert read_contexts(path) == Contexts(
        "lab",
        {"lab": lab, "home": NamedContext("home", (LAB,))},
        {LAB: ONE, SPARE: ONE},
    )


def test_a_context_is_not_changed_by_adding_it(path: Path) -> None:
    lab = NamedContext("lab", (LAB,))
    add_context(path, lab)
    add_context(path, lab)

    with pytest.raises(KeyFileError, match=r"'lab' is lab-pc:25979 already.*context remove lab"):
        add_context(path, NamedContext("lab", (SPARE,)))
    with pytest.raises(KeyFileError, match="is not allowed"):
        add_context(path, NamedContext("../lab", (SPARE,)))


def test_a_context_that_is_removed_is_no_longer_selected(path: Path) -> None:
    add_context(path, NamedContext("lab", (LAB,)))
    select_context(path, "lab")
    pin(path, [LAB], ONE)

    remove_context(path, "lab")

    assert read_contexts(path) == Contexts(brokers={LAB: ONE})
    with pytest.raises(KeyFileError, match="no context is called 'lab'"):
        remove_context(path, "lab")


def test_selecting_can_be_undone(path: Path) -> None:
    add_context(path, NamedContext("lab", (LAB,)))
    with pytest.raises(KeyFileError, match="did you mean 'lab'"):
        select_context(path, "lb")

    select_context(path, "lab")
    assert selected_context() == Place((LAB,), None)
    select_context(path, None)
    assert selected_context() is None


def test_a_pin_is_changed_only_if_that_is_said(path: Path) -> None:
    pin(path, [LAB], ONE)
    pin(path, [LAB], ONE)

    with pytest.raises(KeyFileError, match=r"another key is pinned .*somebody else.*--replace"):
        pin(path, [SPARE, LAB], TWO)
    assert read_contexts(path).brokers == {LAB: ONE}
    pin_instead(path, [LAB], TWO)

    assert read_contexts(path).brokers == {LAB: TWO}


def test_a_host_has_one_pin_however_it_is_spelled(path: Path) -> None:
    pin(path, [LAB], ONE)

    with pytest.raises(KeyFileError, match="another key is pinned"):
        pin(path, [Address("LAB-PC", 25979)], TWO)
    assert read_contexts(path).pin_of(Address("Lab-PC", 25979)) == ONE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("selected = 'x'", "field 'selected': no context is called 'x'"),
        ("selected = 1", "field 'selected': it should be text"),
        ("[context.lab]", "did you mean 'contexts'"),
        ("[contexts.'a/b']\naddress = 'h:1'", "'a/b' is not allowed"),
        ("[contexts.a]", "field 'address': it is missing"),
        ("[contexts.a]\naddress = 'h'", "field 'address': address 'h' is not host:port"),
        (f"[contexts.a]\naddress = 'h:{'1' * 5000}'", "field 'address'"),
        ("[contexts.a]\naddress = 'h:1'\nkeys = 'x'", "did you mean 'key'"),
        ("[brokers.h]\npublic = 'x'", "field 'brokers': address 'h'"),
        ("[brokers.'h:1']\npublic = 'x'", r"\[brokers.'h:1'\] .* field 'public': a text of 1 char"),
        (
            f"[brokers.'h:1']\npublic = '{ONE.hex()}'\n[brokers.'H:1']\npublic = '{ONE.hex()}'",
            "'h:1' stands there twice",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_field(path: Path, text: str, said: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)

    with pytest.raises(KeyFileError, match=said) as refused:
        read_contexts(path)

    assert "contexts.toml" in str(refused.value)


# --- what a client makes of them ---


def test_addresses_may_name_a_context(path: Path) -> None:
    add_context(path, NamedContext("lab", (LAB, SPARE), "alice"))

    assert expand_addresses(" @lab") == resolve_context("lab") == Place((LAB, SPARE), "alice")
    assert expand_addresses("lab-pc:25979,[::1]:7") == Place((LAB, SPARE), None)
    with pytest.raises(KeyFileError, match="no context is called 'lob'; did you mean 'lab'"):
        expand_addresses("@lob")
    with pytest.raises(ConfigError, match="not host:port"):
        expand_addresses("lab")


def test_without_a_word_there_are_no_keys() -> None:
    assert find_keys(None, [LAB]) is None


def test_keys_are_found_by_name_file_and_environment(
    path: Path, alice: KeyPair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pin(path, [LAB], ONE)
    wanted = ClientKeys("alice", alice.public, alice.secret, {Address("LAB-pc", 25979): ONE})
    dialled = [Address("LAB-pc", 25979)]
    moved = tmp_path / "elsewhere"
    moved.write_bytes(secret_file("alice").read_bytes())
    moved.chmod(0o600)

    for given in ("alice", str(moved), moved, ClientKeys("alice", alice.public, alice.secret)):
        assert find_keys(given, dialled) == wanted
    for named in ("alice", str(moved)):
        monkeypatch.setenv("EZGRAPH_KEYS", named)
        assert find_keys(None, dialled) == wanted
    monkeypatch.chdir(tmp_path)
    assert find_keys("elsewhere", dialled) == wanted


def test_a_name_in_the_folder_wins_over_a_file(
    alice: KeyPair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "alice").write_text("not mine")
    monkeypatch.chdir(tmp_path)

    assert find_pair("alice") == alice


def test_a_pin_that_is_given_needs_no_file(alice: KeyPair) -> None:
    given = ClientKeys("x", alice.public, alice.secret, {LAB: TWO})

    assert find_keys(given, [LAB]) == given


def test_a_broker_without_a_pin_is_not_dialled(path: Path, alice: KeyPair) -> None:
    pin(path, [LAB], ONE)

    with pytest.raises(KeyFileError, match=r"broker at \[::1\]:7.*keys pin \[::1\]:7 'LINE'"):
        find_keys("alice", [LAB, SPARE])


def test_a_broker_known_by_its_key_is_not_talked_to_in_the_clear(path: Path) -> None:
    pin(path, [LAB], ONE)

    with pytest.raises(KeyFileError, match=r"somebody else.*keys unpin"):
        find_keys(None, [SPARE, LAB])

    unpin(path, [LAB])
    assert find_keys(None, [SPARE, LAB]) is None
    with pytest.raises(KeyFileError, match="no key is pinned"):
        unpin(path, [LAB])


@pytest.mark.usefixtures("alice")
def test_what_the_environment_names_does_not_stand_in_the_way_of_ones_own_host(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Address("127.0.0.1", 7)
    monkeypatch.setenv("EZGRAPH_KEYS", "alice")

    assert find_keys(None, [own]) is None
    with pytest.raises(KeyFileError, match="no key is pinned"):
        find_keys("alice", [own])
    with pytest.raises(KeyFileError, match="no key is pinned"):
        find_keys(None, [own, LAB])

    pin(path, [own], ONE)
    found = find_keys(None, [own])
    assert found is not None
    assert found.brokers == {own: ONE}


@pytest.mark.parametrize(
    ("given", "said"),
    [("bob", "no key pair is called 'bob'"), ("/no/such", "no key file"), ("a b", "not allowed")],
)
def test_keys_that_are_not_there_are_told(given: str, said: str) -> None:
    with pytest.raises(KeyFileError, match=said):
        find_keys(given, [LAB])
