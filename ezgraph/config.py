"""Addresses, limits and options: frozen values, and the only place that reads the environment."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ezgraph.errors import ConfigError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 25979
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_CHANGE_TIMEOUT_S = 8.0
"""How long a program may be at a change of its settings: less than who asks waits for it."""
ADDRESS_VARIABLE = "EZGRAPH_ADDR"
KEYS_VARIABLE = "EZGRAPH_KEYS"


class Address(NamedTuple):
    """Where a broker takes commands. ``str()`` gives ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The ZeroMQ endpoint."""
        return f"tcp://{self}"


DEFAULT_ADDRESS = Address(DEFAULT_HOST, DEFAULT_PORT)

AddressLike = str | tuple[str, int] | Address
AddressesLike = AddressLike | Sequence[AddressLike]


def parse_address(address: AddressLike) -> Address:
    """Return ``"host:port"``, ``"[v6]:port"`` or ``(host, port)`` as an `Address`.

    Raises:
        ConfigError: it is none of these; port 0 is allowed (a free one, for a broker).
    """
    if isinstance(address, str):
        host, colon, port_text = address.removeprefix("tcp://").rpartition(":")
        if not colon or not port_text.isdecimal():
            raise ConfigError(f"address {address!r} is not host:port, such as 127.0.0.1:25979")
        host, port = host.strip("[]"), int(port_text)
    else:
        try:
            host, port = address
        except (TypeError, ValueError):
            raise ConfigError(
                f"address {address!r} is neither 'host:port' nor (host, port)"
            ) from None
    if not _is_host(host) or not _is_port(port):
        raise ConfigError(f"address {address!r}: give a host and a port from 0 to 65535")
    return Address(host, port)


def _is_host(host: object) -> bool:
    return isinstance(host, str) and bool(host)


def _is_port(port: object) -> bool:
    return type(port) is int and 0 <= port < 1 << 16


def parse_addresses(addresses: AddressesLike) -> tuple[Address, ...]:
    """Return one address or a sequence of them, to be tried in turn.

    Raises:
        ConfigError: there is none, or one is malformed.
    """
    if isinstance(addresses, str):
        return tuple(parse_address(each.strip()) for each in addresses.split(","))
    if len(addresses) == 2 and isinstance(addresses[0], str) and isinstance(addresses[1], int):
        return (parse_address((addresses[0], addresses[1])),)
    found = tuple(parse_address(each) for each in addresses)  # type: ignore[arg-type]
    if not found:
        raise ConfigError("no address given: name at least one host:port")
    return found


def address_text_from_environment() -> str | None:
    """Return what ``EZGRAPH_ADDR`` says, an address or ``@CONTEXT``; None where it is not set."""
    return os.environ.get(ADDRESS_VARIABLE) or None


def address_from_environment() -> tuple[Address, ...] | None:
    """Return what ``EZGRAPH_ADDR`` names, or None where it is not set."""
    text = address_text_from_environment()
    return parse_addresses(text) if text else None


def default_addresses() -> tuple[Address, ...]:
    """Return what ``EZGRAPH_ADDR`` names, else ``127.0.0.1:25979``."""
    return address_from_environment() or (Address(DEFAULT_HOST, DEFAULT_PORT),)


def keys_from_environment() -> str | None:
    """Return which key pair ``EZGRAPH_KEYS`` names: a name or a file; None where it is not set."""
    return os.environ.get(KEYS_VARIABLE) or None


def user_folder(variable: str, *otherwise: str) -> str:
    """Return where this user keeps one kind of files of ezgraph.

    That is below what ``variable`` of the XDG base directories names, else below ``otherwise`` in
    the home folder; on macOS in Application Support.

    Raises:
        ConfigError: this user has no home.
    """
    home, named = os.path.expanduser("~"), os.environ.get(variable, "")
    if sys.platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    else:
        base = named if os.path.isabs(named) else os.path.join(home, *otherwise)
    if not os.path.isabs(base):
        raise ConfigError(f"this user has no home folder, and {variable} names none")
    return os.path.join(base, "ezgraph")


def program_name() -> str:
    """Return the name of the script that runs; for ``python -m package`` the package's."""
    path = sys.argv[0] if sys.argv and sys.argv[0] else "python"
    folder, name = os.path.split(path)
    return os.path.basename(folder) if name == "__main__.py" else name


def login_name() -> str:
    """Return who is logged in, "" where the host does not say."""
    import getpass  # reads the environment, and the password database of the host

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


CONTEXTS_FILE = "contexts.toml"


def config_folder() -> str:
    """Return where this user keeps key pairs, allow-list, roles and contexts.

    Raises:
        ConfigError: this user has no home.
    """
    return user_folder("XDG_CONFIG_HOME", ".config")


