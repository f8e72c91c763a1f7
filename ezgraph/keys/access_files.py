"""What a broker goes by: its allow-list and its roles, read together and watched for changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ezgraph.errors import KeyFileError
from ezgraph.keys.roles_file import find_role, load_roles
from ezgraph.keys.trusted import read_trusted
from ezgraph.protocol.roles import Access, Identity

if TYPE_CHECKING:
    from pathlib import Path

Stamp = tuple[int, int, int, int]


class AccessFiles:
    """The two files; `changed` is cheap enough to be asked between two passes of a loop."""

    def __init__(self, trusted: Path, roles: Path | None = None) -> None:
        self.trusted = trusted
        self.roles = roles
        self._names = [os.fspath(each) for each in (trusted, roles) if each is not None]
        self._seen: list[Stamp | None] | None = None

    def __repr__(self) -> str:
        return f"<AccessFiles {' '.join(self._names)}>"

    def remark(self) -> str | None:
        """Return what to tell who starts a broker that admits nobody; None: somebody is listed.

        Raises:
            KeyFileError: the allow-list is malformed.
        """
        how = f"`ezgraph keys trust LINE --role ROLE --trusted {self.trusted}` admits a key"
        if not os.path.exists(self.trusted):
            return f"nobody is admitted yet: there is no allow-list {str(self.trusted)!r}; {how}"
        if not read_trusted(self.trusted).keys:
            return f"nobody is admitted: {str(self.trusted)!r} lists no key; {how}"
        return None

    def load(self, before: Access | None = None) -> Access:
        """Read both files; a missing allow-list admits nobody, a missing file of roles adds none.

        ``before`` is the reading in use. After an error `changed` waits for the next change, so go
        on with what is in use, and say so.

        Raises:
            KeyFileError: one is malformed, or a key has a role that there is not.
        """
        self._seen = self._stamps()  # first: what is written meanwhile is seen as a change
        custom = {}
        if self.roles is not None and os.path.exists(self.roles):
            custom = load_roles(self.roles)
        identities = []
        for each in read_trusted(self.trusted).keys.values():
            try:
                role = find_role(each.role, custom)
            except KeyFileError as error:
                raise KeyFileError(
                    f"[keys.{each.name}] in {str(self.trusted)!r}: field 'role': {error}"
                ) from error
            identities.append(Identity(each.name, each.public.hex(), role))
        return Access(identities, before=before)

    def changed(self) -> bool:
        """Return whether a file is another than at the last `load`, or there was none yet."""
        return self._stamps() != self._seen

    def _stamps(self) -> list[Stamp | None]:
        return [_stamp(each) for each in self._names]


def _stamp(name: str) -> Stamp | None:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
