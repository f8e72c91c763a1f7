"""Whatever comes, in the end just what is wanted runs, and no version is handed out twice."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ezgraph.flows.variants import Change, Start, Stop, Variants, Version

NAMES = st.sampled_from(["default", "left", "right"])


class ProcessorMachine(RuleBasedStateMachine):
    """A broker's keys, a watch of them that is cut and taken anew, and handlers that may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = 0
        self.keys: dict[str, Version] = {}
        self.variants = Variants()
        self.on_the_way: list[tuple[str, str, Version | None]] = []
        self.started: dict[str, int] = {}  # what the program has running, with its version
        self.handed: list[tuple[str, int]] = []
        self.under_way: Start | Change | Stop | None = None
        self.failing: set[str] = set()  # its newest version was refused by the handler
        self.in_picture = True
        self.take_picture()

    # --- the broker, and what its watch delivers ---

    @rule(name=NAMES, value=st.integers(0, 2))
    def put(self, name: str, value: int) -> None:
        self.seq += 1
        self.keys[name] = Version(value, self.seq)
        self.on_the_way.append(("put", name, self.keys[name]))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if self.keys.pop(name, None) is not None:
            self.seq += 1
            self.on_the_way.append(("delete", name, None))

    @rule()
    def arrive(self) -> None:
        if self.on_the_way:
            self.take(*self.on_the_way.pop(0))

    def take(self, kind: str, name: str, version: Version | None) -> None:
        match kind:
            case "begin":
                self.in_picture = True
                self.variants.begin_picture()
            case "end":
                self.in_picture = False
                self.variants.end_picture()
            case "delete":
                self.variants.delete(name)
            case _:
                assert version is not None
                self.variants.put(name, version.value, version.seq)

    @rule()
    def take_picture(self) -> None:
        """The watch starts afresh: what was on its way is lost, but stands in the picture."""
        self.on_the_way = [("begin", "", None)]
        self.on_the_way += [("put", name, each) for name, each in self.keys.items()]
        self.on_the_way.append(("end", "", None))

    @precondition(lambda self: not self.in_picture)
    @rule()
    def deliver_again(self) -> None:
        """After a reconnect the same version may come twice."""
        for name, version in self.variants.wanted.items():
            self.variants.put(name, version.value, version.seq)

    # --- the program ---

    @rule()
    def begin_step(self) -> None:
        if self.under_way is not None:
            assert self.variants.next_step() is None, "one handler at a time"
            return
        self.under_way = step = self.variants.next_step()
        if isinstance(step, Start):
            assert step.variant not in self.started, "started twice"
        elif step is not None:
            assert step.variant in self.started, "changed or stopped, but it does not run"
        if isinstance(step, Start | Change):
            self.handed.append((step.variant, step.version.seq))

    @precondition(lambda self: self.under_way is not None)
    @rule(fails=st.booleans())
    def end_step(self, *, fails: bool) -> None:
        match step := self.under_way:
            case Start() | Change() if fails:
                self.failing.add(step.variant)
            case Start() | Change():
                self.failing.discard(step.variant)
                self.started[step.variant] = step.version.seq
            case Stop():
                self.failing.discard(step.variant)
                del self.started[step.variant]
            case None:
                raise AssertionError("there is a step under way")
        self.under_way = None
        self.variants.done(ValueError("the handler's") if fails else None)

    @rule()
    def settle(self) -> None:
        """Nothing more happens: all arrives, all is done, and no handler fails."""
        while self.on_the_way:
            self.arrive()
        if self.under_way is not None:
            self.end_step(fails=False)
        while self.run_one_step():
            pass
        assert self.variants.is_settled
        wanted = {name: version.seq for name, version in self.keys.items()}
        refused = {name for name in self.failing if name in wanted}
        assert set(self.variants.failed) == refused
        assert {n: s for n, s in self.started.items() if n not in refused} == {
            n: s for n, s in wanted.items() if n not in refused
        }
        assert set(self.started) <= set(wanted)

    def run_one_step(self) -> bool:
        self.begin_step()
        if self.under_way is None:
            return False
        self.end_step(fails=False)
        return True

    @invariant()
    def no_version_is_handed_twice(self) -> None:
        assert len(set(self.handed)) == len(self.handed)

    @invariant()
    def what_it_says_runs_is_what_the_program_runs(self) -> None:
        assert {n: v.seq for n, v in self.variants.running.items()} == self.started

    def teardown(self) -> None:
        """Leaving stops whatever runs, once, wherever it was."""
        self.variants.close()
        if self.under_way is not None:
            self.end_step(fails=False)
        while (step := self.variants.next_step()) is not None:
            assert isinstance(step, Stop)
            self.under_way = step
            self.end_step(fails=False)
        assert not self.started
        assert self.variants.is_settled


TestProcessorMachine = ProcessorMachine.TestCase
TestProcessorMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
