"""Where identities come from; everything else asks an `IdSource`."""

from __future__ import annotations

import secrets
import uuid
from typing import Protocol


class IdSource(Protocol):
    """Makes identities that nobody has had before."""

    def session_id(self) -> str:
        """Return a new session id."""
        ...

    def process_id(self) -> uuid.UUID:
        """Return a new process id."""
        ...

    def node_uid(self) -> str:
        """Return a new uid of a data node."""
        ...


class RandomIds:
    """Identities from the operating system's random numbers."""

    def session_id(self) -> str:
        """Return 16 hexadecimal digits."""
        return secrets.token_hex(8)

    def process_id(self) -> uuid.UUID:
        """Return a random UUID."""
        return uuid.uuid4()  # noqa: TID251 - the one place that may ask

    def node_uid(self) -> str:
        """Return the text of a random UUID."""
        return str(self.process_id())
