"""What a pass over a video costs, compared with the same tools one after the other.

    python -m benchmarks.curate [--seconds 60] [--rounds 3] [--only one_decode]

- `one_decode`: CPU time of `scan`, compared with separate tools that each read the video themselves, in turn, at
  1280×720 and at 160×90, one thread each: PySceneDetect at the native rate and at 6 and 2 frames per second,
  Farnebäck's flow and sharpness at 2, and the text, fingerprints and views of every clip. The ratio is theirs over
  ours.
- `processes`: time for a folder of eight videos in one process and in two.
- `on_ray`: the same by one worker of Ray and by two, including its start.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, open_video

from benchmarks.clips import CLIPS
from nodes.dataset.scan.duplicates import fingerprint
from nodes.dataset.scan.motion import flow_map, grey, motion
from nodes.dataset.scan.processes import Scanners
from nodes.dataset.scan.quality import quality
from nodes.dataset.scan.scanner import RATE, ScanSettings, scan
from nodes.dataset.scan.texts import TextDetector
from nodes.files.footage import small

Picture = NDArray[np.uint8]
FPS = 25
SHOT = 5.0
"""Seconds of a shot."""


def compose(path: Path, seconds: float, width: int, height: int, seed: int = 0) -> Path:
    """A film of five-second shots, each a different crop and colouring of the real clips."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as target:
        options = {"crf": "20", "preset": "veryfast", "threads": "2", "x264-params": "log-level=error"}
        stream = target.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        index = 0
        while index < seconds * FPS:
            for picture in shot(rng, width, height):
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts = index
                target.mux(stream.encode(frame))
                index += 1
        target.mux(stream.encode(None))
    return path


def shot(rng: np.random.Generator, width: int, height: int) -> Iterator[Picture]:
    """A shot of five seconds: a part of bigbuckbunny or bikes, perhaps mirrored, in other colours."""
    name, first = ("bigbuckbunny.mp4", 0) if rng.random() < 0.5 else ("bikes.mp4", int(rng.choice([76, 137])))
    capture = cv2.VideoCapture(str(CLIPS / name))
    capture.set(cv2.CAP_PROP_POS_FRAMES, first)
    frames = [frame for _ in range(50) if (frame := capture.read()[1]) is not None]
    scale, flip, shift = rng.uniform(0.5, 0.9), rng.random() < 0.5, rng.integers(0, 180)
    top, left = rng.uniform(0, 1 - scale, 2)
    for index in range(round(SHOT * FPS)):
        frame = frames[index * len(frames) // round(SHOT * FPS)]
        h, w = frame.shape[:2]
        part = frame[int(top * h) : int((top + scale) * h), int(left * w) : int((left + scale) * w)]
        part = cv2.resize(part[:, ::-1] if flip else part, (width, height), interpolation=cv2.INTER_AREA)
        hsv = cv2.cvtColor(part, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + shift) % 180
        yield np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)


