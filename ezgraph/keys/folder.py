"""The user's folder, and how files in it are read and written.

A file is replaced as a whole (written beside, synced, renamed), so a reader sees the old one or the
new one. Who reads a file to change it holds an ``flock`` on ``<file>.lock`` meanwhile.
"""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ezgraph.clock import Deadline
from ezgraph.config import CONTEXTS_FILE, config_folder
from ezgraph.errors import KeyFileError
from ezgraph.toml_text import MAX_BYTES, parse_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
LOCK_WAIT_S = 10.0
_LOOK_AGAIN_S = 0.02
_NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)  # a FIFO in place of a file would block the open
_IS_POSIX = os.name == "posix"


def pairs_folder() -> Path:
    """Return where this user's key pairs are."""
    return Path(config_folder(), "keys")


def trusted_file() -> Path:
    """Return the allow-list that is meant where none is named."""
    return Path(config_folder(), "trusted.toml")


def roles_file() -> Path:
    """Return the file of roles that is meant where none is named; it need not be there."""
    return Path(config_folder(), "roles.toml")


def contexts_file() -> Path:
    """Return where this user's named brokers are."""
    return Path(config_folder(), CONTEXTS_FILE)


# --- reading ---


def read_table(path: Path) -> dict[str, Any] | None:
    """Return what a file that need not be secret says; None: there is none.

    Raises:
        KeyFileError: it cannot be read, anybody may write it, or it is no TOML.
    """
    raw = _read(path, _check_not_writable)
    return None if raw is None else parse_toml(raw, repr(str(path)), error=KeyFileError)


def read_text(path: Path) -> str | None:
    """Return a file's text as it stands; None: there is none.

    Raises:
        KeyFileError: it cannot be read, anybody may write it, or it is no UTF-8.
    """
    raw = _read(path, _check_not_writable)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        raise KeyFileError(f"{str(path)!r} is not UTF-8 text") from None


def read_secret_table(path: Path) -> dict[str, Any] | None:
    """Return what a file says that only its owner may read; None: there is none.

    Raises:
        KeyFileError: it cannot be read, others may read it or own it, or it is no TOML.
    """
    raw = _read(path, _check_private)
    try:
        return None if raw is None else parse_toml(raw, repr(str(path)), error=KeyFileError)
    except KeyFileError:  # what is wrong may quote what should be a secret
        raise KeyFileError(
            f"{str(path)!r} is no file that `ezgraph keys new` has written: it is no valid TOML"
        ) from None


def _read(path: Path, check: Callable[[Path, os.stat_result], None]) -> bytes | None:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise KeyFileError(f"{str(path)!r} is no file but a pipe or a device")
            check(path, found)
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError(f"{str(path)!r} cannot be read: {_why(error)}") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_WAIT)


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _check_not_writable(path: Path, found: os.stat_result) -> None:
    if _IS_POSIX and found.st_mode & stat.S_IWOTH:
        raise KeyFileError(
            f"{str(path)!r} can be written by anybody on this host (mode "
            f"{stat.S_IMODE(found.st_mode):04o}), who could so let themselves in: "
            f"chmod o-w {shlex.quote(str(path))}"
        )


def _check_private(path: Path, found: os.stat_result) -> None:
    if not _IS_POSIX:
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            f"{str(path)!r} belongs to user {found.st_uid}, and you are user {os.geteuid()}: a key "
            f"that another user can replace proves nothing. Make one of your own (`ezgraph keys "
            f"new`), or have it given to you (chown)"
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(
            f"{str(path)!r} is a secret that others on this host may read or write (mode "
            f"{stat.S_IMODE(found.st_mode):04o}): chmod 600 {shlex.quote(str(path))}; if somebody "
            f"may have read it, make a new key and revoke this one"
        )


# --- writing ---


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that only this user may look into; leave one that is.

    Raises:
        KeyFileError: it cannot be made.
    """
    try:
        missing = [each for each in (folder, *folder.parents) if not os.path.exists(each)]
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"folder {str(folder)!r} cannot be made: {_why(error)}") from error


def create(path: Path, text: str, *, mode: int) -> None:
    """Write a file that is not there yet.

    Raises:
        FileExistsError: it is.
        KeyFileError: it cannot be written.
    """
    make_folder(path.parent)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{str(path)!r} cannot be written: {_why(error)}") from error
    try:
        _fill(fd, text, mode)
        _sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyFileError(f"{str(path)!r} cannot be written: {_why(error)}") from error


def replace_file(path: Path, text: str, *, mode: int = SECRET_MODE) -> None:
    """Write a file as a whole; one that is there keeps its mode and its owner.

    Raises:
        KeyFileError: it cannot be written; the old one is as it was.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    make_folder(target.parent)
    try:
        fd, beside = tempfile.mkstemp(prefix=".", suffix=".new", dir=target.parent)
        try:
            _fill(fd, text, mode, like=target)
            os.replace(beside, target)
        except BaseException:
            os.unlink(beside)
            raise
        _sync_folder(target.parent)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{str(path)!r} cannot be written: {_why(error)}") from error


def _fill(fd: int, text: str, mode: int, *, like: Path | None = None) -> None:
    """Write and sync an empty file, and close it; its mode does not depend on the umask."""
    with open(fd, "w", encoding="utf-8", newline="\n") as file:
        if _IS_POSIX:
            os.fchmod(fd, mode)
            with suppress(FileNotFoundError):
                _take_after(fd, like)
        file.write(text)
        file.flush()
        os.fsync(fd)


def _take_after(fd: int, like: Path | None) -> None:
    if like is None:
        return
    before, ours = like.stat(), os.fstat(fd)
    if (before.st_uid, before.st_gid) != (ours.st_uid, ours.st_gid):
        os.fchown(fd, before.st_uid, before.st_gid)
    os.fchmod(fd, stat.S_IMODE(before.st_mode) & 0o777)


def _sync_folder(folder: Path) -> None:
    if not _IS_POSIX:
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold the right to change ``path``: what is read inside is still so when it is written.

    Raises:
        KeyFileError: somebody has held it for ten seconds, or no lock can be made there.
    """
    target = Path(os.path.realpath(path))
    make_folder(target.parent)
    try:
        fd = os.open(f"{target}.lock", os.O_RDWR | os.O_CREAT, SECRET_MODE)
    except (OSError, ValueError) as error:
        raise KeyFileError(
            f"{str(path)!r} cannot be changed: no lock file can be made beside it ({_why(error)})"
        ) from error
    try:
        _lock(fd, path)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: one user, who changes one thing at a time
        return
    deadline, pause = Deadline(LOCK_WAIT_S), threading.Event()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if deadline.left() <= _LOOK_AGAIN_S:
                raise KeyFileError(
                    f"{str(path)!r} is being changed by another program for {LOCK_WAIT_S:g} s now; "
                    f"see what holds '{path}.lock' (fuser), and try again"
                ) from error
            pause.wait(_LOOK_AGAIN_S)
        except OSError as error:
            raise KeyFileError(f"{str(path)!r} cannot be locked: {_why(error)}") from error
        else:
            return
