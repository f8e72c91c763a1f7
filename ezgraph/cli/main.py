"""The Typer application, and what happens when a command raises."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from ezgraph._version import __version__
from ezgraph.cli import (
    change,
    chaos,
    codes,
    completion,
    contexts,
    journal,
    keys,
    log,
    render,
    roles,
    runs,
    serve,
    settings,
    show,
    verify,
    watch,
)
from ezgraph.cli.configuration import commands as config
from ezgraph.cli.data_nodes import commands as nodes
from ezgraph.cli.looking_back import recordings, time_machine
from ezgraph.cli.options import AddressOption, ContextOption, Given, KeysOption, TimeoutOption
from ezgraph.cli.paper import tell
from ezgraph.errors import ConfigError, EzGraphError
from ezgraph.protocol.wiring import visible

_EPILOG = (
    "Exit codes: 0 done; 1 refused, or something differs; 2 wrong usage, option or file; "
    "3 no broker answered; 4 a broker cannot start or go on; 130 interrupted."
)


class _Commands(TyperGroup):
    """Turns what commands raise into one last line and an exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except EzGraphError as error:
            _complain(str(error))
            raise typer.Exit(codes.code_of(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(codes.INTERRUPTED) from error
        except BrokenPipeError as error:
            # Whoever read us has seen enough (`ezgraph log | head`); do not fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(codes.OK) from error


def _complain(message: str) -> None:
    name = "\x1b[31mezgraph:\x1b[0m" if sys.stderr.isatty() else "ezgraph:"
    tell(f"{name} {visible(message)}")


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"ezgraph {__version__}\n")
        raise typer.Exit


completion.complete_at_the_first_tab()
app = typer.Typer(
    cls=_Commands,
    name="ezgraph",
    help="The control bus of a laboratory rig: who runs, how it is wired, every setting, every "
    "change.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _before(
    ctx: typer.Context,
    address: AddressOption = None,
    context: ContextOption = None,
    keys: KeysOption = None,
    timeout: TimeoutOption = None,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    if ctx.invoked_subcommand == "serve" and (context or keys):
        raise ConfigError(
            "--context and --keys are for who talks to a broker; `ezgraph serve` is told where to "
            "listen (--address), and has a key of its own (see ezgraph serve --help)"
        )
    ctx.obj = Given(address, context, keys, timeout)


_BROKER, _LOOK, _CHANGE, _ACCESS, _TRY = "Broker", "Look", "Change", "Access", "Try"
_PAST = "Past"
app.command(rich_help_panel=_BROKER)(serve.serve)
app.command(rich_help_panel=_BROKER)(show.status)
app.command(rich_help_panel=_BROKER)(change.shutdown)
app.add_typer(journal.app, rich_help_panel=_BROKER)
app.command(rich_help_panel=_LOOK)(show.ls)
app.command(rich_help_panel=_LOOK)(render.graph)
app.command(rich_help_panel=_LOOK)(render.snapshot)
app.command(rich_help_panel=_LOOK)(watch.watch)
app.command(rich_help_panel=_LOOK)(log.log)
app.add_typer(nodes.app, rich_help_panel=_LOOK)
app.add_typer(settings.app, rich_help_panel=_CHANGE)
app.add_typer(config.app, rich_help_panel=_CHANGE)
app.command(rich_help_panel=_CHANGE)(change.connect)
app.command(rich_help_panel=_CHANGE)(change.disconnect)
app.command(rich_help_panel=_CHANGE)(change.pause)
app.command(rich_help_panel=_CHANGE)(change.resume)
for _each in (
    time_machine.freeze,
    time_machine.tag,
    time_machine.tags,
    time_machine.untag,
    time_machine.diff,
    time_machine.at,
    time_machine.restore,
    recordings.recordings,
):
    app.command(cls=completion.PointCommand, rich_help_panel=_PAST)(_each)
app.add_typer(keys.app, rich_help_panel=_ACCESS)
app.add_typer(contexts.app, rich_help_panel=_ACCESS)
app.add_typer(roles.app, rich_help_panel=_ACCESS)
app.command(rich_help_panel=_TRY)(runs.demo)
app.command(rich_help_panel=_TRY)(runs.bench)
app.command(rich_help_panel=_TRY)(chaos.chaos)
app.command(rich_help_panel=_TRY)(verify.verify)


def main() -> int:
    """Run the command line of this process; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = app(prog_name="ezgraph", standalone_mode=True)
    return int(code or 0)
