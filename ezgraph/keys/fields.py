"""The fields of a table in a file, taken one by one and checked. No value is ever shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ezgraph.errors import KeyFileError
from ezgraph.keys.public_key import check_comment, parse_public
from ezgraph.toml_text import unknown_field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_KINDS: dict[type, str] = {
    str: "text in quotes",
    list: "a list of texts, such as ['a', 'b']",
    dict: "a table",
    datetime: "a time with its zone, such as 2026-01-31T12:00:00Z",
}


class Fields:
    """A table of a file; ``where`` says which, for messages."""

    def __init__(self, table: Any, where: str, known: Collection[str]) -> None:  # noqa: ANN401
        """Refuse what is no table, or has more than what is ``known``."""
        if not isinstance(table, dict):
            raise KeyFileError(f"{where} should be {_KINDS[dict]}")
        for name in table:
            if name not in known:
                raise KeyFileError(unknown_field(where, name[:60], known))
        self.where = where
        self._table = table

    def __repr__(self) -> str:
        return f"<Fields of {self.where}>"

    def wrong(self, name: str, why: str) -> KeyFileError:
        """Return the error about one field."""
        return KeyFileError(f"{self.where}: field {name!r}: {why}")

    def _get(self, name: str, kind: type) -> Any:  # noqa: ANN401
        value = self._table.get(name)
        if value is not None and type(value) is not kind:
            raise self.wrong(name, f"it should be {_KINDS[kind]}")
        return value

    def _need(self, name: str, kind: type) -> Any:  # noqa: ANN401
        value = self._get(name, kind)
        if value is None:
            raise self.wrong(name, f"it is missing; it should be {_KINDS[kind]}")
        return value

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        found: str = self._need(name, str)
        return found

    def text_or_none(self, name: str) -> str | None:
        """Return a text, or None."""
        found: str | None = self._get(name, str)
        return found

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; none, if it is not there."""
        found: list[Any] = self._get(name, list) or []
        if not all(isinstance(each, str) for each in found):
            raise self.wrong(name, f"it should be {_KINDS[list]}")
        return found

    def comment(self) -> str:
        """Return the comment, which need not be there."""
        text = self.text_or_none("comment") or ""
        try:
            return check_comment(text)
        except KeyFileError as error:
            raise self.wrong("comment", str(error)) from None

    def public(self, name: str = "public") -> bytes:
        """Return a public key."""
        text = self.text(name)
        try:
            return parse_public(text)
        except KeyFileError as error:
            raise self.wrong(name, str(error)) from None

    def moment(self, name: str) -> datetime:
        """Return a moment, in UTC."""
        found: datetime = self._need(name, datetime)
        try:
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except OverflowError:
            pass
        raise self.wrong(name, f"it should be {_KINDS[datetime]}")

    def tables(self, name: str) -> Mapping[str, Any]:
        """Return the tables below this one, by their names; none, if it is not there."""
        found: dict[str, Any] = self._get(name, dict) or {}
        return found

    def moment_or_none(self, name: str) -> datetime | None:
        """Return a moment, in UTC, or None."""
        return None if self._table.get(name) is None else self.moment(name)
