"""What a client says about itself in HELLO; claimed, not proved."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import sys
from pathlib import Path

from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Hello


def hello(kind: str, *, program: str | None = None, ttl_s: float | None = None) -> Hello:
    """Return the HELLO of this process: ``kind`` is session, process or guest."""
    return Hello(
        protocol=PROTOCOL_VERSION,
        kind=kind,
        nonce=new_nonce(),
        program=program or _program(),
        host=socket.gethostname(),
        pid=os.getpid(),
        login=_login(),
        ttl_s=ttl_s,
    )


def new_nonce() -> str:
    """Return what tells this HELLO from every other one; a secret, as the token is."""
    return secrets.token_hex(16)


def _program() -> str:
    """Return the script's name; for ``python -m package`` the package's."""
    path = Path(sys.argv[0] if sys.argv and sys.argv[0] else "python")
    return path.parent.name if path.name == "__main__.py" else path.name


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
