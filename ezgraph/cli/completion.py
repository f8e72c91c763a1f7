"""What the shell offers for addresses, fields and keys: asked of the broker, silent without one.

The shell runs ``ezgraph`` for it at each TAB, so it waits for a short time only.

What is offered comes from whoever registers components and reports settings, and goes into a
command line: zsh evaluates it, bash puts it there as it is. So only words are offered that mean
themselves in every shell (`_plain`); the others are to be typed, in quotes.

A shell ends a word with a space when there is one way to complete it. ``FIELD=`` is only the half
of a word, and so it is never offered alone: the values that may follow are, or else what stands
for one in the help (``FIELD=VALUE``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import typer
from typer.core import TyperCommand

from ezgraph.cli.options import Given, Target, target
from ezgraph.errors import EzGraphError
from ezgraph.protocol.config import config_key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ezgraph.cli.looking_back.place import Past
    from ezgraph.graph.configuration.blocking import ConfigKeys
    from ezgraph.state.graph import GraphState

T = TypeVar("T")
TIMEOUT_S = 0.5
_OFFERED = 1_000
_STATE = f"{__name__}.state"


_FIRST_TAB = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  %(complete_func)s "$@"
fi
"""


def complete_at_the_first_tab() -> None:
    """Have the script that ``--install-completion`` writes for zsh complete when it is loaded.

    Zsh loads it at the first TAB of a session, to complete by it; Typer's only defines what
    completes from the second on. Where Typer keeps its scripts elsewhere, nothing is changed.
    """
    with suppress(ImportError, KeyError):
        from typer._completion_shared import _completion_scripts as scripts

        if "loadautofunc" not in scripts["zsh"]:
            scripts["zsh"] += _FIRST_TAB


