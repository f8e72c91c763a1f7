"""The curve that keys are points on, as libzmq has it. Keys are raw, 32 bytes each."""

from __future__ import annotations

import struct

import zmq
from zmq.utils import z85

from ezgraph.errors import ConfigError
from ezgraph.protocol.roles import PUBLIC_BYTES


def new_pair() -> tuple[bytes, bytes]:
    """Return a new public key, and the secret key that goes with it.

    Raises:
        ConfigError: this libzmq was built without CURVE.
    """
    _check_built()
    public, secret = zmq.curve_keypair()
    return z85.decode(public), z85.decode(secret)


def public_of(secret: bytes) -> bytes:
    """Return the public key that goes with a secret one.

    Raises:
        ConfigError: this libzmq was built without CURVE.
    """
    _check_built()
    return z85.decode(zmq.curve_public(z85.encode(secret)))


def _check_built() -> None:
    if not zmq.has("curve"):
        raise ConfigError(
            "this pyzmq was built without CURVE, so it has no keys; install its wheel instead: "
            "pip install --force-reinstall --only-binary=pyzmq pyzmq"
        )


def from_z85(text: str) -> bytes | None:
    """Return the key that 40 characters of Z85 (ZeroMQ's RFC 32) spell; None: they spell none."""
    try:
        raw = z85.decode(text.encode())
    except (KeyError, ValueError, struct.error):
        return None
    return raw if len(raw) == PUBLIC_BYTES else None
