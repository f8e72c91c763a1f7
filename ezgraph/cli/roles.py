"""``ezgraph roles``: what the roles of a broker grant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ezgraph.cli.options import JsonOption
from ezgraph.cli.paper import paper, say
from ezgraph.protocol.roles import BUILT_IN, VERBS, owner_of
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.protocol.roles import Role

app = typer.Typer(
    name="roles",
    help="Show what roles grant, and check a file of your own ones.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FileArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        help="Default: roles.toml in your folder (~/.config/ezgraph).",
        show_default=False,
    ),
]


@app.command()
def check(file: FileArgument = None, as_json: JsonOption = False) -> None:
    """Read a file of roles, and show what each grants; exit code 2 if something is wrong."""
    from ezgraph.keys.folder import roles_file
    from ezgraph.keys.roles_file import load_roles

    path = file or roles_file()
    roles = load_roles(path)
    _show(roles.values(), as_json=as_json)
    if not roles and not as_json:
        paper().line((f"no roles in {visible(str(path))}", "dim"))


@app.command("list")
def list_roles(file: FileArgument = None, as_json: JsonOption = False) -> None:
    """Show what every role grants: the built-in ones, and your own."""
    from ezgraph.cli.keys import own_roles

    _show(
        [*BUILT_IN.values(), owner_of("PREFIX"), *own_roles(file).values()], as_json=as_json
    )


def _show(roles: Iterable[Role], *, as_json: bool) -> None:
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps([_record(each) for each in roles], indent=2))
        return
    for number, each in enumerate(roles):
        if number:
            paper().line(("", ""))
        _write(each)



def _record(role: Role) -> dict[str, object]:
    return {
        "name": role.name,
        "comment": role.comment,
        "grants": {
            verb: list(map(str, role.grants[verb])) for verb in VERBS if verb in role.grants
        },
    }


def _write(role: Role) -> None:
    comment = f"  {visible(role.comment)}" if role.comment else ""
    paper().line((role.name, "bold"), (comment, "dim"))
    rows = [[verb, "  ".join(map(str, role.grants[verb]))] for verb in VERBS if verb in role.grants]
    if rows:
        paper().table(["may", "what"], rows)
    else:
        paper().line(("grants nothing", "yellow"))
