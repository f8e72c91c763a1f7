"""Files of keys, roles and contexts, and what is typed for them, changed anywhere: their readers
give a value or their documented error.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ezgraph.config import Address
from ezgraph.errors import ConfigError, InvalidKeyError
from ezgraph.keys import contexts, curve, pair, public_key, roles_file, trusted
from ezgraph.keys.folder import SECRET_MODE
from ezgraph.protocol.key_text import parse_filter
from ezgraph.protocol.patterns import parse_pattern
from tests.fuzz.campaign import SEED, SLOWEST_S, random_of, told
from tests.fuzz.mutation import Mutator, Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

INPUTS, SOAK_INPUTS = 800, 15_000
DOCUMENTED = (ConfigError, InvalidKeyError)
AT = datetime(2024, 1, 2, tzinfo=UTC)
ROLES = """
[roles.tuner]
comment = "sets gains"
include = ["observer"]
read = ["settings/AMP*", "edge/", "config/SYS/"]
report = ["settings/AMP"]
connect = ["edge/"]

[roles.chief]
include = ["tuner", "owner:SYS"]
read = ["/"]
"""
TOKEN = re.compile(r'"[^"\n]*"|\[[^\]\n]*\]|[\w.:-]+|=|\n')
ODD_TOKENS = (
    '""', '"*"', '"/"', '"a*b"', '"\\u0000"', '"tuner"', '"owner:"', "[]", "[[]]", '["a", 1]', "{}",
    "1", "-1e9", "nan", "true", "2024-01-02", "0000-01-01T00:00:00Z", "=", "\n", "[roles.x]",
    "[[roles]]", "'''", '"""', "#", ".", "a.b.c",
    '"' + "x" * 5_000 + '"', "[" * 2_000, "a." * 5_000,
    "9" * 5_000, '["observer"' + ', "observer"' * 3_000 + "]", "\x00", "\ufeff",
)  # fmt: skip


def read_line(path: Path) -> None:
    typed = path.read_bytes().decode(errors="replace")
    for read in (public_key.parse_line, public_key.parse_public, parse_pattern, parse_filter):
        with suppress(*DOCUMENTED):
            read(typed)


READERS: dict[str, Callable[[Path], object]] = {
    "trusted": trusted.read_trusted,
    "roles": roles_file.load_roles,
    "contexts": contexts.read_contexts,
    "pair": pair.read_pair_file,
    "public": pair.read_public_file,
    "line": read_line,
}


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A file of each kind, as it is written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key = pair.make_pair("rig", comment="the rig's own", at=AT)
    allowed, known = tmp_path / "trusted.toml", tmp_path / "contexts.toml"
    trusted.trust(allowed, key.public_key, role="admin", at=AT)
    other = public_key.PublicKey("other", curve.new_pair()[0])
    trusted.trust(allowed, other, role="observer", at=AT)
    trusted.revoke(allowed, "other", at=AT)
    addresses = (Address("rig.lab", 25979), Address("::1", 1))
    contexts.add_context(known, contexts.NamedContext("lab", addresses, "rig"))
    contexts.pin(known, addresses, key.public)
    return {
        "trusted": allowed.read_text(),
        "roles": ROLES,
        "contexts": known.read_text(),
        "pair": pair.secret_file("rig").read_text(),
        "public": pair.public_file("rig").read_text(),
        "line": key.public_key.line,
    }


def changed(random: Random, mutator: Mutator, original: str) -> bytes:
    """Put odd tokens in place of some, move lines, or change bytes."""
    text = original
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        tokens = list(TOKEN.finditer(text))
        if tokens and random.random() < 0.7:
            token = random.choice(tokens)
            odd = random.choice((*ODD_TOKENS, random.choice(tokens).group()))
            text = text[: token.start()] + odd + text[token.end() :]
        else:
            lines = text.splitlines(keepends=True)
            random.shuffle(lines)
            text = "".join(lines[: random.randint(0, len(lines))] + lines[:2])
    written = text.encode()
    return mutator.changed_bytes(written) if text == original else written


def attack_files(originals: dict[str, str], path: Path, seed: int, inputs: int) -> None:
    corpus = [Sample(kind, text.encode(), b"") for kind, text in originals.items()]
    mutator, intact = Mutator(random_of(seed, 0), corpus), 0
    began = time.perf_counter()
    path.touch(SECRET_MODE)
    for number in range(inputs):
        mutator.random = random = random_of(seed, number)
        kind = random.choice(list(originals))
        content = changed(random, mutator, originals[kind])
        path.write_bytes(content)
        with told(seed, number, content):
            began_one = time.thread_time()
            try:
                READERS[kind](path)
                intact += 1
            except DOCUMENTED:
                """It says what is wrong."""
            assert time.thread_time() - began_one < SLOWEST_S
    rate = inputs / (time.perf_counter() - began)
    sys.stdout.write(f"files: seed {seed}, {inputs} inputs, {intact} intact, {rate:.0f}/s\n")


def test_unchanged_files_are_read(originals: dict[str, str], tmp_path: Path) -> None:
    for kind, read in READERS.items():
        path = tmp_path / "file"
        path.touch(SECRET_MODE)
        path.write_text(originals[kind])

        read(path)


def test_a_changed_file_of_keys_is_read_or_refused(
    originals: dict[str, str], tmp_path: Path, seed_option: int | None
) -> None:
    attack_files(originals, tmp_path / "file", seed_option or SEED, INPUTS)


@pytest.mark.soak
def test_tens_of_thousands_of_changed_files_of_keys(
    originals: dict[str, str], tmp_path: Path, seed_option: int | None
) -> None:
    attack_files(originals, tmp_path / "file", seed_option or SEED + 1, SOAK_INPUTS)
