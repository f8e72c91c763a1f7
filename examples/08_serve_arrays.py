"""A signal that is served while it is acquired: one process follows it, another reads it later.

    pip install 'ezgraph[demo]'
    python examples/08_serve_arrays.py [DELAY_S]

The signal is an electrocardiogram, played in a loop at its own rate. The process that acquires it
appends a chunk every tenth of a second to a node, and serves that as ``run42``: the samples go from
there to who reads them, and never through the broker. A second process follows the node, gets each
chunk once and in order, and plots every second. A third comes, waits for DELAY_S seconds (60), and
then reads what was acquired meanwhile by a slice.

This program starts a broker and the three (itself, with a part to play and the broker's address).
"""

import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import numpy as np

from ezgraph import GraphServer, sync
from ezgraph.nodes import ArrayNode, RootNode

NAME = "run42"
CHUNK_S = 0.1
BARS = "▁▂▃▄▅▆▇█"


# --- the process that acquires ---


def acquire(address: str) -> None:
    """Append chunks until a line comes on standard input; serve them until that ends."""
    from ezgraph.demo.ecg import load

    recording = load()
    meta = {"rate_hz": recording.rate_hz, "dims": ["time"], "unit": "counts"}
    ecg = ArrayNode.growing("f8", meta=meta)
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), is_over.set()), daemon=True).start()

    with sync.GraphContext(address, program="acquire") as ctx:
        ctx.serve(RootNode(edges={"ecg": ecg}), NAME)
        print(f"acquire: serves {NAME}/ecg at {recording.rate_hz:g} Hz", flush=True)
        due, start = time.monotonic(), 0
        size = round(CHUNK_S * recording.rate_hz)
        while not is_over.wait(max(0.0, due - time.monotonic())):
            ecg.append(recording.samples.take(range(start, start + size), mode="wrap"))
            due, start = due + CHUNK_S, start + size
        ecg.finish()  # who follows comes to an end
        sys.stdin.read()


# --- the process that follows ---


def follow(address: str) -> None:
    """Plot each second as it comes, until nothing more will."""
    with sync.GraphContext(address, program="follow") as ctx:
        ecg = ctx.nodes[NAME]["ecg"]
        second = round(ecg.meta["rate_hz"])
        seen, count = np.empty(0), 0
        for _, chunk in ecg.follow(after=-1):
            seen = np.concatenate([seen, chunk])
            while len(seen) >= second:
                count += 1
                print(f"follow:  second {count:2} {told(seen[:second])}", flush=True)
                seen = seen[second:]
        print(f"follow:  nothing more comes after second {count}", flush=True)


def told(samples: np.ndarray) -> str:
    """Return mean, least and most of some samples, and how they look."""
    low, high = samples.min(), samples.max()
    peaks = [part.max() for part in np.array_split(samples, 40)]
    bars = "".join(BARS[int((peak - low) / (high - low) * (len(BARS) - 1))] for peak in peaks)
    return f"mean {samples.mean():6.1f}  min {low:5.0f}  max {high:5.0f}  {bars}"


# --- the process that reads later ---


def read(address: str, delay_s: float) -> None:
    """Read what is acquired from now on for a while, by one slice, and compare it."""
    from ezgraph.demo.ecg import load

    with sync.GraphContext(address, program="read") as ctx:
        ecg = ctx.nodes[NAME]["ecg"]
        meta, start = ecg.meta, len(ecg)
        threading.Event().wait(delay_s)
        stop = start + int(0.8 * delay_s * meta["rate_hz"])
        while len(ecg) < stop:  # the machine is busy, and the acquisition late
            threading.Event().wait(CHUNK_S)
        found = ecg[start:stop]

    expected = load().samples.take(range(start, stop), mode="wrap")
    is_equal = np.array_equal(found, expected)
    print(f"read:    {len(found)} samples in {meta['unit']}, {delay_s:g} s later", flush=True)
    print(f"read:    equal to the recording: {is_equal}", flush=True)
    if not is_equal:
        raise SystemExit(1)


# --- all of them ---


class Part(subprocess.Popen):
    """A process of this program's; it does not outlive the ``with`` it is started in."""

    def __init__(self, name: str, *words: str) -> None:
        pipe = subprocess.PIPE if name == "acquire" else None
        command = [sys.executable, __file__, name, *words]
        super().__init__(command, stdin=pipe, stdout=pipe, text=True)

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self.kill()
        super().__exit__(*error)

    def ends_well(self) -> None:
        if self.wait(90):
            raise SystemExit(f"{self.args[2]} ended with {self.returncode}")


def run_all(delay_s: float) -> None:
    with GraphServer() as server:
        address = str(server.address)
        with Part("acquire", address) as acquirer:
            print(acquirer.stdout.readline(), end="", flush=True)  # now it can be found
            with Part("follow", address) as follower:
                with Part("read", address, str(delay_s)) as reader:
                    reader.ends_well()
                acquirer.stdin.write("enough\n")
                acquirer.stdin.flush()
                follower.ends_well()
            acquirer.stdin.close()
            acquirer.ends_well()
        print(f"left on the bus: {list(sync.GraphService(address).snapshot().graphs)}")


def main() -> None:
    if find_spec("pywt") is None:
        sys.exit("this example needs PyWavelets: pip install 'ezgraph[demo]'")
    match sys.argv[1:]:
        case ["acquire", address]:
            acquire(address)
        case ["follow", address]:
            follow(address)
        case ["read", address, delay_s]:
            read(address, float(delay_s))
        case []:
            run_all(60.0)
        case [delay_s]:
            run_all(float(delay_s))


if __name__ == "__main__":
    main()
