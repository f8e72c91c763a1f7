"""Who may write a file: one process at a time, and only where locks can be trusted.

The lock is an ``flock`` on a side file, ``<path>.lock``, so that check and backup can still
read the file itself. The kernel drops it when its holder is gone, however that ended. The side
file stays. Its first line names the last holder; the second is a note from it to the next one.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ezgraph.errors import JournalError, JournalLockedError

_NETWORK_FILE_SYSTEM = re.compile(
    r"(fuse\.)?(afs|beegfs|ceph|cifs|davfs|glusterfs|gpfs|lustre|ncpfs|nfs|nfs4|orangefs|panfs"
    r"|rclone|s3fs|smb2|smb3|smbfs|sshfs)"
)
_NOTE_AT = 64  # bytes; the line before it is padded
_held: set[int] = set()


class FileLock:
    """The exclusive right to write ``path``, until `release` or the end of this process."""

    def __init__(self, path: Path) -> None:
        """Take the lock, or raise `JournalLockedError` with the holder's process id."""
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

    def leave_note(self, note: str) -> None:
        """Leave one line for the next holder, in place of the one before; it is not synced."""
        os.pwrite(self._fd, f"{note}\n".encode(), _NOTE_AT)

    def release(self) -> None:
        """Let others have it. Releasing twice does nothing."""
        if self._fd in _held:
            _held.remove(self._fd)
            os.close(self._fd)

    def _take(self) -> None:
        import fcntl  # not on Windows: brokers do not run there, but `import ezgraph` must

        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalLockedError(
                f"{str(self.path)!r} is held by {self._holder()}: a journal has "
                f"one broker. Stop that one, or give this one a journal of its own"
            ) from error
        except OSError as error:
            raise JournalError(
                f"{str(self.path)!r} cannot be locked ({error.strerror}): its file system has no "
                f"flock; keep the journal on a local disk"
            ) from error
        self.found_note = self._line(_NOTE_AT)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(self._fd, f"{os.getpid()} {since}".ljust(_NOTE_AT - 1).encode() + b"\n", 0)

    def _line(self, at: int) -> str:
        return os.pread(self._fd, 1000, at).decode(errors="replace").partition("\n")[0]

    def _holder(self) -> str:
        pid, _, since = self._line(0).strip().partition(" ")
        whose = "this process, " if pid == str(os.getpid()) else ""
        return f"{whose}process {pid or '(unknown)'}, since {since or 'just now'}"


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
