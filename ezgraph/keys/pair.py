"""Key pairs: what a client or a broker proves itself with, in two files.

``NAME.secret`` has all of it and never leaves this host; ``NAME.public`` is what others are given.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ezgraph.errors import KeyFileError
from ezgraph.keys.curve import new_pair, public_of
from ezgraph.keys.fields import Fields
from ezgraph.keys.folder import (
    PUBLIC_MODE,
    SECRET_MODE,
    changing,
    create,
    pairs_folder,
    read_secret_table,
    read_table,
    read_text,
    replace_file,
)
from ezgraph.keys.public_key import (
    LINE_MARK,
    PublicKey,
    check_comment,
    check_name,
    parse_line,
    parse_public,
)
from ezgraph.toml_text import dump_toml, nearest, parse_toml

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SECRET_SUFFIX = ".secret"  # noqa: S105 - the end of a file's name
PUBLIC_SUFFIX = ".public"
_PUBLIC_FIELDS = ("name", "public", "comment", "created")
_SECRET_FIELDS = (*_PUBLIC_FIELDS, "secret")
_HAS_SECRET = re.compile(r"^\s*[\"']?secret\b", re.MULTILINE)
_HEAD = "# A secret: whoever reads it can act as you. Give others the .public file.\n"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret, 32 bytes each. ``created`` is in UTC."""

    name: str
    public: bytes
    secret: bytes = field(repr=False)
    comment: str
    created: datetime

    @property
    def public_key(self) -> PublicKey:
        """What others may see of it."""
        return PublicKey(self.name, self.public, self.comment, self.created)


def secret_file(name: str) -> Path:
    """Return where the secret part of this user's pair ``name`` is."""
    return pairs_folder() / f"{check_name(name)}{SECRET_SUFFIX}"


def public_file(name: str) -> Path:
    """Return where the public part of this user's pair ``name`` is."""
    return pairs_folder() / f"{check_name(name)}{PUBLIC_SUFFIX}"


# --- making ---


def make_pair(name: str, *, comment: str = "", at: datetime) -> KeyPair:
    """Make a key pair and write its two files.

    Raises:
        KeyFileError: there is one of that name, or its files cannot be written.
    """
    with changing(secret_file(name)):
        return _make(name, comment, at)


def make_pair_anew(name: str, *, comment: str = "", at: datetime) -> KeyPair:
    """Make a key pair in place of one of that name, which is gone for good.

    Raises:
        KeyFileError: its files cannot be written.
    """
    secret = secret_file(name)
    with changing(secret):
        with suppress(FileNotFoundError):
            secret.unlink()
        return _make(name, comment, at)


def _make(name: str, comment: str, at: datetime) -> KeyPair:
    pair, secret = KeyPair(name, *new_pair(), check_comment(comment), at), secret_file(name)
    try:
        write_pair_file(secret, pair)
    except FileExistsError as error:
        raise KeyFileError(
            f"there is a key pair {name!r} already ({str(secret)!r}); choose another name, or give "
            f"up the old one for good with --force"
        ) from error
    replace_file(public_file(name), dump_toml(_public_fields(pair.public_key)), mode=PUBLIC_MODE)
    return pair


def write_pair_file(path: Path, pair: KeyPair) -> None:
    """Write all of a pair into a file that is not there yet.

    Raises:
        FileExistsError: it is.
        KeyFileError: it cannot be written.
    """
    create(path, _secret_text(pair), mode=SECRET_MODE)


def _public_fields(key: PublicKey) -> dict[str, str | datetime]:
    fields: dict[str, str | datetime] = {"name": key.name, "public": key.public.hex()}
    if key.comment:
        fields["comment"] = key.comment
    if key.created is not None:
        fields["created"] = key.created
    return fields


def _secret_text(pair: KeyPair) -> str:
    fields = {**_public_fields(pair.public_key), "secret": pair.secret.hex()}
    return _HEAD + dump_toml(fields)


# --- reading ---


def pair_names() -> list[str]:
    """Return the names of this user's pairs, sorted.

    Raises:
        KeyFileError: the folder cannot be read.
    """
    try:
        found = os.listdir(pairs_folder())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyFileError(f"{str(pairs_folder())!r} cannot be read: {error.strerror}") from error
    return sorted(
        each.removesuffix(SECRET_SUFFIX) for each in found if each.endswith(SECRET_SUFFIX)
    )


