"""Keys for one run, in a folder of its own: a broker's, and those it admits.

Nothing of the user's own keys is read or written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ezgraph.config import Address, BrokerConfig, ClientKeys, parse_address
from ezgraph.keys.curve import new_pair
from ezgraph.keys.folder import replace_file
from ezgraph.keys.pair import KeyPair, read_pair_file, write_pair_file
from ezgraph.keys.trusted import trust
from ezgraph.toml_text import dump_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ezgraph.config import Limits

OPERATOR = "operator"


class Keyring:
    """A broker's key pair, its allow-list, and the pairs of its clients."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.trusted, self.roles = folder / "trusted.toml", folder / "roles.toml"
        self._broker = self._make("broker")

    def __repr__(self) -> str:
        return f"<Keyring {self._folder}>"

    def _make(self, name: str) -> KeyPair:
        pair = KeyPair(name, *new_pair(), "", datetime.now(UTC))
        write_pair_file(self.secret_file(name), pair)
        return pair

    @property
    def broker(self) -> bytes:
        """The broker's public key."""
        return self._broker.public

    def secret_file(self, name: str) -> Path:
        """Return where the pair of that name is."""
        return self._folder / f"{name}.secret"

    def add_role(self, name: str, grants: Mapping[str, Sequence[str]]) -> None:
        """Let there be a role that grants so many patterns of keys for each verb."""
        before = self.roles.read_text() if self.roles.exists() else ""
        table = {name: {verb: list(patterns) for verb, patterns in grants.items()}}
        replace_file(self.roles, before + dump_toml({"roles": table}))

    def admit(self, name: str, role: str = OPERATOR) -> None:
        """Make a key pair of that name, and have the broker admit it."""
        key = self._make(name).public_key
        trust(self.trusted, key, role=role, at=datetime.now(UTC))

    def keys(self, name: str, address: Address) -> ClientKeys:
        """Return what a client of that name shows to the broker at ``address``."""
        pair = read_pair_file(self.secret_file(name))
        return ClientKeys(name, pair.public, pair.secret, {address: self._broker.public})

    def words(self, name: str) -> tuple[str, str]:
        """Return what a child is told, so that it finds the keys of ``name`` (`shown_keys`)."""
        return str(self.secret_file(name)), self.broker.hex()

    def config(self, *, limits: Limits | None = None) -> BrokerConfig:
        """Return the configuration of a broker on a free port that goes by these keys."""
        default = BrokerConfig(address=Address("127.0.0.1", 0))
        return BrokerConfig(
            address=default.address,
            key=str(self.secret_file("broker")),
            trusted=str(self.trusted),
            roles=str(self.roles) if self.roles.exists() else None,
            limits=limits or default.limits,
        )


def shown_keys(address: str, words: Sequence[str]) -> ClientKeys | None:
    """Return, inside a child, what it was told to show at ``address``; None: nothing."""
    if not words:
        return None
    secret, broker = words
    pair = read_pair_file(Path(secret))
    pins = {parse_address(address): bytes.fromhex(broker)}
    return ClientKeys(pair.name, pair.public, pair.secret, pins)
