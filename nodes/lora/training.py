"""Training a LoRA on a handful of captioned pictures.

The UNet learns to denoise the pictures from their captions while its own weights stay frozen (Hu et al. 2021, used as
in DreamBooth, Ruiz et al. 2022). Pictures are encoded once and captions too, unless the text encoders are adapted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.adapters import Factors, frozen, patched
from nodes.diffusion.layers import layers
from nodes.lora.determinism import deterministic
from nodes.lora.prediction import (
    Conditioning,
    checkpointing,
    encode_captions,
    encode_unconditional,
    noise_schedule,
    predict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from diffusers import DDPMScheduler, StableDiffusionXLPipeline

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True, slots=True)
class Example:
    """A picture, (3, H, W) in [0, 1], and its caption."""

    pixels: Tensor
    caption: str


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a LoRA is trained; the defaults are for SDXL at 1024 pixels."""

    rank: int = 16
    alpha: float | None = None
    """ΔW = alpha/rank · up @ down; None means the rank, a scale of 1."""
    targets: tuple[str, ...] = ATTENTION
    """Layers of the UNet, by the end of their name."""
    text_targets: tuple[str, ...] = ()
    """Layers of both text encoders, by the end of their name; none leaves the encoders alone."""
    steps: int = 500
    batch: int = 1
    learning_rate: float = 1e-4
    text_learning_rate: float = 5e-6
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the learning rate does after the warm-up."""
    warmup: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 1e-4
    max_gradient_norm: float = 1.0
    caption_dropout: float = 0.0
    """Share of captions left out, so that guidance keeps working."""
    snr_gamma: float | None = None
    """Limit of the signal-to-noise weighting (min-SNR, Hang et al. 2023); 5 is usual, None weighs all noise alike."""
    prior_weight: float = 1.0
    """Weight of the prior-preservation loss, where there are prior pictures."""
    ema_decay: float | None = None
    """Decay of the weights' moving average; 0.99 suits a few hundred steps, None keeps the last weights."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them: slower, but in much less memory."""
    deterministic: bool = False
    """Equal digits in every run on a GPU too, at some cost in speed."""
    seed: int = 0


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

    Raises InputError for pictures of unequal or unsuitable size, targets that match nothing and models that can't be
    trained.
    """
    _check(pipeline, [*examples, *prior], settings)
    schedule = noise_schedule(pipeline)
    generator = torch.Generator().manual_seed(settings.seed)
    trained = _initial_factors(pipeline, settings, generator)
    with (
        frozen(pipeline),
        patched(pipeline, trained),
        checkpointing(pipeline, settings.gradient_checkpointing),
        deterministic(settings.deterministic),
    ):
        own = _Pictures(pipeline, examples, settings, generator)
        of_class = _Pictures(pipeline, prior, settings, generator) if prior else None
        optimiser = _Optimiser(trained, settings)
        for step in range(1, settings.steps + 1):
            loss = _denoising_loss(pipeline, schedule, own, settings, generator)
            if of_class is not None:
                prior_loss = _denoising_loss(pipeline, schedule, of_class, settings, generator)
                loss = loss + settings.prior_weight * prior_loss
            optimiser.step(loss)
            if progress is not None:
                progress(step, settings.steps, loss.item())
        optimiser.finish()
    return LoRA(
        up={layer: factors.up.detach().cpu() * factors.scale for layer, factors in trained.items()},
        down={layer: factors.down.detach().cpu() for layer, factors in trained.items()},
        name=name,
        words=dict(words or {}),
    )


def _check(pipeline: StableDiffusionXLPipeline, examples: Sequence[Example], settings: TrainingSettings) -> None:
    if not examples:
        raise InputError("there are no pictures to train on", input="examples", hint="give at least one")
    sizes = {tuple(example.pixels.shape) for example in examples}
    if len(sizes) > 1:
        raise InputError(
            f"the pictures have different shapes: {sorted(sizes)}", input="examples", hint="resize them to one size"
        )
    (shape,) = sizes
    # The UNet halves the latents once per downsampling block.
    multiple = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    if len(shape) != 3 or shape[0] != 3 or shape[1] % multiple or shape[2] % multiple:
        message = f"the pictures have shape {shape}, not (3, H, W) with H and W multiples of {multiple}"
        raise InputError(message, input="examples", hint="resize them")
    if settings.rank < 1 or settings.batch < 1 or settings.steps < 1:
        raise InputError("rank, batch and steps must be at least 1", input="settings")


def _initial_factors(
    pipeline: StableDiffusionXLPipeline, settings: TrainingSettings, generator: torch.Generator
) -> dict[str, Factors]:
    """Factors of each targeted layer, in float32: `down` random, `up` zero, so that training starts from ΔW = 0."""
    found = {
        name: module
        for name, module in layers(pipeline).items()
        if _is_target(name, "unet.", settings.targets) or _is_target(name, "text_encoder", settings.text_targets)
    }
    for target in (*settings.targets, *settings.text_targets):
        if not any(name.endswith(f".{target}") for name in found):
            raise InputError(
                f"no layer of the model is called {target!r}", input="targets", hint="name one, such as 'to_q'"
            )
    if not found:
        raise InputError("there are no layers to train", input="targets", hint="give targets or text_targets")
    scale = 1.0 if settings.alpha is None else settings.alpha / settings.rank
    return {name: _factors(module, settings.rank, scale, generator) for name, module in found.items()}


def _is_target(name: str, component: str, ends: tuple[str, ...]) -> bool:
    return name.startswith(component) and name.endswith(tuple(f".{end}" for end in ends))


def _factors(module: nn.Linear | nn.Conv2d, rank: int, scale: float, generator: torch.Generator) -> Factors:
    out, *inputs = module.weight.shape
    down = nn.init.kaiming_uniform_(torch.empty(rank, *inputs), a=5**0.5, generator=generator)
    up = torch.zeros(out, rank, *(1 for _ in inputs[1:]))
    device = module.weight.device
    return Factors(nn.Parameter(up.to(device)), nn.Parameter(down.to(device)), scale)


class _Pictures:
    """Encoded pictures and captions, drawn in batches: each once, in a new order, before any is repeated."""

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline,
        examples: Sequence[Example],
        settings: TrainingSettings,
        generator: torch.Generator,
    ) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.generator = generator
        self.captions = [example.caption for example in examples]
        self.order = self._endless_order(len(examples))
        with torch.no_grad():
            self.mean, self.deviation = _encode_pictures(pipeline, [example.pixels for example in examples])
            self.conditioning = None if settings.text_targets else encode_captions(pipeline, self.captions)
            self.unconditional = encode_unconditional(pipeline)

    def batch(self) -> tuple[Tensor, Conditioning]:
        """Latents sampled anew from the encoder's posterior, and the captions' conditioning."""
        rows = torch.tensor([next(self.order) for _ in range(self.settings.batch)])
        mean, deviation = self.mean[rows], self.deviation[rows]
        latents = mean + deviation * torch.randn(mean.shape, generator=self.generator).to(mean)
        if self.conditioning is None:
            conditioning = encode_captions(self.pipeline, [self.captions[row] for row in rows])
        else:
            conditioning = self.conditioning.take(rows)
        return latents, self._drop_captions(conditioning)

    def _drop_captions(self, conditioning: Conditioning) -> Conditioning:
        chance = torch.rand(len(conditioning.pooled), generator=self.generator)
        dropped = (chance < self.settings.caption_dropout).to(conditioning.pooled.device)
        embeds = torch.where(dropped[:, None, None], self.unconditional.embeds, conditioning.embeds)
        return Conditioning(embeds, torch.where(dropped[:, None], self.unconditional.pooled, conditioning.pooled))

    def _endless_order(self, count: int) -> Iterator[int]:
        while True:
            yield from torch.randperm(count, generator=self.generator).tolist()


def _encode_pictures(pipeline: StableDiffusionXLPipeline, pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the pictures' latents, float32 (n, C, h, w), in the UNet's units."""
    vae = pipeline.vae
    posteriors = [
        vae.encode((pixels[None] * 2 - 1).to(device=vae.device, dtype=vae.dtype)).latent_dist for pixels in pictures
    ]
    mean = torch.cat([posterior.mean for posterior in posteriors]).float()
    deviation = torch.cat([posterior.std for posterior in posteriors]).float()
    return mean * vae.config.scaling_factor, deviation * vae.config.scaling_factor