def frames_of(path: Path) -> Iterator[tuple[float, Picture]]:
    """All frames, as a tool on its own would read them."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    index = 0
    while (picture := capture.read()[1]) is not None:
        yield index / FPS, np.asarray(picture, np.uint8)
        index += 1


def at_two_per_second(path: Path) -> Iterator[tuple[float, Picture]]:
    due = 0.0
    for time, picture in frames_of(path):
        if time >= due - 1e-6:
            yield time, picture
            due += 1 / RATE


def cuts_alone(path: Path) -> list[int]:
    """Cuts at the native rate and at two lower ones, each by a pass of its own, as PySceneDetect does it."""
    found: list[int] = []
    slower = [(ContentDetector(), FPS // rate - 1) for rate in (6, 2)]
    for detector, skip in ((AdaptiveDetector(), 0), *slower):
        manager = SceneManager()
        manager.add_detector(detector)
        manager.detect_scenes(open_video(str(path), backend="pyav", threading_mode="SLICE"), frame_skip=skip)
        if not skip:
            found = [scene[0].frame_num for scene in manager.get_scene_list(start_in_scene=True)]
    return found


def flow_alone(path: Path) -> list[float]:
    samples = [(time, grey(small(picture))) for time, picture in at_two_per_second(path)]
    return [motion([flow_map(a, b, to - since)]).total for (since, a), (to, b) in pairwise(samples)]


def quality_alone(path: Path) -> list[float]:
    return [quality(small(picture)).sharpness for _, picture in at_two_per_second(path)]


def views_alone(path: Path, cuts: list[int]) -> Iterator[list[Picture]]:
    """The first, middle and last picture of each clip, and three in between."""
    ends = [*cuts[1:], 10**9]
    waiting = {frame for first, end in zip(cuts, ends, strict=True) for frame in _six(first, min(end, first + 125))}
    clip: list[Picture] = []
    for time, picture in frames_of(path):
        if round(time * FPS) in waiting:
            clip.append(picture)
            if len(clip) == 6:
                yield clip
                clip = []


def _six(first: int, end: int) -> list[int]:
    return np.linspace(first, end - 1, 6).round().astype(int).tolist()


def separate_tools(path: Path) -> None:
    cuts = cuts_alone(path)
    flow_alone(path)
    quality_alone(path)
    detector = TextDetector()
    for clip in views_alone(path, cuts):
        for index in (0, 3, 5):
            detector.area(clip[index])
    for clip in views_alone(path, cuts):
        fingerprint(clip)
    for clip in views_alone(path, cuts):
        for picture in clip:
            cv2.imencode(".jpg", picture)


def seconds(clock: Callable[[], float], work: Callable[[], object]) -> float:
    started = clock()
    work()
    return clock() - started


def one_decode(folder: Path, length: float, rounds: int) -> None:
    cv2.setNumThreads(1)
    for width, height in ((1280, 720), (160, 90)):
        path = compose(folder / f"{height}.mp4", length, width, height)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(seconds(process_time, lambda: scan(path, ScanSettings())))  # noqa: B023
            theirs.append(seconds(process_time, lambda: separate_tools(path)))  # noqa: B023
        a, b = median(ours), median(theirs)
        clips = len(scan(path, ScanSettings()).clips)
        print(
            f"{width}×{height}, {length:.0f} s, {clips} clips: {a:.1f} s of CPU in one pass, {b:.1f} s separately, "
            f"{b / a:.1f} times as much",
            flush=True,
        )


def processes(folder: Path, length: float, rounds: int) -> None:
    paths = [compose(folder / f"{index}.mp4", length, 640, 360, seed=index) for index in range(8)]
    taken: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, times in taken.items():
            times.append(seconds(perf_counter, lambda: scan_all(paths, count)))  # noqa: B023
    one, two = (median(times) for times in taken.values())
    print(
        f"eight videos of {length:.0f} s: {one:.1f} s in one process, {two:.1f} s in two, {one / two:.2f} times",
        flush=True,
    )


def on_ray(folder: Path, length: float, rounds: int) -> None:
    # it imports torch, and scanning processes import this module again
    from nodes.dataset.describe.describer import DescribeSettings
    from nodes.dataset.on_ray import Stages, Task, described

    paths = [compose(folder / f"{index}.mp4", length, 640, 360, seed=index) for index in range(8)]
    stages = Stages(ScanSettings(), DescribeSettings(), None, "cpu")
    tasks = [Task(path, [], None) for path in paths]
    taken: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, times in taken.items():
            times.append(seconds(perf_counter, lambda: list(described(lambda: iter(tasks), len(tasks), stages, count))))  # noqa: B023
    one, two = (median(times) for times in taken.values())
    print(
        f"on Ray, eight videos of {length:.0f} s: {one:.1f} s by one worker, {two:.1f} s by two, {one / two:.2f} times"
    )


def scan_all(paths: list[Path], count: int) -> None:
    with Scanners(ScanSettings(), count, lambda path, share: None) as scanners:
        for wait in [scanners.start(path) for path in paths]:
            assert not isinstance(wait(), str)


PARTS = {part.__name__: part for part in (one_decode, processes, on_ray)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60, help="length of the films")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=PARTS, help="one part")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, part in PARTS.items():
            if given.only in (None, name):
                part(Path(folder), given.seconds, given.rounds)


if __name__ == "__main__":
    main()
