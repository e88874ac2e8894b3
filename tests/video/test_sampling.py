from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import Cancelled, InputError, MissingError
from engine.node import Context
from engine.values import Image, LoRA, Video, VideoModel
from nodes.diffusion.families import FAMILIES, Task
from nodes.diffusion.layers import layers
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad
from nodes.lora.nodes import LoRAApplyToVideo
from nodes.video.nodes import SVDSampler, VideoModelLoad, VideoSampler
from tests.diffusion.tiny_images import sd
from tests.tiny import tiny_sdxl
from tests.tiny_video import (
    motion_adapter,
    tiny_animatediff,
    tiny_cogvideox,
    tiny_hunyuan_video,
    tiny_ltx,
    tiny_ltx_2,
    tiny_wan,
    tiny_wan_2_2,
    tiny_wan_5b,
)

LEVELS = torch.randint(0, 256, (40, 48, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
PICTURE = Image(LEVELS.movedim(-1, 0)[None] / 255)
PROMPTS = {"prompt": "a red snail on grass", "negative_prompt": "a blue robot"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A tiny model, and a small video of it."""

    make: Callable[[], Any]
    task: Task
    family: str
    pipeline: str
    frames: int = 5
    width: int = 32
    height: int = 32
    guidance: str = "guidance_scale"
    motion: Callable[[], Any] | None = None
    """Makes a motion adapter."""
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of the pipeline's that the sampler gives."""

    @property
    def prompts(self) -> dict[str, str]:
        """Without a negative one for a family that takes none."""
        return {"prompt": PROMPTS["prompt"]} if self.family == "HunyuanVideo" else PROMPTS

    def fps(self, rate: int) -> dict[str, int]:
        """The pipeline's argument of a frame rate, if it has one."""
        return {"frame_rate": rate} if self.family.startswith("LTX") else {}

    @property
    def image(self) -> Image | None:
        return PICTURE if self.task == "image to video" else None


LTX = {"decode_timestep": 0.05, "decode_noise_scale": 0.025}
IMAGE_NOISE = {"image_cond_noise_scale": 0.025}


LTX_2 = {
    **{"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0, "use_cross_timestep": False},
    **{"audio_guidance_scale": None, "audio_stg_scale": None},
    **{"audio_modality_scale": None, "audio_guidance_rescale": None},
}


def ltx_2_3() -> Any:
    return tiny_ltx_2(later=True)


def denoising_ltx() -> Any:
    return tiny_ltx(denoises=True)


def later_ltx() -> Any:
    return tiny_ltx("LTXConditionPipeline", denoises=True)


CASES = {
    "Wan 2.1": Case(tiny_wan, "text to video", "Wan 2.1", "WanPipeline"),
    "Wan 2.1 I2V": Case(lambda: tiny_wan(picture=True), "image to video", "Wan 2.1", "WanImageToVideoPipeline"),
    "Wan 2.2": Case(tiny_wan_2_2, "text to video", "Wan 2.2", "WanPipeline"),
    "Wan 2.2 I2V": Case(lambda: tiny_wan_2_2(picture=True), "image to video", "Wan 2.2", "WanImageToVideoPipeline"),
    "Wan 2.2 5B": Case(tiny_wan_5b, "text to video", "Wan 2.2 5B", "WanPipeline", width=64),
    "LTX": Case(tiny_ltx, "text to video", "LTX-Video", "LTXPipeline", 9, 64),
    "LTX I2V": Case(denoising_ltx, "image to video", "LTX-Video", "LTXImageToVideoPipeline", 9, 64, own=LTX),
    "LTX 0.9.5": Case(later_ltx, "text to video", "LTX-Video 0.9.5", "LTXConditionPipeline", 9, 64, own=LTX),
    "LTX 0.9.5 I2V": Case(
        later_ltx, "image to video", "LTX-Video 0.9.5", "LTXConditionPipeline", 9, 64, own=LTX | IMAGE_NOISE
    ),
    "AnimateDiff": Case(sd, "text to video", "AnimateDiff", "AnimateDiffPipeline", frames=4, motion=motion_adapter),
    "AnimateDiff folder": Case(tiny_animatediff, "text to video", "AnimateDiff", "AnimateDiffPipeline", frames=4),
    "HunyuanVideo": Case(tiny_hunyuan_video, "text to video", "HunyuanVideo", "HunyuanVideoPipeline"),
    "HunyuanVideo I2V": Case(
        lambda: tiny_hunyuan_video(picture="token_replace"),
        "image to video",
        "HunyuanVideo",
        "HunyuanVideoImageToVideoPipeline",
    ),
    "LTX-2": Case(tiny_ltx_2, "text to video", "LTX-2", "LTX2Pipeline", 9, 64, 64, own=LTX_2),
    "LTX-2 I2V": Case(tiny_ltx_2, "image to video", "LTX-2", "LTX2ImageToVideoPipeline", 9, 64, 64, own=LTX_2),
    "LTX-2.3": Case(ltx_2_3, "text to video", "LTX-2.3", "LTX2Pipeline", 9, 64, 64),
    "LTX-2.3 I2V": Case(ltx_2_3, "image to video", "LTX-2.3", "LTX2ImageToVideoPipeline", 9, 64, 64),
    "CogVideoX": Case(tiny_cogvideox, "text to video", "CogVideoX", "CogVideoXPipeline", 9, 48),
    "CogVideoX I2V": Case(
        lambda: tiny_cogvideox(picture=True), "image to video", "CogVideoX", "CogVideoXImageToVideoPipeline", 9, 48
    ),
    "CogVideoX 1.5": Case(
        lambda: tiny_cogvideox(later=True), "text to video", "CogVideoX 1.5", "CogVideoXPipeline", 9, 48
    ),
    "CogVideoX 1.5 I2V": Case(
        lambda: tiny_cogvideox(picture=True, later=True),
        "image to video",
        "CogVideoX 1.5",
        "CogVideoXImageToVideoPipeline",
        9,
        48,
    ),
    "Wan 2.2 5B I2V": Case(tiny_wan_5b, "image to video", "Wan 2.2 5B", "WanImageToVideoPipeline", width=64),
}


@pytest.fixture(scope="module")
def ctx() -> Context:
    """One context for all, so that models are loaded once."""
    return Context()


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], VideoModel]:
    """Loads the model of a case, of a folder that is written once."""

    @cache
    def folder(make: Callable[[], Any]) -> Path:
        path = tmp_path_factory.mktemp("model")
        make().save_pretrained(path)
        return path

    def loaded(name: str) -> VideoModel:
        case = CASES[name]
        motion = str(folder(case.motion)) if case.motion else None
        return VideoModelLoad(source=str(folder(case.make)), motion=motion).run(Context())

    return cache(loaded)


Load = Callable[[str], VideoModel]


def draw(ctx: Context, model: VideoModel, case: Case, **inputs: Any) -> Video:
    size = {"frames": case.frames, "width": case.width, "height": case.height}
    given = case.prompts | size | {"steps": 2, "seed": 7, "image": case.image} | inputs
    return VideoSampler(model=model, **given).run(ctx)


def theirs(model: VideoModel, case: Case) -> Any:
    """diffusers' own pipeline of the model's files."""
    parts: dict[str, Any] = {}
    if model.motion:
        schedule = {"beta_schedule": "linear", "clip_sample": False, "timestep_spacing": "linspace", "steps_offset": 1}
        parts["motion_adapter"] = diffusers.MotionAdapter.from_pretrained(model.motion.path)
        parts["scheduler"] = diffusers.DDIMScheduler.from_pretrained(model.path, subfolder="scheduler", **schedule)
    pipeline = getattr(diffusers, case.pipeline).from_pretrained(model.path, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def expected(model: VideoModel, case: Case, **options: Any) -> Tensor:
    """What diffusers makes by itself."""
    pipeline = theirs(model, case)
    size = {"num_frames": case.frames, "width": case.width, "height": case.height}
    given = case.prompts | size | dict(case.own) | {"num_inference_steps": 2} | options
    if case.image:
        given["image"] = Pillow.fromarray(LEVELS.numpy())
    return pipeline(**given, generator=torch.Generator().manual_seed(7), output_type="pt").frames[0]


@pytest.mark.parametrize("name", CASES)
def test_videos_are_those_of_diffusers(name: str, ctx: Context, load: Load) -> None:
    case, model = CASES[name], load(name)
    assert model.family == case.family
    video = draw(ctx, model, case, guidance_scale=4.0, fps=12)
    assert video.frames.shape == (case.frames, 3, case.height, case.width)
    assert (video.frames.dtype, video.fps) == (torch.float32, 12)
    wanted = expected(model, case, **{case.guidance: 4.0}, **case.fps(12))
    torch.testing.assert_close(video.frames, wanted, atol=1e-5, rtol=0)
    assert video.frames.std() > 0.01, "there is something to see"


@pytest.mark.parametrize("name", ["Wan 2.1"])
@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({"prompt": "a blue robot"}, {"prompt": "a blue robot"}),
        ({"negative_prompt": ""}, {"negative_prompt": None}),
        ({"frames": 9}, {"num_frames": 9}),
        ({"width": 48, "height": 16}, {"width": 48, "height": 16}),
        ({"steps": 3}, {"num_inference_steps": 3}),
        ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
    ],
)
def test_every_setting_does_what_it_does_in_diffusers(
    name: str, ctx: Context, load: Load, inputs: dict[str, Any], options: dict[str, Any]
) -> None:
    case, model = CASES[name], load(name)
    frames = draw(ctx, model, case, **inputs).frames
    torch.testing.assert_close(frames, expected(model, case, **options), atol=1e-5, rtol=0)
    plain = draw(ctx, model, case).frames
    assert frames.shape != plain.shape or (frames - plain).abs().max() > 1e-4


def test_seeds_give_different_videos(ctx: Context, load: Load) -> None:
    case, model = CASES["Wan 2.1"], load("Wan 2.1")
    assert not torch.equal(draw(ctx, model, case, seed=8).frames, draw(ctx, model, case).frames)


class Recorder:
    """Stands in for a pipeline: remembers what it is asked for."""

    def __init__(self, model: Any) -> None:
        self.vae, self.components = model.vae, {}
        self.transformer, self.unet = getattr(model, "transformer", None), getattr(model, "unet", None)
        self.asked: dict[str, Any] = {}

    def __call__(self, **arguments: Any) -> Any:
        self.asked = arguments
        return type("Output", (), {"frames": torch.zeros(1, 5, 3, 8, 8)})


def asked(name: str, model: VideoModel, ctx: Context, **inputs: Any) -> tuple[Mapping[str, Any], Video]:
    """What the pipeline of a case is asked for if only these inputs are given."""
    recorder = Recorder(CASES[name].make())
    with patch("nodes.video.sampling.pipeline_for", return_value=recorder):
        video = VideoSampler(model=model, prompt="a snail", image=CASES[name].image, **inputs).run(ctx)
    return recorder.asked, video


@pytest.mark.parametrize(
    ("name", "frames", "size", "steps", "guidance", "fps"),
    [
        ("Wan 2.1", 81, (832, 480), 50, 5.0, 16),
        ("Wan 2.2", 81, (1280, 720), 40, 3.5, 16),
        ("Wan 2.2 5B", 121, (1280, 704), 50, 5.0, 24),
        ("LTX", 161, (704, 512), 50, 3.0, 25),
        ("LTX-2", 121, (768, 512), 40, 4.0, 24),
        ("LTX-2.3", 121, (768, 512), 30, 3.0, 24),
        ("LTX 0.9.5", 161, (704, 512), 50, 3.0, 25),
        ("AnimateDiff", 16, (64, 64), 25, 7.5, 8),
        ("HunyuanVideo", 129, (1280, 720), 50, 6.0, 24),
        ("CogVideoX", 49, (48, 32), 50, 6.0, 8),  # the size is that of its configuration
        ("CogVideoX 1.5", 81, (48, 32), 50, 6.0, 16),
    ],
)
def test_what_is_not_asked_for_is_the_models_own(
    name: str,
    frames: int,
    size: tuple[int, int],
    steps: int,
    guidance: float,
    fps: int,
    ctx: Context,
    load: Load,
) -> None:
    found, video = asked(name, load(name), ctx)
    assert (found["num_frames"], found["width"], found["height"]) == (frames, *size)
    assert (found["num_inference_steps"], found[CASES[name].guidance]) == (steps, guidance)
    assert video.fps == fps


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ({}, (688, 576)),  # 832 × 480 pixels in the proportions of 48 × 40
        ({"width": 96}, (96, 80)),
        ({"height": 80}, (96, 80)),
        ({"width": 64, "height": 32}, (64, 32)),
    ],
)
def test_a_picture_gives_the_proportions(
    inputs: dict[str, Any], size: tuple[int, int], ctx: Context, load: Load
) -> None:
    found, _ = asked("Wan 2.1 I2V", load("Wan 2.1 I2V"), ctx, **inputs)
    assert (found["width"], found["height"]) == size


