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


def dial_with(
    socket: zmq.Socket[bytes], server_key: bytes, pair: tuple[bytes, bytes] | None = None
) -> None:
    """Have a socket encrypt what it says to who holds ``server_key``.

    It shows ``pair``, a public key and its secret; None: a new one, as nobody in particular.
    """
    public, secret = pair or new_pair()
    socket.set(zmq.CURVE_SERVERKEY, server_key)
    socket.set(zmq.CURVE_PUBLICKEY, public)
    socket.set(zmq.CURVE_SECRETKEY, secret)


def serve_with(socket: zmq.Socket[bytes], secret: bytes) -> None:
    """Have a socket decrypt what is said to the public key of ``secret``, by anybody."""
    _check_built()
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, secret)


def from_z85(text: str) -> bytes | None:
    """Return the key that 40 characters of Z85 (ZeroMQ's RFC 32) spell; None: they spell none."""
    try:
        raw = z85.decode(text.encode())
    except (KeyError, ValueError, struct.error):
        return None
    return raw if len(raw) == PUBLIC_BYTES else None
