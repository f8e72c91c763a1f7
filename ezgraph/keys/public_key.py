"""Public keys: what they and their names are spelled like, and the one line they travel in.

The line is ``ezgraph-key NAME HEX COMMENT…``. Whatever a shell would act on is written ``%XX`` in
the comment, as in keys of the bus, so the line can be pasted as one argument, with quotes or
without.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.errors import KeyFileError
from ezgraph.protocol.key_text import escaped, unescaped
from ezgraph.protocol.roles import PUBLIC_BYTES

if TYPE_CHECKING:
    from datetime import datetime

LINE_MARK = "ezgraph-key"
MAX_COMMENT = 500
_HEX_DIGITS = 2 * PUBLIC_BYTES
_Z85_CHARACTERS = 40
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_FOR_THE_SHELL = "%'\"\\`$&|;<>()*?[]{}~!#^="
_AT_AN_EDGE = re.compile(r"^[ -]|(?<= )[ -]| $")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What others are given: a name for it, the key (32 bytes), and what its owner says of it."""

    name: str
    public: bytes
    comment: str = ""
    created: datetime | None = None

    @property
    def line(self) -> str:
        """The key in one line; its name is a proposal to those who trust it."""
        words = _AT_AN_EDGE.sub(
            lambda found: f"%{ord(found[0]):02X}", escaped(self.comment, _FOR_THE_SHELL)
        )
        return f"{LINE_MARK} {self.name} {self.public.hex()} {words}".rstrip()


def check_name(name: object, what: str = "name") -> str:
    """Return the name of a key, a role or a context, which is safe as a file's too.

    Raises:
        KeyFileError: it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise KeyFileError(
            f"{what} {_shown(name)} is not allowed: give 1 to 64 letters (a-z), digits, '.', '-' "
            f"and '_', the first a letter or a digit, and no '.' at the end"
        )
    return name


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:80]}…"


def check_comment(comment: str) -> str:
    """Return a comment that fits into a file.

    Raises:
        KeyFileError: it is too long, or has lone surrogates.
    """
    if len(comment) > MAX_COMMENT:
        raise KeyFileError(
            f"a comment of {len(comment)} characters; at most {MAX_COMMENT} are kept"
        )
    try:
        comment.encode()
    except UnicodeEncodeError as error:
        raise KeyFileError(f"comment {comment!r} cannot be written as UTF-8") from error
    return comment


def parse_public(text: str) -> bytes:
    """Return the key that 64 hexadecimal digits spell, or 40 characters of Z85.

    Raises:
        KeyFileError: the text is neither.
    """
    raw: bytes | None = None
    if len(text) == _HEX_DIGITS and text.isascii() and text.isalnum():
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = None
    elif len(text) == _Z85_CHARACTERS:
        from ezgraph.keys.curve import from_z85  # loads zmq, which few need here

        raw = from_z85(text)
    if raw is None:
        raise KeyFileError(
            f"a text of {len(text)} characters is no public key: that is {_HEX_DIGITS} hexadecimal "
            f"digits, or {_Z85_CHARACTERS} characters of Z85"
        )
    if not any(raw):
        raise KeyFileError("a public key of nothing but zeros is nobody's")
    return raw


def parse_line(line: str) -> PublicKey:
    """Return the key in a line that `PublicKey.line` gave.

    Raises:
        KeyFileError: it is no such line.
    """
    match line.strip().split(" ", 3):
        case [mark, name, public, *rest] if mark == LINE_MARK:
            comment = check_comment(unescaped(rest[0]) if rest else "")
            return PublicKey(check_name(name, "the key's name"), parse_public(public), comment)
        case _:
            raise KeyFileError(
                f"that is no public key: give the line that `ezgraph keys export NAME` prints "
                f"({LINE_MARK} NAME and {_HEX_DIGITS} digits), or a file with it"
            )
