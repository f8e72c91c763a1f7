"""No child outlives the run: it is killed with its parent, however that ended, stopped or not."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """End this process when process ``parent``, which started it, has ended.

    On Linux the kernel does it, with SIGKILL, so that a stopped process goes too; elsewhere a
    thread that sees standard input end.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) == 0:
            if os.getppid() != parent:  # it went before we asked
                os._exit(1)
            return
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def _wait_for_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
