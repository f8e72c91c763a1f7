"""``ezgraph keys``: key pairs of one's own, whom a broker admits, which broker is the right one.

All of it is in files (`ezgraph.keys`); no broker is asked.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli.options import JsonOption
from ezgraph.cli.paper import is_terminal, paper, say, tell
from ezgraph.errors import KeyFileError
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.keys.public_key import PublicKey
    from ezgraph.keys.trusted import AllowList, RevokedKey, TrustedKey

_SHOWN_DIGITS = 16

app = typer.Typer(
    name="keys",
    help="Make key pairs, and say whom a broker admits and which broker is the right one.",
    epilog="A user makes a pair (new) and sends its line (export) to who runs the broker, who "
    "admits it (trust); and the other way round (export, pin).",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the pair is called.")]
KeyArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="LINE|FILE",
        help="What keys export prints, a file with it, or - for standard input.",
    ),
]
TrustedOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The broker's allow-list. Default: trusted.toml in your folder (~/.config/ezgraph).",
        show_default=False,
    ),
]
RolesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The broker's own roles. Default: roles.toml in your folder, if it is there.",
        show_default=False,
    ),
]


def given_key(words: list[str]) -> PublicKey:
    """Return the key that is named on the command line.

    Raises:
        KeyFileError: there is none.
    """
    from ezgraph.keys.pair import read_public_file
    from ezgraph.keys.public_key import LINE_MARK, parse_line

    if words == ["-"]:
        return parse_line(sys.stdin.readline())
    line = " ".join(words)
    if line.startswith(LINE_MARK) or (len(words) > 1 and not os.path.exists(line)):
        return parse_line(line)
    return read_public_file(Path(line).expanduser())


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


# --- one's own ---


@app.command()
def new(
    name: NameArgument,
    comment: Annotated[
        str, typer.Option(metavar="TEXT", help="Whose it is; others are given it too.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Give up a pair of that name for good.")
    ] = False,
) -> None:
    """Make a key pair: NAME.secret, which only you can read, and NAME.public."""
    from ezgraph.keys.pair import make_pair, make_pair_anew, public_file, secret_file

    make = make_pair_anew if force else make_pair
    pair = make(name, comment=comment, at=_now())
    say(pair.public_key.line)
    if is_terminal():
        tell(
            f"secret: {secret_file(name)} (never leaves this host)\n"
            f"public: {public_file(name)}\n"
            f"The line above is for who runs the broker: ezgraph keys trust 'LINE' --role ROLE"
        )


@app.command()
def export(
    name: NameArgument,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write it there, not to standard output.", show_default=False
        ),
    ] = None,
) -> None:
    """Print the public part of a pair as one line, to be given to others."""
    from ezgraph.keys.folder import PUBLIC_MODE, create
    from ezgraph.keys.pair import read_public

    line = read_public(name).line
    if to is None:
        say(line)
        return
    try:
        create(to, f"{line}\n", mode=PUBLIC_MODE)
    except FileExistsError as error:
        raise KeyFileError(f"{str(to)!r} is there already; choose another file") from error


# --- whom a broker admits ---


@app.command()
def trust(
    key: KeyArgument,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="observer, operator, admin, owner:PREFIX, or one of your own (ezgraph roles).",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Another name for it.", show_default=False),
    ] = None,
    trusted: TrustedOption = None,
    roles: RolesOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also if this key has been revoked.")
    ] = False,
) -> None:
    """Admit a key to the brokers that go by an allow-list, or give it another role.

    A running broker sees it by itself.
    """
    from ezgraph.keys import trusted as allow_list
    from ezgraph.keys.folder import trusted_file
    from ezgraph.keys.roles_file import find_role

    found = given_key(key)
    chosen = find_role(role, own_roles(roles))
    path = trusted or trusted_file()
    admit = allow_list.trust_again if again else allow_list.trust
    admitted = admit(path, replace(found, name=name or found.name), role=chosen.name, at=_now())
    paper().line(
        (admitted.name, "bold"),
        (f" ({admitted.public.hex()[:_SHOWN_DIGITS]}…) is admitted as ", ""),
        (visible(admitted.role), "bold"),
        (f": {visible(chosen.comment)}" if chosen.comment else "", ""),
        (f"  [{visible(str(path))}]", "dim"),
    )


def own_roles(path: Path | None) -> dict[str, Any]:
    """Return the roles in a file; None: in the user's own, if there is one.

    Raises:
        KeyFileError: something in it is wrong.
    """
    from ezgraph.keys.folder import roles_file
    from ezgraph.keys.roles_file import load_roles

    if path is None and not roles_file().exists():
        return {}
    return dict(load_roles(path or roles_file()))


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in the allow-list.")],
    trusted: TrustedOption = None,
) -> None:
    """Admit a key no more: running brokers cut it off, and it is not trusted again by mistake."""
    from ezgraph.keys import trusted as allow_list
    from ezgraph.keys.folder import trusted_file

    path = trusted or trusted_file()
    gone = allow_list.revoke(path, name, at=_now())
    paper().line(
        (name, "bold"),
        (f" ({gone.public.hex()[:_SHOWN_DIGITS]}…) is revoked", ""),
        (f"  [{visible(str(path))}]", "dim"),
    )


# --- which broker is the right one ---


@app.command()
def pin(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT[,…]", help="The broker's address.")],
    key: KeyArgument,
    replace_it: Annotated[
        bool, typer.Option("--replace", help="Also if another key is pinned there.")
    ] = False,
) -> None:
    """Know the broker at an address by its key: whoever cannot prove it is not talked to."""
    from ezgraph.config import parse_addresses
    from ezgraph.keys import contexts
    from ezgraph.keys.folder import contexts_file

    addresses, found = parse_addresses(address), given_key(key)
    pin_it = contexts.pin_instead if replace_it else contexts.pin
    pin_it(contexts_file(), addresses, found.public)
    paper().line(
        (", ".join(map(str, addresses)), "bold"),
        (f" is known by {found.name}'s key ({found.public.hex()[:_SHOWN_DIGITS]}…)", ""),
    )


@app.command()
def unpin(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT[,…]", help="The broker's address.")],
) -> None:
    """Know the broker at an address by no key any more: one without keys is talked to again."""
    from ezgraph.config import parse_addresses
    from ezgraph.keys import contexts
    from ezgraph.keys.folder import contexts_file

    addresses = parse_addresses(address)
    contexts.unpin(contexts_file(), addresses)
    paper().line((", ".join(map(str, addresses)), "bold"), (" is known by no key any more", ""))


# --- what there is ---


@app.command("list")
def list_keys(trusted: TrustedOption = None, as_json: JsonOption = False) -> None:
    """List your key pairs, the keys that are trusted, and those that are revoked."""
    from ezgraph.keys.folder import trusted_file
    from ezgraph.keys.trusted import read_trusted

    pairs, wrong = _own_pairs()
    path = trusted or trusted_file()
    listed = read_trusted(path)
    if as_json:
        _say_json(pairs, listed)
    else:
        _write_pairs(pairs)
        _write_list(listed, path)
    for each in wrong:
        tell(f"warning: {visible(str(each))}")


def _own_pairs() -> tuple[list[PublicKey], list[KeyFileError]]:
    """Return the public parts of the pairs, and what is wrong with the others."""
    from ezgraph.keys.pair import pair_names, read_pair

    pairs: list[PublicKey] = []
    wrong: list[KeyFileError] = []
    for name in pair_names():
        try:
            pairs.append(read_pair(name).public_key)
        except KeyFileError as error:
            wrong.append(error)
    return pairs, wrong


def _say_json(pairs: list[PublicKey], listed: AllowList) -> None:
    from ezgraph.cli.as_json import dumps, plain

    def records(keys: Iterable[PublicKey | TrustedKey | RevokedKey]) -> list[dict[str, object]]:
        return [{**plain(each), "public": each.public.hex()} for each in keys]

    rooms = {
        "pairs": records(pairs),
        "trusted": records(listed.keys.values()),
        "revoked": records(listed.revoked.values()),
    }
    say(dumps(rooms, indent=2))


def _write_pairs(pairs: list[PublicKey]) -> None:
    if not pairs:
        paper().line(("no key pairs of your own; `ezgraph keys new NAME` makes one", "dim"))
        return
    paper().line(("your key pairs", "bold"))
    paper().table(
        ["name", "public key", "created", "comment"],
        [
            [each.name, _digits(each.public), _day(each.created), visible(each.comment)]
            for each in pairs
        ],
    )


def _write_list(listed: AllowList, path: Path) -> None:
    paper().line(("", ""))
    if not listed.keys:
        paper().line((f"nobody is trusted in {visible(str(path))}", "dim"))
    else:
        paper().line(("trusted", "bold"), (f"  {visible(str(path))}", "dim"))
        paper().table(
            ["name", "role", "public key", "added", "comment"],
            [
                [
                    each.name,
                    visible(each.role),
                    _digits(each.public),
                    _day(each.added),
                    visible(each.comment),
                ]
                for each in listed.keys.values()
            ],
        )
    if listed.revoked:
        paper().line(("", ""))
        paper().line(("revoked", "bold"))
        paper().table(
            ["name", "public key", "since"],
            [
                [each.name, _digits(each.public), _day(each.at)]
                for each in listed.revoked.values()
            ],
        )


def _digits(public: bytes) -> str:
    """Return a key as columns have room for it; whole in a pipe."""
    digits = public.hex()
    return f"{digits[:_SHOWN_DIGITS]}…" if is_terminal() else digits


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d}"