def listener(ctx: Context, reports: list[tuple[int, int, str]], shown: list[Tensor]) -> Context:
    """The context, with what is reported and shown in these lists."""

    def listen(done: int, total: int, unit: str, preview: Image | None) -> None:
        reports.append((done, total, unit))
        if preview:
            shown.append(preview.pixels)

    return dataclasses.replace(ctx, on_progress=listen, wants_preview=lambda: True)


@pytest.mark.parametrize("name", CASES)
def test_steps_are_reported_with_previews(name: str, ctx: Context, load: Load) -> None:
    case, reports, shown = CASES[name], list[tuple[int, int, str]](), list[Tensor]()
    video = draw(listener(ctx, reports, shown), load(name), case)
    assert reports == [(done, 2, "step") for done in range(3)]
    assert [picture.shape for picture in shown] == [(1, *video.frames.shape[1:])] * 2


def test_what_a_pipeline_does_to_its_tokenizer_is_its_own_affair(ctx: Context, load: Load) -> None:
    """LTX-2 pads on the left, HunyuanVideo on the right; here their tokenizers have the same contents."""
    case, model = CASES["HunyuanVideo"], load("HunyuanVideo")
    before = draw(ctx, model, case).frames
    draw(ctx, load("LTX-2"), CASES["LTX-2"])
    assert torch.equal(draw(ctx, model, case).frames, before)


