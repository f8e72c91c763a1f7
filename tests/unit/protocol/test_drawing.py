"""Pictures of a snapshot: what is drawn, that it is escaped, that it is always the same."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import UUID
from xml.etree import ElementTree

import pytest

from ezgraph import (
    CollectionMetadata,
    ComponentMetadata,
    DynamicSettingsMetadata,
    Edge,
    GraphMetadata,
    GraphSnapshot,
    InputStreamMetadata,
    OutputStreamMetadata,
    SettingsSnapshotValue,
    SnapshotProcess,
    SnapshotSession,
    StreamMetadata,
    TaskMetadata,
    UnitMetadata,
)
from ezgraph.protocol import html_parts
from ezgraph.protocol.drawing import graphviz, mermaid, snapshot_html, text
from ezgraph.protocol.metadata import OutputTopicMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HOSTILE = [
    "<script>alert(1)</script>",
    "\"quoted\" 'twice' \\back",
    "two\nlines\x1b[31m",
    "日本語 ünïcode",
    "a]; n0 --> n1; end",
    'x"]; b [label="y',
    "</svg></title></style>",
    "&amp; #59; %%",
]


def _unit(address: str, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> UnitMetadata:
    inputs, outputs = list(inputs), list(outputs)
    streams: dict[str, StreamMetadata] = {
        each: InputStreamMetadata(each, f"{address}/{each}", "float") for each in inputs
    }
    for each in outputs:
        streams[each] = OutputStreamMetadata(each, f"{address}/{each}", "float")
    return UnitMetadata(
        address,
        address.rpartition("/")[2],
        "rig.Unit",
        "rig.Settings",
        (None, {}),
        DynamicSettingsMetadata(enabled=False),
        streams=streams,
        tasks=[TaskMetadata("run", each, outputs) for each in inputs],
    )


def _snapshot(
    edges: Iterable[tuple[str, str]], components: Iterable[ComponentMetadata] = ()
) -> GraphSnapshot:
    edges = sorted(edges)
    graph: dict[str, list[str]] = {topic: [] for topic in sorted({t for e in edges for t in e})}
    for start, end in edges:
        graph[start].append(end)
    metadata = GraphMetadata(components={each.address: each for each in components})
    owned = [Edge(*each) for each in edges]
    return GraphSnapshot(
        seq=7,
        epoch=1,
        graph=graph,
        edge_owners={each: ["s1"] for each in owned},
        sessions={"s1": SnapshotSession(owned, metadata)},
    )


def _rig() -> GraphSnapshot:
    units = [
        _unit("SYS/SRC", outputs=["OUT"]),
        _unit("SYS/PRE/FILT", ["IN"], ["OUT"]),
        _unit("REC", ["IN"]),
    ]
    wired = [("SYS/SRC/OUT", "SYS/PRE/FILT/IN"), ("SYS/PRE/FILT/OUT", "REC/IN")]
    return _snapshot(wired, units)


def _hostile() -> GraphSnapshot:
    value = SettingsSnapshotValue(None, dict.fromkeys(HOSTILE, "<b>&"), dict.fromkeys(HOSTILE, "<"))
    drawn = _snapshot(
        [(name, "sink") for name in HOSTILE], [_unit(name, ["IN"]) for name in HOSTILE]
    )
    return GraphSnapshot(
        seq=1,
        epoch=1,
        graph=drawn.graph,
        edge_owners=drawn.edge_owners,
        sessions=dict.fromkeys(HOSTILE, drawn.sessions["s1"]),
        processes={UUID(int=1): SnapshotProcess(UUID(int=1), 3, "<i>host", HOSTILE)},
        settings=dict.fromkeys(HOSTILE, value),
    )


def test_mermaid_nests_topics_by_the_addresses_of_their_components() -> None:
    assert mermaid(_rig()).splitlines() == [
        "flowchart LR",
        '    subgraph g0["REC"]',
        '        n0["IN"]',
        "    end",
        '    subgraph g1["SYS"]',
        '        subgraph g2["PRE"]',
        '            subgraph g3["FILT"]',
        '                n1["IN"]',
        '                n2["OUT"]',
        "            end",
        "        end",
        '        subgraph g4["SRC"]',
        '            n3["OUT"]',
        "        end",
        "    end",
        "    n2 --> n0",
        "    n3 --> n1",
        "    n1 -.-> n2",
    ]


def test_graphviz_nests_topics_by_the_addresses_of_their_components() -> None:
    drawn = graphviz(_rig(), direction="TB")

    assert "rankdir=TB;" in drawn
    assert drawn.count("subgraph cluster_") == 5
    assert drawn.count("{") == drawn.count("}")
    assert "n1 -> n2 [style=dashed];" in drawn


def test_topics_of_unknown_components_stand_alone_with_their_whole_name() -> None:
    drawn = mermaid(_snapshot([("SYS/A/OUT", "B")]))

    assert "subgraph" not in drawn
    assert '["SYS/A/OUT"]' in drawn


def test_a_topic_stands_in_the_collection_that_names_it() -> None:
    collection = CollectionMetadata(
        "SYS",
        "SYS",
        "rig.System",
        "rig.Settings",
        (None, {}),
        DynamicSettingsMetadata(enabled=False),
        topics={"ecg": OutputTopicMetadata("ecg", "ecg-of-today", "float")},
    )

    drawn = mermaid(_snapshot([("ecg-of-today", "viewer")], [collection]))

    assert drawn.splitlines()[1:5] == [
        '    n1["viewer"]',
        '    subgraph g0["SYS"]',
        '        n0["ecg-of-today"]',
        "    end",
    ]


def test_two_topics_never_become_one_node() -> None:
    stream = {"OUT": StreamMetadata("OUT", "OUT", "float")}
    unit = _unit("SYS")
    named = UnitMetadata(
        unit.address,
        unit.name,
        unit.component_type,
        unit.settings_type,
        unit.initial_settings,
        unit.dynamic_settings,
        streams=stream,
    )

    edges = [("OUT", "sink"), ("SYS/OUT", "sink"), ("SYS/SYS/OUT", "sink")]
    drawn = mermaid(_snapshot(edges, [named]))

    assert drawn.count("-->") == 3
    assert drawn.count('["') == 4 + 1


@pytest.mark.parametrize(
    ("level", "nodes"),
    [
        (0, ["IN", "IN", "OUT", "OUT"]),
        (1, ["FILT", "REC", "SRC"]),
        (2, ["PRE", "REC", "SRC"]),
        (3, ["REC", "SYS"]),
        (9, ["REC", "SYS"]),
    ],
)
def test_each_compact_level_leaves_one_level_of_addresses_out(level: int, nodes: list[str]) -> None:
    drawn = mermaid(_rig(), compact_level=level)

    assert sorted(re.findall(r'n\d+\["(.*)"\]', drawn)) == nodes
    assert not re.search(r"(n\d+) --> \1\b", drawn)


def test_compacting_keeps_a_collections_own_topic_inside_it() -> None:
    snapshot = _snapshot([("SYS/TOP", "SYS/A/IN")], [_unit("SYS"), _unit("SYS/A", ["IN"])])

    drawn = mermaid(snapshot, compact_level=1)

    assert drawn.splitlines()[1:5] == [
        '    subgraph g0["SYS"]',
        '        n0["A"]',
        '        n1["TOP"]',
        "    end",
    ]


@pytest.mark.parametrize("draw", [mermaid, graphviz])
def test_an_unknown_direction_or_a_negative_level_is_refused(draw: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="direction 'UP' is none of LR"):
        draw(_rig(), direction="UP")
    with pytest.raises(ValueError, match="negative"):
        draw(_rig(), compact_level=-1)


def test_text_is_a_tree_of_what_leads_where() -> None:
    assert text(_rig()).splitlines() == [
        "SYS/SRC/OUT",
        "└─▶ SYS/PRE/FILT/IN",
        "    └┄▶ SYS/PRE/FILT/OUT",
        "        └─▶ REC/IN",
        "",
        "─▶ edge   ┄▶ through a unit",
    ]


def test_text_draws_out_a_shared_branch_once() -> None:
    assert text(_snapshot([("a", "m"), ("b", "m"), ("m", "y"), ("m", "z")])).splitlines() == [
        "a",
        "└─▶ m",
        "    ├─▶ y",
        "    └─▶ z",
        "b",
        "└─▶ m (drawn above)",
    ]


def test_text_shows_every_topic_of_a_feedback_loop() -> None:
    wired = [("LOOP/OUT", "BACK/IN"), ("BACK/OUT", "LOOP/IN")]
    snapshot = _snapshot(wired, [_unit("LOOP", ["IN"], ["OUT"]), _unit("BACK", ["IN"], ["OUT"])])

    drawn = text(snapshot)

    assert all(topic in drawn for topic in snapshot.graph)
    assert "drawn above" in drawn
    assert snapshot_html(snapshot).count("<rect") == 4


def test_text_of_a_long_chain_needs_no_recursion() -> None:
    chain = [(f"t{number:05}", f"t{number + 1:05}") for number in range(2_000)]

    assert text(_snapshot(chain)).count("\n") == 2_001


def test_an_empty_graph_has_pictures_too() -> None:
    empty = _snapshot([])

    assert text(empty) == "no edges\n"
    assert mermaid(empty) == "flowchart LR\n"
    assert "digraph" in graphviz(empty)
    assert "no edges" in snapshot_html(empty)


def test_the_same_snapshot_gives_the_same_pictures_whatever_its_order() -> None:
    snapshot = _rig()
    shuffled = GraphSnapshot(
        seq=snapshot.seq,
        epoch=snapshot.epoch,
        graph={topic: snapshot.graph[topic] for topic in reversed(list(snapshot.graph))},
        edge_owners=snapshot.edge_owners,
        sessions=snapshot.sessions,
    )

    for draw in (mermaid, graphviz, text, snapshot_html):
        assert draw(snapshot) == draw(shuffled)


def test_no_name_breaks_out_of_a_mermaid_label() -> None:
    for line in mermaid(_hostile()).splitlines()[1:]:
        assert re.fullmatch(
            r'\s+(subgraph g\d+\["[^"<>\[\]\\`\x00-\x1f]*"\]|end|n\d+\["[^"<>\[\]\\`\x00-\x1f]*"\]'
            r"|n\d+ (-->|-\.->) n\d+)",
            line,
        )


def test_a_mermaid_label_is_no_markdown_list() -> None:
    drawn = mermaid(_snapshot([("1. first", "- dash")]))

    assert '["1#46; first"]' in drawn
    assert '["#45; dash"]' in drawn


def test_no_name_breaks_out_of_a_graphviz_label() -> None:
    quoted = r'"(?:[^"\\\x00-\x1f]|\\.)*"'

    lines = graphviz(_hostile()).splitlines()

    assert len([line for line in lines if re.fullmatch(rf"\s+n\d+ \[label={quoted}\];", line)]) == 9
    for line in lines[4:-1]:
        assert re.fullmatch(
            rf"\s+(subgraph cluster_\d+ \{{|label={quoted};|\}}|n\d+ \[label={quoted}\];"
            r"|n\d+ -> n\d+( \[style=dashed\])?;)",
            line,
        )


def test_no_name_steers_a_terminal_or_begins_a_line_in_the_text() -> None:
    drawn = text(_hostile())

    assert all(line.isprintable() for line in drawn.splitlines())
    assert r"two\nlines\x1b[31m" in drawn


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_no_name_becomes_markup_in_the_notebook() -> None:
    parser = _Tags()

    parser.feed(snapshot_html(_hostile()))

    layout = {"div", "style", "span", "b", "br", "details", "summary", "table", "tr", "th", "td"}
    picture = {"svg", "g", "title", "rect", "text", "path", "polygon"}
    assert parser.seen <= layout | picture
    assert not {name for name in parser.attributes if name.startswith("on")}
    assert not {"href", "src"} & parser.attributes
    assert "<script>alert(1)</script>" in "".join(parser.text)


def test_the_notebook_shows_a_wellformed_drawing_of_every_topic_and_edge() -> None:
    shown = _rig()._repr_html_()

    svg = ElementTree.fromstring(re.findall(r"<svg.*</svg>", shown)[0])
    assert len(svg.findall(".//rect")) == 4
    assert len(svg.findall("path")) == 3
    assert "http" not in shown


def test_the_drawing_puts_every_topic_on_a_place_of_its_own() -> None:
    layers = [[f"l{layer}n{number}" for number in range(6)] for layer in range(5)]
    edges = [
        (start, end)
        for one, other in pairwise(layers)
        for number, start in enumerate(one)
        for end in other[number % 3 :: 3]
    ]
    edges += [("l0n0", "l4n5"), ("l0n1", "l3n0")]

    shown = snapshot_html(_snapshot(edges))

    boxes = re.findall(r"<rect x='([\d.]+)' y='([\d.]+)' width='([\d.]+)' height='(\d+)'", shown)
    places = [tuple(map(float, box)) for box in boxes]
    assert len(places) == 30
    for number, (x, y, width, height) in enumerate(places):
        for other_x, other_y, other_width, other_height in places[number + 1 :]:
            is_beside = x + width <= other_x or other_x + other_width <= x
            assert is_beside or y + height <= other_y or other_y + other_height <= y
    assert all(x >= 0 and y >= 0 for x, y, _, _ in places)


def test_parts_that_do_not_touch_are_drawn_without_space_between_them() -> None:
    pairs = [(n, m) for n in range(4) for m in range(4)]
    edges = [(f"{part}a{n}", f"{part}b{m}") for part in "xyz" for n, m in pairs]

    shown = snapshot_html(_snapshot(edges))

    height = int(re.findall(r"<svg [^>]*height='(\d+)'", shown)[0])
    boxes = sorted(float(y) for y in re.findall(r"<rect x='[\d.]+' y='([\d.]+)'", shown))
    row = boxes[0] * 2 + 34
    assert all(below - above <= row + 0.1 for above, below in pairwise(boxes))
    assert height == pytest.approx(boxes[-1] + 34, abs=row)


def test_a_large_graph_is_drawn_compacted_and_says_so() -> None:
    units = [_unit(f"SYS/U{number:03}", ["IN"], ["OUT"]) for number in range(200)]
    edges = [(f"SYS/U{number:03}/OUT", f"SYS/U{number + 1:03}/IN") for number in range(199)]

    shown = snapshot_html(_snapshot(edges, units))

    assert shown.count("<rect") == 200
    assert "drawn without the innermost level" in shown


def test_what_is_too_large_to_draw_is_said_soon() -> None:
    edges = [(f"a{number}", f"b{other}") for number in range(100) for other in range(100)]
    edges += [(f"c{number:05}", f"c{number + 1:05}") for number in range(5_000)]
    snapshot = _snapshot(edges)

    started = time.perf_counter()
    shown = snapshot_html(snapshot)

    assert time.perf_counter() - started < 10.0  # a twentieth of it, when measured
    assert "too many to draw here" in shown
    assert len(shown) < 50_000


def test_long_tables_are_cut_and_say_so() -> None:
    value = SettingsSnapshotValue(None, {"gain": 1.0}, {"gain": 1.0})
    empty = _snapshot([])
    many = GraphSnapshot(
        seq=1,
        epoch=1,
        graph={},
        edge_owners={},
        sessions=empty.sessions,
        settings={f"U{number}": value for number in range(html_parts.LISTED_ROWS + 5)},
    )

    assert "and 5 more" in snapshot_html(many)
