"""`run_demo`: the whole demo, from an empty folder to the verdict."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ezgraph.demo import ecg
from ezgraph.demo.rig import Rig
from ezgraph.demo.story import Story
from ezgraph.demo.view import MIN_HEIGHT, MIN_WIDTH, LiveView, PlainView, View
from ezgraph.errors import ConfigError, EzGraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.demo.verdict import Verdict

INTERRUPTED = 130


def run_demo(*, pace: float = 1.0, keep: Path | None = None, plain: bool | None = None) -> int:
    """Run the demo; return 0 if the record equals the journal, else 1.

    Args:
        pace: stretches the pauses between steps, for a person to follow; 0: none.
        keep: a folder where journal and record stay; None: a temporary one.
        plain: print lines; None: only where standard output is no terminal, or a small one.

    Raises:
        MissingExtraError: PyWavelets is not installed.
        ConfigError: ``keep`` holds a journal or a record already, or ``pace`` is negative.
    """
    return run_and_judge(pace=pace, keep=keep, plain=plain, before_verdict=None)


def run_and_judge(
    *,
    pace: float,
    keep: Path | None,
    plain: bool | None,
    before_verdict: Callable[[Path], None] | None,
) -> int:
    """As `run_demo`; ``before_verdict`` gets the record's path before it is judged."""
    if not pace >= 0:
        raise ConfigError(f"pace {pace!r} is negative; 1 is as intended, 0 without pauses")
    ecg.load()
    console = Console()
    if plain is None:
        plain = (
            not console.is_terminal or console.width < MIN_WIDTH or console.height < MIN_HEIGHT
        )
    view = PlainView(console) if plain else LiveView(console)
    with _folder(keep) as folder:
        try:
            verdict, kills = asyncio.run(_until_terminated(folder, view, pace, before_verdict))
        except (KeyboardInterrupt, asyncio.CancelledError):
            view.say("stopped; all its processes have ended")
            return INTERRUPTED
        except EzGraphError as error:
            view.say(f"verdict: NOT OK, the demo could not go on: {error}", "bold red")
            return 1
        if keep is not None:
            view.say(f"kept in {folder}: journal.db, record.jsonl and the logs")
        view.verdict(verdict, kills=kills)
    return 0 if verdict.ok else 1


async def play(
    folder: Path,
    view: View,
    *,
    pace: float,
    before_verdict: Callable[[Path], None] | None = None,
) -> tuple[Verdict, int]:
    """Tell the story in ``folder``; return the verdict and the number of kills.

    No process is left behind.

    Raises:
        EzGraphError: something did not happen, or a promise was broken.
    """
    rig = Rig(folder, on_event=view.event, on_change=view.changed)
    view.attach(rig)
    async with rig:
        story = Story(rig, view, pace=pace, before_verdict=before_verdict)
        await story.tell()
    if story.verdict is None:
        raise EzGraphError("the story ended without a verdict")
    return story.verdict, rig.kills


async def _until_terminated(
    folder: Path, view: View, pace: float, before_verdict: Callable[[Path], None] | None
) -> tuple[Verdict, int]:
    """As `play`; SIGTERM ends it as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with ExitStack() as stack:
        if task is not None:
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(signal.SIGTERM, task.cancel)
                stack.callback(loop.remove_signal_handler, signal.SIGTERM)
        with view:
            return await play(folder, view, pace=pace, before_verdict=before_verdict)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ezgraph-demo-") as name:
            yield Path(name)
        return
    taken = [name for name in ("journal.db", "record.jsonl") if (keep / name).exists()]
    if taken:
        raise ConfigError(
            f"{keep} holds {' and '.join(taken)} of an earlier run; name a new folder"
        )
    keep.mkdir(parents=True, exist_ok=True)
    yield keep
