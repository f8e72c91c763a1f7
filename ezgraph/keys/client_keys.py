"""What a client is told in a word or two (a key's name, ``@CONTEXT``), and what that comes to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.config import (
    Address,
    ClientKeys,
    has_contexts,
    is_loopback,
    keys_from_environment,
    parse_addresses,
)
from ezgraph.errors import ConfigError, KeyFileError
from ezgraph.keys.contexts import read_contexts
from ezgraph.keys.folder import contexts_file
from ezgraph.keys.pair import KeyPair, pair_names, read_pair, read_pair_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.keys.contexts import NamedContext

CONTEXT_MARK = "@"


class Place(NamedTuple):
    """Where a broker is meant to be, and which key pair is shown there, if the context says."""

    addresses: tuple[Address, ...]
    key: str | None


def resolve_context(name: str) -> Place:
    """Return what a named context stands for.

    Raises:
        KeyFileError: there is none of that name, or the file of contexts is wrong.
    """
    return _place(read_contexts(contexts_file()).find(name))


def selected_context() -> Place | None:
    """Return what the selected context stands for; None: none is selected.

    Raises:
        KeyFileError: the file of contexts is wrong.
    """
    try:
        path = contexts_file()
    except ConfigError:  # a user without a home has selected nothing
        return None
    known = read_contexts(path)
    return None if known.selected is None else _place(known.find(known.selected))


def _place(context: NamedContext) -> Place:
    return Place(context.addresses, context.key)


def expand_addresses(text: str) -> Place:
    """Return what ``HOST:PORT[,…]`` or ``@CONTEXT`` means.

    Raises:
        ConfigError: it is neither.
        KeyFileError: there is no such context.
    """
    if text.strip().startswith(CONTEXT_MARK):
        return resolve_context(text.strip().removeprefix(CONTEXT_MARK))
    return Place(parse_addresses(text), None)


def find_keys(
    given: str | Path | ClientKeys | None, addresses: Sequence[Address]
) -> ClientKeys | None:
    """Return what a client shows to the brokers at ``addresses``, and what it knows them by.

    ``given`` is a key pair's name or ``.secret`` file; None: what ``EZGRAPH_KEYS`` says (but not to
    brokers on loopback for which no key is pinned), and if that says nothing, no keys. A name is
    looked up in the user's folder first, then as a file.

    Raises:
        KeyFileError: there is no such pair, it is not safe to use, or no key is pinned for one of
            the addresses; or a key is pinned for one, and none to be shown there.
    """
    if not isinstance(given, ClientKeys):
        if given is None:
            given = keys_from_environment()
            if given is None:
                if has_contexts():
                    _refuse_in_the_clear(addresses)
                return None
            if _is_own_and_unknown(addresses):
                return None
        pair = find_pair(given)
        given = ClientKeys(pair.name, pair.public, pair.secret)
    return replace(given, brokers=_pins(given, addresses))


def _refuse_in_the_clear(addresses: Sequence[Address]) -> None:
    """Refuse to talk without keys where a broker with keys is known to be: it would be another."""
    known = read_contexts(contexts_file())
    for address in addresses:
        if known.pin_of(address) is not None:
            raise KeyFileError(
                f"the broker at {address} is known to have a key (one is pinned for it), and none "
                f"is named to show there: who answers without one is somebody else. Name yours "
                f"with keys=, --keys or EZGRAPH_KEYS; if there is a broker without keys now, say "
                f"`ezgraph keys unpin {address}`"
            )


def _is_own_and_unknown(addresses: Sequence[Address]) -> bool:
    """Return whether only brokers of this very host are meant, none of which has a key pinned.

    What the environment names for brokers elsewhere then does not stand in their way.
    """
    known = read_contexts(contexts_file())
    return all(is_loopback(each.host) and known.pin_of(each) is None for each in addresses)


def find_pair(given: str | Path) -> KeyPair:
    """Return the key pair that a name or a file means.

    Raises:
        KeyFileError: there is none, or it is not safe to use.
    """
    if isinstance(given, str) and (given in pair_names() or not _is_file(given)):
        return read_pair(given)
    return read_pair_file(Path(given).expanduser())


def _is_file(given: str) -> bool:
    parts = {os.sep, os.altsep or os.sep}
    return any(each in given for each in parts) or Path(given).is_file()


def _pins(given: ClientKeys, addresses: Sequence[Address]) -> dict[Address, bytes]:
    known = read_contexts(contexts_file())
    pins = dict(given.brokers)
    for address in addresses:
        public = pins.get(address) or known.pin_of(address)
        if public is None:
            raise KeyFileError(
                f"no key is pinned for the broker at {address}, so it could not be told from "
                f"somebody who only answers there. Have its line given to you (`ezgraph keys "
                f"export NAME` where it runs prints it), and say once: ezgraph keys pin {address} "
                f"'LINE'"
            )
        pins[address] = public
    return pins
