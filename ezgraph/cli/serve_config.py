"""How ``ezgraph serve`` is configured: a TOML file, options over it, and what is left by default.

The file has the names of the options, with ``_`` or ``-``::

    address = "127.0.0.1:25979"
    backend = "sqlite:////var/lib/ezgraph/rig.db"     # or a path, or "memory"
    durability = "full"                               # or "normal"
    events_port = 25980
    advertise = "lab-broker.local"
    ttl_s = 6.0
    insecure = false
    require_keys = true                               # on loopback too
    key = "broker"                                    # its key pair: a name, or a file
    trusted = "/etc/ezgraph/trusted.toml"             # whom it admits
    roles = "/etc/ezgraph/roles.toml"                 # roles beside the built-in ones
    import = "/etc/ezgraph/flows.json"                # configuration to begin with
    checkpoint_events = 20000
    journal_warning_bytes = 4294967296
    [limits]                                          # any field of ezgraph.config.Limits
    max_leases = 20000
    [retention]                                       # how much history is kept; all, if not given
    events = 1000000
    size_bytes = 10000000000
    age_s = 7776000                                   # 90 days

Relative paths are meant from where the broker is started.

By default the journal is a SQLite file in the user's data folder, one per port: a lab's history is
worth more than its disk space, and two brokers must not share a journal.
"""

from __future__ import annotations

import math
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from ezgraph.config import (
    Address,
    BrokerConfig,
    Limits,
    Retention,
    address_from_environment,
    parse_address,
    user_folder,
)
from ezgraph.errors import ConfigError
from ezgraph.keys.pair import pair_names
from ezgraph.toml_text import parse_toml, unknown_field

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
DURABILITIES = ("full", "normal")
MAX_PORT = 65535

_KINDS: dict[type, str] = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
}
_FIELDS: dict[str, type] = {
    "address": str,
    "backend": str,
    "durability": str,
    "events_port": int,
    "advertise": str,
    "ttl_s": float,
    "insecure": bool,
    "require_keys": bool,
    "key": str,
    "trusted": str,
    "roles": str,
    "import": str,
    "checkpoint_events": int,
    "journal_warning_bytes": int,
    "limits": dict,
    "retention": dict,
}
_RETENTION: dict[str, type] = {
    "events": int,
    "size_bytes": int,
    "age_s": float,
    "max_pinned_events": int,
}
_LIMITS: dict[str, type] = {
    each.name: float if isinstance(each.default, float) else int for each in fields(Limits)
}


def read_file(path: Path) -> dict[str, Any]:
    """Return what a configuration file says, checked field by field.

    Raises:
        ConfigError: it cannot be read, is no TOML, or a field is unknown or of the wrong type.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    given = _checked(parse_toml(raw, str(path)), _FIELDS, where=str(path))
    if "limits" in given:
        given["limits"] = _checked(given["limits"], _LIMITS, where=f"[limits] in {path}")
    if "retention" in given:
        where = f"[retention] in {path}"
        given["retention"] = _checked(given["retention"], _RETENTION, where=where)
    return given


def _checked(table: Mapping[str, Any], known: Mapping[str, type], *, where: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for spelled, value in table.items():
        name = spelled.replace("-", "_")
        if name not in known:
            raise ConfigError(unknown_field(where, spelled, known))
        if name in given:
            raise ConfigError(f"{where} gives {name!r} twice, once with '-' and once with '_'")
        if not _is(value, known[name]):
            raise ConfigError(f"{where}: {spelled} = {value!r} should be {_KINDS[known[name]]}")
        given[name] = float(value) if known[name] is float else value
    return given


def _is(value: object, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def broker_config(given: Mapping[str, Any]) -> BrokerConfig:
    """Return the configuration that checked fields, in the file's names, come to.

    Raises:
        ConfigError: a value is out of its range, or two contradict each other.
    """
    address, default = _address(given.get("address")), BrokerConfig()
    return BrokerConfig(
        address=address,
        events_port=_in_range(given, "events_port", 0, MAX_PORT),
        advertise=given.get("advertise"),
        backend=_backend(given.get("backend"), given.get("durability"), address),
        insecure=given.get("insecure", False),
        require_keys=given.get("require_keys", False),
        key=_key(given.get("key")),
        trusted=_absolute(given.get("trusted")),
        roles=_absolute(given.get("roles")),
        ttl_s=_positive(given, "ttl_s", default.ttl_s),
        checkpoint_events=_positive(given, "checkpoint_events", default.checkpoint_events),
        journal_warning_bytes=_positive(
            given, "journal_warning_bytes", default.journal_warning_bytes
        ),
        retention=_all_positive(Retention(), given.get("retention", {})),
        limits=_all_positive(Limits(), given.get("limits", {})),
    )


def _address(given: str | None) -> Address:
    """Return the address to listen at: as given, else what ``EZGRAPH_ADDR`` names first."""
    if given is not None:
        if "," in given:
            raise ConfigError(f"a broker listens at one address, and {given!r} names several")
        return parse_address(given)
    return (address_from_environment() or (BrokerConfig().address,))[0]


def _key(given: str | None) -> str | None:
    """Return the name of a key pair as it is, and the path of one's file absolute."""
    if given is None or (os.sep not in given and given in pair_names()):
        return given
    return _absolute(given) if os.sep in given or Path(given).is_file() else given


