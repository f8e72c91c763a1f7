"""Each example runs alone, ends by itself, and prints what its reader is to see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"

EXPECTED = {
    "01_two_processes.py": [
        "ComponentRegistered component / RIG/AMPLIFIER",
        "the wiring now: {'RIG/AMPLIFIER/SIGNAL': ['RIG/FILTER/INPUT'], 'RIG/FILTER/INPUT': []}",
        "settings of RIG/AMPLIFIER: {'gain': 1000.0, 'rate_hz': 30000.0}",
        "EdgeDisconnected    edge / RIG/AMPLIFIER/SIGNAL / RIG/FILTER/INPUT",
        "the other process ended with 0, and left nothing behind:",
        "        {}",
    ],
    "02_watch_and_resume.py": [
        "{'cutoff_hz': 40.0}",
        "{'cutoff_hz': 30.0}",
        "the watcher leaves; it remembers seq 4",
        "the broker is killed with SIGKILL, and started on its journal",
        "{'cutoff_hz': 20.0}",
        "{'cutoff_hz': 10.0}",
        "missed 0",
    ],
    "03_blocking_client.py": [
        "refused, and nothing has changed: edge 'RIG/STIMULATOR/TRIGGER'",
        "RIG/STIMULATOR is now {'current_ua': 50.0, 'pulse_us': 200}",
        "RIG/STIMULATOR is now {'current_ua': 80.0, 'pulse_us': 200}",
        "('RIG/STIMULATOR/PULSE', 'RIG/RECORDER/INPUT')]",
        "clients: session, process",
    ],
    "04_embedded_broker.py": [
        "--- Monday",
        "already wired: nothing",
        "set up by the technician",
        "--- Tuesday",
        "already wired: {'RIG/CAMERA/FRAMES': ['RIG/TRACKER/INPUT'], 'RIG/TRACKER/INPUT': []}",
        "only for a look",
    ],
    "05_record_settings_nwb.py": [
        "-> FilterSettings(cutoff=20.0, order=4)",
        "refused: the process that runs 'RIG/FILTER' refused the change: 50 Hz is where the mains",
        "refused: cutoff = 9000.0 is out of bounds; it takes at least 1.0 and at most 500.0",
        "session.nwb: 3 events, 3 intervals",
        "s: {'RIG.FILTER.cutoff': 40.0, 'RIG.FILTER.order': 2}",
        "UPDATED for 0.",
        "s: {'RIG.FILTER.cutoff': 20.0, 'RIG.FILTER.order': 4}",
    ],
    "06_flows.py": [
        "two operators start a flow each, at the same moment:",
        "detector starts probe-a: {'threshold_uv': 60}",
        "filter starts probe-b: {'cutoff_hz': 250.0}",
        "recorder starts probe-b: {'file': 'probe-b.nwb'}",
        "refused, and nothing has changed: flow 'probe-a' runs already, since seq ",
        "only its processor hears of it:\n  filter goes on with probe-a: {'cutoff_hz': 500.0}\n",
        "detector stops probe-a",
        "recorder stops probe-b",
        "keys left behind: []",
    ],
    "07_time_machine.py": [
        "two recordings with other settings:",
        "monday.npy was made with {'cutoff': 40.0, 'order': 2}, as in monday",
        "tuesday.npy was made with {'cutoff': 20.0, 'order': 2}, as in tuesday",
        "RIG/FILTER cutoff: 40.0 -> 20.0 Hz",
        "as-found: RIG/FILTER refuses: 50 Hz is where the mains hum",
        "monday: RIG/FILTER would be {'cutoff': 40.0}",
        "the restore of monday is done:\n  filter: FilterSettings(cutoff=40.0, order=2)\n",
        "the rig is as on monday: True",
        "every process of the rig is gone, and the file answers:",
        "monday.npy was made with {'cutoff': 40.0, 'order': 2}, as in monday",
        "tuesday.npy was made with {'cutoff': 20.0, 'order': 2}, as in tuesday",
        "RIG/FILTER cutoff: 40.0 -> 20.0 Hz",
    ],
    "08_serve_arrays.py": [
        "acquire: serves run42/ecg at 360 Hz",
        "follow:  second  1 mean  -50.3  min   -97  max   250  ▁▁",
        "read:    345 samples in counts, 1.2 s later",
        "read:    equal to the recording: True",
        "follow:  nothing more comes after second ",
        "left on the bus: []",
    ],
}
ARGUMENTS = {"08_serve_arrays.py": ["1.2"]}
"""What is given to an example so that it does not take a minute."""


def run_example(name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *ARGUMENTS.get(name, [])],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


def test_an_example_that_needs_an_extra_says_which() -> None:
    path = EXAMPLES / "05_record_settings_nwb.py"
    code = f"import runpy, sys; sys.modules['pynwb'] = None; runpy.run_path({str(path)!r}, {{}}, "
    done = subprocess.run(
        [sys.executable, "-c", code + "'__main__')"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "this example needs pynwb: pip install 'ezgraph[nwb]'\n"


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_ends_by_itself_and_prints_what_it_promises_in_this_order(name: str) -> None:
    done = run_example(name)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    position = 0
    for line in EXPECTED[name]:
        found = done.stdout.find(line, position)
        assert found >= 0, f"{line!r} does not follow in\n{done.stdout}"
        position = found + len(line)
