"""Merging a subject LoRA and a style LoRA into one (ZipLoRA, Shah et al. 2023, arXiv 2311.13600).

Each layer's updates are scaled column by column and added, ΔW_m = m_c ⊗ ΔW_c + m_s ⊗ ΔW_s: element j of a merger
scales column j of ΔW, that is the layer's input feature j (in a convolution its input channel j). The mergers minimise

    L = ‖(D⊕L_m)(x_c, p_c) − (D⊕L_c)(x_c, p_c)‖² + ‖(D⊕L_m)(x_s, p_s) − (D⊕L_s)(x_s, p_s)‖² + λ Σᵢ |m_c⁽ⁱ⁾ · m_s⁽ⁱ⁾|

where D⊕L is the model with a LoRA, p_c and p_s are the prompts that the LoRAs were trained for, and x_c, x_s are noisy
latents of pictures which each LoRA's own model draws from its prompt. The reduction is the mean throughout: of the
squared errors over all elements, and of |m_c m_s| over the columns of a layer and then over layers. The first two terms
are divided by what they are for the model without LoRAs, so that λ weighs the same whatever the size of the model and
of the updates. At the mergers' usual start, ones, the last term is λ.

Scaling the columns of B A is scaling those of A: a merged layer is [B_c B_s] [A_c diag(m_c); A_s diag(m_s)], of rank
r_c + r_s exactly. No dense ΔW is ever formed, and gradients are taken with respect to the mergers only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.adapters import Factors, check_low_rank, conformed, factors_of, frozen, patched, summed
from nodes.lora.closed_form import closed_form_mergers, closed_form_passes
from nodes.lora.determinism import deterministic
from nodes.lora.prediction import Conditioning, checkpointing, encode_captions, noise_schedule, predict
from nodes.lora.references import Draw, Draws, Side, draw_side
from nodes.lora.words import joined

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

Mergers = Sequence[Mapping[str, Tensor]]
"""m_c and m_s: for each LoRA, a float32 vector (in,) for each of its layers."""

HELD_OUT = 4
"""Noisy latents of each side, never trained on, by which merges are compared."""
ROUNDING = 1e-12
"""Squared relative difference that float32 arithmetic alone can make."""
STATISTICS = 8
"""Noisy latents of each side from which the closed form takes its statistics."""


@dataclass(frozen=True, slots=True)
class ZipSettings:
    """How mergers are found; the defaults are the paper's."""

    steps: int = 100
    learning_rate: float = 0.01
    """Adam's learning rate."""
    penalty: float = 0.01
    """λ."""
    batch: int = 1
    """Noisy latents of each side per step."""
    start: Literal["ones", "closed-form"] = "ones"
    """Where the mergers start: at the direct sum, or at the layer-wise least-squares fit of `closed_form`."""
    pictures: int = 4
    """Pictures drawn with each LoRA, as one batch."""
    sampling_steps: int = 20
    guidance_scale: float = 5.0
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them: slower, but in much less memory."""
    deterministic: bool = False
    """Equal digits in every run on a GPU too, at some cost in speed."""
    seed: int = 0


class ZipReport(NamedTuple):
    """Held-out reconstruction loss (the first two terms) of merges, each divided by that of the model without LoRAs."""

    direct: float
    """The plain sum ΔW_c + ΔW_s."""
    scaled: float
    """The best a·ΔW_c + b·ΔW_s on a grid: the baseline to beat."""
    scalars: tuple[float, float]
    """a and b."""
    start: float
    """The loss of the mergers before the first step."""
    merged: float
    """The loss of the result."""
    overlap: float
    """Mean |m_c m_s| of the result."""


def zip_loras(
    pipeline: StableDiffusionXLPipeline,
    subject: LoRA,
    style: LoRA,
    settings: ZipSettings,
    *,
    subject_prompt: str,
    style_prompt: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LoRA, ZipReport]:
    """Merge two LoRAs for `pipeline`, which is left as it was.

    Layers that only one LoRA changes have a merger for that LoRA. Both strengths are folded into the result, and its
    words are those of both. `progress(done, total)` counts sampling steps, passes of the fit, gradient steps and
    evaluations, and may raise to stop. Raises InputError when a LoRA does not fit the model, neither changes anything,
    or the model can't be trained.
    """
    schedule = noise_schedule(pipeline)
    subject, style = conformed(pipeline, subject), conformed(pipeline, style)
    for lora in (subject, style):
        check_low_rank(lora)
    generator = torch.Generator().manual_seed(settings.seed)
    fitted = settings.start == "closed-form"
    fitting = closed_form_passes(pipeline, [subject.up, style.up], STATISTICS) if fitted else 0
    tick = _ticker(2 * settings.sampling_steps + fitting + settings.steps + _Losses.evaluations, progress)
    with (
        frozen(pipeline),
        checkpointing(pipeline, settings.gradient_checkpointing),
        deterministic(settings.deterministic),
    ):
        sides = [
            draw_side(
                pipeline,
                lora,
                prompt,
                pictures=settings.pictures,
                sampling_steps=settings.sampling_steps,
                guidance_scale=settings.guidance_scale,
                generator=generator,
                after_step=tick,
            )
            for lora, prompt in ((subject, subject_prompt), (style, style_prompt))
        ]
        draw = Draws(pipeline, schedule, sides, generator)
        held_out = draw.spread(HELD_OUT)
        mergers = _constant(sides, 1, 1)
        if fitted:
            mergers = closed_form_mergers(pipeline, sides, draw.spread(STATISTICS), tick)
        losses = _Losses(pipeline, sides, held_out, tick)
        at_start = losses.of(mergers)
        _descend(pipeline, sides, draw, mergers, settings, losses.unit, tick)
        scaled, scalars = losses.best_scalars()
        report = ZipReport(
            direct=losses.of(_constant(sides, 1, 1)),
            scaled=scaled,
            scalars=scalars,
            start=at_start,
            merged=losses.of(mergers),
            overlap=overlap(mergers).item(),
        )
    return merged_lora(subject, style, mergers), report


def merged_lora(subject: LoRA, style: LoRA, mergers: Mergers) -> LoRA:
    """The LoRA that two LoRAs make with these mergers, wherever they are, in float32 on the CPU."""
    like = torch.zeros(())
    updates = [{name: layer.to(like) for name, layer in factors_of(lora).items()} for lora in (subject, style)]
    factors = merged(updates, [{name: columns.detach().to(like) for name, columns in side.items()} for side in mergers])
    return LoRA(
        up={name: layer.up for name, layer in factors.items()},
        down={name: layer.down for name, layer in factors.items()},
        name=f"{subject.name}+{style.name}",
        words=joined(subject.words, style.words),
    )


def merged(updates: Sequence[Mapping[str, Factors]], mergers: Mergers) -> dict[str, Factors]:
    """m_c ⊗ ΔW_c + m_s ⊗ ΔW_s as one update, differentiable in the mergers."""
    scaled = [
        {name: Factors(up, down * _along_inputs(columns[name], down)) for name, (up, down, _) in update.items()}
        for update, columns in zip(updates, mergers, strict=True)
    ]
    return summed(scaled)


def reconstruction(pipeline: StableDiffusionXLPipeline, sides: Sequence[Side], draws: Sequence[Draw]) -> Tensor:
    """The first two terms of L, for the update that is active while this is called."""
    adapts_text = any(name.startswith("text_encoder") for side in sides for name in side.factors)
    counts = [len(draw.noisy) for draw in draws]
    conditionings = [
        (encode_captions(pipeline, [side.prompt]) if adapts_text else side.conditioning).repeated(count)
        for side, count in zip(sides, counts, strict=True)
    ]
    prediction = predict(
        pipeline,
        torch.cat([draw.noisy for draw in draws]),
        torch.cat([draw.timesteps for draw in draws]),
        Conditioning(*(torch.cat(parts) for parts in zip(*conditionings, strict=True))),
    )
    errors = [F.mse_loss(part, draw.target) for part, draw in zip(torch.split(prediction, counts), draws, strict=True)]
    return torch.stack(errors).sum()


def overlap(mergers: Mergers) -> Tensor:
    """Σᵢ |m_c⁽ⁱ⁾ · m_s⁽ⁱ⁾| as a mean: over the columns of a layer, then over the layers that both LoRAs change."""
    subject, style = mergers
    shared = [(subject[name] * style[name]).abs().mean() for name in subject if name in style]
    return torch.stack(shared).mean() if shared else torch.zeros(())


def _constant(sides: Sequence[Side], *values: float) -> Mergers:
    """Mergers that scale every column of a LoRA alike."""
    return [
        {
            name: torch.full((layer.down.shape[1],), float(value), device=layer.down.device)
            for name, layer in side.factors.items()
        }
        for side, value in zip(sides, values, strict=True)
    ]


def _descend(
    pipeline: StableDiffusionXLPipeline,
    sides: Sequence[Side],
    draw: Draws,
    mergers: Mergers,
    settings: ZipSettings,
    unit: float,
    tick: Callable[[], None],
) -> None:
    """Minimise L over the mergers, in place, with Adam."""
    parameters = [columns.requires_grad_() for side in mergers for columns in side.values()]
    adam = torch.optim.Adam(parameters, lr=settings.learning_rate)
    for draws in draw.random(settings.steps, settings.batch):
        update = merged([side.factors for side in sides], mergers)
        with patched(pipeline, update):
            loss = reconstruction(pipeline, sides, draws) / unit + settings.penalty * overlap(mergers)
            torch.autograd.backward([loss])
        adam.step()
        adam.zero_grad()
        tick()
    for columns in parameters:
        columns.requires_grad_(False)


class _Losses:
    """Reconstruction losses on the same draws, in units of the model's without LoRAs."""

    evaluations = 28
    """How often the loss is computed for a report."""

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline,
        sides: Sequence[Side],
        draws: Sequence[Draw],
        tick: Callable[[], None],
    ) -> None:
        self.pipeline = pipeline
        self.sides = sides
        self.draws = draws
        self.tick = tick
        self.unit = self._loss_with({})
        if self.unit <= ROUNDING * sum(draw.target.square().mean().item() for draw in draws):
            raise InputError(
                "neither LoRA changes what the model predicts from its prompt",
                hint="put each LoRA's trigger word into its prompt",
            )

    def of(self, mergers: Mergers) -> float:
        self.tick()
        return self._loss_with(merged([side.factors for side in self.sides], mergers)) / self.unit

    def best_scalars(self) -> tuple[float, tuple[float, float]]:
        """The least loss of a·ΔW_c + b·ΔW_s, with (a, b): on a grid of quarters, then on eighths around its best."""
        quarters = (0.25, 0.5, 0.75, 1.0)
        _, (a, b) = min((self._of_scalars(a, b), (a, b)) for a in quarters for b in quarters)
        eighths = (-0.125, 0.0, 0.125)
        return min((self._of_scalars(a + i, b + j), (a + i, b + j)) for i in eighths for j in eighths)

    def _of_scalars(self, a: float, b: float) -> float:
        return self.of(_constant(self.sides, a, b))

    @torch.no_grad()
    def _loss_with(self, update: Mapping[str, Factors]) -> float:
        with patched(self.pipeline, update):
            return reconstruction(self.pipeline, self.sides, self.draws).item()


def _along_inputs(columns: Tensor, down: Tensor) -> Tensor:
    """A merger in a shape that scales the inputs of `down`: (1, in) or (1, in, 1, 1)."""
    return columns.view(1, -1, *(1 for _ in down.shape[2:]))


def _ticker(total: int, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    done = count(1)
    return lambda: progress(next(done), total) if progress is not None else None
