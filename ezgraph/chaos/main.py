"""`run_chaos`: the whole run, from an empty folder to the report."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ezgraph.chaos.faults import inflict
from ezgraph.chaos.rig import TTL_S, Rig
from ezgraph.chaos.schedule import Kind, Plan, schedule
from ezgraph.chaos.verdict import judge
from ezgraph.chaos.view import MIN_HEIGHT, MIN_WIDTH, LiveView, PlainView, SilentView, View
from ezgraph.errors import ConfigError, EzGraphError

if TYPE_CHECKING:
    from collections.abc import Coroutine

INTERRUPTED = 130
MAX_CLIENTS = 200


def run_chaos(
    *,
    for_s: float = 30.0,
    clients: int = 20,
    seed: int,
    with_keys: bool = False,
    keep: Path | None = None,
    plain: bool | None = None,
    as_json: bool = False,
) -> int:
    """Run chaos for ``for_s`` seconds, then check; return 0 if every promise was kept, else 1.

    Args:
        for_s: how long faults go on; healing, catching up and checking come after.
        clients: how many client processes.
        seed: gives the schedule of faults again, though not their timing within the clients.
        with_keys: the broker admits only clients with a key, and all is encrypted (CURVE).
        keep: a folder where traces, journal and logs stay; None: a temporary one, which stays
            only when a promise was broken.
        plain: print lines; None: only where standard output is no terminal, or a small one.
        as_json: print the verdict as one JSON object and nothing else.

    Raises:
        ConfigError: an argument is out of its range, or ``keep`` holds an earlier run.
    """
    _check(for_s, clients)
    console = Console()
    view = _view(console, for_s=for_s, plain=plain, as_json=as_json)
    folder = _folder(keep)
    try:
        rig = asyncio.run(
            _until_terminated(
                play(folder, view, for_s=for_s, clients=clients, seed=seed, with_keys=with_keys),
                view,
            )
        )
    except (KeyboardInterrupt, asyncio.CancelledError):
        _remove(folder, keep)
        view.say("stopped; all its processes have ended")
        return INTERRUPTED
    except Exception as error:
        error.add_note(f"what there was until then is kept in {folder}")
        raise
    verdict = judge(
        folder,
        seen=rig.broken,
        counts=rig.counts,
        faults=view.done,
        seed=seed,
        elapsed_s=view.elapsed_s,
    )
    if verdict.ok:
        _remove(folder, keep)
    kept = None if verdict.ok and keep is None else folder
    if as_json:
        verdict.write_json(kept=kept)
        return 0 if verdict.ok else 1
    verdict.show(view)
    if kept is not None:
        view.say(f"kept in {kept}: journal.db, archive.db (what was compacted too), traces, logs")
    return 0 if verdict.ok else 1


async def play(
    folder: Path, view: View, *, for_s: float, clients: int, seed: int, with_keys: bool = False
) -> Rig:
    """Run chaos in ``folder``, heal, settle and end; return the rig as it was. No process stays.

    What keeps the run from going on is one more broken promise.
    """
    rig = Rig(folder, clients=clients, seed=seed, with_keys=with_keys)
    view.attach(rig)
    try:
        async with rig:
            await _play_in(rig, view, for_s=for_s, clients=clients, seed=seed)
    except* (EzGraphError, OSError) as group:
        for error in group.exceptions:
            rig.break_promise(f"the run could not go on: {error!r}")
    view.happened("all processes have ended")
    return rig


async def _play_in(rig: Rig, view: View, *, for_s: float, clients: int, seed: int) -> None:
    view.begin()
    view.happened(f"a broker at {rig.address}, {len(rig.cabled)} of its clients behind a cable")
    plans = schedule(
        seed=seed,
        for_s=for_s,
        clients=clients,
        cabled=rig.cabled,
        kinds=possible_kinds(),
        ttl_s=TTL_S,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rig.start_clients())
        tasks.create_task(_inflict_all(rig, view, plans, for_s))
    view.happened("everything is healed; all catch up, then leave")
    await rig.settle()


def possible_kinds() -> list[Kind]:
    """Return the kinds of faults that can be done here."""
    kinds = list(Kind)
    if sys.platform != "linux":
        kinds.remove(Kind.FILL_DISK)
    return kinds


async def _inflict_all(rig: Rig, view: View, plans: list[Plan], for_s: float) -> None:
    """Do each fault when its time has come; return when the time is over and all are undone."""

    async def one(plan: Plan) -> None:
        await asyncio.sleep(plan.at_s - view.elapsed_s)
        view.fault(plan.kind, _wording(rig, plan))
        await inflict(rig, plan)

    async with asyncio.TaskGroup() as tasks:
        for plan in plans:
            tasks.create_task(one(plan))
        await asyncio.sleep(for_s - view.elapsed_s)


def _wording(rig: Rig, plan: Plan) -> str:
    whom = "" if plan.client is None else f": {rig.slots[plan.client].name}"
    lasting = f" ({plan.for_s:.1f} s)" if plan.for_s else ""
    return f"{plan.kind.value}{whom}{lasting}"


async def _until_terminated(playing: Coroutine[Any, Any, Rig], view: View) -> Rig:
    """Run ``playing``, with its view; SIGTERM ends it as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with ExitStack() as stack:
        if task is not None:
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(signal.SIGTERM, task.cancel)
                stack.callback(loop.remove_signal_handler, signal.SIGTERM)
        with view:
            return await playing


def _view(console: Console, *, for_s: float, plain: bool | None, as_json: bool) -> View:
    if as_json:
        return SilentView(console, for_s=for_s)
    if plain is None:
        small = console.width < MIN_WIDTH or console.height < MIN_HEIGHT
        plain = not console.is_terminal or small
    return PlainView(console, for_s=for_s) if plain else LiveView(console, for_s=for_s)


def _check(for_s: float, clients: int) -> None:
    if not 5 <= for_s <= 86_400:
        raise ConfigError(f"a run of {for_s:g} s is too short or too long; say 30s, 10m or 2h")
    if not 1 <= clients <= MAX_CLIENTS:
        raise ConfigError(f"{clients} clients; give 1 to {MAX_CLIENTS}")


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="ezgraph-chaos-"))
    if (keep / "journal.db").exists() or (keep / "traces").exists():
        raise ConfigError(f"{keep} holds an earlier run; name a new folder")
    keep.mkdir(parents=True, exist_ok=True)
    return keep


def _remove(folder: Path, keep: Path | None) -> None:
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)