def addresses(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the addresses that have settings."""
    return _plain(each for each in _settings(ctx) if each.startswith(incomplete))


def fields(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the fields of the component that was named before."""
    return _plain(each for each in _fields(ctx) if each.startswith(incomplete))


def assignments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ``FIELD=`` for the fields not set yet; after the ``=`` what may be chosen."""
    given = [str(each) for each in ctx.params.get("changes") or ()]
    name, sign, _ = incomplete.partition("=")
    if name and sign:
        offered = [f"{name}={choice}" for choice in _values(ctx, name)]
    elif (split := _split_by_bash(given, incomplete)) is not None:
        offered = list(_values(ctx, split))
    else:
        names = {each.partition("=")[0] for each in given}
        offered = [f"{each}=" for each in _fields(ctx) if each not in names]
    found = _plain(each for each in offered if each.startswith(incomplete))
    if len(found) == 1 and found[0].endswith("="):
        (name,) = found
        values = _plain(f"{name}{each}" for each in _values(ctx, name.removesuffix("=")))
        return [*found, *(values or [f"{name}VALUE"])]
    return found


def _plain(words: Iterable[str]) -> list[str]:
    """Return those words that are only themselves, whatever shell reads them."""
    return [
        each
        for each in words
        if each[:1] not in ("-", "=", "@")
        and all(letter.isalnum() or letter in "_-./:+,@%=" for letter in each)
    ]


def config_types(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the types of configuration there are."""
    found = _configuration(ctx, lambda config, timeout_s: config.types(timeout=timeout_s))
    return _plain(each for each in found if each.startswith(incomplete))


def config_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the keys of the type that was named before."""
    kind = str(ctx.params.get("kind"))
    found = _configuration(ctx, lambda config, timeout_s: config.keys(kind, timeout=timeout_s))
    return _plain(
        text for key in found if (text := config_key_text(key)).startswith(incomplete)
    )


class Offered(NamedTuple):
    """One thing that is offered, as the shells' writers look at it."""

    value: str
    help: str | None = None
    type: str = "plain"


class KeyedCommand(TyperCommand):
    """A command with a key, of which bash makes several words: it breaks them at each colon.

    Then the words behind the key are its rest, and only what is behind the last colon is replaced.
    """

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401 - Typer's Click
        """Return what is offered."""
        if incomplete == ":":
            ctx.args, incomplete = [*ctx.args, ":"], ""
        return [Offered(each) for each in rest_of_key(ctx, incomplete)] or super().shell_complete(
            ctx, incomplete
        )


def rest_of_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what may stand behind the last colon of a key that was broken into words."""
    words = [ctx.params.get(name) for name in ("key", "prefix", "value")]
    broken = [*(str(word) for word in words if word), *(ctx.params.get("command") or ()), *ctx.args]
    typed = "".join(broken)
    if not typed.endswith(":"):
        return []
    return [each.removeprefix(typed) for each in config_keys(ctx, typed + incomplete)]


def _configuration(
    ctx: typer.Context, ask: Callable[[ConfigKeys, float], list[T]]
) -> list[T]:
    from ezgraph.cli.guest import guest
    from ezgraph.graph.configuration.blocking import ConfigKeys

    with suppress(EzGraphError, OSError):
        broker = _broker(ctx)
        with guest(broker) as session:
            return ask(ConfigKeys.of(session), broker.timeout_s)
    return []


# --- what is stored of a rig ---


def graph_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of graphs that have a snapshot."""
    from ezgraph.cli.looking_back.points import every_snapshot

    found = _past(ctx, lambda past: [each.name for each in every_snapshot(past.connection)])
    return _begun_so(found, incomplete)


def tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tags of the graph that was named before."""
    return _begun_so(_tags_of(ctx, str(ctx.params.get("name"))), incomplete)


def stored_points(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return every tag as ``NAME@TAG``; what is left of it, where bash has broken it."""
    from ezgraph.cli.looking_back.points import every_tag

    if (rest := _rest_of_point(ctx, incomplete)) is not None:
        return rest
    found = _past(
        ctx, lambda past: [f"{each.name}@{each.tag}" for each in every_tag(past.connection)]
    )
    return _begun_so(found, incomplete)


def points(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return every tag as ``NAME@TAG``, and ``live``."""
    from ezgraph.cli.looking_back.points import LIVE

    is_rest = ctx.meta.get(_BEGUN) is not None
    return [*stored_points(ctx, incomplete), *_begun_so([] if is_rest else [LIVE], incomplete)]


def addresses_then(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the addresses that had settings at the point that was named before."""
    from ezgraph.cli.looking_back.points import find

    when = str(ctx.params.get("when"))
    return _begun_so(_past(ctx, lambda past: list(find(past, when).graph.settings)), incomplete)


class PointCommand(TyperCommand):
    """A command with ``NAME@TAG``, of which bash makes three words: it breaks them at each ``@``.

    They are put together again; of a word that is not complete only what is from the ``@`` on is
    replaced.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's Click
        """Take the words, whole."""
        if ctx.resilient_parsing:
            ctx.meta[_LAST] = args[-1] if args else None
            args, ctx.meta[_BEGUN] = _put_together(args)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401 - Typer's Click
        """Return what is offered where every argument has a word."""
        rest = _rest_of_point(ctx, incomplete) or []
        return [Offered(each) for each in rest] or super().shell_complete(ctx, incomplete)


_LAST, _BEGUN = f"{__name__}.last", f"{__name__}.begun"


def _rest_of_point(ctx: typer.Context, incomplete: str) -> list[str] | None:
    """Return the tags that may stand behind an ``@`` at which bash has broken; None: it has not."""
    name = ctx.meta.get(_BEGUN)
    if incomplete == "@":
        name, incomplete = ctx.meta.get(_LAST), ""
    if name is None:
        return None
    return [_Rest(f"@{each}") for each in _begun_so(_tags_of(ctx, name), incomplete)]


class _Rest(str):
    """The half of a word from its ``@`` on, which is what bash replaces.

    It says that only what is behind the ``@`` is to be completed, and Typer leaves out what does
    not begin with that.
    """

    __slots__ = ()

    def startswith(self, *_: object) -> bool:
        """Return whether Typer is to offer it."""
        return True


def _put_together(words: list[str]) -> tuple[list[str], str | None]:
    """Return the words with ``X @ Y`` as one, without a last ``X @``, and that ``X``."""
    whole: list[str] = []
    for word in words:
        if whole and (word == "@" or whole[-1].endswith("@")):
            whole[-1] += word
        else:
            whole.append(word)
    if whole and whole[-1].endswith("@"):
        return whole[:-1], whole[-1].removesuffix("@")
    return whole, None


def _begun_so(words: Iterable[str], incomplete: str) -> list[str]:
    return _plain(dict.fromkeys(each for each in words if each.startswith(incomplete)))


def _tags_of(ctx: typer.Context, name: str) -> list[str]:
    from ezgraph.cli.looking_back.points import every_tag

    return _past(ctx, lambda past: [each.tag for each in every_tag(past.connection, name)])


def _past(ctx: typer.Context, ask: Callable[[Past], list[str]]) -> list[str]:
    from ezgraph.cli.looking_back.place import open_past
    from ezgraph.cli.options import JournalFile

    with suppress(EzGraphError, OSError):
        journal = ctx.params.get("journal")
        with open_past(JournalFile(journal) if journal else _broker(ctx)) as past:
            return ask(past)
    return []


def _split_by_bash(given: list[str], incomplete: str) -> str | None:
    """Return the field whose value is wanted; bash takes FIELD=VALUE for three words.

    Click, which is given them, takes a single ``=`` that is to be completed for nothing.
    """
    if len(given) > 1 and given[-1] == "=":
        return given[-2]
    is_value = len(given) > 1 and given[-2] == "="
    return given[-1] if given and not incomplete and "=" not in given[-1] and not is_value else None


def _settings(ctx: typer.Context) -> list[str]:
    state = _state(ctx)
    return [] if state is None else sorted(state.settings)


def _fields(ctx: typer.Context) -> list[str]:
    from ezgraph.cli.component import schema_at, shown_form
    from ezgraph.settings.columns import leaves

    state, address = _state(ctx), ctx.params.get("component")
    entry = None if state is None else state.settings.get(str(address))
    if state is None or entry is None:
        return []
    schema, form = schema_at(state, str(address)), shown_form(entry.value)
    names = [each.name for each in schema.fields] if schema is not None else []
    held = leaves(form) if isinstance(form, dict) else {}
    return list(dict.fromkeys([*(".".join(map(str, path)) for path in held), *names]))


def _values(ctx: typer.Context, field: str) -> list[str]:
    """Return what a field may be set to, as far as it can be counted; else what it is now."""
    from ezgraph.cli.component import schema_at, shown_form
    from ezgraph.cli.typed import choice_text, choices_of, nodes_at
    from ezgraph.settings.columns import leaves

    state, address = _state(ctx), str(ctx.params.get("component"))
    if state is None:
        return []
    nodes = nodes_at(schema_at(state, address), field)
    kinds = [node.get("type") for node in nodes]
    found = [choice_text(each) for each in choices_of(nodes)]
    found += ["true", "false"] if "boolean" in kinds else []
    found += ["none"] if "null" in kinds else []
    entry = state.settings.get(address)
    form = shown_form(entry.value) if entry is not None else None
    if not found and isinstance(form, dict):
        now = {".".join(map(str, path)): value for path, value in leaves(form).items()}
        found = [choice_text(now[field])] if isinstance(now.get(field), int | float | str) else []
    return found


def _state(ctx: typer.Context) -> GraphState | None:
    """Return the state, asked for once."""
    if _STATE not in ctx.meta:
        ctx.meta[_STATE] = _fetched(ctx)
    found: GraphState | None = ctx.meta[_STATE]
    return found


def _fetched(ctx: typer.Context) -> GraphState | None:
    from ezgraph.cli.component import fetch
    from ezgraph.cli.guest import guest

    with suppress(EzGraphError, OSError):
        broker = _broker(ctx)
        with guest(broker) as session:
            return fetch(session, timeout_s=broker.timeout_s)
    return None


def _broker(ctx: typer.Context) -> Target:
    """Return the broker that the words typed so far name; options before the command too."""
    words: dict[str, Any] = {}
    above: Any = ctx
    while above is not None:
        for name in ("address", "context", "keys"):
            words[name] = words.get(name) or above.params.get(name)
        above = above.parent
    return target(ctx, Given(**words, timeout_s=TIMEOUT_S))


# --- nodes ---


def node_paths(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return graphs, and below one the labels that come next.

    One that leads on is never offered alone: what is below it is, too, else the shell ends the
    word there.
    """
    with suppress(EzGraphError, OSError):
        found = _paths_below(ctx, incomplete)
        if len(found) == 1:
            found += _paths_below(ctx, f"{found[0]}/")
        return _plain(found)
    return []


def _paths_below(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what may stand for the last label that was typed, with the way there."""
    from ezgraph.cli.data_nodes.commands import node_at
    from ezgraph.cli.data_nodes.served import graph_records
    from ezgraph.protocol.key_text import escaped

    broker, at = _broker(ctx), ctx.params.get("at")
    way, slash, _ = incomplete.rpartition("/")
    if not slash and not at:
        found = [escaped(each["name"], "%/") for each in graph_records(broker)]
    else:
        with node_at(broker, way or None, at) as (node, _):
            found = [f"{way}{slash}{_word(label)}" for label in node.keys(0, _OFFERED)]
    return [each for each in found if each.startswith(incomplete)]


def _word(label: str | int) -> str:
    """Return a label without the brackets that shells would take for a pattern."""
    from ezgraph.protocol.served import node_path_text

    return str(label) if isinstance(label, int) else node_path_text([label])
