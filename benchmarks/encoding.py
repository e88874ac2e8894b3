"""Whether equal pixels give equal bytes on a busy machine.

    python -m benchmarks.encoding [--times 100] [--busy 4] [--seconds 2] [--tree]

Cuts one clip of 25 frames a second out of a real video again and again, as data sets are saved, beside processes that
keep the machine busy, and prints how many different files came out, with how often each did. With `--tree`, x264 uses
its macroblock tree, as it does by default, which reads memory that it hasn't written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from benchmarks.clips import CLIPS
from nodes.dataset.save.excerpts import Clip, write_exact
from nodes.files import h264

SOURCE = CLIPS / "carphone_pristine.mp4"
"""176×144, shown as 192×144."""
FPS = 25


def digests(times: int, clip: Clip) -> Iterator[str]:
    """The digests of the clip's files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        for _ in range(times):
            write_exact(path, SOURCE, clip)
            yield sha256(path.read_bytes()).hexdigest()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep this many processes busy meanwhile."""
    processes = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def _spin() -> None:
    while True:
        sum(range(100_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--busy", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--tree", action="store_true")
    asked = parser.parse_args()
    if asked.tree:
        h264._TREE = "1"
    start = perf_counter()
    with busy(asked.busy):
        found = Counter(digests(asked.times, Clip(0.0, asked.seconds, 0, round(asked.seconds * FPS))))
    each = (perf_counter() - start) / asked.times
    print(f"{asked.times} files beside {asked.busy} busy processes, {each:.2f} s each: {len(found)} different")
    for digest, count in found.most_common():
        print(f"{count:5}  {digest[:16]}")


if __name__ == "__main__":
    main()
