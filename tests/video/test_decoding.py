"""Decoding layer by layer, against diffusers' decoder, and in little memory on a pretended GPU."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from nodes.video.decoding import decode
from tests.fakecuda import fake_cuda
from tests.tiny import tiny_sdxl, tiny_svd


def latents(frames: int, side: int = 8) -> torch.Tensor:
    return torch.randn(frames, 4, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLTemporalDecoder:
    """The tiny decoder, with weights for time and blends that differ from layer to layer."""
    made = copy.deepcopy(tiny_svd().vae)
    draw = torch.Generator().manual_seed(1)
    for name, weight in made.decoder.named_parameters():
        if "norm" in name or "mix_factor" in name:
            weight.data += torch.randn(weight.shape, generator=draw) / 2
    return made


def whole(vae: AutoencoderKLTemporalDecoder, given: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.decode(given, num_frames=len(given)).sample


def ignored(done: int, of: int) -> None: ...


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_frames_are_those_that_the_decoder_makes_of_all_at_once(vae: AutoencoderKLTemporalDecoder, frames: int) -> None:
    torch.testing.assert_close(decode(vae, latents(frames), ignored), whole(vae, latents(frames)), atol=2e-5, rtol=1e-4)


def test_frames_that_differ_much_are_normed_together(vae: AutoencoderKLTemporalDecoder) -> None:
    given = latents(4) * torch.tensor([0.0, 1.0, 10.0, -3.0])[:, None, None, None] + 5
    torch.testing.assert_close(decode(vae, given, ignored), whole(vae, given), atol=2e-5, rtol=1e-4)


def test_half_precision_is_as_good_as_the_decoders_own(vae: AutoencoderKLTemporalDecoder) -> None:
    half, exact = copy.deepcopy(vae).bfloat16(), whole(vae, latents(3))
    given = latents(3).bfloat16()
    own, ours = (of.float() - exact for of in (whole(half, given), decode(half, given, ignored)))
    assert ours.square().mean() < 1.5 * own.square().mean()


def test_layers_are_reported_and_can_be_stopped_between(vae: AutoencoderKLTemporalDecoder) -> None:
    seen: list[tuple[int, int]] = []
    decode(vae, latents(2), lambda done, of: seen.append((done, of)))
    assert seen == [(index, len(seen)) for index in range(len(seen))]

    def stop(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(vae, latents(2), stop)


def test_a_vae_for_pictures_decodes_frame_by_frame() -> None:
    vae = tiny_sdxl().vae
    with torch.no_grad():
        expected = vae.decode(latents(3)).sample
    torch.testing.assert_close(decode(vae, latents(3), ignored), expected, atol=1e-5, rtol=1e-4)


def peak(vae: AutoencoderKLTemporalDecoder, frames: int, on_host: bool) -> int:
    """The bytes that decoding takes beside the weights."""
    with fake_cuda() as gpu:
        there, given = copy.deepcopy(vae).to("cuda"), latents(frames).to("cuda")
        before = gpu.used
        gpu.restart()
        decode(there, given, ignored, on_host=on_host)
        return gpu.peak - before


def test_with_frames_kept_on_the_host_the_device_needs_the_memory_of_few(vae: AutoencoderKLTemporalDecoder) -> None:
    few, many = peak(vae, 2, on_host=True), peak(vae, 6, on_host=True)
    assert many < 1.25 * few, "finished pictures are small beside a layer's frames"
    assert peak(vae, 6, on_host=False) > many
