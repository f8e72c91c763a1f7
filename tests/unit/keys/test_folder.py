"""The user's folder: who may read its files, and that no change is lost."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ezgraph import ConfigError
from ezgraph.config import config_folder
from ezgraph.errors import KeyFileError
from ezgraph.keys import folder as room
from ezgraph.keys.folder import changing, create, read_table, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_the_folder_is_where_xdg_says(folder: Path) -> None:
    assert Path(config_folder()) == folder


@pytest.mark.parametrize("named", ["", "relative"])
def test_else_it_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", named)
    monkeypatch.setenv("HOME", "/home/me")

    assert config_folder() == "/home/me/.config/ezgraph"
    monkeypatch.setattr("sys.platform", "darwin")
    assert config_folder() == "/home/me/Library/Application Support/ezgraph"


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)

    with pytest.raises(ConfigError, match="no home folder"):
        config_folder()


@pytest.mark.usefixtures("any_umask")
def test_modes_do_not_depend_on_the_umask(folder: Path) -> None:
    create(folder / "secret", "x", mode=0o600)
    replace_file(folder / "public", "x", mode=0o644)

    assert mode_of(folder / "secret") == 0o600
    assert mode_of(folder / "public") == 0o644
    assert mode_of(folder) == 0o700


def test_a_file_keeps_its_mode_and_a_link_stays_one(folder: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target.toml", folder / "link.toml"
    replace_file(target, "old = 1")
    target.chmod(0o640)
    folder.mkdir(parents=True)
    link.symlink_to(target)

    replace_file(link, "new = 1")

    assert link.is_symlink()
    assert read_table(target) == {"new": 1}
    assert mode_of(target) == 0o640


def test_a_file_that_is_there_is_not_made_again(folder: Path) -> None:
    create(folder / "a", "first", mode=0o600)

    with pytest.raises(FileExistsError):
        create(folder / "a", "second", mode=0o600)

    assert (folder / "a").read_text() == "first"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    replace_file(folder / "a", "old = 1")
    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(KeyFileError, match="cannot be written: No space left"):
        replace_file(folder / "a", "new = 1")
    with pytest.raises(KeyFileError, match="cannot be written: No space left"):
        create(folder / "b", "new = 1", mode=0o600)

    assert read_table(folder / "a") == {"old": 1}
    assert os.listdir(folder) == ["a"]


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path, said in (
        (tmp_path / "pipe", "a pipe or a device"),
        (tmp_path, "Is a directory"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (Path("a\0b"), "cannot be read"),
    ):
        with pytest.raises(KeyFileError, match=said):
            read_table(path)


def test_a_file_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a file.toml"
    path.write_text("a = 1")
    path.chmod(0o666)

    with pytest.raises(KeyFileError, match=r"chmod o-w '.*a file\.toml'"):
        read_table(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for write in (replace_file, lambda path, text: create(path, text, mode=0o600)):
        with pytest.raises(KeyFileError, match=r"folder .* cannot be made"):
            write(tmp_path / "file" / "a" / "b", "x")


def test_who_changes_a_file_waits_for_who_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, order = tmp_path / "a.toml", list[str]()
    is_held = threading.Event()

    def change() -> None:
        with changing(path):
            is_held.set()
            threading.Event().wait(0.1)
            order.append("first")

    holder = threading.Thread(target=change)
    holder.start()
    is_held.wait(5)
    with changing(path):
        order.append("second")
    holder.join()

    assert order == ["first", "second"]


def test_waiting_for_a_lock_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOCK_WAIT_S", 0.1)

    with (
        changing(tmp_path / "a"),
        pytest.raises(KeyFileError, match=r"another program for 0\.1 s"),
        changing(tmp_path / "a"),
    ):
        pass
