from __future__ import annotations

import dataclasses

import diffusers
import pytest
import torch

from engine.errors import Cancelled, InputError, NodeError
from engine.node import Context
from engine.values import Image, ImageModel, LoRA
from nodes.diffusion.pipelines import pipeline_for
from nodes.diffusion.pixels import check_finite
from nodes.image.nodes import KeyframeSampler, PickImage, SplitImages, StackImages
from tests.diffusion.watching import Watching, cancelled_after
from tests.tiny import tiny_sdxl

PROMPT = "a red snail on grass, in watercolour style"


def draw(ctx: Context, model: ImageModel, **inputs: object) -> torch.Tensor:
    settings = {"prompt": PROMPT, "steps": 3, "seed": 7} | inputs
    return KeyframeSampler(model=model, **settings).run(ctx).pixels


def expected(seed: int, **options: object) -> torch.Tensor:
    """What diffusers draws by itself."""
    settings = {"prompt": PROMPT, "num_inference_steps": 3, "guidance_scale": 5.0} | options
    return tiny_sdxl()(generator=torch.Generator().manual_seed(seed), output_type="pt", **settings).images


def test_pictures_are_those_of_diffusers(ctx: Context, model: ImageModel) -> None:
    pixels = draw(ctx, model)
    assert pixels.shape == (1, 3, 64, 64)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels, expected(7), atol=1e-6, rtol=0)


def test_every_setting_reaches_the_pipeline(ctx: Context, model: ImageModel) -> None:
    pixels = draw(ctx, model, negative_prompt="sand", steps=2, guidance_scale=2.0, width=48, height=32)
    options = {"num_inference_steps": 2, "guidance_scale": 2.0, "width": 48, "height": 32}
    torch.testing.assert_close(pixels, expected(7, negative_prompt="sand", **options), atol=1e-6, rtol=0)


def test_a_picture_depends_on_its_own_seed_and_not_on_the_count(ctx: Context, model: ImageModel) -> None:
    three = draw(ctx, model, count=3, seed=7)
    assert torch.equal(three[2:], draw(ctx, model, count=1, seed=9))
    assert not torch.equal(three[0], three[1])


def test_the_last_seed_is_followed_by_the_first(ctx: Context, model: ImageModel) -> None:
    pixels = draw(ctx, model, steps=1, count=2, seed=2**64 - 1)
    assert torch.equal(pixels[1:], draw(ctx, model, steps=1, seed=0))


def test_steps_and_guidance_are_the_familys_unless_they_are_given(ctx: Context, model: ImageModel) -> None:
    torch.testing.assert_close(draw(ctx, model, steps=0), expected(7, num_inference_steps=30), atol=1e-5, rtol=0)
    given = draw(ctx, model, guidance_scale=5.0)
    assert torch.equal(draw(ctx, model), given)
    assert not torch.equal(draw(ctx, model, guidance_scale=2.0), given)


def test_the_models_card_counts_more_than_its_family(ctx: Context, model: ImageModel) -> None:
    meant = dataclasses.replace(model, steps=2, guidance=1.0)
    assert torch.equal(draw(ctx, meant, steps=0), draw(ctx, model, steps=2, guidance_scale=1.0))


def test_a_scale_between_the_models_own_and_none_is_refused(ctx: Context, model: ImageModel) -> None:
    with pytest.raises(ValueError, match="give 0 for the model's own, or 1 and more"):
        draw(ctx, model, guidance_scale=0.5)


def over(kind: str, seed: int, pixels: torch.Tensor, **options: object) -> torch.Tensor:
    """What diffusers draws over a picture by itself."""
    pipeline = getattr(diffusers, kind)(**tiny_sdxl().components)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"prompt": PROMPT, "num_inference_steps": 3, "guidance_scale": 5.0, "image": pixels} | options
    return pipeline(generator=torch.Generator().manual_seed(seed), output_type="pt", **settings).images