def test_ltx_is_told_of_the_frame_rate(ctx: Context, load: Load) -> None:
    case, model = CASES["LTX"], load("LTX")
    slow, fast = (draw(ctx, model, case, fps=fps).frames for fps in (25, 50))
    torch.testing.assert_close(fast, expected(model, case, frame_rate=50), atol=1e-5, rtol=0)
    assert (slow - fast).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["Wan 2.1", "Wan 2.2 5B"])
def test_the_last_preview_is_the_first_frame(name: str, ctx: Context, load: Load) -> None:
    shown: list[Tensor] = []
    video = draw(listener(ctx, [], shown), load(name), CASES[name])
    torch.testing.assert_close(shown[-1], video.frames[:1], atol=1e-4, rtol=0)


def test_large_videos_are_painted_cell_by_cell(ctx: Context, load: Load) -> None:
    shown: list[Tensor] = []
    draw(listener(ctx, [], shown), load("Wan 2.1"), CASES["Wan 2.1"], width=160, height=144, steps=1)
    assert [picture.shape for picture in shown] == [(1, 3, 18, 20)]


@contextmanager
def counted(module: torch.nn.Module, calls: list[int]) -> Iterator[None]:
    """Notes each call of a module."""
    handle = module.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield
    finally:
        handle.remove()


