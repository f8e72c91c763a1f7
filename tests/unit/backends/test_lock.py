"""Who may write a file, and on which file systems."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ezgraph.backends import lock
from ezgraph.backends.lock import FileLock, Note
from ezgraph.errors import JournalError, JournalLockedError

ROOT = Path(lock.__file__).parents[2]
MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
40 22 0:40 / /mnt/lab rw shared:3 master:1 - nfs4 server:/lab rw,vers=4.2
41 40 8:1 / /mnt/lab/local rw - xfs /dev/sda1 rw
42 22 0:42 / /mnt/My\\040Share rw - cifs //server/share rw
43 22 0:43 / /home/me/remote rw - fuse.sshfs me@host: rw
44 22 0:44 / /srv rw - nfs server:/srv rw
45 22 8:2 / /srv rw - ext4 /dev/sdb rw
46 22 0:46 / /host rw - 9p host rw
"""
HOLD = """
import sys
from pathlib import Path
from ezgraph.backends.lock import FileLock
held = FileLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
"""
FORK = """
import os, sys
from pathlib import Path
from ezgraph.backends.lock import FileLock
held = FileLock(Path(sys.argv[1]))
if os.fork():
    os._exit(0)
print("the child lives", flush=True)
sys.stdin.readline()
"""


def started(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/rig.db", "ext4"),
        ("/rig.db", "ext4"),
        ("/mnt/lab/rig.db", "nfs4"),
        ("/mnt/lab", "nfs4"),
        ("/mnt/laboratory/rig.db", "ext4"),
        ("/mnt/lab/local/rig.db", "xfs"),
        ("/mnt/My Share/rig.db", "cifs"),
        ("/home/me/remote/a/b/rig.db", "fuse.sshfs"),
        ("/srv/rig.db", "ext4"),
        ("/host/rig.db", "9p"),
    ],
)
def test_the_mount_nearest_to_a_path_tells_its_type(path: str, kind: str) -> None:
    assert lock.mount_type(path, MOUNTS) == kind


def test_without_mounts_the_type_is_not_known() -> None:
    assert lock.mount_type("/data/rig.db", "") == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "lustre"])
def test_a_file_system_served_by_another_host_is_a_network_one(kind: str) -> None:
    assert lock.is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "9p", ""])
def test_a_local_file_system_is_none(kind: str) -> None:
    assert not lock.is_network(kind)


def test_a_network_file_system_is_refused_with_the_reason(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)

    with pytest.raises(JournalError, match=r"\(nfs4\).*flock.*local disk"):
        lock.check_local(Path("/mnt/lab/rig.db"), mountinfo=mountinfo)
    lock.check_local(Path("/data/rig.db"), mountinfo=mountinfo)
    lock.check_local(Path("/mnt/lab/rig.db"), mountinfo=tmp_path / "absent")


def test_another_process_holding_it_is_named_until_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    with started(HOLD, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(JournalLockedError, match=f"held by process {holder.pid}, since 20"):
            lock.FileLock(path)
        holder.kill()

    lock.FileLock(path).release()


def test_a_second_lock_in_this_process_is_refused(tmp_path: Path) -> None:
    held = lock.FileLock(tmp_path / "rig.db")

    with pytest.raises(JournalLockedError, match=f"this process, process {os.getpid()}"):
        lock.FileLock(tmp_path / "rig.db")

    held.release()
    held.release()
    lock.FileLock(tmp_path / "rig.db").release()


def test_the_last_note_is_found_by_anybody(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    assert lock.note_beside(path) is None
    for note in (Note("c" * 32, 1 << 60, 7), Note("d" * 32, 5, 1)):
        held = lock.FileLock(path)
        held.leave_note(note)
        assert lock.note_beside(path) == note
        held.release()
        assert lock.note_beside(path) == note


@pytest.mark.parametrize("text", ["", "torn", "a 1 2 3 4", "a b c", "\udcff", "1" * 2000])
def test_a_note_that_is_not_whole_is_none(text: str) -> None:
    assert Note.parse(text) is None


def test_no_flipped_bit_makes_another_note() -> None:
    spelled = str(Note("c" * 32, 12345, 2)).encode()
    for offset in range(len(spelled)):
        for bit in range(8):
            flipped = bytearray(spelled)
            flipped[offset] ^= 1 << bit
            assert Note.parse(flipped.decode(errors="replace")) is None


def test_a_note_of_before_the_epochs_is_of_the_first() -> None:
    text = f"{'c' * 32} {30:020d}"

    assert Note.parse(f"{text} {zlib.crc32(text.encode()):010d}") == Note("c" * 32, 30, 1)


def test_what_is_held_still_takes_no_broker_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    with lock.hold_still(path):
        assert list(tmp_path.iterdir()) == []
    held = lock.FileLock(path)
    with pytest.raises(JournalLockedError, match="held by a broker"), lock.hold_still(path):
        pass
    held.release()
    before = Path(f"{path}.lock").read_bytes()
    with lock.hold_still(path), lock.hold_still(path), pytest.raises(JournalLockedError):
        lock.FileLock(path)
    assert Path(f"{path}.lock").read_bytes() == before
    lock.FileLock(path).release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    with started(FORK, path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "the child lives\n"
        parent.wait()

        lock.FileLock(path).release()

        parent.communicate("go\n")


def test_releasing_twice_leaves_the_lock_of_another_alone(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "first.db")
    first.release()
    second = FileLock(tmp_path / "second.db")  # it gets the number that the first had

    first.release()

    with pytest.raises(JournalLockedError):
        FileLock(tmp_path / "second.db")
    second.release()
