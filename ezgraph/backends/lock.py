"""Who may write a file: one process at a time, and only where locks can be trusted.

The lock is an ``flock`` on a side file, ``<path>.lock``, so that check and backup can still
read the file itself. The kernel drops it when its holder is gone, however that ended. The side
file stays. Its first line names the last holder; the second is a note from it to the next one:
the last seq it has acknowledged. A third, behind them, says how often the store beside the journal
was changed.

A broker holds the lock alone (`FileLock`). Those who change the store without one share it for the
length of each transaction (`SharedLock`); SQLite's own locks keep these apart from each other.
"""

from __future__ import annotations

import os
import re
import secrets
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Self

from ezgraph.errors import JournalError, JournalLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETWORK_FILE_SYSTEM = re.compile(
    r"(fuse\.)?(afs|beegfs|ceph|cifs|davfs|glusterfs|gpfs|lustre|ncpfs|nfs|nfs4|orangefs|panfs"
    r"|rclone|s3fs|smb2|smb3|smbfs|sshfs)"
)
_NOTE_AT = 64  # bytes; the line before it is padded
_STORED_NOTE_AT = 192  # a note has 80 bytes at most
_PATIENCE_S = 1.0
_PAUSE_S = 0.01
_held: set[int] = set()


@dataclass(frozen=True, slots=True)
class Note:
    """What the last holder acknowledged: ``head`` in ``epoch`` of a cluster's history."""

    cluster_id: str
    head: int
    epoch: int

    def __str__(self) -> str:
        return _with_checksum(f"{self.cluster_id} {self.head:020d} {self.epoch:010d}")

    @classmethod
    def parse(cls, line: str) -> Note | None:
        """Return the note, None if it is no whole one. One without an epoch is from before them."""
        text, _, _ = line.strip().rpartition(" ")
        match text.split():
            case [cluster_id, head, *epoch] if (
                line.strip() == _with_checksum(text)
                and all(number.isdecimal() for number in (head, *epoch))
                and len(epoch) <= 1
            ):
                return cls(cluster_id, int(head), int(*epoch) or 1)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class StoredNote:
    """That the store beside a cluster's journal was changed ``revision`` times."""

    cluster_id: str
    revision: int

    def __str__(self) -> str:
        return _with_checksum(f"stored {self.cluster_id} {self.revision:020d}")

    @classmethod
    def parse(cls, line: str) -> StoredNote | None:
        """Return the note, None if it is no whole one."""
        text, _, _ = line.strip().rpartition(" ")
        match text.split():
            case ["stored", cluster_id, revision] if (
                line.strip() == _with_checksum(text) and revision.isdecimal()
            ):
                return cls(cluster_id, int(revision))
            case _:
                return None


def _with_checksum(text: str) -> str:
    return f"{text} {zlib.crc32(text.encode()):010d}"


def note_beside(path: Path) -> Note | None:
    """Return the note in the side file of ``path``, without its lock."""
    return Note.parse(_line_beside(path, _NOTE_AT))


def stored_note_beside(path: Path) -> StoredNote | None:
    """Return the note about the store in the side file of ``path``, without its lock."""
    return StoredNote.parse(_line_beside(path, _STORED_NOTE_AT))


def _line_beside(path: Path, at: int) -> str:
    try:
        with open(f"{path}.lock", "rb") as side_file:
            side_file.seek(at)
            line = side_file.readline(1000)
    except OSError:
        return ""
    return line.decode(errors="replace").lstrip("\0")