def test_a_cancel_prevents_the_next_step(ctx: Context, load: Load) -> None:
    case, model, steps = CASES["Wan 2.1"], load("Wan 2.1"), list[int]()

    def listen(done: int, total: int, unit: str, preview: object) -> None:
        steps.append(done)

    plain = draw(ctx, model, case).frames
    cancelled = dataclasses.replace(ctx, on_progress=listen, cancelled=lambda: len(steps) == 2)
    with pytest.raises(Cancelled):
        draw(cancelled, model, case)
    assert steps == [0, 1]
    assert torch.equal(draw(ctx, model, case).frames, plain), "it leaves no trace"


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_cancel_ends_a_step_and_decoding_at_the_next_block(part: str, ctx: Context, load: Load) -> None:
    case, model = CASES["Wan 2.1"], load("Wan 2.1")
    pipeline = pipeline_for(ctx, model, case.task)
    first, last = {
        "transformer": (pipeline.transformer.blocks[0], pipeline.transformer.blocks[-1]),
        "vae": (pipeline.vae.decoder.up_blocks[0], pipeline.vae.decoder.up_blocks[-1]),
    }[part]
    begun, ended = list[int](), list[int]()
    with counted(first, begun), counted(last, ended), pytest.raises(Cancelled):
        draw(dataclasses.replace(ctx, cancelled=lambda: bool(begun)), model, case)
    assert (len(begun), len(ended)) == (1, 0)
    assert not any(module._forward_pre_hooks for module in pipeline.vae.modules())


