"""`SettingsHost`: a typed settings object that others may change, safely, while it is in use.

The process that runs a component is the authority on its settings. A host keeps the object that the
program reads (``host.settings``), and makes the changes that are asked for: a new object is built
from the present one and the changed fields, validators look at it (they may refuse it, or put
another in its place), then it takes the old one's place, is reported, and callbacks hear of it. A
change that is refused leaves the object as it is.

States of a change: asked -> built -> valid -> in place -> reported. What fails before *in place* is
a veto, with the reason; from there on it is true.
"""

from __future__ import annotations

import inspect
import logging
import threading
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_CHANGE_TIMEOUT_S
from ezgraph.errors import DeadlineError, UnknownFieldError, VetoedError
from ezgraph.protocol.graphs import settings_digest
from ezgraph.protocol.settings import SettingsSnapshotValue, settings_value
from ezgraph.settings.schema import settings_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ezgraph.protocol.routed import SettingsChangeRequest, SettingsCheckRequest
    from ezgraph.protocol.settings import SettingsSnapshotValue as Value

log = logging.getLogger(__name__)

S = TypeVar("S")


class Owner(Protocol):
    """What a host needs of a `ProcessControlClient`, asyncio or blocking."""

    def register(self, units: Iterable[str], *, timeout: float = ...) -> Any:  # noqa: ANN401
        """Take units."""
        ...

    def report_settings_update(
        self,
        component_address: str,
        value: object,
        timestamp: float | None = None,
        *,
        reason: str | None = None,
        timeout: float = ...,
    ) -> Any:  # noqa: ANN401
        """Report settings."""
        ...

    @property
    def take_changes(self) -> Callable[..., None]:
        """Make the changes that are asked for; only the blocking one takes a ``lock``."""
        ...

    def take_no_changes(self, address: str) -> None:
        """Refuse them."""
        ...


class SettingsHost(Generic[S]):
    """Keeps the settings of one component, and makes the changes that others ask for.

    ::

        host = SettingsHost(client, "SYS/FILTER", FilterSettings(), validators=[not_both])
        await host.start()                    # registers the unit, reports the settings
        ... host.settings.cutoff ...          # from any thread
        await host.update(cutoff=30.0)        # a change of one's own, reported like any other

    Args:
        client: the `ProcessControlClient` (of `ezgraph` or `ezgraph.sync`) that runs the component.
        address: the component's address.
        settings: a dataclass or pydantic model (its type says what may be asked for), or a mapping.
        validators: called in turn with (the settings as they would be, the present ones); one that
            raises refuses the change, with its message; one that returns something else than None
            puts that in place of it. They are called, too, when it is only asked whether a change
            would be made (before a snapshot is restored).
        callbacks: called with (the new settings, the ones before) when a change is in place. What
            they raise does not undo it.
        change_timeout_s: how long a change of others may take; see
            `ProcessControlClient.take_changes`, also for what becomes of one that takes longer.
            With an asyncio client validators and callbacks run in the event loop, and none of this
            program's clients is heard while one of them hangs.

    With an asyncio client ``start``, ``update`` and ``replace`` are awaited; with a blocking one
    they are plain calls.
    """

    def __init__(
        self,
        client: Owner,
        address: str,
        settings: S,
        *,
        validators: Iterable[Callable[[S, S], S | None]] = (),
        callbacks: Iterable[Callable[[S, S], object]] = (),
        change_timeout_s: float = DEFAULT_CHANGE_TIMEOUT_S,
    ) -> None:
        self.address = address
        self.validators = list(validators)
        self.callbacks = list(callbacks)
        self._client = client
        self._settings = settings
        self._schema = settings_schema(type(settings)) if _is_typed(settings) else None
        self._change_timeout_s = change_timeout_s
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<SettingsHost {self.address} {self._settings!r}>"

    @property
    def settings(self) -> S:
        """The settings as they are now; a change puts another object in their place."""
        return self._settings

    def value(self) -> Value:
        """Return the present settings as they are reported, with their schema."""
        return _reported(self._settings, self._schema)

    # --- starting and ending ---

    def start(self, *, timeout: float = 10.0) -> Any:  # noqa: ANN401 - awaited where the client is
        """Register the unit, report the settings, and make changes from now on."""
        timeout_s = self._change_timeout_s
        if not _is_blocking(self._client):
            self._client.take_changes(
                self.address, self._change_async, timeout_s=timeout_s, check=self._check_async
            )
            return self._start(timeout)
        self._client.take_changes(
            self.address, self._change, timeout_s=timeout_s, lock=self._lock, check=self._check
        )
        deadline = Deadline(timeout)
        self._client.register([self.address], timeout=timeout)
        with self._turn(deadline.left()):
            return self._report(self.value(), None, deadline.left())

    async def _start(self, timeout: float) -> int:  # noqa: ASYNC109
        await self._client.register([self.address], timeout=timeout)
        seq: int = await self._client.report_settings_update(
            self.address, self.value(), timeout=timeout
        )
        return seq

    def stop(self) -> None:
        """Make no changes any more; the settings stay as they were reported."""
        self._client.take_no_changes(self.address)

    # --- changes of one's own ---

    def update(self, *, reason: str | None = None, timeout: float = 10.0, **changes: object) -> Any:  # noqa: ANN401
        """Change some fields and report it; validators and callbacks are called as for others.

        Raises:
            VetoedError: a validator refused it.
            UnknownFieldError: there is no such field.
            DeadlineError: another change is being made for all that time, in another thread.
        """
        return self._put_and_report(
            lambda: self._built(changes, whole=False), reason, timeout
        )

    def replace(self, settings: S, *, reason: str | None = None, timeout: float = 10.0) -> Any:  # noqa: ANN401
        """Put other settings in place of these, and report it; raises as `update`."""
        return self._put_and_report(lambda: settings, reason, timeout)

    def _put_and_report(
        self, build: Callable[[], S], reason: str | None, timeout: float
    ) -> Any:  # noqa: ANN401
        """Put what is built in place; a blocking client lets nobody else do so until it is told."""
        deadline = Deadline(timeout)
        with self._turn(timeout):
            value = self._put(build())
            return self._report(value, reason, deadline.left())

    def _report(self, value: Value, reason: str | None, timeout: float) -> Any:  # noqa: ANN401
        return self._client.report_settings_update(
            self.address, value, reason=reason, timeout=timeout
        )

    @contextmanager
    def _turn(self, timeout: float) -> Iterator[None]:
        """Hold the settings: nobody else changes them meanwhile."""
        if not self._lock.acquire(timeout=timeout):
            raise DeadlineError(
                f"another change of {self.address!r} has been made for {timeout:g} s in another "
                f"thread; a validator or a callback of it hangs"
            )
        try:
            yield
        finally:
            self._lock.release()

    # --- changes that others ask for ---

    async def _change_async(self, request: SettingsChangeRequest) -> Value:
        return self._change(request)

    def _change(self, request: SettingsChangeRequest) -> Value:
        with self._turn(self._change_timeout_s):
            return self._put(self._built(request.changes, whole=request.whole))

    async def _check_async(self, request: SettingsCheckRequest) -> None:
        self._check(request)

    def _check(self, request: SettingsCheckRequest) -> None:
        """Raise what a change would raise, and if something else would be put in place of it."""
        with self._turn(self._change_timeout_s):
            wanted = self._built(request.changes, whole=request.whole)
            value = _reported(self._validated(wanted), self._schema)
            if settings_digest(value) != settings_digest(_reported(wanted, self._schema)):
                raise VetoedError(
                    f"the program of {self.address!r} would put other settings in place of these: "
                    f"{value.repr_value!r:.200}"
                )

    def _validated(self, wanted: S) -> S:
        """Return what the validators make of settings that are to be put in place."""
        for validate in self.validators:
            other = validate(wanted, self._settings)
            wanted = wanted if other is None else other
        return wanted

    def _put(self, wanted: S) -> Value:
        """Validate, put in place, and tell the callbacks; return what is to be reported."""
        before = self._settings
        wanted = self._validated(wanted)
        value = _reported(wanted, self._schema)  # before it is in place: it may not be possible
        self._settings = wanted
        for tell in self.callbacks:
            try:
                tell(wanted, before)
            except Exception:
                log.exception("a callback failed address=%s", self.address)
        return value if self._settings is wanted else self.value()  # a callback may change them

    def _built(self, changes: Mapping[str, object], *, whole: bool) -> S:
        """Return the present settings with some fields changed; ``whole``: with all of them."""
        built: Any = self._settings
        for path, value in changes.items():
            built = _with(built, path.split("."), value, path)
        if whole and isinstance(built, dict):
            built = {name: each for name, each in built.items() if name in changes}
        result: S = built
        return result


