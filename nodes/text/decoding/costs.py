"""What a pass over several tokens costs, beside a pass over one: L(T)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any

import torch

from nodes.text.decoding.reader import Reader
from nodes.text.decoding.tree import Tree
from nodes.text.decoding.turned import quickened

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Tokens of the passes that are measured; what lies between is interpolated."""
FIRST = (1, 4, 8, 2, 16, 32)
"""What is measured first, since there may be no time for all."""
CONTEXT = 64
"""Tokens in the cache before measuring."""


@dataclass(frozen=True)
class Costs:
    """The time of a pass over T tokens, by T; the unit doesn't matter."""

    times: Mapping[int, float]

    def __post_init__(self) -> None:
        if 1 not in self.times or not all(size >= 1 and time > 0 for size, time in self.times.items()):
            raise ValueError("the costs of passes need a time above 0 for one token, and for others")

    @property
    def most(self) -> int:
        """The largest T that is known."""
        return max(self.times)

    @property
    def is_plausible(self) -> bool:
        """Whether no pass takes much longer than one for each of its tokens: else something disturbed the clock."""
        return all(time < 1.5 * size * self.times[1] for size, time in self.times.items())

    def __call__(self, size: int) -> float:
        """The time of a pass over `size` tokens, from those beside it; beyond the last, it grows with the size."""
        sizes = sorted(self.times)
        after = bisect_left(sizes, size)
        if after == len(sizes):
            return self.times[sizes[-1]] * size / sizes[-1]
        high = sizes[after]
        if high == size:
            return self.times[size]
        low = sizes[after - 1]
        part = (size - low) / (high - low)
        return self.times[low] * (1 - part) + self.times[high] * part

    def cheapest(self, size: int) -> tuple[int, float]:
        """The T ≥ `size` whose pass takes the least time, and that time: a larger pass may be the quicker one."""
        sizes = [size, *(other for other in self.times if other > size)]
        best = min(sizes, key=lambda other: (self(other), other))
        return best, self(best)


NOMINAL = {
    "cpu": Costs({1: 1.0, 2: 0.86, 3: 0.92, 4: 0.98, 8: 1.05, 16: 1.23, 32: 1.69, 64: 2.6}),
    "other": Costs({1: 1.0, 16: 1.03, 64: 1.2, 128: 1.5}),
}
"""By kind of device, for half precision: there the size of a pass can decide a tie, and a clock must not. The first was
measured (SmolLM2-135M in bfloat16, one thread), the second is what a device does that waits for its memory."""


def measure(model: Any, heard: Callable[[int, int], None], *, seconds: float = 3.0) -> Costs:
    """Time passes of a model over trees of several sizes, in turns; for each the quickest counts.

    Args:
        model: one that `support` doesn't refuse.
        heard: called before each pass with how many are done, and how many there are at most; what it raises ends the
            measurement.
        seconds: after these no further pass begins; the first three sizes are always measured.
    """
    from transformers import DynamicCache

    config = model.config.get_text_config(decoder=True)
    room = getattr(config, "max_position_embeddings", CONTEXT)
    reader = Reader(quickened(model), DynamicCache(config=config), room + 1)
    with torch.inference_mode():
        reader.read_prompt([at % config.vocab_size for at in range(min(CONTEXT, room) + 1)], None)
    sizes = [*FIRST, *(size for size in SIZES if size not in FIRST)]
    passes = [*FIRST[:3], *sizes * 3]  # the first ones warm up
    times: dict[int, float] = {}
    began = perf_counter()
    for done, size in enumerate(passes):
        if done >= 6 and perf_counter() - began > seconds:
            break
        heard(done, len(passes))
        took = _pass(reader, size)
        times[size] = min(took, times.get(size, took)) if done >= 6 else took
    return Costs(times)


def _pass(reader: Reader, size: int) -> float:
    tree = Tree([0])
    for _ in range(size - 1):
        tree.guess(tree.root, 0)
    # On a CPU, the thread's own time: what else the machine does meanwhile doesn't count.
    clock = thread_time if reader.model.device.type == "cpu" else perf_counter
    started = clock()
    with torch.inference_mode():
        reader.read(tree, list(range(size)))[:, 0].tolist()  # which waits for the device
        took = clock() - started
        reader.keep(tree, [])
    return took