def adapter(model: torch.nn.Module, component: str, ending: str) -> LoRA:
    """A LoRA of all layers of a model whose names end so."""
    noise = torch.Generator().manual_seed(0)
    found = {f"{component}.{path}": layer for path, layer in model.named_modules() if path.endswith(ending)}
    up = {name: torch.randn(len(layer.weight), 2, generator=noise) / 3 for name, layer in found.items()}
    down = {name: torch.randn(2, layer.weight.shape[1], generator=noise) / 3 for name, layer in found.items()}
    return LoRA(up, down, "motion")


ADAPTED = {
    "Wan 2.1": ("transformer", "attn1.to_v"),
    "Wan 2.2": ("transformer_2", "attn1.to_v"),
    "LTX": ("transformer", "attn1.to_v"),
    "CogVideoX": ("transformer", "attn1.to_v"),
    "AnimateDiff": ("unet", "attn1.to_v"),
    "HunyuanVideo": ("transformer", "attn.to_v"),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_of_the_model_are_applied_while_it_samples(name: str, ctx: Context, load: Load) -> None:
    case, model, (component, ending) = CASES[name], load(name), ADAPTED[name]
    changed = theirs(model, case)
    lora = adapter(getattr(changed, component), component, ending)
    with torch.no_grad():
        for layer in lora.layers:
            layers(changed)[layer].weight += 0.5 * lora.up[layer] @ lora.down[layer]
    size = {"num_frames": case.frames, "width": case.width, "height": case.height, "num_inference_steps": 2}
    noise = torch.Generator().manual_seed(7)
    wanted = changed(**case.prompts, **size, **{case.guidance: 4.0}, generator=noise, output_type="pt").frames[0]
    plain = draw(ctx, model, case, guidance_scale=4.0).frames
    adapted = LoRAApplyToVideo(model=model, lora=lora, strength=0.5).run(ctx)
    found = draw(ctx, adapted, case, guidance_scale=4.0).frames
    assert (found - plain).abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert torch.equal(draw(ctx, model, case, guidance_scale=4.0).frames, plain)


def test_a_lora_of_another_family_is_refused_by_the_layer_that_is_missing(ctx: Context, load: Load) -> None:
    lora = LoRA({"unet.mid_block.proj": torch.ones(4, 1)}, {"unet.mid_block.proj": torch.ones(1, 4)}, "motion")
    adapted = LoRAApplyToVideo(model=load("Wan 2.1"), lora=lora).run(ctx)
    with pytest.raises(InputError, match=r"the layer unet\.mid_block\.proj, which this model does not have"):
        draw(ctx, adapted, CASES["Wan 2.1"])


@pytest.mark.parametrize(
    ("name", "inputs", "message", "hint"),
    [
        ("Wan 2.1", {"frames": 16}, "one frame more than a multiple of 4, not 16", "give 13 or 17"),
        ("Wan 2.1", {"frames": 2}, "one frame more than a multiple of 4, not 2", "give 5"),
        ("Wan 2.1", {"frames": 1}, "more than one frame", "give 5 or more"),
        ("Wan 2.1", {"width": 40}, "40 × 32 pixels don't suit the model: it needs multiples of 16", "to 32 × 32"),
        ("Wan 2.2 5B", {"height": 48}, "64 × 48 pixels don't suit the model: it needs multiples of 32", "to 64 × 64"),
        ("AnimateDiff", {"frames": 7}, "the motion adapter draws 6 frames at most, not 7", "give 6 or fewer"),
        ("AnimateDiff", {"image": PICTURE}, "AnimateDiff can't do image to video", "Wan 2.1"),
        ("HunyuanVideo", {"negative_prompt": "a robot"}, "HunyuanVideo takes no negative prompt", "leave it empty"),
        ("LTX", {"frames": 12}, "LTX-Video draws one frame more than a multiple of 8, not 12", "give 9 or 17"),
        ("CogVideoX I2V", {"width": 64}, "draws videos of 48 × 32 pixels only", "leave width and height 0"),
        ("Wan 2.1", {"image": PICTURE}, "is the Wan 2.1 model for text to video", "leave the picture out"),
        ("Wan 2.1 I2V", {"image": None}, "is the Wan 2.1 model for image to video", "give it a picture"),
        ("Wan 2.1 I2V", {"image": Image(torch.rand(2, 3, 8, 8))}, "not a batch of 2", "PickImage"),
    ],
)
def test_what_a_model_can_not_do_comes_with_what_it_can(
    name: str, inputs: dict[str, Any], message: str, hint: str, ctx: Context, load: Load
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        draw(ctx, load(name), CASES[name], **inputs)
    assert hint in str(caught.value.hint)


def test_samplers_name_each_other(ctx: Context, load: Load) -> None:
    svd = VideoModel("a", "/a", "a", "float32", family="Stable Video Diffusion")
    with pytest.raises(InputError, match="no Stable Video Diffusion model") as caught:
        VideoSampler(model=svd, prompt="a snail").run(ctx)
    assert caught.value.hint == "SVDSampler takes it"
    with pytest.raises(InputError, match=r"no Wan 2\.1 model") as caught:
        SVDSampler(model=load("Wan 2.1"), image=PICTURE).run(ctx)
    assert caught.value.hint == "VideoSampler takes it"


def test_every_family_of_videos_is_drawn_here() -> None:
    drawn = {(case.family, case.task) for case in CASES.values()}
    assert drawn == {(row.name, task) for row in FAMILIES if row.clips for task in row.pipelines}


def test_a_pipeline_that_is_not_known_is_refused_with_the_families(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanVACEPipeline"}))
    with pytest.raises(InputError, match="holds a WanVACEPipeline") as caught:
        VideoModelLoad(source=str(tmp_path)).run(Context())
    assert "Wan 2.1" in str(caught.value.hint)


def test_what_is_no_motion_adapter_or_fits_none_is_refused(tmp_path: Path, load: Load) -> None:
    image_model, adapter = load("AnimateDiff").path, load("AnimateDiff").motion
    assert adapter is not None
    with pytest.raises(InputError, match="holds no motion adapter, but nothing") as caught:
        VideoModelLoad(source=image_model, motion=str(tmp_path)).run(Context())
    assert caught.value.input == "motion"
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    with pytest.raises(InputError, match="holds no motion adapter, but ControlNetModel"):
        VideoModelLoad(source=image_model, motion=str(tmp_path)).run(Context())
    tiny_sdxl().save_pretrained(tmp_path / "sdxl")
    with pytest.raises(InputError, match="is a Stable Diffusion XL model, which no motion adapter fits"):
        VideoModelLoad(source=str(tmp_path / "sdxl"), motion=adapter.path).run(Context())


def test_the_settings_that_are_the_models_own_are_reported_with_its_family(ctx: Context, load: Load) -> None:
    reports: list[dict[str, object]] = []
    listening = dataclasses.replace(
        ctx, on_report=lambda report: reports.append({name: figure.value for name, figure in report.items()})
    )
    model, case = load("AnimateDiff"), CASES["AnimateDiff"]
    draw(listening, model, case)
    assert reports.pop() == {"guidance scale": 7.5, "family": "AnimateDiff"}
    draw(listening, model, case, guidance_scale=2.0)
    assert reports == []


def test_a_scale_between_the_models_own_and_none_is_refused(ctx: Context, load: Load) -> None:
    with pytest.raises(ValueError, match="give 0 for the model's own, or 1 and more"):
        draw(ctx, load("AnimateDiff"), CASES["AnimateDiff"], guidance_scale=0.5)


@pytest.fixture
def animated(tmp_path: Path, load: Load) -> tuple[Path, Path]:
    """Copies of the folders of an image model and a motion adapter that fits it."""
    model = load("AnimateDiff")
    assert model.motion is not None
    return shutil.copytree(model.path, tmp_path / "image"), shutil.copytree(model.motion.path, tmp_path / "adapter")


def with_motion(image_model: Path, adapter: Path) -> VideoModel:
    return VideoModelLoad(source=str(image_model), motion=str(adapter)).run(Context())


@pytest.mark.parametrize(
    ("setting", "message", "input"),
    [
        ({"cross_attention_dim": 1024}, "image is a Stable Diffusion 2 model, which no motion adapter fits", "source"),
        ({"block_out_channels": [16, 64]}, "adapter doesn't fit the UNet of .*image: its blocks differ", "motion"),
    ],
)
def test_an_image_model_that_the_adapter_doesnt_fit_is_refused_at_once(
    animated: tuple[Path, Path], setting: dict[str, Any], message: str, input: str
) -> None:
    config = animated[0] / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | setting))
    with pytest.raises(InputError, match=message) as caught:
        with_motion(*animated)
    assert caught.value.input == input
    assert "Stable Diffusion 1.5" in str(caught.value)


@pytest.mark.parametrize(("part", "named"), [("unet", "unet"), ("adapter", r"the motion adapter .*adapter")])
def test_weights_that_a_unet_or_its_motion_adapter_lacks_are_named(
    animated: tuple[Path, Path], part: str, named: str
) -> None:
    file = (animated[0] / "unet" if part == "unet" else animated[1]) / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    lost = min(whole)
    save_file({name: weight for name, weight in whole.items() if name != lost}, file, {"format": "pt"})
    with pytest.raises(MissingError, match=f"can't be loaded: {named} lacks {lost}"):
        pipeline_for(Context(), with_motion(*animated), "text to video")


def test_image_model_and_motion_adapter_share_what_they_can(ctx: Context, load: Load) -> None:
    """The text encoder and the VAE are those of the pictures' model, once in memory; the UNet is another."""
    model, image_model = load("AnimateDiff"), ImageModelLoad(source=load("AnimateDiff").path).run(Context())
    video, picture = pipeline_for(ctx, model, "text to video"), pipeline_for(ctx, image_model, "text to image")
    assert video.text_encoder is picture.text_encoder
    assert video.vae is picture.vae
    assert video.unet is not picture.unet
    assert type(video.scheduler).__name__ == "DDIMScheduler"
