"""Three hosts, their cables pulled and put back: broker, rig and viewer over real addresses.

Each host is a network namespace of this test's own (`conftest.Lab`). All hosts share this machine's
monotonic clock, so their times can be compared.

What was measured is printed: ``pytest -s tests/integration/test_three_hosts.py``. The programs
that run on the hosts stand at the end of this file.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    BrokerConfig,
    ComponentMetadata,
    DynamicSettingsMetadata,
    Event,
    EzGraphError,
    GraphContext,
    GraphMetadata,
    GraphServer,
    ProcessControlClient,
    SessionExpiredError,
)
from ezgraph.config import Address
from ezgraph.errors import ConfigError
from ezgraph.protocol.replies import Lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from tests.integration.conftest import Lab, Program

pytestmark = pytest.mark.integration

HOSTS = {"broker": "10.93.7.1", "rig": "10.93.7.2", "viewer": "10.93.7.3", "spare": "10.93.7.4"}
SECOND_ADDRESS = "10.93.7.11"
TTL_S = 2.0
SLACK_S = 1.5
"""Added to the bounds that are looked at from outside: two busy cores, six processes."""

ANSWER_S = 20.0
UNIT = "RIG/AMP"
METADATA = GraphMetadata(
    components={
        "RIG": ComponentMetadata(
            "RIG", "RIG", "m.Rig", "m.Settings", (None, {"gain": 1}), DynamicSettingsMetadata(False)
        )
    }
)


# --- the hosts ---


@pytest.fixture(scope="module")
def lab(lay_out: Callable[[Mapping[str, str]], Lab]) -> Lab:
    made = lay_out(HOSTS)
    made.give_address("broker", SECOND_ADDRESS)
    return made


class Stage:
    """A broker, a rig and a viewer, each on its host."""

    def __init__(self, lab: Lab, stack: ExitStack, journal: Path) -> None:
        self.lab = lab
        self._stack = stack
        self._journal = journal
        self.said: dict[str, Any] = {}

    def start(self, host: str, *command: str) -> Program:
        program = self.lab.run(host, *command)
        self._stack.callback(program.kill)
        return program

    def start_broker(self, host: str = "broker", *, listen: str = "", advertise: str = "") -> str:
        """Start a broker on a host; return the address that clients are given."""
        self.broker = self.start(
            host,
            *("-m", "ezgraph", "serve", "--insecure", "--json"),
            *("--address", f"{listen or HOSTS[host]}:{self.said.get('port', 0)}"),
            *("--backend", f"sqlite:///{self._journal}", "--ttl", str(TTL_S)),
            *(("--advertise", advertise) if advertise else ()),
        )
        port = int(self.broker.hear()["address"].rpartition(":")[2])
        self.said["port"] = port
        return f"{HOSTS[host]}:{port}"

    def start_clients(self, addresses: str) -> None:
        self.rig = self.start("rig", __file__, "rig", addresses)
        self.viewer = self.start("viewer", __file__, "viewer", addresses)
        self.said |= self.rig.hear()
        self.viewer.hear()


@pytest.fixture
def stage(lab: Lab, tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(lab, stack, tmp_path / "rig.db")


@pytest.fixture
def running(stage: Stage) -> Stage:
    """All three, on the broker's own address, and the rig at work."""
    stage.start_clients(stage.start_broker())
    stage.rig.ask("work")
    return stage


@contextmanager
def unplugged(stage: Stage, host: str, seconds: float) -> Iterator[tuple[float, float]]:
    """Pull a cable for so long; gives when it was pulled and when it was back."""
    pulled = stage.lab.pull(host)
    threading.Event().wait(seconds)
    yield pulled, stage.lab.plug(host)


def told(what: str, **seconds: float) -> None:
    """Add a line to the report."""
    figures = ", ".join(f"{name} {each:.2f} s" for name, each in seconds.items())
    sys.stdout.write(f"{what}: {figures}\n")


# --- what is promised ---


def rows_agree(calls: list[Any], seen: list[dict[str, Any]]) -> None:
    """Each answered call stands in what was seen, with its seq, and nothing else does: G1, G5."""
    edges = [(row["key"][1], row["seq"]) for row in seen if row["kind"] == "EdgeConnected"]
    assert edges == [(topic, seq) for topic, seq, _ in calls]


