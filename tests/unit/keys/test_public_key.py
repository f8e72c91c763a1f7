"""Public keys: names, spellings, and the one line they travel in."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from ezgraph.errors import KeyFileError
from ezgraph.keys.public_key import (
    PublicKey,
    check_comment,
    check_name,
    parse_line,
    parse_public,
)

RAW = bytes(range(32))
comments = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    " -%'\"$`\\;|&\n\ta", max_size=30
)


@pytest.mark.parametrize("name", ["a", "Alice", "rig-1.lab", "0_x", "a" * 64, "a-", "a_"])
def test_a_name_is_safe_everywhere(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "a\\b", "-a", ".a", "a.", "a b", "a\n", "é", "a" * 65, "a\0", 3],
)
def test_any_other_name_is_refused(name: object) -> None:
    with pytest.raises(KeyFileError, match="is not allowed"):
        check_name(name)


def test_a_key_is_read_in_hexadecimal_or_z85() -> None:
    assert parse_public(RAW.hex()) == RAW
    assert parse_public(RAW.hex().upper()) == RAW
    assert parse_public(z85.encode(RAW).decode()) == RAW


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "g" * 64, "a b " * 16, "~" * 40, "#" * 40, "é" * 40, "é" * 64, "0" * 64]
)
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(KeyFileError) as refused:
        parse_public(text)

    assert not text or text not in str(refused.value)


def test_the_line_has_name_key_and_comment() -> None:
    assert PublicKey("a", RAW, "Alice, room 3").line == f"ezgraph-key a {RAW.hex()} Alice, room 3"
    assert PublicKey("a", RAW).line == f"ezgraph-key a {RAW.hex()}"
    assert PublicKey("a", RAW, "x --role admin").line.endswith("x %2D-role admin")


@given(comments)
def test_every_line_reads_back_also_with_the_shells_words_joined(comment: str) -> None:
    key = PublicKey("a", RAW, comment)

    assert parse_line(key.line) == key
    assert parse_line(" ".join(shlex.split(key.line))) == key
    assert not any(word.startswith("-") for word in key.line.split(" "))
    assert key.line.isprintable()


def test_a_shell_sees_nothing_to_do_in_a_line() -> None:
    comment = "".join(map(chr, range(1, 128))) + " ~ ~root {a,b} a=b $(x) !! é"
    key = PublicKey("a", RAW, comment)

    shell = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s ' {key.line}"],
        capture_output=True, text=True, check=True, cwd="/",
    )

    assert shell.stderr == ""
    assert parse_line(shell.stdout) == key


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "that is no public key"),
        ("ssh-rsa a b", "that is no public key"),
        ("ezgraph-key a", "that is no public key"),
        (f"ezgraph-key ../a {RAW.hex()}", "the key's name '../a'"),
        ("ezgraph-key a 00", "2 characters is no public key"),
        (f"ezgraph-key a {RAW.hex()} {'x' * 501}", "at most 500"),
    ],
)
def test_any_other_line_is_refused(line: str, said: str) -> None:
    with pytest.raises(KeyFileError, match=said):
        parse_line(line)


def test_a_comment_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(KeyFileError, match="UTF-8"):
        check_comment("\ud800")
