from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.node import Context
from engine.values import Image, ImageModel, ModelReference
from nodes.diffusion.preview import StepCallback, denoised, fit_colours, paint


class FlatVAE(torch.nn.Module):
    """A VAE whose latents are an affine image of the colours, so that the right answer is known."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 4, 1).requires_grad_(False)
        self.config = type("Config", (), {"block_out_channels": (8, 8, 8), "scaling_factor": 0.5})

    def encode(self, pictures: torch.Tensor) -> object:
        latents = self.mix(torch.nn.functional.avg_pool2d(pictures, 4))
        mode = type("Distribution", (), {"mode": lambda self: latents})()
        return type("Output", (), {"latent_dist": mode})()


def test_colours_are_recovered_where_latents_are_linear_in_them() -> None:
    torch.manual_seed(0)
    vae = FlatVAE()
    colours = torch.rand(2, 3, 5, 7)
    fitted = fit_colours(vae)
    assert fitted is not None
    torch.testing.assert_close(paint(vae.mix(colours * 2 - 1), fitted), colours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [8, 32], ids=["decoded", "painted"])
def test_where_the_vae_overflows_there_is_no_preview(size: int) -> None:
    vae = FlatVAE()
    vae.mix.weight.data.fill_(torch.nan)
    vae.decode = lambda latents: type("Output", (), {"sample": latents * torch.nan})  # type: ignore[assignment]
    shown: list[Image | None] = []
    ctx = Context(on_progress=lambda done, total, unit, preview: shown.append(preview), wants_preview=lambda: True)
    scheduler = type("Scheduler", (), {})()
    pipeline = type("Pipeline", (), {"vae": vae, "scheduler": scheduler, "num_timesteps": 2})()
    step = StepCallback(ctx, ImageModel("a", "/a", "a", "float16", family="Stable Diffusion XL"), 2)
    for index in range(2):
        step(pipeline, index, torch.tensor(0), {"latents": torch.zeros(1, 4, size, size)})
    assert shown == [None, None, None]
    assert len(ctx.models) == (size > 16), "that there are no colours is found once"


def test_models_of_one_folder_with_different_vaes_have_colours_of_their_own() -> None:
    ctx, colours = Context(wants_preview=lambda: True), []
    ctx = replace(ctx, on_progress=lambda done, total, unit, preview: colours.append(preview))
    own = ImageModel("a", "/a", "a", "float32", family="Stable Diffusion XL")
    for number, model in enumerate((own, replace(own, parts={"vae": ModelReference("b", "/b", "b", "float32")}))):
        torch.manual_seed(number)
        vae = FlatVAE()
        pipeline = type("Pipeline", (), {"vae": vae, "scheduler": type("Scheduler", (), {})(), "num_timesteps": 1})()
        picture = torch.rand(1, 3, 32, 32)
        latents = vae.mix(picture * 2 - 1) * vae.config.scaling_factor
        StepCallback(ctx, model, 1)(pipeline, 0, torch.tensor(0), {"latents": latents})
        torch.testing.assert_close(colours[-1].pixels, picture, atol=1e-4, rtol=0)


def test_a_euler_step_points_at_the_clean_latents() -> None:
    clean, noise = torch.rand(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    before, after = clean + 3.0 * noise, clean + 1.0 * noise
    torch.testing.assert_close(denoised(before, after, 3.0, 1.0), clean, atol=1e-5, rtol=0)


def test_the_last_step_is_its_own_result() -> None:
    before, after = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(denoised(before, after, 0.5, 0.0), after, atol=1e-5, rtol=0)


def test_a_step_of_a_straight_flow_points_at_the_clean_latents() -> None:
    clean, noise = torch.rand(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    before, after = (level * noise + (1 - level) * clean for level in (0.9, 0.6))
    torch.testing.assert_close(denoised(before, after, 0.9, 0.6), clean, atol=1e-5, rtol=0)
    assert denoised(None, after, 0.9, 0.6, 0.4).std() == pytest.approx(1, abs=0.4)
