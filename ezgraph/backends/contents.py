"""The content fingerprint of a partition that came without one."""

from __future__ import annotations

import stat
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ezgraph.errors import JournalError
from ezgraph.protocol.fingerprints import FINGERPRINT_BYTES, Fingerprint

if TYPE_CHECKING:
    from ezgraph.protocol.artifacts import Partition

_READ_BYTES = 1 << 20


def with_content_fingerprint(partition: Partition) -> Partition:
    """Return the partition with a content fingerprint: its own, if it has one.

    Else that of the bytes of the file it is in, in the domain ``ezgraph.file``; and where there is
    no such file on this host, that of key, inputs, location and size, in ``ezgraph.describe``.

    Raises:
        JournalError: there is the file, but it cannot be read.
    """
    if not partition.content_fingerprint.is_empty:
        return partition
    path = _file_at(partition.location)
    found = of_file(path) if path is not None else _described(partition)
    return replace(partition, content_fingerprint=found)


def of_file(path: Path) -> Fingerprint:
    """Return the fingerprint of a file's bytes: BLAKE2b with ``ezgraph.file`` as its person.

    Raises:
        JournalError: it cannot be read.
    """
    content = blake2b(digest_size=FINGERPRINT_BYTES, person=b"ezgraph.file")
    try:
        with path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                content.update(part)
    except OSError as error:
        raise JournalError(
            f"{str(path)!r} cannot be read ({error.strerror}) to make its content fingerprint; see "
            f"its permissions, or give the partition a content_fingerprint"
        ) from error
    return Fingerprint(content.digest())


def _file_at(location: str) -> Path | None:
    if "\0" in location or not location:
        return None
    is_url = "://" in location
    if is_url and not location.lower().startswith("file://"):
        return None
    path = Path(unquote(urlsplit(location).path) if is_url else location)
    try:
        return path if stat.S_ISREG(path.stat().st_mode) else None
    except OSError:
        return None


def _described(partition: Partition) -> Fingerprint:
    parts = (
        partition.key.text,
        partition.input_fingerprint.digest,
        partition.location,
        partition.nbytes,
    )
    return Fingerprint.of(parts, "ezgraph.describe")
