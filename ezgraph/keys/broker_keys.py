"""What a broker with keys is given: its own pair, and whom it admits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ezgraph.errors import KeyFileError
from ezgraph.keys.access_files import AccessFiles
from ezgraph.keys.client_keys import find_pair
from ezgraph.keys.folder import roles_file, trusted_file

if TYPE_CHECKING:
    from ezgraph.config import BrokerConfig
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