def _absolute(given: str | None) -> str | None:
    """Return a path that means the same wherever it is read."""
    return None if given is None else os.path.abspath(Path(given).expanduser())


def _in_range(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value: int | None = given.get(name)
    if value is not None and not least <= value <= most:
        raise ConfigError(f"{name} = {value} is not between {least} and {most}")
    return value


def _positive(given: Mapping[str, Any], name: str, default: Any) -> Any:  # noqa: ANN401
    value = given.get(name, default)
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} = {value} should be more than 0")
    return value


def _all_positive(default: T, given: Mapping[str, Any]) -> T:
    """Return ``default``, a frozen dataclass, with what is given in it."""
    for name in given:
        _positive(given, name, None)
    return replace(default, **given)  # type: ignore[type-var]  # mypy wants a narrower bound


_UNITS = {
    "size": {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "": 1.0},
    "age": {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0},
}


def quantity(text: str, what: str) -> float:
    """Return a size in bytes (``500M``) or an age in seconds (``90d``), as given on a command line.

    Raises:
        ConfigError: it is none.
    """
    units, spelled = _UNITS[what], text.strip().lower()
    if what == "size":
        spelled = spelled.removesuffix("b").removesuffix("i")
    unit = spelled[-1:] if not spelled[-1:].isdigit() else ""
    try:
        return float(spelled.removesuffix(unit)) * units[unit]
    except (KeyError, ValueError):
        raise ConfigError(
            f"{text!r} is no {what}: write a number and a unit, such as "
            f"{'500M or 20G' if what == 'size' else '90d, 12h or 30m'}"
        ) from None


def retention(events: int | None, size: str | None, age: str | None) -> dict[str, Any]:
    """Return what the options on the command line say of retention, in the file's names."""
    given = {
        "events": events,
        "size_bytes": None if size is None else int(quantity(size, "size")),
        "age_s": None if age is None else quantity(age, "age"),
    }
    return {name: value for name, value in given.items() if value is not None}


# --- the journal ---


def _backend(given: str | None, durability: str | None, address: Address) -> str:
    """Return the URL of the journal."""
    if durability is not None and durability not in DURABILITIES:
        raise ConfigError(f"durability {durability!r} is none of {', '.join(DURABILITIES)}")
    if given is None:
        return _sqlite_url(default_journal(address), durability)
    if given in ("memory", "memory://"):
        if durability is not None:
            raise ConfigError(
                f"durability {durability!r} means nothing with memory://, which keeps nothing; "
                f"leave it out, or name a file with --backend"
            )
        return "memory://"
    if "://" not in given:
        return _sqlite_url(Path(given).expanduser(), durability)
    if durability is None:
        return given
    return _with_durability(given, durability)


def _with_durability(url: str, durability: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise ConfigError(f"durability is for sqlite journals, and the backend is {parts.scheme}")
    if "synchronous" in parts.query:
        raise ConfigError(
            f"the backend's address says synchronous itself, and durability {durability!r} is "
            f"given too; keep one of them"
        )
    return f"{url}{'&' if parts.query else '?'}synchronous={durability.upper()}"


def _sqlite_url(path: Path, durability: str | None) -> str:
    """Return the URL of a file; absolute, so that ``status`` means the same everywhere."""
    option = "?synchronous=NORMAL" if durability == "normal" else ""
    return f"sqlite:///{quote(os.path.abspath(path))}{option}"


def default_journal(address: Address) -> Path:
    """Return the file in the user's data folder where a broker at this port keeps its journal."""
    return data_folder() / f"bus-{address.port or 'any-port'}.db"


def data_folder() -> Path:
    """Return where programs of this user keep what they want to find again.

    Raises:
        ConfigError: this user has no home.
    """
    try:
        return Path(user_folder("XDG_DATA_HOME", ".local", "share"))
    except ConfigError as error:
        raise ConfigError(
            f"there is no place for the journal: {error}; name a file with --backend, or say "
            f"--backend memory"
        ) from error


def make_room(config: BrokerConfig) -> None:
    """Make the default journal's folder; any other folder is the user's business.

    Raises:
        ConfigError: it cannot be made.
    """
    folder = data_folder() if config.backend.startswith("sqlite:") else None
    if folder is None or not config.backend.startswith(f"sqlite:///{quote(str(folder))}/"):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the journal's folder {str(folder)!r} cannot be made: {error.strerror}; name another "
            f"place with --backend, such as --backend /var/lib/ezgraph/rig.db"
        ) from error
