"""What is offered for a command line is itself, whichever shell reads it."""

from __future__ import annotations

import pytest

from ezgraph.cli.completion import _plain


@pytest.mark.parametrize(
    "word", ["SYS/FILTER", "notch.hz", "mode=fast", "gain=-1.5e+3", "é/Ω_1", "host:25979", "a,b@c"]
)
def test_plain_words_are_offered(word: str) -> None:
    assert _plain([word]) == [word]


@pytest.mark.parametrize(
    "word",
    [
        r"A\$(touch x)", r"A\`touch x`", "A$(touch x)", "A`touch x`", "A$HOME", "A;touch x",
        "A&touch x", "A|touch x", "A>x", "A<x", "A\ntouch x", "A\rx", "A\tx", "A\x1b[2J", "A B",
        "A'", 'A"', "A\\", "A*", "A?", "A[x]", "A{b,c}", "A(x)", "A!x", "A#x", "A^x", "~/A", "A:~",
        "-rf", "--help", "=ls", "@lab", "A\u202ex", "A\u00a0x",
    ],
)
def test_a_word_that_a_shell_may_take_for_more_is_not_offered(word: str) -> None:
    assert _plain([word, "SYS/FILTER"]) == ["SYS/FILTER"]