def nothing_is_lost_or_doubled(stage: Stage) -> list[Any]:
    """Look at rig and viewer when both have everything; return the rig's calls."""
    rested = stage.rig.ask("rest")
    assert rested["error"] == ""
    calls: list[Any] = rested["calls"]
    state = stage.viewer.ask("state")
    at_viewer = stage.viewer.ask("seen", seq=state["seq"])
    assert [row["seq"] for row in at_viewer] == list(range(1, state["seq"] + 1))
    rows_agree(calls, at_viewer)
    rows_agree(calls, stage.rig.ask("seen", seq=calls[-1][1]))
    assert state["same"], "G10: the replica differs from the broker"
    return calls


def back_after(calls: list[Any], plugged: float) -> float:
    """How long after the cable was back the first call was answered."""
    return float(min(at for _, _, at in calls if at > plugged)) - plugged


@pytest.mark.parametrize(
    ("listen", "advertise"),
    [
        ("0.0.0.0", ""),
        ("0.0.0.0", SECOND_ADDRESS),
        pytest.param(HOSTS["broker"], "", marks=pytest.mark.soak),  # as in all the others
    ],
)
def test_clients_on_other_hosts_get_endpoints_that_they_can_reach(
    stage: Stage, listen: str, advertise: str
) -> None:
    address = stage.start_broker(listen=listen, advertise=advertise)
    stage.start_clients(address)
    stage.rig.ask("work")
    stage.viewer.ask("first", kind="EdgeConnected", after=0)

    calls = nothing_is_lost_or_doubled(stage)

    port = stage.said["port"]
    expected = {address, f"{advertise or HOSTS['broker']}:{port + 1}"}
    assert stage.lab.peers("rig") == stage.lab.peers("viewer") == expected
    assert len(calls) > 0


@pytest.mark.parametrize("advertise", ["127.0.0.1", "localhost", "0.0.0.0", "::", "::1"])
def test_a_broker_for_other_hosts_does_not_send_them_to_themselves(advertise: str) -> None:
    config = BrokerConfig(address=Address("0.0.0.0", 0), insecure=True, advertise=advertise)
    with pytest.raises(ConfigError, match="advertise"):
        GraphServer(config=config).start()


def cables(host: str) -> pytest.MarkDecorator:
    """Of a host: the one behind its switch, of which nobody is told; its own, if there is time."""
    return pytest.mark.parametrize(
        "cable", [f"{host}-far", pytest.param(host, marks=pytest.mark.soak)]
    )


@cables("rig")
def test_a_rig_unplugged_for_half_its_ttl_keeps_all_and_loses_and_doubles_nothing(
    running: Stage, cable: str
) -> None:
    with unplugged(running, cable, TTL_S / 2) as (_, plugged):
        process = running.rig.ask("report settings")

    assert process["code"] == ""
    calls = nothing_is_lost_or_doubled(running)
    kinds = {row["kind"] for row in running.viewer.ask("seen", seq=calls[-1][1])}
    assert not kinds & {"SessionClosed", "ProcessClosed", "EdgeDisconnected"}
    told(
        f"{cable} cut for {TTL_S / 2:g} s, TTL {TTL_S:g} s",
        session_back_after=back_after(calls, plugged),
        process_back_after=process["at"] - plugged,
    )


@cables("rig")
def test_a_rig_unplugged_for_longer_than_its_ttl_is_seen_to_end_and_learns_it_when_back(
    running: Stage, cable: str
) -> None:
    running.viewer.ask("first", kind="EdgeConnected", after=0)
    pulled = running.lab.pull(cable)

    ends = [
        running.viewer.ask("first", kind=kind, after=pulled)
        for kind in ("SessionClosed", "ProcessClosed")
    ]
    state = running.viewer.ask("state")
    plugged = running.lab.plug(cable)
    session, process = running.rig.ask("connect"), running.rig.ask("report settings")
    acknowledged = running.rig.ask("rest")["calls"]
    declared = running.rig.ask("redeclare")
    again = running.viewer.ask("state")

    for end in ends:
        assert TTL_S * 2 / 3 - 0.1 < end["made"] - pulled < TTL_S + 0.5 + SLACK_S
    assert state["held"] == []
    assert state["same"]
    rows = running.viewer.ask("seen", seq=state["seq"])
    gone = [row for row in rows if row["kind"] in ("EdgeDisconnected", "ComponentRemoved")]
    assert {row["transaction"] for row in gone} == {ends[0]["transaction"]}
    edges = sorted(row["key"][1] for row in gone if row["kind"] == "EdgeDisconnected")
    assert session["code"] == process["code"] == "session_expired"
    assert session["lost"] == [*edges, "RIG"]
    assert process["lost"] == [UNIT]
    assert [each["code"] for each in declared] == ["", ""]
    assert set(again["held"]) >= {*(topic for topic, _, _ in acknowledged), "RIG", UNIT}
    assert again["same"]
    told(
        f"{cable} cut for good, TTL {TTL_S:g} s",
        session_ended_after=ends[0]["made"] - pulled,
        viewer_saw_it_after=ends[0]["came"] - pulled,
        process_ended_after=ends[1]["made"] - pulled,
        rig_knew_after_the_cable_was_back=max(session["at"], process["at"]) - plugged,
    )


