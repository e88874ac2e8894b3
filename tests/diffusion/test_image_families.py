"""Each family of image models draws what diffusers' own pipelines draw, for every task, and is shown meanwhile."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import PIL.Image
import pytest
import torch

from engine.errors import Cancelled, InputError
from engine.node import Context
from engine.values import Image, ImageModel, LoRA
from nodes.diffusion.families import Task
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad, KeyframeSampler
from tests.diffusion import tiny_flows as flows
from tests.diffusion import tiny_images as tiny
from tests.diffusion.watching import Watching, cancelled_after

TEXT: Task = "text to image"
OVER: Task = "image to image"
INTO: Task = "inpainting"

STEPS = 4
"""So few that tests are fast, and enough for one over a picture by SDXL's refiner."""
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
    edits: bool = False
    """Whether an image is what the prompt is about."""
    guidance_offset: float = 0.0
    """What the pipelines' scale is smaller by than Kinograph's."""

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


def _three(kind: str, **own: Any) -> dict[Task, tuple[str, dict[str, Any]]]:
    """The tasks of a family whose classes are called alike."""
    return {
        TEXT: (f"{kind}Pipeline", own),
        OVER: (f"{kind}Img2ImgPipeline", own | {"strength": 0.6}),
        INTO: (f"{kind}InpaintPipeline", own | {"strength": 1.0}),
    }


def _both(kind: str, **own: Any) -> dict[Task, tuple[str, dict[str, Any]]]:
    """The tasks of a family of which one class does both."""
    return dict.fromkeys((TEXT, OVER), (f"{kind}Pipeline", own))


def _unguided(kind: str) -> dict[Task, tuple[str, dict[str, Any]]]:
    return {TEXT: (f"{kind}Pipeline", {"guidance_scale": 1.0})}


