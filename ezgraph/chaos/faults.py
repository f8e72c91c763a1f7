"""How each kind of fault is done to a rig, and undone."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ezgraph.chaos.proxy import PULLED, Cable, Faults, Way
from ezgraph.chaos.schedule import Kind
from ezgraph.errors import DeadlineError
from ezgraph.verify.records import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ezgraph.chaos.rig import Rig, Slot
    from ezgraph.chaos.schedule import Plan

_FULL_BYTES = 4096
_NOTICE_S = 3.0
_BREATH_S = 0.5
_NOTICED_CODE = 4
_DELAY_S, _JITTER_S = (0.05, 0.4), 0.1
_RATES = (1_500.0, 20_000.0)


async def inflict(rig: Rig, plan: Plan) -> bool:
    """Do what is planned and undo it; False: there was nobody to do it to."""
    if plan.client is None:
        async with rig.broker_busy:
            await _BROKER[plan.kind](rig, plan)
            await asyncio.sleep(_BREATH_S)  # also where the host is slow and the next one is due
        return True
    slot = rig.slots[plan.client]
    async with slot.busy:
        if slot.child is None or not slot.child.alive:
            return False
        if slot.cable is not None and plan.kind in _CABLE:
            rig.note(Fault.CUT, slot.child)
            await _CABLE[plan.kind](slot.cable, plan)
            rig.note(Fault.HEALED, slot.child)
        else:
            await _CLIENT[plan.kind](rig, slot, plan)
    return True


# --- the broker ---


async def _kill_broker(rig: Rig, plan: Plan) -> None:  # noqa: ARG001 - one form for all
    await rig.kill_broker()
    await rig.start_broker()


async def _kill_broker_longer(rig: Rig, plan: Plan) -> None:
    await rig.kill_broker()
    await asyncio.sleep(plan.for_s)
    await rig.start_broker()


async def _end_broker(rig: Rig, plan: Plan) -> None:  # noqa: ARG001
    await rig.end_broker()
    await rig.start_broker()


async def _stop_broker(rig: Rig, plan: Plan) -> None:
    await rig.stop_broker(plan.for_s)


async def _fill_disk(rig: Rig, plan: Plan) -> None:  # noqa: ARG001
    """Let no file of the broker grow: its journal must fail, and it must end for that reason."""
    broker = rig.broker
    if sys.platform != "linux" or broker is None or broker.pid is None:
        return
    import resource

    broker.may_end = True
    rig.note(Fault.BROKER_DOWN)
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, _FULL_BYTES))
    try:
        code = await broker.ended(_NOTICE_S)
    except DeadlineError:
        await rig.kill_broker()  # nobody changed anything in that time
    else:
        if code != _NOTICED_CODE:
            rig.break_promise(
                f"G4: a broker with a full disk ended with code {code}, not {_NOTICED_CODE}: "
                f"{broker.last_words()}"
            )
    await rig.start_broker()


# --- a client ---


async def _kill_client(rig: Rig, slot: Slot, plan: Plan) -> None:  # noqa: ARG001
    await rig.kill_client(slot)
    await rig.start_client(slot)


async def _take_over(rig: Rig, slot: Slot, plan: Plan) -> None:  # noqa: ARG001
    token = slot.token
    await rig.kill_client(slot)
    await rig.start_client(slot, token=token)


async def _end_client(rig: Rig, slot: Slot, plan: Plan) -> None:  # noqa: ARG001
    await rig.end_client(slot)
    await rig.start_client(slot)


async def _stop_client(rig: Rig, slot: Slot, plan: Plan) -> None:
    await rig.stop_client(slot, plan.for_s)


# --- its cable ---


async def _cut(cable: Cable, plan: Plan) -> None:
    cable.cut(with_reset=plan.strength < 0.5)


async def _half_open(cable: Cable, plan: Plan) -> None:
    cable.half_open(lost=Way.UP if plan.strength < 0.5 else Way.DOWN)
    await asyncio.sleep(plan.for_s)
    await cable.heal()


async def _suffer(cable: Cable, plan: Plan) -> None:
    await cable.suffer(_faults(plan))
    if plan.kind is Kind.REFUSE:
        cable.cut(with_reset=True)
    await asyncio.sleep(plan.for_s)
    await cable.heal()


def _faults(plan: Plan) -> Faults:
    match plan.kind:
        case Kind.SILENCE:
            return Faults(silent=frozenset({Way.UP if plan.strength < 0.5 else Way.DOWN}))
        case Kind.DELAY:
            return Faults(delay_s=_between(_DELAY_S, plan.strength), jitter_s=_JITTER_S)
        case Kind.THROTTLE:
            return Faults(bytes_per_s=_between(_RATES, plan.strength))
        case Kind.REFUSE:
            return Faults(refuses=True)
        case _:
            return PULLED


def _between(span: tuple[float, float], strength: float) -> float:
    return span[0] + strength * (span[1] - span[0])


_BROKER: dict[Kind, Callable[[Rig, Plan], Awaitable[None]]] = {
    Kind.KILL_BROKER: _kill_broker,
    Kind.KILL_BROKER_LONGER: _kill_broker_longer,
    Kind.END_BROKER: _end_broker,
    Kind.STOP_BROKER: _stop_broker,
    Kind.FILL_DISK: _fill_disk,
}
_CLIENT: dict[Kind, Callable[[Rig, Slot, Plan], Awaitable[None]]] = {
    Kind.KILL_CLIENT: _kill_client,
    Kind.TAKE_OVER: _take_over,
    Kind.END_CLIENT: _end_client,
    Kind.STOP_CLIENT: _stop_client,
    Kind.STOP_CLIENT_LONGER: _stop_client,
}
_CABLE: dict[Kind, Callable[[Cable, Plan], Awaitable[None]]] = {
    Kind.CUT: _cut,
    Kind.PULL: _suffer,
    Kind.PULL_LONGER: _suffer,
    Kind.SILENCE: _suffer,
    Kind.DELAY: _suffer,
    Kind.THROTTLE: _suffer,
    Kind.REFUSE: _suffer,
    Kind.HALF_OPEN: _half_open,
}