@cables("viewer")
def test_a_viewer_unplugged_catches_up_completely(running: Stage, cable: str) -> None:
    running.viewer.ask("first", kind="EdgeConnected", after=0)

    with unplugged(running, cable, TTL_S) as (_, plugged):
        first = running.viewer.ask("first", kind="EdgeConnected", after=plugged)

    nothing_is_lost_or_doubled(running)
    assert first["made"] < plugged, "nothing happened while the cable was out"
    told(f"{cable} cut for {TTL_S:g} s", viewer_back_after=first["came"] - plugged)


@cables("broker")
def test_the_brokers_host_is_moved_away_and_back_and_everybody_goes_on(
    running: Stage, cable: str
) -> None:
    with unplugged(running, cable, TTL_S / 2) as (_, plugged):
        process = running.rig.ask("report settings")
        first = running.viewer.ask("first", kind="EdgeConnected", after=plugged)

    assert process["code"] == ""
    calls = nothing_is_lost_or_doubled(running)
    told(
        f"{cable} cut for {TTL_S / 2:g} s, TTL {TTL_S:g} s",
        session_back_after=back_after(calls, plugged),
        process_back_after=process["at"] - plugged,
        viewer_back_after=first["came"] - plugged,
    )


def test_the_brokers_host_dies_and_another_goes_on_with_its_journal(stage: Stage) -> None:
    first = stage.start_broker()
    both = f"{first},{HOSTS['spare']}:{stage.said['port']}"
    stage.start_clients(both)
    stage.rig.ask("work")
    stage.viewer.ask("first", kind="EdgeConnected", after=0)
    died = stage.lab.pull("broker-far")  # so nobody is told that its connection has ended
    stage.broker.kill()

    stage.start_broker("spare")

    serving = monotonic()
    try:
        back = stage.viewer.ask("first", kind="EdgeConnected", after=died)
        process = stage.rig.ask("report settings")
        fresh_ttl_over = serving + TTL_S + 0.6  # by then the keep-alive must have followed
        threading.Event().wait(max(0.0, fresh_ttl_over - monotonic()))
        calls = nothing_is_lost_or_doubled(stage)
        ends = [
            row
            for row in stage.viewer.ask("seen", seq=calls[-1][1])
            if row["kind"] in ("SessionClosed", "ProcessClosed")
        ]
        assert process["code"] == ""
        assert ends == []
    finally:
        stage.lab.plug("broker-far")
    told(
        "broker moved to another host",
        down_for=serving - died,
        session_back_after=back_after(calls, serving),
        process_back_after=process["at"] - serving,
        viewer_back_after=back["came"] - serving,
    )


# --- the programs on the hosts ---


class Work:
    """Calls made one after the other, and when each was answered."""

    def __init__(self, ctx: GraphContext) -> None:
        self.calls: list[tuple[str, int, float]] = []
        self.error = ""
        self._ctx = ctx
        self._task: asyncio.Task[None] | None = None
        self._resting = False

    def begin(self, group: asyncio.TaskGroup) -> None:
        self._resting = False
        self._task = group.create_task(self._work())

    async def _work(self) -> None:
        while not self._resting and not self.error:
            topic = f"RIG/OUT{len(self.calls)}"
            try:
                seq = await self._ctx.connect(topic, "RIG/IN", timeout=ANSWER_S - 2)
            except EzGraphError as error:
                self.error = error.code
            else:
                self.calls.append((topic, seq, monotonic()))
            await asyncio.sleep(0.02)

    async def rest(self) -> dict[str, Any]:
        self._resting = True
        if self._task is not None:
            await self._task
        return {"calls": self.calls, "error": self.error}


