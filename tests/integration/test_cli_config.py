"""``ezgraph config``: entries, watches, files and schemas, against a broker."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ezgraph import GraphServer, sync
from ezgraph.cli.main import app
from ezgraph.cli.paper import paper
from tests.integration.watching import watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

pytestmark = pytest.mark.integration

FLOW = "active-flow"
OLD = {
    "config": {
        FLOW: {"chunker": json.dumps({"default": {"size": 1}, "fast": {}}), "embed": {"a": {}}},
        "prompt": {"system": "be brief"},
    }
}


def config(server: GraphServer, *words: str, stdin: str | None = None) -> Result:
    """Run ``ezgraph config`` in this process, as in a pipe."""
    paper.cache_clear()
    return CliRunner().invoke(app, ["-a", str(server.address), "config", *words], input=stdin)


def told(server: GraphServer, *words: str) -> Any:
    """Run it with ``--json`` and return what it says."""
    done = config(server, *words, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def keys(server: GraphServer) -> Iterator[sync.GraphContext]:
    with sync.GraphContext(server.address) as ctx:
        yield ctx


# --- entries ---


def test_an_entry_is_put_shown_and_deleted(server: GraphServer) -> None:
    put = config(server, "put", FLOW, "chunker:default", '{"size": [1, 2.5]}', "--reason", "why")
    again = config(server, "put", FLOW, "chunker:default", '{"size": [1, 2.5]}')
    shown = config(server, "get", FLOW, "chunker:default")
    entry = told(server, "get", FLOW, "chunker:default")
    gone = config(server, "delete", FLOW, "chunker:default")
    gone_again = config(server, "delete", FLOW, "chunker:default")

    assert put.stdout == f"{FLOW} chunker:default is put  (seq 1)\n"
    assert again.stdout == f"{FLOW} chunker:default is so already; nothing has changed\n"
    assert json.loads(shown.stdout) == {"size": [1, 2.5]}
    assert (entry["seq"], entry["owner"]) == (1, None)
    assert gone.stdout == f"{FLOW} chunker:default is gone  (seq 2)\n"
    assert gone_again.stdout == f"there is no {FLOW} chunker:default; nothing has changed\n"
    assert [each.exit_code for each in (put, again, shown, gone, gone_again)] == [0] * 5


@pytest.mark.parametrize(
    ("words", "stdin", "value"),
    [
        (["30"], None, 30),
        (["fast"], None, "fast"),
        (["none"], None, None),
        (['"30"'], None, "30"),
        (["30", "--text"], None, "30"),
        (["-"], '{"a": true}\n', {"a": True}),
        (["-", "--text"], "two\nlines\n", "two\nlines"),
    ],
)
def test_a_value_is_what_it_looks_like(
    server: GraphServer, keys: sync.GraphContext, words: list[str], stdin: str | None, value: Any
) -> None:
    done = config(server, "put", "t", "a%3Ab:c", *words, stdin=stdin)

    assert done.exit_code == 0
    assert keys.config.get("t", ("a:b", "c")) == value
    assert type(keys.config.get("t", ("a:b", "c"))) is type(value)


def test_what_cannot_be_done_says_why_and_changes_nothing(
    server: GraphServer, keys: sync.GraphContext
) -> None:
    config(server, "put", "t", "chunker:default", "1")
    before = keys.snapshot().seq

    for words, code, why in (
        (["get", "t", "chunker:defalt"], 1, "is 'chunker:default' meant?"),
        (["get", "nosuch", "a"], 1, "there is no configuration 'nosuch' 'a'"),
        (["put", "t", "chunker:default", "2", "--if-seq", "0"], 1, "expected to be absent"),
        (["put", "t", "chunker::default", "2"], 2, "has an empty name"),
        (["delete", "t", "chunker:default", "--if-seq", "99"], 1, "since seq"),
        (["schema", "t", "--set", "/nosuch.json"], 2, "cannot be read"),
        (["schema", "t", "--set", "x", "--remove"], 2, "contradict"),
        (["watch", "t", "--stop-on-failure"], 2, "give one behind --"),
        (["watch", "t", "a", "sh"], 2, "write -- before the command"),
        (["watch", "t", "--", "nosuch-program"], 2, "there is no program 'nosuch-program'"),
        (["export", "file.json"], 1, "of type 'file.json'; the types there are: t"),
        (["import", "/nosuch.json"], 2, "cannot be read: No such file"),
    ):
        done = config(server, *words)
        assert (done.exit_code, why in done.stderr) == (code, True), (words, done.stderr)

    assert keys.config.get("t", "chunker:default") == 1
    assert keys.snapshot().seq == before


def test_the_listing_shows_which_entries_stay(
    server: GraphServer, keys: sync.GraphContext
) -> None:
    keys.config.put("t", ("chunker", "x\x1b[31m"), {}, ephemeral=True)
    keys.config.put("t", "chunker:default", 7)
    keys.config.put("t", "chunker2:default", "seven")

    every = config(server, "scan", "t")
    under = told(server, "scan", "t", "chunker")
    matching = told(server, "scan", "t", "--match", "*:default")
    nothing = config(server, "scan", "nosuch")

    assert every.stdout.splitlines()[0] == "3 entries of t"
    rows = [line.split()[:4] for line in every.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["chunker:default", "chunker:x%1B[31m", "chunker2:default"]
    assert [row[1] for row in rows] == ["7", "{}", "'seven'"]
    assert [row[3] for row in rows] == ["persistent", "session", "persistent"]
    assert [each["key"] for each in under] == [["chunker", "default"], ["chunker", "x\x1b[31m"]]
    assert [each["value"] for each in matching] == [7, "seven"]
    assert nothing.stdout == "0 entries of nosuch\n"
    assert told(server, "keys") == ["t"]
    assert config(server, "keys", "t", "chunker2").stdout == "chunker2:default\n"


def test_a_schema_is_set_shown_and_removed(server: GraphServer, tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    file.write_text("type: object\nproperties: {size: {type: integer}}\n")

    done = config(server, "schema", "t", "--set", str(file))
    refused = config(server, "put", "t", "a", '{"size": "large"}')
    shown = config(server, "schema", "t")
    removed = config(server, "schema", "t", "--remove")

    assert done.stdout == "values of t are judged by the schema  (seq 1)\n"
    assert (refused.exit_code, "/size" in refused.stderr) == (1, True)
    assert json.loads(shown.stdout)["properties"] == {"size": {"type": "integer"}}
    assert removed.exit_code == 0
    assert config(server, "schema", "t").stdout == "null\n"
    assert config(server, "put", "t", "a", '{"size": "large"}').exit_code == 0
    again = config(server, "schema", "t", "--set", "-", stdin='{"type": "string"}')
    assert (again.exit_code, "'a'" in again.stderr) == (1, True)
    assert config(server, "schema", "t", "--set", "-", stdin="[]").exit_code == 2


# --- files ---


def test_an_import_does_what_its_dry_run_says_and_twice_is_once(
    server: GraphServer, keys: sync.GraphContext, tmp_path: Path
) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps(OLD))
    keys.config.put(FLOW, "chunker:default", {"size": 100})
    keys.config.put(FLOW, "chunker:other", 1)

    dry = config(server, "import", str(file), "--dry-run")
    untouched = keys.config.get(FLOW, "chunker:default")
    done = told(server, "import", str(file), "--reason", "new flows")
    again = config(server, "import", str(file))

    assert dry.stdout.splitlines() == [
        f"+ {FLOW} chunker:fast {{}}",
        f"+ {FLOW} embed:a {{}}",
        "+ prompt system 'be brief'",
        f"~ {FLOW} chunker:default {{size=100}} -> {{size=1}}",
        "3 new, 1 to overwrite, 0 unchanged, 2 blobs split; a dry run: nothing was done",
    ]
    assert untouched == {"size": 100}
    assert (len(done["new"]), len(done["overwriting"]), done["unchanged"]) == (3, 1, 0)
    assert done["seq"] is not None
    assert again.stdout == "0 new, 0 to overwrite, 4 unchanged, 2 blobs split; nothing to do\n"
    assert keys.config.get(FLOW, "chunker:default") == {"size": 1}
    assert keys.config.get(FLOW, "chunker:other") == 1


def test_an_import_that_is_refused_on_its_way_says_how_far_it_came(
    server: GraphServer, tmp_path: Path
) -> None:
    file = tmp_path / "many.json"
    values: dict[str, Any] = {f"k:{number:04}": number for number in range(1_000)}
    file.write_text(json.dumps({"many": {**values, "z": "x" * (2 << 20)}}))

    refused = config(server, "import", str(file))

    assert refused.exit_code == 1
    assert "max_config_value_bytes" in refused.output
    there = json.loads(config(server, "scan", "many", "--json").stdout)
    last = max(each["seq"] for each in there)
    assert f"those up to seq {last} are done" in refused.output
    file.write_text(json.dumps({"many": {**values, "z": 1}}))
    assert told(server, "import", str(file))["unchanged"] == 1_000


def test_an_import_that_is_refused_at_once_does_nothing_and_says_no_more(
    server: GraphServer, tmp_path: Path
) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"one": {"k": 1, "z": "x" * (3 << 19)}}))

    refused = config(server, "import", str(file))

    assert refused.exit_code == 1
    assert "are done" not in refused.output
    assert config(server, "keys", "one").stdout == ""


def test_an_export_is_imported_as_it_was(
    server: GraphServer, keys: sync.GraphContext, tmp_path: Path
) -> None:
    keys.config.put("t", ("a:b", "c/d"), {"raw": b"\x00", "gains": (1, float("inf"))})
    keys.config.put("t", "mine", 1, ephemeral=True)
    keys.config.put("u", "x", None)
    keys.config.set_schema("u", {"type": ["null", "string"]})

    done = config(server, "export")
    file = tmp_path / "new.json"
    file.write_text(done.stdout)

    assert done.stderr == "left out: 1 entry that will end with a session\n"
    assert told(server, "import", str(file))["unchanged"] == 2
    assert json.loads(config(server, "export", "u").stdout)["values"] == {"u": {"x": None}}
    with GraphServer() as other:
        assert config(other, "import", str(file)).exit_code == 0
        again = config(other, "export")
        assert again.stdout == done.stdout
        assert again.stderr == ""


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ('{"active-flow": {"chunker": {}, "embed:a": {}}}', 2, "mixes layouts"),
        ('{"t": {"a": 1, "a": 2}}', 2, "the name 'a' is there 2 times"),
        ('{"t": {"a": "x", "b": 5}}', 1, "t b does not fit the schema of its type"),
    ],
)
def test_a_file_that_is_wrong_is_refused_and_nothing_is_half_done(
    server: GraphServer, keys: sync.GraphContext, text: str, code: int, why: str
) -> None:
    keys.config.set_schema("t", {"type": "string"})

    done = config(server, "import", "-", stdin=text)

    assert (done.exit_code, why in done.stderr) == (code, True), done.stderr
    assert (keys.config.keys("t"), keys.config.keys(FLOW)) == ([], [])


# --- over time ---


def test_a_watch_goes_on_over_a_restart_of_the_broker(tmp_path: Path) -> None:
    backend = f"sqlite:///{tmp_path / 'rig.db'}"
    with GraphServer(backend=backend) as server:
        with sync.GraphContext(server.address) as ctx:
            ctx.config.put("t", "a:x", 1)
        with watching(server, "config", "watch", "t", "a", "--json") as watch:
            first, end = (watch.event() for _ in range(2))
            address = server.address
            server.stop()
            server.start(address)
            with sync.GraphContext(server.address) as ctx:
                ctx.config.put("t", "b:x", 1)
                ctx.config.put("t", "a:x", 2)
            changed = watch.event()
            code, _ = watch.interrupt()

    assert (first["kind"], first["value"], end["kind"]) == ("initial", 1, "end_of_initial")
    assert (changed["kind"], changed["value"], changed["previous"]) == ("put", 2, 1)
    assert code == 0


def test_a_slow_command_is_run_for_every_change_one_at_a_time(
    server: GraphServer, keys: sync.GraphContext
) -> None:
    script = 'read said; echo "begin $EZGRAPH_SEQ"; sleep 0.05; echo "end $EZGRAPH_SEQ"'
    keys.config.put("t", "a:x", 0)

    with watching(server, "config", "watch", "t", "a", "--", "sh", "-c", script) as watch:
        lines = [watch.line().strip() for _ in range(2)]
        seqs = [keys.config.put("t", "a:x", value).seq for value in range(1, 11)]
        lines += [watch.line().strip() for _ in range(2 * len(seqs))]
        code, said = watch.interrupt()

    begun = [line.removeprefix("begin ") for line in lines[::2]]
    assert begun[1:] == [str(seq) for seq in seqs]
    assert [line.removeprefix("end ") for line in lines[1::2]] == begun
    assert (code, said) == (0, "")


# --- for the shell ---


def completed(server: GraphServer, shell: str, *words: str) -> list[str]:
    """Return what a shell is offered behind these words."""
    typed = ["ezgraph", *words]
    environment = {**os.environ, "EZGRAPH_ADDR": str(server.address)}
    environment["_EZGRAPH_COMPLETE"] = f"complete_{shell}"
    environment["_TYPER_COMPLETE_ARGS"] = " ".join(typed)
    environment["COMP_WORDS"] = "\n".join(typed)
    environment["COMP_CWORD"] = str(len(typed) - 1)
    done = CliRunner().invoke(app, [], env=environment, prog_name="ezgraph")
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_is_offered_types_and_keys_and_bash_what_is_behind_a_colon(
    server: GraphServer, keys: sync.GraphContext
) -> None:
    for key in ("chunker:default", "chunker:fast", "embed:a"):
        keys.config.put(FLOW, key, 1)
    keys.config.put("prompt", "system", 1)

    assert completed(server, "bash", "config", "get", "") == [FLOW, "prompt"]
    assert completed(server, "bash", "config", "get", FLOW, "chu") == [
        "chunker:default",
        "chunker:fast",
    ]
    for command in ("get", "delete", "scan", "watch", "put"):
        assert completed(server, "bash", "config", command, FLOW, "chunker", ":", "f") == ["fast"]
    assert completed(server, "bash", "config", "get", FLOW, "chunker", ":") == ["default", "fast"]
    assert completed(server, "bash", "config", "get", "nosuch", "chu") == []
