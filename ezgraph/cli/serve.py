"""``ezgraph serve``: a broker in the foreground."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli import serve_config
from ezgraph.cli.options import Given, JsonOption
from ezgraph.cli.paper import say, tell
from ezgraph.config import BrokerConfig

if TYPE_CHECKING:
    from ezgraph.broker.service import BrokerService
    from ezgraph.cli.configuration.seed import Seeding


def serve(
    ctx: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            "-a",
            metavar="HOST:PORT",
            help="Where to listen; port 0 takes a free one. Default: EZGRAPH_ADDR, else "
            "127.0.0.1:25979.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="URL|FILE|memory",
            help="Where the journal is. Default: a SQLite file in your data folder "
            "(~/.local/share/ezgraph), one per port.",
            show_default=False,
        ),
    ] = None,
    durability: Annotated[
        str | None,
        typer.Option(
            metavar="full|normal",
            help="full (default) survives a power cut; normal, faster, only the death of the "
            "broker.",
            show_default=False,
        ),
    ] = None,
    events_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="Where events are broadcast. Default: the port after the address's.",
            show_default=False,
        ),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="The host that clients dial for events. Default: the one they dialled.",
            show_default=False,
        ),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help=f"How long a silent session lives ({BrokerConfig().ttl_s:g}).",
            show_default=False,
        ),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure",
            help="Listen outside loopback although anybody there could command this broker.",
            show_default=False,
        ),
    ] = None,
    require_keys: Annotated[
        bool | None,
        typer.Option(
            "--require-keys",
            help="Admit only keys that are trusted, on loopback too.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="The broker's own key pair. Default: the one called broker.",
            show_default=False,
        ),
    ] = None,
    trusted: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The allow-list: whose keys are admitted. Default: trusted.toml in your folder "
            "(~/.config/ezgraph).",
            show_default=False,
        ),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Roles beside the built-in ones. Default: roles.toml in your folder.",
            show_default=False,
        ),
    ] = None,
    keep_events: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Keep so many events of history; older ones are compacted. Default: all.",
            show_default=False,
        ),
    ] = None,
    keep_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Keep a journal of about that size (500M, 20G). Default: any.",
            show_default=False,
        ),
    ] = None,
    keep_age: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Keep events that are not older (12h, 90d). Default: all.",
            show_default=False,
        ),
    ] = None,
    import_from: Annotated[
        str | None,
        typer.Option(
            "--import",
            metavar="FILE",
            help="Put the configuration of a file (see ezgraph config import) before any client is "
            "answered; each content once. What is there already stays.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Options from a file; those given here win. Fields: address, backend, "
            "durability, events_port, advertise, ttl_s, insecure, require_keys, key, trusted, "
            "roles, import, checkpoint_events, journal_warning_bytes, and the tables retention and "
            "limits.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a broker until Ctrl-C or SIGTERM.

    One line says where it listens, where its journal is, and how many keys it admits, once it is
    ready. At the end it
    drains, writes a checkpoint and exits 0; 4 if it cannot start, or its journal fails.
    """
    given = serve_config.read_file(config) if config is not None else {}
    before: Given = ctx.obj or Given()
    options: dict[str, Any] = {
        "address": address or before.address,
        "backend": backend,
        "durability": durability,
        "events_port": events_port,
        "advertise": advertise,
        "ttl_s": ttl,
        "insecure": insecure,
        "require_keys": require_keys,
        "key": key,
        "trusted": trusted,
        "roles": roles,
        "import": import_from,
    }
    given.update({name: value for name, value in options.items() if value is not None})
    kept = serve_config.retention(keep_events, keep_size, keep_age)
    given["retention"] = {**given.get("retention", {}), **kept}
    wanted = serve_config.broker_config(given)
    seeding = _seeding(given.get("import"))
    serve_config.make_room(wanted)
    _log_to_stderr()
    _run(wanted, seeding, as_json=as_json)


def _seeding(file: str | None) -> Seeding | None:
    """Read the file to begin with before anything else is done."""
    if file is None:
        return None
    from ezgraph.cli.configuration.seed import Seeding

    return Seeding(file)


def _run(config: BrokerConfig, seeding: Seeding | None, *, as_json: bool) -> None:
    from ezgraph.broker import process

    def on_ready(service: BrokerService) -> None:
        if seeding is not None:
            seeding.seed(service)
        say(_ready_json(service) if as_json else _ready(service))
        if not as_json and (remark := _remark(service)) is not None:
            tell(remark)

    service = process.serve(config, on_ready)
    if sys.stderr.isatty():
        tell(f"stopped at seq {service.engine.state.seq}, checkpoint written")


def _ready(service: BrokerService) -> str:
    state = service.engine.state
    where = "memory only: nothing survives this process"
    if (path := _journal_file(service.config)) is not None:
        where = f"journal {path} ({_durability(service.config)})"
    return (
        f"ezgraph broker at {service.address}, {where}, seq {state.seq}, epoch {state.epoch}, "
        f"{_admits(service)}; Ctrl-C ends it"
    )


def _admits(service: BrokerService) -> str:
    from ezgraph.cli.words import count

    admitted = service.engine.admitted
    return "no keys" if admitted is None else f"{count(admitted, 'key')} admitted"


def _remark(service: BrokerService) -> str | None:
    """Return what whoever starts it should know of who may command it; None: nothing."""
    admitted, config = service.engine.admitted, service.config
    if admitted is None and not config.insecure:
        return "no keys: every user of this host may command it (--require-keys asks for keys)"
    if admitted == 0:
        from ezgraph.keys.broker_keys import open_broker_keys

        _, files = open_broker_keys(config)
        return files.remark()
    return None


def _ready_json(service: BrokerService) -> str:
    from ezgraph.cli.as_json import dumps

    state, config = service.engine.state, service.config
    return dumps(
        {
            "address": str(service.address),
            "pid": os.getpid(),
            "backend": config.backend,
            "journal": _journal_file(config),
            "durability": _durability(config),
            "seq": state.seq,
            "epoch": state.epoch,
            "cluster_id": service.journal.cluster_id,
            "keys": service.engine.admitted,
            "insecure": config.insecure,
        }
    )


def _journal_file(config: BrokerConfig) -> str | None:
    """Return the path of a journal that is a file."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(config.backend)
    return unquote(parts.path[1:]) if parts.scheme == "sqlite" else None


def _durability(config: BrokerConfig) -> str | None:
    if not config.backend.startswith("sqlite:"):
        return None
    return "normal" if "synchronous=normal" in config.backend.lower() else "full"


class _OneLine(logging.Formatter):
    """A log line without a traceback: what went wrong on purpose is told at the end."""

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, ARG002, N802 - logging's name
        return ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip("\n")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
