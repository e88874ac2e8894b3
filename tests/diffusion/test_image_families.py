"""Each family of image models draws what diffusers' own pipelines draw, for every task, and is shown meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from engine.errors import Cancelled, InputError
from engine.node import Context
from engine.values import Image, ImageModel, LoRA
from nodes.diffusion.families import Task
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad, KeyframeSampler
from tests.diffusion import tiny_images as tiny
from tests.diffusion.watching import Watching, cancelled_after

TEXT: Task = "text to image"
OVER: Task = "image to image"
INTO: Task = "inpainting"

PROMPT = "a red snail on grass, in watercolour style"


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A family, and how diffusers is asked for the same."""

    name: str
    build: Callable[[], Any]
    steps: int
    """The family's own."""
    calls: dict[Task, tuple[str, dict[str, Any]]]
    """diffusers' class for each task, and the arguments that stand for the family's own."""
    negative_prompt: bool = True
    unit: int = 8

    def __str__(self) -> str:
        return self.build.__name__


def _sd() -> dict[Task, tuple[str, dict[str, Any]]]:
    guidance = {"guidance_scale": 7.5}
    return {
        TEXT: ("StableDiffusionPipeline", guidance),
        OVER: ("StableDiffusionImg2ImgPipeline", guidance | {"strength": 0.6}),
        INTO: ("StableDiffusionInpaintPipeline", guidance | {"strength": 1.0}),
    }


ROWS = (
    Row("Stable Diffusion", tiny.sd, 30, _sd()),
    Row("Stable Diffusion", tiny.sd_2_1, 30, _sd()),
    Row("Stable Diffusion Inpainting", tiny.sd_inpainting, 30, {INTO: _sd()[INTO]}),
    Row(
        "Stable Diffusion XL Inpainting",
        tiny.sdxl_inpainting,
        20,
        {INTO: ("StableDiffusionXLInpaintPipeline", {"guidance_scale": 8.0, "strength": 0.99})},
    ),
)
CASES = [(row, task) for row in ROWS for task in row.calls]
rows = pytest.mark.parametrize("row", ROWS, ids=str)
cases = pytest.mark.parametrize(("row", "task"), CASES, ids=[f"{row}-{task.replace(' ', '-')}" for row, task in CASES])


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Row], ImageModel]:
    @cache
    def loaded(row: Row) -> ImageModel:
        folder: Path = tmp_path_factory.mktemp(str(row))
        row.build().save_pretrained(folder)
        return ImageModelLoad(source=str(folder)).run(Context())

    return lambda row: loaded(row)


@pytest.fixture(scope="module")
def ctx() -> Context:
    """One context for all tests, so that each model is loaded once."""
    return Context()


def picture(seed: int = 0, width: int = 64, height: int = 48) -> Image:
    return Image(torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)))


def half(width: int = 64, height: int = 48) -> Image:
    """A mask of the right half."""
    pixels = torch.zeros(1, 3, height, width)
    pixels[..., width // 2 :] = 1
    return Image(pixels)


def given(task: Task) -> dict[str, Image]:
    """The pictures that a task begins with."""
    return {TEXT: {}, OVER: {"image": picture()}, INTO: {"image": picture(), "mask": half()}}[task]


def draw(ctx: Context, model: ImageModel, task: Task, **inputs: Any) -> torch.Tensor:
    settings: dict[str, Any] = {"prompt": PROMPT, "steps": 3, "seed": 7} | given(task)
    if task == TEXT:
        settings |= {"width": 64, "height": 48}
    return KeyframeSampler(model=model, **settings | inputs).run(ctx).pixels


def plain(row: Row, task: Task, **options: Any) -> torch.Tensor:
    """What diffusers draws by itself."""
    kind, own = row.calls[task]
    parts = dict(row.build().components)
    parts["scheduler"] = type(parts["scheduler"]).from_config(parts["scheduler"].config)
    flags = {"requires_safety_checker": False} if "safety_checker" in parts else {}
    pipeline = getattr(diffusers, kind)(**parts, **flags)
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 3, "width": 64, "height": 48} | own
    if task != TEXT:
        arguments["image"] = picture().pixels
    if task == INTO:
        arguments["mask_image"] = half().pixels[:, :1]
    generator = torch.Generator().manual_seed(7)
    pixels: torch.Tensor = pipeline(generator=generator, output_type="pt", **arguments | options).images
    return pixels