def has_contexts() -> bool:
    """Return whether this user has named brokers, or pinned the key of one."""
    try:
        return os.path.isfile(os.path.join(config_folder(), CONTEXTS_FILE))
    except ConfigError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether a host, as it is written, is surely this one; no name is looked up."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def resolve_loopback(host: str) -> tuple[str, bool]:
    """Return the numeric address of ``host`` to listen on, and whether it is loopback.

    Raises:
        ConfigError: the name means nothing here.
    """
    if host == "*":
        return "0.0.0.0", False  # noqa: S104 - refused outside --insecure by the caller
    try:
        resolved = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise ConfigError(f"host {host!r} cannot be resolved: {error}") from error
    return str(resolved), ipaddress.ip_address(str(resolved).split("%")[0]).is_loopback


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The key pair a client proves itself with, and the public keys of the brokers it may meet.

    Keys are raw, 32 bytes each. ``name`` is what the pair is called on this host.
    ``brokers`` has the key that is pinned for each address; a client dials no other.
    """

    name: str
    public: bytes
    secret: bytes = field(repr=False)
    brokers: Mapping[Address, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what the wire may ask for. Sizes in bytes, times in seconds."""

    max_frame_bytes: int = 64 << 20
    high_water_mark: int = 100_000
    max_unread_messages: int = 32
    max_unread_replies: int = 1_000
    inbox_messages: int = 512
    commands_per_pass: int = 32
    max_leases: int = 20_000
    max_leases_per_key: int = 5_000
    max_open_requests: int = 100_000
    max_connections: int = 50_000
    max_connections_per_key: int = 20_000
    max_subscriptions_per_connection: int = 50_000
    max_unsubscriptions: int = 5_000
    max_frames_per_message: int = 1_024
    max_waiting_commands: int = 100_000
    max_routed_requests: int = 1_000
    max_waiting_bytes: int = 256 << 20
    max_waiting_commands_of_all: int = 1_000_000
    max_waiting_bytes_of_all: int = 1 << 30
    max_watched_prefixes: int = 100_000
    chunk_events: int = 250
    chunk_bytes: int = 256 << 10
    max_snapshots: int = 8
    max_snapshots_per_client: int = 4
    snapshot_life_s: float = 30.0
    max_waiting_reads: int = 10_000
    max_waiting_reads_per_client: int = 1_000
    max_edges_per_lease: int = 20_000
    max_components_per_lease: int = 10_000
    max_units_per_lease: int = 10_000
    max_persistent_edges: int = 200_000
    max_config_operations: int = 10_000
    max_config_key_bytes: int = 1_024
    max_config_value_bytes: int = 1 << 20
    max_config_depth: int = 32
    max_config_entries: int = 500_000
    max_config_entries_per_lease: int = 10_000
    max_config_bytes: int = 1 << 30
    max_config_schemas: int = 1_000
    max_config_schema_bytes: int = 64 << 10
    max_config_judged: int = 5_000
    max_partitions_per_command: int = 2_000
    max_graph_pieces: int = 200_000
    max_piece_bytes: int = 16 << 20
    max_pieces_waiting_bytes: int = 256 << 20
    max_pieces_waiting_bytes_of_all: int = 1 << 30
    max_restored_changes: int = 40_000
    max_restores: int = 100
    max_restores_per_client: int = 4
    max_long_commands: int = 1_000
    max_long_commands_per_client: int = 100
    max_graphs_per_lease: int = 100
    max_announced_nodes_per_lease: int = 20_000
    max_announced_nodes_per_command: int = 1_000
    max_endpoints_per_graph: int = 16
    max_path_labels: int = 32
    max_path_characters: int = 1_000
    max_summary_characters: int = 200
    ticket_life_s: float = 600.0
    max_reason_characters: int = 2_000
    min_ttl_s: float = 0.5
    max_ttl_s: float = 3600.0
    guest_ttl_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history a broker keeps. What lies beyond any bound may be compacted; None: no bound.

    Attributes:
        events: how many events.
        size_bytes: how much the journal may take up, roughly, snapshots of the state included.
        age_s: how long ago an event may have happened, by the broker's wall clock, in seconds.
        max_pinned_events: what a client with a lease may still have to read stays, but not more
            than so many events beyond the bounds.
    """

    events: int | None = None
    size_bytes: int | None = None
    age_s: float | None = None
    max_pinned_events: int = 100_000

    @property
    def is_bounded(self) -> bool:
        """Whether anything may ever be compacted."""
        return (self.events, self.size_bytes, self.age_s) != (None, None, None)


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """How one broker runs.

    ``events_port`` None: the command port + 1 (a free one when that is taken and the command
    port was not given). ``advertise``: the host that clients are told to dial for events; None:
    the one they dialled. The journal warns in ``status`` above ``journal_warning_bytes``.
    ``retention``: how much history is kept; all of it unless bounded.

    Outside loopback a broker has keys, unless it is ``insecure``; ``require_keys`` asks for them on
    loopback too, which is open to every user of the host. ``key`` is the name or the file of its
    own, ``trusted`` the allow-list and ``roles`` the roles it adds to those there are always; None:
    the files of the user's own folder (see `ezgraph.keys`). Naming any of them asks for keys too.
    """

    address: Address = DEFAULT_ADDRESS
    events_port: int | None = None
    advertise: str | None = None
    backend: str = "memory://"
    insecure: bool = False
    require_keys: bool = False
    key: str | None = None
    trusted: str | None = None
    roles: str | None = None
    ttl_s: float = 6.0
    checkpoint_events: int = 20_000
    journal_warning_bytes: int = 4 << 30
    retention: Retention = field(default_factory=Retention)
    limits: Limits = field(default_factory=Limits)

    @property
    def asks_for_keys(self) -> bool:
        """Whether anything in it is only of use with keys, so that there are to be some."""
        named = (self.key, self.trusted, self.roles)
        return self.require_keys or any(each is not None for each in named)
