"""Named brokers of this user, and the key that is pinned for each address.

::

    selected = "lab"

    [contexts.lab]
    address = "lab-pc:25979,lab-spare:25979"
    key = "alice"                                # a key pair's name or file

    [brokers."lab-pc:25979"]
    public = "…"

A pin is what a client knows a broker by: who cannot prove that key is not talked to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ezgraph.config import Address, parse_address, parse_addresses
from ezgraph.errors import KeyFileError
from ezgraph.keys.fields import Fields
from ezgraph.keys.folder import changing, read_table, replace_file
from ezgraph.keys.public_key import check_name
from ezgraph.toml_text import Table, dump_toml, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_HEAD = "# Written by `ezgraph context` and `ezgraph keys pin`; comments are not kept.\n"


@dataclass(frozen=True, slots=True)
class NamedContext:
    """A broker's addresses, to be tried in turn, and which key pair is shown there."""

    name: str
    addresses: tuple[Address, ...]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Contexts:
    """All of them, which one is meant where none is named, and the pins."""

    selected: str | None = None
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    brokers: Mapping[Address, bytes] = field(default_factory=dict)

    def find(self, name: str) -> NamedContext:
        """Return the context of that name.

        Raises:
            KeyFileError: there is none.
        """
        found = self.contexts.get(name)
        if found is None:
            have = ", ".join(self.contexts) or "none yet"
            raise KeyFileError(
                f"no context is called {name[:80]!r}{nearest(name, self.contexts)} There are: "
                f"{have}. `ezgraph context add NAME HOST:PORT` makes one"
            )
        return found

    def pin_of(self, address: Address) -> bytes | None:
        """Return the key that is pinned for an address."""
        return self.brokers.get(canonical(address))


def canonical(address: Address) -> Address:
    """Return an address as it is pinned: names of hosts have no capitals."""
    return Address(address.host.lower(), address.port)


def read_contexts(path: Path) -> Contexts:
    """Return what the file says; where there is none, nothing.

    Raises:
        KeyFileError: it is malformed.
    """
    table = read_table(path)
    if table is None:
        return Contexts()
    where = repr(str(path))
    fields = Fields(table, where, ("selected", "contexts", "brokers"))
    contexts = {
        name: _context(fields, name, each, where)
        for name, each in fields.tables("contexts").items()
    }
    selected = fields.text_or_none("selected")
    if selected is not None and selected not in contexts:
        raise fields.wrong("selected", f"no context is called {selected[:80]!r}")
    brokers: dict[Address, bytes] = {}
    for name, each in fields.tables("brokers").items():
        address = _pinned_address(fields, name)
        if address in brokers:
            raise fields.wrong("brokers", f"{str(address)!r} stands there twice")
        pin = Fields(each, f"[brokers.{str(address)!r}] in {where}", ("public",))
        brokers[address] = pin.public()
    return Contexts(selected, contexts, brokers)


def _context(rooms: Fields, name: str, table: object, where: str) -> NamedContext:
    try:
        check_name(name)
    except KeyFileError as error:
        raise rooms.wrong("contexts", str(error)) from None
    fields = Fields(table, f"[contexts.{name}] in {where}", ("address", "key"))
    text = fields.text("address")
    try:
        addresses = parse_addresses(text)
    except ValueError as error:
        raise fields.wrong("address", str(error)) from error
    return NamedContext(name, addresses, fields.text_or_none("key"))


def _pinned_address(fields: Fields, text: str) -> Address:
    try:
        return canonical(parse_address(text))
    except ValueError as error:
        raise fields.wrong("brokers", str(error)) from error


# --- changing ---


def add_context(path: Path, context: NamedContext, *, public: bytes | None = None) -> None:
    """Keep a context, with the ``public`` key to know its broker by; an equal one is left.

    Raises:
        KeyFileError: another one has this name, or another key is pinned; then nothing is changed.
    """
    check_name(context.name)
    with changing(path):
        known = read_contexts(path)
        before = known.contexts.get(context.name)
        if before is not None and before != context:
            raise KeyFileError(
                f"context {context.name!r} is {_text(before.addresses)} already, with key "
                f"{before.key!r}; `ezgraph context remove {context.name}` first"
            )
        if public is not None:
            known = _pinned(known, context.addresses, public)
        _write(path, replace(known, contexts={**known.contexts, context.name: context}))


def select_context(path: Path, name: str | None) -> None:
    """Mean this context where none is named; None: none.

    Raises:
        KeyFileError: there is none of that name.
    """
    with changing(path):
        known = read_contexts(path)
        selected = None if name is None else known.find(name).name
        _write(path, replace(known, selected=selected))


def remove_context(path: Path, name: str) -> None:
    """Forget a context; pins stay.

    Raises:
        KeyFileError: there is none of that name.
    """
    with changing(path):
        known = read_contexts(path)
        known.find(name)
        left = {each: context for each, context in known.contexts.items() if each != name}
        selected = None if known.selected == name else known.selected
        _write(path, replace(known, selected=selected, contexts=left))


def pin(path: Path, addresses: Iterable[Address], public: bytes) -> None:
    """Know the broker at these addresses by its key from now on.

    Raises:
        KeyFileError: another key is pinned for one of them; then nothing is changed.
    """
    with changing(path):
        _write(path, _pinned(read_contexts(path), addresses, public))


def _pinned(known: Contexts, addresses: Iterable[Address], public: bytes) -> Contexts:
    wanted = {canonical(each): public for each in addresses}
    for address in wanted:
        before = known.brokers.get(address, public)
        if before != public:
            raise KeyFileError(
                f"another key is pinned for {address} already ({before.hex()[:16]}…, and this one "
                f"is {public.hex()[:16]}…). Either the broker was given a new key, or somebody "
                f"else answers there and wants to be taken for it, to read and change what you "
                f"send. Ask who runs the broker, not over the bus; if the key is new: `ezgraph "
                f"keys pin {address} LINE --replace`"
            )
    return replace(known, brokers={**known.brokers, **wanted})


def pin_instead(path: Path, addresses: Iterable[Address], public: bytes) -> None:
    """Know the broker at these addresses by this key, whatever it was known by before."""
    with changing(path):
        known = read_contexts(path)
        wanted = {canonical(each): public for each in addresses}
        _write(path, replace(known, brokers={**known.brokers, **wanted}))


def unpin(path: Path, addresses: Iterable[Address]) -> None:
    """Know the broker at these addresses by no key any more.

    Raises:
        KeyFileError: none is pinned for one of them; then nothing is changed.
    """
    with changing(path):
        known = read_contexts(path)
        brokers = dict(known.brokers)
        for address in map(canonical, addresses):
            if brokers.pop(address, None) is None:
                raise KeyFileError(
                    f"no key is pinned for {address}; `ezgraph keys list` and `ezgraph context "
                    f"list` show what is"
                )
        _write(path, replace(known, brokers=brokers))


def _text(addresses: Iterable[Address]) -> str:
    return ",".join(map(str, addresses))


def _write(path: Path, known: Contexts) -> None:
    contexts: dict[str, Table] = {}
    for each in known.contexts.values():
        key = {} if each.key is None else {"key": each.key}
        contexts[each.name] = {"address": _text(each.addresses), **key}
    brokers: dict[str, Table] = {
        str(address): {"public": public.hex()} for address, public in known.brokers.items()
    }
    head = {} if known.selected is None else {"selected": known.selected}
    replace_file(path, _HEAD + dump_toml({**head, "contexts": contexts, "brokers": brokers}))
