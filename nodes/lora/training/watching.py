"""What people are told of a training while it goes on: its loss, the time that is left, and sample pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from engine.errors import Cancelled
from engine.node import Figure
from engine.values import Image
from nodes.diffusion.precision import precision_kept
from nodes.lora.training.room import foreseen, free, peak

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline
    from torch import Tensor

    from engine.node import Context
    from nodes.lora.training.loop import Course

REPORT_SECONDS = 1.0
"""The figures are told at most this often."""
SMOOTHED = 0.95
"""Share of what the loss was so far, in the loss that is told: that of a step depends mostly on its noise."""
SAMPLE_STEPS = 20
SAMPLE_GUIDANCE = 5.0
GB = 1e9


class Watch:
    """Tells of a training.

    Args:
        begun: how many steps were done before, in an earlier run.
        every: steps after which a new sample picture is due; 0 for none.
    """

    def __init__(
        self, ctx: Context, pipeline: StableDiffusionXLPipeline, course: Course, begun: int, prompt: str, every: int
    ) -> None:
        self._ctx, self._pipeline, self._course, self._prompt, self._every = ctx, pipeline, course, prompt, every
        self._begun, self._started, self._told = begun, time.perf_counter(), 0.0
        self._due = bool(every)
        self._sample: Image | None = None
        self._loss: float | None = None
        self.measured: float | None = None
        self._room = foreseen(course)
        self._warn()

    def _warn(self) -> None:
        room, device = self._room, self._course.family.device
        self._ctx.text(
            f"about {room.total / GB:.3g} GB of memory: models {room.models / GB:.3g}, what is trained "
            f"{room.trained / GB:.3g}, a batch {room.kept / GB:.3g}\n"
        )
        if (wanted := room.trained + room.kept) > (there := free(device)):
            advice = "a smaller batch or resolution"
            advice += "" if self._course.settings.gradient_checkpointing else ", or gradient checkpointing"
            self._ctx.text(f"{wanted / GB:.3g} GB are more than the {there / GB:.3g} GB that are free: try {advice}\n")

    def before(self, step: int) -> None:
        """To be called before a step, the first of which is 0; raises `Cancelled` if the run was cancelled."""
        preview = self._preview if self._every else None
        self._ctx.progress(step, self._course.settings.steps, preview=preview)

    def after(self, step: int, loss: float) -> None:
        """To be called after a step with its loss."""
        self._loss = loss if self._loss is None else SMOOTHED * self._loss + (1 - SMOOTHED) * loss
        if self._every and (step + 1) % self._every == 0:
            self._due = True
        now = time.perf_counter()
        if now - self._told >= REPORT_SECONDS:
            self._told = now
            self.report(step + 1)

    def report(self, done: int) -> None:
        """Tell all figures, after so many steps."""
        each = (time.perf_counter() - self._started) / max(done - self._begun, 1)
        left = self._course.settings.steps - done
        figures: dict[str, Figure | float] = {}
        if self._loss is not None:
            figures["loss"] = self._loss
        if self.measured is not None:
            figures["held out" if self._course.held_out else "at fixed noise"] = self.measured
        if left:
            figures["time left"] = Figure(each * left, "s")
        figures["a step"] = Figure(each, "s")
        figures["memory foreseen"] = Figure(self._room.total / GB, "GB")
        if (most := peak(self._course.family.device)) is not None:
            figures["memory at the peak"] = Figure(most / GB, "GB")
        figures["trained parameters"] = sum(p.numel() for p in self._course.descent.parameters.values())
        self._ctx.report(figures)

    def _preview(self) -> Image | None:
        """The sample picture: a new one where it is due. It touches nothing that the training depends on."""
        if self._due:
            settings = self._course.settings
            with suppress(Cancelled):  # which the next step finds too
                self._sample = drawn(self._pipeline, self._prompt, settings.resolution, settings.seed)
                self._due = False
        return self._sample


@torch.no_grad()
def drawn(
    pipeline: StableDiffusionXLPipeline, prompt: str, resolution: int, seed: int, tick: Callable[[], None] | None = None
) -> Image:
    """A picture, in host memory, drawn by what acts on the pipeline now.

    Args:
        resolution: its side in pixels; 0 is the model's own.
        tick: called after each step; may raise to stop.
    """

    def after(*step: object) -> dict[str, Tensor]:
        if tick:
            tick()
        return {}

    with precision_kept(pipeline.vae):
        pictures: Tensor = pipeline(
            prompt,
            num_inference_steps=SAMPLE_STEPS,
            guidance_scale=SAMPLE_GUIDANCE,
            width=resolution or None,
            height=resolution or None,
            generator=torch.Generator().manual_seed(seed % 2**64),
            output_type="pt",
            callback_on_step_end=after,
        ).images
    return Image(pictures.float().cpu())