def read_pair(name: str) -> KeyPair:
    """Return this user's pair of that name.

    Raises:
        KeyFileError: there is none, others may read it, or its parts do not belong together.
    """
    path = secret_file(name)
    pair = _pair_in(path)
    if pair is None:
        known = pair_names()
        have = f" There are: {', '.join(known)}." if known else ""
        raise KeyFileError(
            f"no key pair is called {name!r} in {str(path.parent)!r}{nearest(name, known)}{have} "
            f"`ezgraph keys new {name}` makes one"
        )
    if pair.name != name:
        raise KeyFileError(f"{str(path)!r}: field 'name' is {pair.name!r}; the file's name differs")
    return pair


def read_pair_file(path: Path) -> KeyPair:
    """Return the pair in a ``.secret`` file.

    Raises:
        KeyFileError: there is none, others may read it, or its parts do not belong together.
    """
    pair = _pair_in(path)
    if pair is None:
        raise KeyFileError(f"there is no key file {str(path)!r}")
    return pair


def _pair_in(path: Path) -> KeyPair | None:
    table = read_secret_table(path)
    if table is None:
        return None
    if not set(table) <= set(_SECRET_FIELDS):  # not named: it might be the secret
        raise KeyFileError(
            f"{str(path)!r} has a field that is none of {', '.join(_SECRET_FIELDS)}"
        )
    fields = Fields(table, repr(str(path)), _SECRET_FIELDS)
    if "public" in table and "secret" not in table:
        raise fields.wrong("secret", "it is missing: this is the public part of a pair only")
    key = _public_key(fields)
    secret = _secret(fields)
    pair = KeyPair(key.name, key.public, secret, key.comment, fields.moment("created"))
    if public_of(secret) != key.public:
        raise fields.wrong("public", "it does not belong to the secret key in the same file")
    _check_beside(path, pair)
    return pair


def _secret(fields: Fields) -> bytes:
    text = fields.text("secret")
    try:
        return parse_public(text)  # secrets are spelled as public keys are
    except KeyFileError:
        raise fields.wrong("secret", "it is no key of 64 hexadecimal digits") from None


def _check_beside(path: Path, pair: KeyPair) -> None:
    """Refuse a ``.public`` file beside the secret one that others would be given in vain."""
    if path.suffix != SECRET_SUFFIX:
        return
    beside = path.with_suffix(PUBLIC_SUFFIX)
    table = read_table(beside)
    if table is not None and _public_key_in(table, beside).public != pair.public:
        raise KeyFileError(
            f"{str(beside)!r}: field 'public' does not belong to the secret key in "
            f"{str(path)!r}; remove the one that is wrong"
        )


def read_public(name: str) -> PublicKey:
    """Return the public part of this user's pair ``name``, also where the secret one is not.

    Raises:
        KeyFileError: there is none, or it is wrong.
    """
    path = public_file(name)
    if os.path.exists(path) and not os.path.exists(secret_file(name)):
        return read_public_file(path)
    return read_pair(name).public_key


def read_public_file(path: Path) -> PublicKey:
    """Return the key in a ``.public`` file, or in a file with the line that is its export.

    Raises:
        KeyFileError: there is none, it is wrong, or it is the secret part.
    """
    text = read_text(path)
    if text is None:
        raise KeyFileError(f"there is no key file {str(path)!r}")
    if text.lstrip().startswith(LINE_MARK):
        return parse_line(text)
    if _HAS_SECRET.search(text):  # asked first: what is wrong with it might quote the secret
        raise KeyFileError(
            f"{str(path)!r} is the secret part of a key pair, which nobody else may see: give "
            f"others what `ezgraph keys export` prints. If it came from somebody else, that pair "
            f"is spoiled: have them make a new one"
        )
    return _public_key_in(parse_toml(text.encode(), repr(str(path)), error=KeyFileError), path)


def _public_key_in(table: dict[str, object], path: Path) -> PublicKey:
    return _public_key(Fields(table, repr(str(path)), _PUBLIC_FIELDS))


def _public_key(fields: Fields) -> PublicKey:
    try:
        name = check_name(fields.text("name"))
    except KeyFileError as error:
        raise KeyFileError(f"{fields.where}: {error}") from None
    return PublicKey(name, fields.public(), fields.comment(), fields.moment_or_none("created"))