class Seen:
    """What a subscription gave, and when."""

    def __init__(self, ctx: GraphContext, prefix: tuple[str, ...]) -> None:
        self.events: list[dict[str, Any]] = []
        self.error = ""
        self._through = 0
        self._items: Any = ctx.subscribe(prefix, 0)
        self._more = asyncio.Event()

    async def watch(self) -> None:
        try:
            async for item in self._items:
                if isinstance(item, Event):
                    self.events.append(self._row(item))
                self._through = item.seq
                self._more.set()
        except EzGraphError as error:
            self.error = error.code
            self._more.set()

    @staticmethod
    def _row(event: Event) -> dict[str, Any]:
        return {
            "seq": event.seq,
            "kind": event.kind,
            "key": event.key,
            "transaction": event.txn_first,
            "made": event.mono_time,
            "came": monotonic(),
        }

    async def through(self, seq: int) -> list[dict[str, Any]]:
        """Return all events, when those up to ``seq`` are among them."""
        while self._through < seq and not self.error:
            self._more.clear()
            await self._more.wait()
        return self.events

    async def first(self, kind: str, after: float) -> dict[str, Any]:
        """Return the first event of a kind that came after a time, or why none will come."""
        while not self.error:
            for event in self.events:
                if event["kind"] == kind and event["came"] > after:
                    return event
            self._more.clear()
            await self._more.wait()
        return {"error": self.error}


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def requests() -> Any:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


async def be_rig(addresses: str) -> None:
    async with (
        GraphContext(addresses, program="rig") as ctx,
        ProcessControlClient(addresses, program="amplifier") as process,
        asyncio.TaskGroup() as group,
    ):
        await ctx.register_metadata(METADATA)
        await process.register([UNIT])
        await process.report_settings_update(UNIT, {"gain": 2})
        work, seen = Work(ctx), Seen(ctx, ("edge",))
        watching = group.create_task(seen.watch())
        say({"session": ctx.session_id, "process": str(process.client_id)})
        async for request in requests():
            match request["do"]:
                case "work":
                    work.begin(group)
                    say({})
                case "rest":
                    say(await work.rest())
                case "report settings":
                    say(await outcome(process.report_settings_update(UNIT, {"gain": 3})))
                case "seen":
                    say(await seen.through(request["seq"]))
                case "connect":
                    say(await outcome(ctx.connect("RIG/LATE", "RIG/IN")))
                case "redeclare":
                    say([await outcome(ctx.redeclare()), await outcome(process.redeclare())])
                case other:
                    raise ValueError(other)
        watching.cancel()


async def be_viewer(addresses: str) -> None:
    async with (
        GraphContext(addresses, program="viewer", ttl_s=6, replica=True) as ctx,
        asyncio.TaskGroup() as group,
    ):
        seen = Seen(ctx, ())
        watching = group.create_task(seen.watch())
        say({})
        async for request in requests():
            match request["do"]:
                case "seen":
                    say(await seen.through(request["seq"]))
                case "first":
                    say(await seen.first(request["kind"], request["after"]))
                case "state":
                    state = await ctx.state()
                    await ctx.replica.reach(state.seq)
                    same = state.fingerprint() == ctx.replica.fingerprint()
                    topics = sorted(edge[0] for edge in state.dag.edge_owners)
                    held = [*topics, *state.components, *state.unit_owner]
                    say({"seq": state.seq, "same": same, "held": held})
                case other:
                    raise ValueError(other)
        watching.cancel()


async def outcome(call: Awaitable[object]) -> dict[str, Any]:
    """Return what came of a call, and when."""
    code, message, lost = "", "", None
    try:
        await call
    except SessionExpiredError as error:
        code, message, lost = error.code, str(error), error.lost
    except EzGraphError as error:
        code, message = error.code, str(error)
    found = {"code": code, "message": message, "at": monotonic()}
    if isinstance(lost, Lost):
        topics = sorted(edge.from_topic for edge in lost.edges)
        found["lost"] = [*topics, *lost.components, *lost.units]
    return found


if __name__ == "__main__":
    asyncio.run({"rig": be_rig, "viewer": be_viewer}[sys.argv[1]](sys.argv[2]))