def _with(settings: Any, path: list[str], value: object, whole_path: str) -> Any:  # noqa: ANN401
    """Return a copy of ``settings`` in which the field at ``path`` is ``value``."""
    name, rest = path[0], path[1:]
    if isinstance(settings, dict):
        if rest and name not in settings:
            raise _unknown(whole_path, settings)
        return {**settings, name: _with(settings[name], rest, value, whole_path) if rest else value}
    if not hasattr(settings, name):
        raise _unknown(whole_path, settings)
    now = getattr(settings, name)
    new = _with(now, rest, value, whole_path) if rest else _like(now, value)
    if is_dataclass(settings) and not isinstance(settings, type):
        if name not in {each.name for each in fields(settings)}:
            raise _unknown(whole_path, settings)
        return replace(settings, **{name: new})
    copy = getattr(settings, "model_copy", None)
    if callable(copy):
        kind = type(settings)
        return kind.model_validate({**settings.model_dump(), name: new})
    raise VetoedError(f"settings of type {type(settings).__name__} cannot be changed by field")


def _like(now: object, value: object) -> object:
    """Return ``value`` in the form of what it takes the place of, where that loses nothing."""
    if is_dataclass(now) and not isinstance(now, type) and isinstance(value, dict):
        built: Any = now
        for name, each in value.items():
            built = _with(built, [str(name)], each, str(name))
        return built
    if isinstance(now, float) and type(value) is int:
        return float(value)
    if isinstance(now, tuple) and isinstance(value, list):
        return tuple(value)
    kind = type(now)
    if hasattr(kind, "__members__") and not isinstance(value, kind):
        plain = getattr(value, "value", value)
        return kind(plain)  # type: ignore[call-arg]
    return value


def _unknown(path: str, settings: object) -> UnknownFieldError:
    return UnknownFieldError(
        f"there is no field {path!r} in settings of type {type(settings).__name__}"
    )


def _reported(settings: object, schema: Any) -> SettingsSnapshotValue:  # noqa: ANN401
    value = settings_value(settings)
    if schema is None or value.settings_schema is not None:
        return value
    return replace(value, settings_schema=schema)


def _is_typed(settings: object) -> bool:
    return is_dataclass(settings) or hasattr(settings, "model_fields")


def _is_blocking(client: Owner) -> bool:
    return not inspect.iscoroutinefunction(client.register)