ROWS += (
    Row("Stable Diffusion Turbo", tiny.sd_turbo, 4, _unguided("StableDiffusion")),
    Row("Stable Diffusion LCM", tiny.sd_lcm, 4, _unguided("StableDiffusion")),
    Row("Stable Diffusion XL Turbo", tiny.sdxl_turbo, 4, _unguided("StableDiffusionXL")),
    Row("Stable Diffusion XL Lightning", tiny.sdxl_lightning, 4, _unguided("StableDiffusionXL")),
    Row("Stable Diffusion XL LCM", tiny.sdxl_lcm, 4, _unguided("StableDiffusionXL")),
    Row(
        "Latent Consistency Model",
        tiny.lcm,
        4,
        {
            TEXT: ("LatentConsistencyModelPipeline", {"guidance_scale": 8.5}),
            OVER: ("LatentConsistencyModelImg2ImgPipeline", {"guidance_scale": 8.5, "strength": 0.6}),
        },
        negative_prompt=False,
    ),
    Row(
        "Stable Diffusion XL Refiner",
        tiny.sdxl_refiner,
        30,
        {OVER: ("StableDiffusionXLImg2ImgPipeline", {"guidance_scale": 5.0, "strength": 0.3})},
    ),
)
_KONTEXT = ("FluxKontextPipeline", {"guidance_scale": 2.5, "max_area": 64 * 48})
ROWS += (
    Row("Flux 1", flows.flux, 28, _three("Flux", guidance_scale=3.5), negative_prompt=False, unit=16),
    Row(
        "Flux 1 schnell",
        flows.flux_schnell,
        4,
        _three("Flux", guidance_scale=1.0, max_sequence_length=256),
        negative_prompt=False,
        unit=16,
    ),
    Row(
        "Flux 1 Fill",
        flows.flux_fill,
        50,
        {INTO: ("FluxFillPipeline", {"guidance_scale": 30.0, "strength": 1.0})},
        negative_prompt=False,
        unit=16,
    ),
    Row(
        "Flux 1 Kontext",
        flows.flux_kontext,
        28,
        {TEXT: _KONTEXT, OVER: _KONTEXT},
        negative_prompt=False,
        unit=16,
        edits=True,
    ),
    Row("Stable Diffusion 3", flows.sd3, 28, _three("StableDiffusion3", guidance_scale=7.0), unit=16),
    Row("Stable Diffusion 3.5", flows.sd3_5, 28, _three("StableDiffusion3", guidance_scale=4.5), unit=16),
    Row("Qwen-Image", flows.qwen_image, 50, _three("QwenImage", true_cfg_scale=4.0, negative_prompt=" "), unit=16),
    Row("Z-Image", flows.z_image, 50, _three("ZImage", guidance_scale=4.0), unit=16, guidance_offset=1.0),
    Row("Z-Image Turbo", flows.z_image_turbo, 9, _three("ZImage", guidance_scale=0.0), unit=16, guidance_offset=1.0),
    Row("Flux 2", flows.flux_2, 50, _both("Flux2", guidance_scale=4.0), negative_prompt=False, unit=16, edits=True),
    Row(
        "Flux 2 Klein",
        flows.flux_2_klein,
        4,
        _both("Flux2Klein", guidance_scale=1.0),
        negative_prompt=False,
        unit=16,
        edits=True,
    ),
    Row(
        "Flux 2 Klein Base",
        flows.flux_2_klein_base,
        50,
        _both("Flux2Klein", guidance_scale=4.0),
        negative_prompt=False,
        unit=16,
        edits=True,
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


def as_from_a_file(image: Image) -> PIL.Image.Image:
    levels = (image.pixels[0] * 255).round().to(torch.uint8)
    return PIL.Image.fromarray(levels.permute(1, 2, 0).numpy())


@pytest.fixture(autouse=True)
def small_pictures_to_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kontext scales what it edits to a size that it was trained on; of a megapixel, which takes long here."""
    monkeypatch.setattr("diffusers.pipelines.flux.pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS", [(80, 64)])


def half(width: int = 64, height: int = 48) -> Image:
    """A mask of the right half."""
    pixels = torch.zeros(1, 3, height, width)
    pixels[..., width // 2 :] = 1
    return Image(pixels)


def given(task: Task) -> dict[str, Image]:
    """The pictures that a task begins with."""
    return {TEXT: {}, OVER: {"image": picture()}, INTO: {"image": picture(), "mask": half()}}[task]


def draw(ctx: Context, model: ImageModel, task: Task, **inputs: Any) -> torch.Tensor:
    settings: dict[str, Any] = {"prompt": PROMPT, "steps": STEPS, "seed": 7} | given(task)
    edits = any(row.edits for row in ROWS if row.name == model.family)
    if task == TEXT or edits:
        settings |= {"width": 64, "height": 48}
    if task == OVER and edits:
        settings["image"] = picture(height=64)
    return KeyframeSampler(model=model, **settings | inputs).run(ctx).pixels


def plain(row: Row, task: Task, **options: Any) -> torch.Tensor:
    """What diffusers draws by itself."""
    kind, own = row.calls[task]
    parts = dict(row.build().components)
    parts["scheduler"] = type(parts["scheduler"]).from_config(parts["scheduler"].config)
    maker = getattr(diffusers, kind)
    settings = {name: value for name, value in row.build().config.items() if name in signature(maker).parameters}
    pipeline = maker(**settings | parts)
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": STEPS, "width": 64, "height": 48} | own
    if task != TEXT:
        arguments["image"] = as_from_a_file(picture(height=64)) if row.edits else picture().pixels
    if task == INTO:
        arguments["mask_image"] = half().pixels[:, :1]
    arguments |= options | {"generator": torch.Generator().manual_seed(7)}
    if kind == "StableDiffusion3InpaintPipeline":  # which adds the VAE's shift when it encodes, and not when it decodes
        latents, vae = pipeline(output_type="latent", **arguments).images, pipeline.vae
        with torch.no_grad():
            decoded = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
        return (decoded / 2 + 0.5).clamp(0, 1)
    pixels: torch.Tensor = pipeline(output_type="pt", **arguments).images
    return pixels


@cases
def test_pictures_and_the_last_preview_are_those_of_diffusers(
    ctx: Context, load: Callable[[Row], ImageModel], row: Row, task: Task
) -> None:
    model, watching = load(row), Watching(ctx)
    assert model.family == row.name
    pixels = draw(watching.ctx, model, task)
    torch.testing.assert_close(pixels, plain(row, task), atol=1e-5, rtol=0)
    assert len(watching.shown) == len(watching.reports) - 1
    torch.testing.assert_close(watching.shown[-1].pixels, pixels, atol=1e-4, rtol=0)


@rows
def test_a_cancel_prevents_the_next_step(ctx: Context, load: Callable[[Row], ImageModel], row: Row) -> None:
    task, calls = next(iter(row.calls)), []
    pipeline = pipeline_for(ctx, load(row), task)
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
    scale = "true_cfg_scale" if "true_cfg_scale" in row.calls[task][1] else "guidance_scale"
    expected = plain(row, task, negative_prompt="sand", **{scale: 3.0 - row.guidance_offset})
    negative = draw(ctx, load(row), task, negative_prompt="sand", guidance_scale=3.0)
    torch.testing.assert_close(negative, expected, atol=1e-5, rtol=0)
    assert (negative - draw(ctx, load(row), task, guidance_scale=3.0)).abs().max() > 1e-5


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
    assert "take 64" in str(caught.value)


@pytest.mark.parametrize("row", [row for row in ROWS if row.edits], ids=str)
def test_an_edited_image_keeps_its_size_unless_another_is_given(
    ctx: Context, load: Callable[[Row], ImageModel], row: Row
) -> None:
    assert draw(ctx, load(row), OVER, width=0, height=0).shape == (1, 3, 64, 64)
    assert draw(ctx, load(row), OVER, width=32, height=0).shape == (1, 3, 64, 32)
    with pytest.raises(InputError, match=f"{row.name} changes an image as the prompt says, and takes no strength"):
        draw(ctx, load(row), OVER, strength=0.5)


def test_the_settings_that_are_the_models_own_are_reported_with_its_family(
    ctx: Context, load: Callable[[Row], ImageModel]
) -> None:
    reports: list[dict[str, object]] = []
    listening = dataclasses.replace(
        ctx, on_report=lambda report: reports.append({name: figure.value for name, figure in report.items()})
    )
    lightning = load(next(row for row in ROWS if row.name == "Stable Diffusion XL Lightning"))
    draw(listening, lightning, TEXT, steps=0)
    assert reports.pop() == {"steps": 4, "guidance scale": 1.0, "family": "Stable Diffusion XL Lightning"}
    draw(listening, lightning, TEXT, steps=2)
    assert reports.pop() == {"guidance scale": 1.0, "family": "Stable Diffusion XL Lightning"}
    draw(listening, lightning, TEXT, steps=2, guidance_scale=2.0)
    assert reports == []


def test_a_scale_that_would_have_no_effect_is_refused(ctx: Context, load: Callable[[Row], ImageModel]) -> None:
    schnell = next(row for row in ROWS if row.name == "Flux 1 schnell")
    with pytest.raises(InputError, match="Flux 1 schnell is trained for one guidance scale"):
        draw(ctx, load(schnell), TEXT, guidance_scale=3.5)


@pytest.mark.parametrize(
    ("name", "task", "most", "message"),
    [
        ("Latent Consistency Model", TEXT, 50, "takes 50 steps at most, not 51"),
        ("Latent Consistency Model", OVER, 12, "takes 12 steps at most with strength 0.25, not 13"),
        ("Stable Diffusion LCM", OVER, 50, "takes 50 steps at most, not 51"),
    ],
)
def test_a_consistency_model_takes_no_more_steps_than_it_was_distilled_of(
    ctx: Context, load: Callable[[Row], ImageModel], name: str, task: Task, most: int, message: str
) -> None:
    model = load(next(row for row in ROWS if row.name == name))
    inputs = {"strength": 0.25} if task == OVER else {}
    with pytest.raises(InputError, match=message) as caught:
        draw(ctx, model, task, steps=most + 1, **inputs)
    assert caught.value.input == "steps"


def test_an_image_that_is_too_small_to_edit_is_refused(ctx: Context, load: Callable[[Row], ImageModel]) -> None:
    flux_2 = next(row for row in ROWS if row.name == "Flux 2")
    with pytest.raises(InputError, match="Flux 2 takes images of at least 64 pixels a side"):
        draw(ctx, load(flux_2), OVER, image=picture(height=48))


@pytest.mark.parametrize("name", ["Flux 1", "Flux 2", "Qwen-Image"])
def test_larger_pictures_are_shown_by_the_colours_of_their_cells(
    ctx: Context, load: Callable[[Row], ImageModel], name: str
) -> None:
    watching = Watching(ctx)
    draw(watching.ctx, load(next(row for row in ROWS if row.name == name)), TEXT, width=96, height=64, steps=1)
    assert [tuple(shown.pixels.shape) for shown in watching.shown] == [(1, 3, 16, 24)]


def test_flux_2_needs_no_processor_of_pictures(ctx: Context, load: Callable[[Row], ImageModel], tmp_path: Path) -> None:
    flux_2 = next(row for row in ROWS if row.name == "Flux 2")
    folder = shutil.copytree(load(flux_2).path, tmp_path / "published")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    published = ImageModelLoad(source=str(folder)).run(ctx)
    assert torch.equal(draw(ctx, published, TEXT), draw(ctx, load(flux_2), TEXT))