def pictures(count: int, width: int = 48, height: int = 32) -> Image:
    return Image(torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)))


def test_a_picture_is_drawn_over_with_a_strength(ctx: Context, model: ImageModel) -> None:
    image = pictures(1)
    kind, size = "StableDiffusionXLImg2ImgPipeline", {"width": 48, "height": 32}
    for given, taken in ((0.0, 0.6), (1.0, 1.0)):
        pixels = draw(ctx, model, image=image, strength=given)
        torch.testing.assert_close(pixels, over(kind, 7, image.pixels, strength=taken, **size), atol=1e-5, rtol=0)


def test_where_the_mask_is_black_the_picture_stays(ctx: Context, model: ImageModel) -> None:
    image, mask = pictures(1), torch.zeros(1, 3, 32, 48)
    mask[..., 24:] = 1
    pixels = draw(ctx, model, image=image, mask=Image(mask))
    options = {"mask_image": mask[:, :1], "strength": 1.0, "width": 48, "height": 32}
    torch.testing.assert_close(
        pixels, over("StableDiffusionXLInpaintPipeline", 7, image.pixels, **options), atol=1e-5, rtol=0
    )
    other = draw(ctx, model, image=image, mask=Image(mask), seed=8)
    assert (pixels - other)[..., :8].abs().max() < 0.1 * (pixels - other)[..., 40:].abs().max()


def test_each_picture_is_drawn_over_its_own_or_all_over_one(ctx: Context, model: ImageModel) -> None:
    image = pictures(2)
    both = draw(ctx, model, image=image, count=2)
    assert torch.equal(both[1:], draw(ctx, model, image=Image(image.pixels[1:]), seed=8))
    assert draw(ctx, model, image=pictures(1), count=2).shape == (2, 3, 32, 48)


