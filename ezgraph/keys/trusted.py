"""The allow-list of a broker: whose keys are admitted, in which role, and whose never again.

::

    [keys.alice]
    public = "…"              # 64 hexadecimal digits (or 40 characters of Z85)
    role = "operator"
    comment = "Alice, room 3"
    added = 2026-01-31T12:00:00Z

    [revoked.bob]
    public = "…"
    at = 2026-01-31T12:00:00Z

One public key stands once, in one of the two tables. Where a name that is revoked has been revoked
before, with another key, the later entry is called ``NAME.2``, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from ezgraph.errors import KeyFileError
from ezgraph.keys.fields import Fields
from ezgraph.keys.folder import changing, read_table, replace_file
from ezgraph.keys.public_key import check_comment, check_name
from ezgraph.toml_text import Table, dump_toml, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from ezgraph.keys.public_key import PublicKey

T = TypeVar("T")
_HEAD = "# Written by `ezgraph keys trust` and `ezgraph keys revoke`; comments are not kept.\n"
_MAX_STEM = 56  # a revoked name with its number is still a name
_SHOWN_DIGITS = 16


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that is admitted, and as what."""

    name: str
    public: bytes
    role: str
    comment: str
    added: datetime


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A key that was admitted once, and since when it is not."""

    name: str
    public: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class AllowList:
    """All of it, by name."""

    keys: Mapping[str, TrustedKey] = field(default_factory=dict)
    revoked: Mapping[str, RevokedKey] = field(default_factory=dict)


def read_trusted(path: Path) -> AllowList:
    """Return the allow-list; where there is no file it is empty.

    Raises:
        KeyFileError: it is malformed, or a key stands twice.
    """
    table = read_table(path)
    if table is None:
        return AllowList()
    where = repr(str(path))
    rooms = Fields(table, where, ("keys", "revoked"))
    listed = AllowList(
        {
            name: _trusted(name, Fields(each, f"[keys.{name}] in {where}", _TRUSTED_FIELDS))
            for name, each in _named(rooms, "keys")
        },
        {
            name: _revoked(name, Fields(each, f"[revoked.{name}] in {where}", _REVOKED_FIELDS))
            for name, each in _named(rooms, "revoked")
        },
    )
    _check_each_once(listed, where)
    return listed


_TRUSTED_FIELDS = ("public", "role", "comment", "added")
_REVOKED_FIELDS = ("public", "at")


def _named(rooms: Fields, room: str) -> Iterable[tuple[str, object]]:
    for name, each in rooms.tables(room).items():
        try:
            yield check_name(name), each
        except KeyFileError as error:
            raise rooms.wrong(room, str(error)) from None


def _trusted(name: str, fields: Fields) -> TrustedKey:
    role = fields.text("role")
    return TrustedKey(name, fields.public(), role, fields.comment(), fields.moment("added"))


def _revoked(name: str, fields: Fields) -> RevokedKey:
    return RevokedKey(name, fields.public(), fields.moment("at"))


def _check_each_once(listed: AllowList, where: str) -> None:
    stands: dict[bytes, str] = {}
    places = [(f"[keys.{each.name}]", each.public) for each in listed.keys.values()]
    places += [(f"[revoked.{each.name}]", each.public) for each in listed.revoked.values()]
    for place, public in places:
        if public in stands:
            raise KeyFileError(
                f"{where}: field 'public' of {place} is the key of {stands[public]} too "
                f"({public.hex()[:_SHOWN_DIGITS]}…); remove one of them"
            )
        stands[public] = place


# --- changing ---


def trust(path: Path, key: PublicKey, *, role: str, at: datetime) -> TrustedKey:
    """Admit a key, or give one that is admitted another role or comment.

    Raises:
        KeyFileError: it has been revoked, stands under another name, or its name is another key's.
    """
    with changing(path):
        listed = read_trusted(path)
        for each in listed.revoked.values():
            if each.public == key.public:
                raise KeyFileError(
                    f"this key was revoked as {each.name!r} at {each.at:%Y-%m-%d %H:%M} UTC, so "
                    f"its secret may be in other hands: have a new one made (`ezgraph keys new`). "
                    f"If it was revoked by mistake, say --again"
                )
        return _admit(path, listed, key, role, at)


def trust_again(path: Path, key: PublicKey, *, role: str, at: datetime) -> TrustedKey:
    """Admit a key even if it has been revoked.

    Raises:
        KeyFileError: it stands under another name, or its name is another key's.
    """
    with changing(path):
        listed = read_trusted(path)
        revoked = {
            name: each for name, each in listed.revoked.items() if each.public != key.public
        }
        return _admit(path, AllowList(listed.keys, revoked), key, role, at)


def _admit(
    path: Path, listed: AllowList, key: PublicKey, role: str, at: datetime
) -> TrustedKey:
    check_name(key.name)
    check_comment(key.comment)
    before = listed.keys.get(key.name)
    if before is not None and before.public != key.public:
        raise KeyFileError(
            f"{key.name!r} is trusted with another key already "
            f"({before.public.hex()[:_SHOWN_DIGITS]}…): revoke that one first (`ezgraph keys "
            f"revoke {key.name}`), or give this one another name with --as"
        )
    for each in listed.keys.values():
        if each.public == key.public and each.name != key.name:
            raise KeyFileError(
                f"this key is trusted already, as {each.name!r}: use that name (--as "
                f"{each.name}), or revoke it first"
            )
    admitted = TrustedKey(
        key.name, key.public, role, key.comment, at if before is None else before.added
    )
    _write(path, AllowList({**listed.keys, key.name: admitted}, listed.revoked))
    return admitted


def revoke(path: Path, name: str, *, at: datetime) -> RevokedKey:
    """Admit a key no more, now or later.

    Raises:
        KeyFileError: nobody of that name is trusted.
    """
    with changing(path):
        listed = read_trusted(path)
        keys = dict(listed.keys)
        found = keys.pop(name, None)
        if found is None:
            raise _nobody(path, name, listed)
        gone = RevokedKey(_free(name, listed.revoked), found.public, at)
        _write(path, AllowList(keys, {**listed.revoked, gone.name: gone}))
        return gone


def _nobody(path: Path, name: str, listed: AllowList) -> KeyFileError:
    if (before := listed.revoked.get(name)) is not None:
        return KeyFileError(
            f"{name!r} was revoked already, at {before.at:%Y-%m-%d %H:%M} UTC; nothing is changed"
        )
    return KeyFileError(
        f"nobody called {name!r} is trusted in {str(path)!r}{nearest(name, listed.keys)} "
        f"`ezgraph keys list` shows who is"
    )


def _free(name: str, taken: Mapping[str, RevokedKey]) -> str:
    if name not in taken:
        return name
    return next(
        each for number in count(2) if (each := f"{name[:_MAX_STEM]}.{number}") not in taken
    )


def _write(path: Path, listed: AllowList) -> None:
    keys: dict[str, Table] = {
        each.name: {
            "public": each.public.hex(),
            "role": each.role,
            "comment": each.comment,
            "added": each.added,
        }
        for each in listed.keys.values()
    }
    revoked: dict[str, Table] = {
        each.name: {"public": each.public.hex(), "at": each.at} for each in listed.revoked.values()
    }
    replace_file(path, _HEAD + dump_toml({"keys": keys, "revoked": revoked}))