def _denoising_loss(
    pipeline: StableDiffusionXLPipeline,
    schedule: DDPMScheduler,
    pictures: _Pictures,
    settings: TrainingSettings,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the prediction at random noise levels, weighted by min-SNR if asked for."""
    latents, conditioning = pictures.batch()
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    timesteps = torch.randint(schedule.config.num_train_timesteps, (len(latents),), generator=generator)
    timesteps = timesteps.to(latents.device)
    noisy = schedule.add_noise(latents, noise, timesteps)
    velocity = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(latents, noise, timesteps) if velocity else noise
    error = F.mse_loss(predict(pipeline, noisy, timesteps, conditioning), target, reduction="none").mean((1, 2, 3))
    return (error * snr_weights(schedule, timesteps, settings.snr_gamma)).mean()


def snr_weights(schedule: DDPMScheduler, timesteps: Tensor, gamma: float | None) -> Tensor:
    """min(SNR, γ) / SNR for noise prediction, min(SNR, γ) / (SNR + 1) for velocity (Hang et al. 2023, section 3.4)."""
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    signal = schedule.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = signal / (1 - signal)
    weights: Tensor = snr.clamp(max=gamma) / (snr + 1 if schedule.config.prediction_type == "v_prediction" else snr)
    return weights


class _Optimiser:
    """AdamW with a learning-rate schedule, gradient clipping and, if asked for, an average of the weights."""

    def __init__(self, trained: Mapping[str, Factors], settings: TrainingSettings) -> None:
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        def parameters(component: str) -> list[nn.Parameter]:
            chosen = [factors for name, factors in trained.items() if name.startswith(component)]
            return [p for factors in chosen for p in (factors.up, factors.down) if isinstance(p, nn.Parameter)]

        unet, text = parameters("unet."), parameters("text_encoder")
        groups = [{"params": unet, "lr": settings.learning_rate}, {"params": text, "lr": settings.text_learning_rate}]
        self.parameters = unet + text
        self.max_norm = settings.max_gradient_norm
        self.adam = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=settings.weight_decay)
        self.rate = get_scheduler(
            settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
            self.adam,
            num_warmup_steps=settings.warmup,
            num_training_steps=settings.steps,
        )
        self.average = None if settings.ema_decay is None else EMAModel(self.parameters, decay=settings.ema_decay)

    def step(self, loss: Tensor) -> None:
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(self.parameters, self.max_norm, error_if_nonfinite=True)
        self.adam.step()
        self.rate.step()
        self.adam.zero_grad()
        if self.average is not None:
            self.average.step(self.parameters)

    def finish(self) -> None:
        if self.average is not None:
            self.average.copy_to(self.parameters)