@pytest.mark.parametrize(
    ("inputs", "message", "name"),
    [
        ({"mask": pictures(1)}, "there is a mask, but no image", "mask"),
        ({"strength": 0.5}, "only an image is drawn over with a strength", "strength"),
        ({"image": pictures(1), "mask": pictures(1, 32)}, "the mask has 32 × 32 pixels, the image 48 × 32", "mask"),
        ({"image": pictures(2)}, "there are 2 pictures for 1 to draw", "image"),
        ({"image": pictures(1), "mask": pictures(3), "count": 2}, "there are 3 pictures for 2 to draw", "mask"),
        ({"image": pictures(1), "height": 64}, "the image has 48 × 32 pixels", "height"),
        ({"image": pictures(1, 44)}, "Stable Diffusion XL draws sizes that are multiples of 8 pixels", "image"),
        ({"image": pictures(1), "steps": 2, "strength": 0.4}, "with strength 0.4 none of 2 steps is left", "strength"),
    ],
)
def test_what_doesnt_go_together_is_refused(
    model: ImageModel, inputs: dict[str, object], message: str, name: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        draw(Context(), model, **inputs)
    assert caught.value.input == name
    assert caught.value.hint


def test_adapters_are_active_for_the_call_only(ctx: Context, model: ImageModel) -> None:
    before = draw(ctx, model)
    changed = draw(ctx, dataclasses.replace(model, adapters=(_adapter(ctx, model),)))
    assert (changed - before).abs().max() > 1e-3
    assert torch.equal(draw(ctx, model), before)


def test_adapters_are_removed_after_a_cancelled_call(ctx: Context, model: ImageModel) -> None:
    before = draw(ctx, model)
    adapted = dataclasses.replace(model, adapters=(_adapter(ctx, model),))
    with pytest.raises(Cancelled):
        draw(cancelled_after(ctx, 2), adapted)
    assert torch.equal(draw(ctx, model), before)


def _adapter(ctx: Context, model: ImageModel) -> LoRA:
    unet = pipeline_for(ctx, model, "text to image").unet
    name = next(name for name, _ in unet.named_modules() if name.endswith("attn2.to_v"))
    layer = unet.get_submodule(name)
    return LoRA(
        up={f"unet.{name}": torch.ones(layer.out_features, 1)},
        down={f"unet.{name}": torch.ones(1, layer.in_features)},
        name="ones",
    )


def test_each_step_is_reported_with_a_preview(ctx: Context, model: ImageModel) -> None:
    watching = Watching(ctx)
    pixels = draw(watching.ctx, model, count=2, guidance_scale=1.0)

    # Once before the first step of each picture, once after every step.
    assert watching.reports == [(done, 6, "step") for done in (0, 1, 2, 3, 3, 4, 5, 6)]
    shown = [preview.pixels for preview in watching.shown]
    assert [tuple(picture.shape) for picture in shown] == [(1, 3, 64, 64)] * 6
    torch.testing.assert_close(torch.cat([shown[2], shown[5]]), pixels, atol=1e-5, rtol=0)


def test_previews_of_large_pictures_have_a_pixel_per_latent_cell(ctx: Context, model: ImageModel) -> None:
    watching = Watching(ctx)
    draw(watching.ctx, model, width=128, height=96, steps=2)
    assert len(watching.shown) == 2
    for preview in watching.shown:
        assert preview.pixels.shape == (1, 3, 24, 32)
        assert 0 <= preview.pixels.min() <= preview.pixels.max() <= 1


def test_unless_someone_watches_no_preview_is_drawn(
    ctx: Context, model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.diffusion.preview.decode", lambda *_: pytest.fail("nobody watches"))
    watching = Watching(ctx, wants=False)
    draw(watching.ctx, model, guidance_scale=1.0)
    assert (len(watching.reports), watching.shown) == (4, [])


@pytest.mark.parametrize("steps_allowed", [0, 1, 2])
def test_a_cancel_prevents_the_next_step(ctx: Context, model: ImageModel, steps_allowed: int) -> None:
    calls = 0

    def count(*args: object) -> None:
        nonlocal calls
        calls += 1

    hook = pipeline_for(ctx, model, "text to image").unet.register_forward_hook(count)
    try:
        with pytest.raises(Cancelled):
            draw(cancelled_after(ctx, steps_allowed + 1), model)
    finally:
        hook.remove()
    assert calls == steps_allowed


def test_values_that_are_not_finite_are_an_error_with_a_hint() -> None:
    with pytest.raises(NodeError, match="not finite") as caught:
        check_finite(torch.full((1, 3, 8, 8), torch.nan), "float16")
    assert "bfloat16" in str(caught.value)


def test_a_picture_is_picked_by_index() -> None:
    batch = Image(torch.rand(3, 3, 8, 8))
    assert torch.equal(PickImage(images=batch, index=1).run(Context()).pixels, batch.pixels[1:2])


def test_a_batch_is_split_and_stacked_again() -> None:
    batch = Image(torch.rand(3, 3, 8, 8))
    pictures = SplitImages(images=batch).run(Context())
    assert [picture.pixels.shape for picture in pictures] == [(1, 3, 8, 8)] * 3
    assert torch.equal(StackImages(images=pictures).run(Context()).pixels, batch.pixels)


@pytest.mark.parametrize(
    ("sides", "message"),
    [((), "there is no picture"), ((8, 16), "first picture has 8 × 8 pixels, number 2 16 × 16")],
)
def test_only_pictures_of_one_size_are_stacked(sides: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StackImages(images=tuple(Image(torch.rand(1, 3, side, side)) for side in sides)).run(Context())


def test_picking_past_the_end_names_the_last_index() -> None:
    with pytest.raises(InputError, match="no picture 3 in a batch of 3") as caught:
        PickImage(images=Image(torch.rand(3, 3, 8, 8)), index=3).run(Context())
    assert caught.value.input == "index"
    assert "from 0 to 2" in str(caught.value)
