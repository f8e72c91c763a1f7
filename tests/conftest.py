"""What all tests share: Hypothesis profiles, ``--seed``, and a look at what a run leaves behind."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

THREAD_GRACE_S = 2.0
"""A thread told to stop may be on its last lines; one still there after this was forgotten."""

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        type=int,
        default=None,
        metavar="N",
        help="run the simulation tests with this seed alone, as printed by a failed one",
    )


def pytest_collection_finish() -> None:
    """Have the garbage collector not look through all tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def seed_option(pytestconfig: pytest.Config) -> int | None:
    """The seed asked for with ``--seed``, or None: the test takes its own."""
    seed = pytestconfig.getoption("--seed")
    return None if seed is None else int(seed)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the run (as an error of its last test) if it leaves threads or child processes behind.

    Session-wide and first to be set up, so it looks when every other fixture has been torn down.
    """
    threads_before = frozenset(threading.enumerate())
    children_before = _children()

    yield

    left = [
        *(f"thread {thread.name!r}" for thread in _lasting_threads(threads_before)),
        *(f"process {pid} {_command(pid)!r}" for pid in sorted(_children() - children_before)),
    ]
    if left:
        pytest.fail(
            f"the tests left behind: {', '.join(left)}; "
            f"close what started them, and wait for its end",
            pytrace=False,
        )


def _lasting_threads(before: frozenset[threading.Thread]) -> list[threading.Thread]:
    new = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in new:
        thread.join(THREAD_GRACE_S)
    return [thread for thread in new if thread.is_alive()]


def _children() -> frozenset[int]:
    """Direct children, dead ones not waited for too; none where no such list is kept (macOS)."""
    pids: set[int] = set()
    for each in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            pids.update(int(pid) for pid in each.read_text().split())
    # Started once by multiprocessing (shared memory, spawn); it ends with this interpreter.
    return frozenset(pid for pid in pids if "multiprocessing.resource_tracker" not in _command(pid))


def _command(pid: int) -> str:
    """The command line of a process; empty for one that is dead but not waited for."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()
