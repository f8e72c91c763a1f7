"""A seq or a time, and the state that is pulled for it, over a session that is played."""

from __future__ import annotations

import datetime as dt
from collections import deque
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ezgraph.client.blocking import run
from ezgraph.errors import (
    AmbiguousTimeWarning,
    CompactedError,
    EzGraphError,
    InvalidValueError,
    MalformedMessageError,
)
from ezgraph.graph import rigs, time_machine
from ezgraph.protocol.replies import CheckpointChunk, Done, SeqFound, StretchChunk
from ezgraph.protocol.stored_commands import FindSeq, ReadCheckpoint, ReadStretch


class Played:
    """A session that gives these answers, and keeps what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = deque(answers)
        self.asked: list[object] = []

    async def call(self, command: object, *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        assert 0 < timeout <= 10.0
        self.asked.append(command)
        answer = self.answers.popleft()
        if isinstance(answer, EzGraphError):
            raise answer
        return answer


def state_at(when: Any, *answers: object) -> tuple[Any, list[object]]:
    session = Played(*answers)
    return run(time_machine.state_at(session, when, 10.0)), session.asked  # type: ignore[arg-type]


def test_a_seq_is_pulled_from_its_checkpoint_on() -> None:
    state, asked = state_at(
        9, CheckpointChunk(5, 2, 5, [], {}, 250), CheckpointChunk(5, 1, 5), StretchChunk(9)
    )

    assert (state.seq, state.epoch) == (9, 2)
    assert asked == [ReadCheckpoint(9), ReadCheckpoint(5, 250), ReadStretch(5, 9)]


@pytest.mark.parametrize("when", [12.5, np.float64(12.5), Fraction(25, 2)])
def test_a_time_is_looked_up_first(when: Any) -> None:
    state, asked = state_at(when, SeqFound(3), CheckpointChunk(None, 1, 0), StretchChunk(3))

    assert state.seq == 3
    assert asked == [FindSeq(12.5), ReadCheckpoint(3), ReadStretch(0, 3)]


def test_a_whole_number_of_numpy_is_a_seq() -> None:
    _, asked = state_at(np.int64(3), CheckpointChunk(None, 1, 0), StretchChunk(3))

    assert asked[0] == ReadCheckpoint(3)


def test_a_time_without_a_zone_is_of_this_host() -> None:
    aware = dt.datetime(2026, 11, 22, 14, 3, tzinfo=dt.UTC)

    assert time_machine.seconds(aware) == aware.timestamp()
    naive = aware.astimezone().replace(tzinfo=None)
    assert time_machine.seconds(naive) == aware.timestamp()


@pytest.mark.parametrize("when", ["now", None, True, float("nan"), float("-inf"), b"1", 1j])
def test_what_is_neither_is_refused_before_anything_is_asked(when: Any) -> None:
    session = Played()

    with pytest.raises(InvalidValueError, match="is neither a seq nor a time"):
        run(time_machine.state_at(session, when, 10.0))  # type: ignore[arg-type]

    assert session.asked == []


def test_a_warning_says_how_the_clock_went_and_which_it_is() -> None:
    found = SeqFound(9, [(4, 15.0, 12.0), (9, 17.0, 13.5)])

    with pytest.warns(AmbiguousTimeWarning, match=r"back by 3.5 s .* seq 9, .* 3 times; seq 9 is"):
        state_at(14.5, found, CheckpointChunk(None, 1, 0), StretchChunk(9))


def test_a_time_beyond_every_calendar_is_shown_in_seconds() -> None:
    assert time_machine.moment(1e300) == "1e+300 s"
    assert "1970" in time_machine.moment(86_400.0)


def test_a_refusal_is_raised_and_another_answer_is_malformed() -> None:
    with pytest.raises(CompactedError, match="gone"):
        state_at(9, CompactedError("gone", floor=20))
    for answers in ([Done(1)], [CheckpointChunk(None, 1, 0), Done(1)]):
        with pytest.raises(MalformedMessageError, match="was answered with Done"):
            state_at(9, *answers)
    with pytest.raises(MalformedMessageError, match="FindSeq was answered"):
        state_at(9.0, Done(1))
    with pytest.raises(MalformedMessageError, match="Freeze was answered"):
        run(time_machine.freeze(Played(Done(1)), "rig", None, "", overwrite=False, timeout=9.0))  # type: ignore[arg-type]
    with pytest.raises(MalformedMessageError, match="ReadStored was answered"):
        run(rigs.graph_at(Played(Done(1)), "rig@tag", None, 9.0))  # type: ignore[arg-type]
