"""Which broker a program means, and with which keys: from its arguments, else the environment."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ezgraph.config import (
    Address,
    AddressesLike,
    ClientKeys,
    address_text_from_environment,
    default_addresses,
    has_contexts,
    keys_from_environment,
    parse_addresses,
)

KeysLike = str | Path | ClientKeys
"""A key pair's name, its ``.secret`` file, or the keys themselves."""


class Broker(NamedTuple):
    """Where to look for a broker, what to show it, and whether one may be started."""

    addresses: tuple[Address, ...]
    keys: ClientKeys | None
    may_start: bool


def choose_broker(address: AddressesLike | None, keys: KeysLike | None) -> Broker:
    """Return which broker is meant.

    ``address`` may be ``@NAME``, a named context (`ezgraph context`), which also says which key is
    shown there; None: what ``EZGRAPH_ADDR`` says. ``keys`` None: the context's, else what
    ``EZGRAPH_KEYS`` says, else none.

    Raises:
        ConfigError: an address is malformed, or there is no such context or key.
    """
    given = address if address is not None else address_text_from_environment()
    if isinstance(given, str) and given.strip().startswith("@"):
        from ezgraph.keys.client_keys import expand_addresses  # files are read only where meant

        addresses, key = expand_addresses(given)
        keys = key if keys is None else keys
    else:
        addresses = default_addresses() if given is None else parse_addresses(given)
    if keys is None and keys_from_environment() is None and not has_contexts():
        return Broker(addresses, None, given is None)
    from ezgraph.keys.client_keys import find_keys

    return Broker(addresses, find_keys(keys, addresses), given is None)