class _SideFile:
    """The side file of ``path``, open, and a lock on it until `release` or this process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        side_file = f"{path}.lock"
        try:
            self._fd = os.open(side_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"cannot create the lock file {side_file!r} ({error.strerror}); "
                f"put the journal into a directory that this user may write"
            ) from error
        try:
            self._take()
        except BaseException:
            os.close(self._fd)
            raise
        _held.add(self._fd)
        self._is_held = True

    def _take(self) -> None:
        raise NotImplementedError

    def leave_stored_note(self, note: StoredNote) -> None:
        """Leave one line about the store, in place of the one before; it is not synced."""
        self._write(f"{note}\n", _STORED_NOTE_AT)

    def release(self) -> None:
        """Let others have it. Releasing twice does nothing."""
        if self._is_held and self._fd in _held:  # a forked child holds nothing any more
            _held.remove(self._fd)
            os.close(self._fd)
        self._is_held = False  # from now on its number may be another's

    def _locks(self, *, alone: bool) -> bool:
        """Take the lock, shared or alone; return whether that was possible now."""
        import fcntl  # not on Windows: brokers do not run there, but `import ezgraph` must

        try:
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise JournalError(
                f"{str(self.path)!r} cannot be locked ({error.strerror}): its file system has no "
                f"flock; keep the journal on a local disk"
            ) from error
        return True

    def _unlock(self) -> None:
        import fcntl

        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _write(self, line: str, at: int) -> None:
        try:
            os.pwrite(self._fd, line.encode(), at)
        except OSError as error:
            raise JournalError(
                f"cannot write the lock file '{self.path}.lock' ({error.strerror}); "
                f"see that its disk works and has room"
            ) from error

    def _holder(self) -> str:
        line = os.pread(self._fd, _NOTE_AT, 0).decode(errors="replace").partition("\n")[0]
        pid, _, since = line.strip().partition(" ")
        whose = "this process, " if pid == str(os.getpid()) else ""
        return f"{whose}process {pid or '(unknown)'}, since {since or 'just now'}"


class FileLock(_SideFile):
    """The exclusive right to write ``path``, until `release` or the end of this process."""

    def leave_note(self, note: Note) -> None:
        """Leave one line for the next holder, in place of the one before; it is not synced."""
        self._write(f"{note}\n", _NOTE_AT)

    def _take(self) -> None:
        """Take the lock, or raise `JournalLockedError` with the holder's process id.

        Those who share it do so for a moment: they are waited for.
        """
        waiting = Event()
        for _ in range(int(_PATIENCE_S / _PAUSE_S)):
            if self._locks(alone=True):
                break
            if not self._locks(alone=False):
                raise JournalLockedError(
                    f"{str(self.path)!r} is held by {self._holder()}: a journal has "
                    f"one broker. Stop that one, or give this one a journal of its own"
                )
            self._unlock()
            waiting.wait(_PAUSE_S * (1 + secrets.randbelow(100) / 100))  # not in step with others
        else:
            raise JournalLockedError(
                f"{str(self.path)!r} has been read for repair, or written by programs without a "
                f"broker, for {_PATIENCE_S:g} s on end; stop these, or try again"
            )
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(f"{os.getpid()} {since}".ljust(_NOTE_AT - 1) + "\n", 0)


class SharedLock(_SideFile):
    """The right to change the store in ``path``, with others, while no broker runs on it."""

    def _take(self) -> None:
        """Take the lock, or raise `JournalLockedError` with the broker's process id."""
        if not self._locks(alone=False):
            raise JournalLockedError(
                f"{str(self.path)!r} is held by {self._holder()}, a broker: write through that, "
                f"at its address (ezgraph://host:port), or stop it first"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@contextmanager
def hold_still(path: Path) -> Iterator[None]:
    """Keep brokers away from ``path`` without writing anything, not even the side file.

    Raises:
        JournalLockedError: one runs on it.
    """
    try:
        fd = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # nobody has ever held it
        yield
        return
    try:
        _share(fd, path)
        yield
    finally:
        os.close(fd)


def _share(fd: int, path: Path) -> None:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalLockedError(
            f"{str(path)!r} is held by a broker: stop that one first"
        ) from error


def _close_in_child() -> None:
    """Keep a forked child from holding its parent's locks beyond the parent's death."""
    for fd in _held:
        with suppress(OSError):
            os.close(fd)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def check_local(path: Path, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Raise `JournalError` when ``path`` lies on a network file system (known on Linux only)."""
    try:
        mounts = mountinfo.read_text(errors="surrogateescape")
    except OSError:
        return
    if is_network(kind := mount_type(str(path), mounts)):
        raise JournalError(
            f"{str(path)!r} lies on a network file system ({kind}), where neither flock nor "
            f"SQLite's shared WAL index can be relied on: two brokers could write one journal. "
            f"Keep it on a local disk, and copy backups to the network"
        )


def is_network(kind: str) -> bool:
    """Say whether a file system type, as the kernel names it, is served by another host."""
    return _NETWORK_FILE_SYSTEM.fullmatch(kind) is not None


def mount_type(path: str, mountinfo: str) -> str:
    """Return the type of the file system an absolute, resolved ``path`` lies on, "" if unknown.

    ``mountinfo`` is the text of ``/proc/self/mountinfo``, see proc_pid_mountinfo(5): field 5 is
    the mount point, the first field after a lone ``-`` the type. A later mount hides an earlier.
    """
    found, kind = "", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = _unescaped(before.split(" ")[4]).rstrip("/") + "/"
        if (path + "/").startswith(point) and len(point) >= len(found):
            found, kind = point, after.split(" ")[0]
    return kind


def _unescaped(field: str) -> str:
    """Undo the octal escapes for space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
