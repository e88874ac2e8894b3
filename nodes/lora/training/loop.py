"""Training a LoRA on captioned pictures.

The denoiser learns to denoise the pictures from their captions while its own weights stay frozen (Hu et al. 2021, used
as in DreamBooth, Ruiz et al. 2022). Pictures are encoded once, before the first step, and captions too, unless the text
encoders are trained. All that is random in a step depends on the seed and the step's number alone, so a training that
is taken up from a kept state goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import InputError
from nodes.diffusion.adapters import frozen, hooked
from nodes.lora.determinism import deterministic
from nodes.lora.training.chance import chance
from nodes.lora.training.family import family_of
from nodes.lora.training.layers import chosen
from nodes.lora.training.network import Network
from nodes.lora.training.optimisers import Descent
from nodes.lora.training.pictures import Batch, Example, Pictures, check_examples
from nodes.lora.training.settings import TrainingSettings, check

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, StableDiffusionXLPipeline

    from engine.values import LoRA
    from nodes.lora.prediction import Conditioning
    from nodes.lora.training.family import Family

MEASURED = 8
"""Passes in which the loss is measured, at evenly spread noise levels."""
REMEMBERED = 512
"""Captions whose conditioning is kept at a time."""


def train_lora(
    pipeline: StableDiffusionXLPipeline,
    examples: Sequence[Example],
    settings: TrainingSettings,
    *,
    name: str,
    words: Mapping[str, tuple[str, ...]] | None = None,
    prior: Sequence[Example] = (),
    progress: Callable[[int, int, float], None] | None = None,
) -> LoRA:
    """Train a LoRA for `pipeline` on `examples`; the pipeline is left as it was.

    `prior` are pictures of the subject's class made by the base model, trained on in equal number so that the class is
    not forgotten. `progress(step, steps, loss)` is called after each step and may raise to stop. Random numbers are
    drawn on the CPU, so a seed means the same on every device.

    Raises InputError for unsuitable pictures, settings that match no layer and models that can't be trained.
    """
    with training(pipeline, examples, settings, prior=prior) as course:
        for step in range(settings.steps):
            loss = course.step(step)
            if progress is not None:
                progress(step + 1, settings.steps, loss)
        course.descent.finish()
        return course.network.lora(name, words or {})


@contextmanager
def training(
    pipeline: StableDiffusionXLPipeline,
    examples: Sequence[Example],
    settings: TrainingSettings,
    *,
    prior: Sequence[Example] = (),
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Course]:
    """A training, while the scope is open: what is trained acts on the pipeline, which is left as it was.

    Args:
        tick: called often, within steps too; may raise to stop.

    Raises:
        InputError: the pictures, the settings or the model don't do.
    """
    check_examples([*examples, *prior])
    check(settings)
    held_out = check_held_out(len(examples), settings)
    family = family_of(pipeline)
    family.schedule  # noqa: B018 - refuses models that can't be trained, before anything is computed
    network = Network(chosen(pipeline, family.denoiser, settings), settings, tick)
    with ExitStack() as scope:
        scope.enter_context(frozen(pipeline))
        scope.enter_context(deterministic(settings.deterministic))
        learnt = len(examples) - held_out
        own = Pictures(family, examples[:learnt], settings, "own", tick)
        others = Pictures(family, examples[learnt:], settings, "held out", tick) if held_out else None
        of_class = Pictures(family, prior, settings, "class", tick) if prior else None
        captions = Captions(family, kept=not settings.text_encoders)
        captions.prepare([*own.captions(), *(of_class.captions() if of_class else ()), ""])
        scope.enter_context(hooked(pipeline, network.hooks()))
        scope.enter_context(family.checkpointing(settings.gradient_checkpointing))
        yield Course(family, network, Descent(network, settings), settings, captions, own, of_class, others)


def check_held_out(count: int, settings: TrainingSettings) -> int:
    """How many pictures are held out; raises InputError if none is left to learn from."""
    if settings.held_out >= count:
        raise InputError(
            f"{settings.held_out} of {count} pictures are held out, so that none is left to learn from",
            input="held_out",
            hint="hold out fewer, or give more pictures",
        )
    return settings.held_out


class Captions:
    """The conditioning of captions, encoded when first needed, or each time anew where text encoders are trained.

    What is kept is encoded in the encoders' own type, within autocast too: it must not matter when that happens.
    """

    def __init__(self, family: Family, *, kept: bool) -> None:
        self.family, self.kept = family, kept
        self._known: dict[str, Conditioning] = {}

    def prepare(self, captions: Sequence[str]) -> None:
        """Encode captions before the first step, as many as are kept."""
        if self.kept:
            for caption in list(dict.fromkeys(captions))[:REMEMBERED]:
                self._of(caption)

    def encoded(self, captions: Sequence[str]) -> Conditioning:
        """The conditioning of n captions; an empty one is none."""
        if not self.kept:
            return self.family.encode_captions(captions)
        first, *more = [self._of(caption) for caption in captions]
        return type(first)(*(torch.cat(parts) for parts in zip(first, *more, strict=True)))

    @torch.no_grad()
    def _of(self, caption: str) -> Conditioning:
        if caption not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            with torch.autocast(self.family.device.type, enabled=False):
                self._known[caption] = self.family.encode_captions([caption])
        return self._known[caption]


class Course:
    """A training under way: its parts, and what a step is."""

    def __init__(
        self,
        family: Family,
        network: Network,
        descent: Descent,
        settings: TrainingSettings,
        captions: Captions,
        own: Pictures,
        of_class: Pictures | None,
        held_out: Pictures | None,
    ) -> None:
        self.family, self.network, self.descent, self.settings = family, network, descent, settings
        self.captions, self.own, self.of_class, self.held_out = captions, own, of_class, held_out
        self.schedule: DDPMScheduler = family.schedule

    def step(self, number: int) -> float:
        """Take one step, whose number alone decides on what; the first has number 0. Returns the loss.

        Raises:
            NodeError: the gradients are not finite.
        """
        total, share = 0.0, 1 / self.settings.accumulation
        for part in range(self.settings.accumulation):
            turn = number * self.settings.accumulation + part
            total += share * self._learn(self.own, turn, share)
            if self.of_class is not None:
                weight = self.settings.prior_weight
                total += share * weight * self._learn(self.of_class, turn, share * weight)
        self.descent.step(number)
        return total

    def _learn(self, pictures: Pictures, turn: int, weight: float) -> float:
        """Gather the gradients of the loss on one batch, times a weight; returns the loss."""
        generator = chance(self.settings.seed, pictures.tag, "noise", turn)
        batch = pictures.batch(turn)
        timesteps = torch.randint(self.schedule.config.num_train_timesteps, (len(batch.latents),), generator=generator)
        with self.network.turn(turn), torch.enable_grad():
            each = self.errors(batch, timesteps, generator)
            loss = (each * snr_weights(self.schedule, timesteps.to(each.device), self.settings.snr_gamma)).mean()
            torch.autograd.backward([loss * weight])
        return float(loss.detach())

    @torch.no_grad()
    def measure(self) -> float:
        """The mean squared error on pictures as they are, at fixed noise: on those held out, or else on all."""
        pictures = self.held_out or self.own
        steps: int = self.schedule.config.num_train_timesteps
        errors = []
        for index in range(max(MEASURED, min(len(pictures.examples), 4 * MEASURED))):
            generator = chance(self.settings.seed, "measured", index)
            level = int(((index % MEASURED) + 0.5) * steps / MEASURED)
            batch = pictures.plain(index % len(pictures.examples))
            errors.append(self.errors(batch, torch.tensor([level]), generator, plain=True))
        return float(torch.cat(errors).cpu().double().mean())  # Apple's GPUs have no float64

    def errors(self, batch: Batch, timesteps: Tensor, generator: torch.Generator, *, plain: bool = False) -> Tensor:
        """The mean squared error of the prediction for each picture of a batch, (n,), at these noise levels."""
        latents, settings = batch.latents, self.settings
        noise = torch.randn(latents.shape, generator=generator)
        if settings.noise_offset and not plain:
            noise = noise + settings.noise_offset * torch.randn(*latents.shape[:2], 1, 1, generator=generator)
        noise, timesteps = noise.to(latents), timesteps.to(latents.device)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        velocity = self.schedule.config.prediction_type == "v_prediction"
        target = self.schedule.get_velocity(latents, noise, timesteps) if velocity else noise
        device = self.family.device.type
        with torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            framings = batch.framings if settings.crop_conditioning else None
            found = self.family.predict(noisy, timesteps, self.captions.encoded(batch.captions), framings)
        return F.mse_loss(found.to(torch.promote_types(found.dtype, torch.float32)), target, reduction="none").mean(
            (1, 2, 3)
        )


def snr_weights(schedule: DDPMScheduler, timesteps: Tensor, gamma: float | None) -> Tensor:
    """min(SNR, γ) / SNR for noise prediction, min(SNR, γ) / (SNR + 1) for velocity (Hang et al. 2023, section 3.4)."""
    if not gamma:
        return torch.ones(len(timesteps), device=timesteps.device)
    signal = schedule.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = signal / (1 - signal)
    weights: Tensor = snr.clamp(max=gamma) / (snr + 1 if schedule.config.prediction_type == "v_prediction" else snr)
    return weights
