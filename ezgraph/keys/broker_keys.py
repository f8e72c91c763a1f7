"""What a broker with keys is given: its own pair, and whom it admits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ezgraph.config import ClientKeys, keys_from_environment
from ezgraph.errors import KeyFileError
from ezgraph.keys.access_files import AccessFiles
from ezgraph.keys.client_keys import find_pair
from ezgraph.keys.folder import roles_file, trusted_file

if TYPE_CHECKING:
    from ezgraph.config import Address, BrokerConfig
    from ezgraph.keys.pair import KeyPair

BROKER_KEY = "broker"
"""What a broker's own pair is called where none is named."""


def open_broker_keys(config: BrokerConfig) -> tuple[KeyPair, AccessFiles]:
    """Return the broker's pair, and the allow-list and roles that it goes by.

    Raises:
        KeyFileError: there is no such pair, or it is not safe to use; or the roles' file that was
            named is not there.
    """
    pair = find_pair(config.key or BROKER_KEY)
    trusted = Path(config.trusted).expanduser() if config.trusted else trusted_file()
    roles = Path(config.roles).expanduser() if config.roles else roles_file()
    if config.roles and not roles.is_file():
        raise KeyFileError(f"there is no file of roles {str(roles)!r}; make it, or leave it out")
    return pair, AccessFiles(trusted, roles)


def keys_beside(
    config: BrokerConfig, given: str | Path | ClientKeys | None, address: Address
) -> ClientKeys | None:
    """Return what a program shows to the broker that it runs itself, whose key it knows.

    ``given`` is a key pair's name or ``.secret`` file; None: what ``EZGRAPH_KEYS`` says.

    Raises:
        KeyFileError: the broker asks for keys, and none is named; or there is no such pair.
    """
    if not config.asks_for_keys:
        return None
    given = keys_from_environment() if given is None else given
    if given is None:
        raise KeyFileError(
            f"the broker at {address} asks for keys, and none is named for the graph of nodes that "
            f"is to be served there; say GraphServer(root, keys=NAME), a pair that it admits"
        )
    if not isinstance(given, ClientKeys):
        pair = find_pair(given)
        given = ClientKeys(pair.name, pair.public, pair.secret)
    return replace(given, brokers={address: find_pair(config.key or BROKER_KEY).public})
