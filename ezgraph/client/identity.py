"""What a client says about itself in HELLO; claimed, not proved."""

from __future__ import annotations

import os
import secrets
import socket

from ezgraph.config import login_name, program_name
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Hello


def hello(kind: str, *, program: str | None = None, ttl_s: float | None = None) -> Hello:
    """Return the HELLO of this process: ``kind`` is session, process or guest."""
    return Hello(
        protocol=PROTOCOL_VERSION,
        kind=kind,
        nonce=new_nonce(),
        program=program or program_name(),
        host=socket.gethostname(),
        pid=os.getpid(),
        login=login_name(),
        ttl_s=ttl_s,
    )


def new_nonce() -> str:
    """Return what tells this HELLO from every other one; a secret, as the token is."""
    return secrets.token_hex(16)