@cases
def test_pictures_are_those_of_diffusers(ctx: Context, load: Callable[[Row], ImageModel], row: Row, task: Task) -> None:
    model = load(row)
    assert model.family == row.name
    torch.testing.assert_close(draw(ctx, model, task), plain(row, task), atol=1e-5, rtol=0)


@cases
def test_each_step_is_shown_and_the_last_shows_the_picture(
    ctx: Context, load: Callable[[Row], ImageModel], row: Row, task: Task
) -> None:
    watching = Watching(ctx)
    pixels = draw(watching.ctx, load(row), task)
    assert len(watching.shown) == len(watching.reports) - 1
    torch.testing.assert_close(watching.shown[-1].pixels, pixels, atol=1e-4, rtol=0)


@cases
def test_a_cancel_prevents_the_next_step(ctx: Context, load: Callable[[Row], ImageModel], row: Row, task: Task) -> None:
    pipeline, calls = pipeline_for(ctx, load(row), task), []
    denoiser = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    hook = denoiser.register_forward_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(Cancelled):
            draw(cancelled_after(ctx, 2), load(row), task, guidance_scale=1.0)
    finally:
        hook.remove()
    assert len(calls) == 1


@rows
def test_steps_are_as_many_as_the_family_takes(ctx: Context, load: Callable[[Row], ImageModel], row: Row) -> None:
    watching = Watching(cancelled_after(ctx, 2), wants=False)
    with pytest.raises(Cancelled):
        draw(watching.ctx, load(row), next(iter(row.calls)), steps=0)
    assert watching.reports[0][:2] == (0, row.steps)


@rows
def test_a_negative_prompt_is_taken_or_refused(ctx: Context, load: Callable[[Row], ImageModel], row: Row) -> None:
    task = next(iter(row.calls))
    if not row.negative_prompt:
        with pytest.raises(InputError, match=f"{row.name} takes no negative prompt"):
            draw(ctx, load(row), task, negative_prompt="sand")
        return
    negative = draw(ctx, load(row), task, negative_prompt="sand")
    torch.testing.assert_close(negative, plain(row, task, negative_prompt="sand"), atol=1e-5, rtol=0)
    assert (negative - draw(ctx, load(row), task)).abs().max() > 1e-5


@rows
def test_adapters_are_active_for_the_call_only(ctx: Context, load: Callable[[Row], ImageModel], row: Row) -> None:
    model, task = load(row), next(iter(row.calls))
    pipeline = pipeline_for(ctx, model, task)
    component = "unet" if hasattr(pipeline, "unet") else "transformer"
    name, layer = next(
        (f"{component}.{path}", module)
        for path, module in pipeline.components[component].named_modules()
        if path.endswith(("to_v", "to_qkv_mlp_proj"))
    )
    down = torch.randn(1, layer.in_features, generator=torch.Generator().manual_seed(0))
    adapter = LoRA({name: torch.ones(layer.out_features, 1)}, {name: down}, "random")
    before = draw(ctx, model, task)
    changed = draw(ctx, dataclasses.replace(model, adapters=(adapter,)), task)
    assert (changed - before).abs().max() > 1e-5
    assert torch.equal(draw(ctx, model, task), before)


@rows
def test_a_size_that_doesnt_suit_is_refused_with_one_that_does(
    ctx: Context, load: Callable[[Row], ImageModel], row: Row
) -> None:
    if row.unit == 16 and TEXT in row.calls:
        task, wrong = TEXT, {"width": 72}
    else:
        task = OVER if OVER in row.calls else INTO
        wrong = {name: picture(width=60) for name in given(task)}
    with pytest.raises(InputError, match=rf"draws sizes that are multiples of {row.unit} pixels") as caught:
        draw(ctx, load(row), task, **wrong)
    assert f"{64 if row.unit == 8 else 80} × 48" in str(caught.value)
