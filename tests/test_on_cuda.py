"""Every kind of node that computes on the device, on a GPU that is pretended: it mixes no devices, and its results are
those of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, DiffusionPipeline
from safetensors.torch import load_file, save_file

from engine.node import Context, Node
from engine.values import Image, ImageModel, LoRA, UpscaleModel, Value, Video
from nodes import registry
from nodes.dataset.describe import craft
from nodes.dataset.describe.describer import Describer, DescribeSettings
from nodes.dataset.nodes import LVDCurate
from nodes.diffusion.layers import all_layers, layers
from nodes.diffusion.pipelines import pipeline_for
from nodes.diffusion.precision import precision_kept
from nodes.image.nodes import ImageModelLoad, ImageUpscale, KeyframeSampler, UpscaleModelLoad
from nodes.lora.nodes import LoRAApply, LoRAApplyToVideo, LoRAExtract, LoRAMerge, LoRATrain, ZipLoRAMerge
from nodes.lora.training.loop import train_lora
from nodes.lora.training.pictures import Example
from nodes.lora.training.settings import TrainingSettings
from nodes.text.nodes import LLMLoad, LookaheadDecode, MedusaTrain, PromptWriter
from nodes.video.nodes import SVDSampler, VideoModelLoad, VideoSampler, VideoUpscale
from tests.fakecuda import CudaTensor, fake_cuda
from tests.text.conftest import babbler
from tests.tiny import tiny_sdxl, tiny_svd
from tests.tiny_video import tiny_ltx, tiny_wan_5b
from tests.upscaling.files import esrgan, saved
from tests.upscaling.swin2sr import tiny_swin2sr

PROMPTS = {"subject_prompt": "a red snail", "style_prompt": "a robot in watercolour style"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny models: "sdxl", "svd", "wan", "ltx", "llm", "esrgan.safetensors" and "swin2sr"."""
    folder = tmp_path_factory.mktemp("models")
    tiny_sdxl().save_pretrained(folder / "sdxl")
    tiny_svd().save_pretrained(folder / "svd")
    tiny_wan_5b().save_pretrained(folder / "wan")
    tiny_ltx(denoises=True).save_pretrained(folder / "ltx")
    babbler(folder / "llm")
    saved(esrgan(), folder / "esrgan.safetensors")
    tiny_swin2sr().save_pretrained(folder / "swin2sr")
    return folder


def lora(seed: int) -> LoRA:
    """An adapter of the tiny image model, in host memory."""
    draw = torch.Generator().manual_seed(seed)
    ends = ("attn1.to_q", "0.conv1", "0.self_attn.q_proj")
    modules = {name: of for name, of in layers(tiny_sdxl()).items() if not name.startswith("vae.")}
    chosen = {name: of.weight for name, of in modules.items() if name.endswith(ends)}
    up = {name: torch.randn(len(of), 3, *(1 for _ in of.shape[2:]), generator=draw) / 5 for name, of in chosen.items()}
    down = {name: torch.randn(3, *of.shape[1:], generator=draw) / 5 for name, of in chosen.items()}
    return LoRA(up, down, name=f"lora {seed}")


def with_other_kinds(pipeline: DiffusionPipeline, lora: LoRA) -> LoRA:
    """A LoRA that changes more layers, in ways that two matrices don't hold."""
    draw, other = torch.Generator().manual_seed(9), {}
    for name, layer in all_layers(pipeline).items():
        count = len(layer.weight)
        if name.startswith("unet.mid_block") and name.endswith(("norm1", "conv2", "proj_in", "attn2.to_v")):
            vector = torch.randn(count, generator=draw)
            rotation = torch.randn(count // 4, 4, 4, generator=draw) / 5
            other[name] = (
                {"rotation": rotation} if name.endswith("conv2") else {"difference": layer.weight.detach() / 5}
            )
            other[name] |= {"bias": vector} if name.endswith("norm1") else {}
            other[name] |= {"row_norms": vector.abs()} if name.endswith("to_v") else {}
    return replace(lora, other=other)


def image_model(models: Path, dtype: str = "float32") -> ImageModel:
    model = ImageModelLoad(source=str(models / "sdxl"), dtype=dtype).run(Context())
    return LoRAApply(model=model, lora=with_other_kinds(tiny_sdxl(), lora(0))).run(Context())


def keyframes(models: Path, **inputs: Any) -> Node:
    model = image_model(models, inputs.pop("dtype", "float32"))
    return KeyframeSampler(model=model, prompt="a red snail", steps=2, count=2, **inputs)


def video(models: Path, **inputs: Any) -> Node:
    model = VideoModelLoad(source=str(models / "svd"), dtype=inputs.pop("dtype", "float32")).run(Context())
    adapter = with_other_kinds(tiny_svd(), LoRA({}, {}, "differences"))
    model = LoRAApplyToVideo(model=model, lora=adapter).run(Context())
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return SVDSampler(model=model, image=Image(picture), **{"steps": 2, "frames": 3} | inputs)


def clip(models: Path, source: str = "wan", dtype: str = "float32", *, picture: bool = False) -> Node:
    model = VideoModelLoad(source=str(models / source), dtype=dtype).run(Context())
    image = Image(torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))) if picture else None
    return VideoSampler(model=model, prompt="a red snail", image=image, steps=2, frames=9, width=64, height=32)


def merge(models: Path, **inputs: Any) -> Node:
    quick = {"steps": 1, "pictures": 1, "sampling_steps": 1} | inputs
    return ZipLoRAMerge(model=image_model(models), subject=lora(1), style=lora(2), **PROMPTS, **quick)


def training(models: Path, **inputs: Any) -> Node:
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    quick = {"prompt": "a red snail", "steps": 2, "rank": 2} | inputs
    return LoRATrain(model=image_model(models), images=(Image(pictures),), **quick)


def sum_of(models: Path, **inputs: Any) -> Node:
    return LoRAMerge(first=(lora(1),), second=(lora(2),), density=0.5, **inputs)


def extract(models: Path, **inputs: Any) -> Node:
    base = ImageModelLoad(source=str(models / "sdxl")).run(Context())
    copytree(models / "sdxl", models / "tuned", dirs_exist_ok=True)
    weights = load_file(unet := models / "tuned/unet/diffusion_pytorch_model.safetensors")
    save_file({name: weight * 1.5 for name, weight in weights.items()}, unet)
    tuned = ImageModelLoad(source=str(models / "tuned")).run(Context())
    return LoRAExtract(base=base, tuned=tuned, **inputs)


def text(models: Path, **inputs: Any) -> Node:
    llm = LLMLoad(source=str(models / "llm"), dtype=inputs.pop("dtype", "float32")).run(Context())
    return LookaheadDecode(llm=llm, prompt="say hello", max_new_tokens=24, **inputs)


def prompts(models: Path, **inputs: Any) -> Node:
    llm = LLMLoad(source=str(models / "llm")).run(Context())
    return PromptWriter(llm=llm, theme="dusk", count=1, max_new_tokens=24, **inputs)


def heads(models: Path, **inputs: Any) -> Node:
    llm = LLMLoad(source=str(models / "llm"), dtype=inputs.pop("dtype", "float32")).run(Context())
    sizes = {"answer_tokens": 24, "heads": 2, "steps": 2, "batch": 8}
    return MedusaTrain(llm=llm, prompts=("say hello", "say more"), **sizes, **inputs)


def upscaler(models: Path, source: str, dtype: str) -> UpscaleModel:
    return UpscaleModelLoad(source=str(models / source), dtype=dtype).run(Context())


def larger_pictures(models: Path, source: str = "esrgan.safetensors", dtype: str = "float32", **inputs: Any) -> Node:
    pictures = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    return ImageUpscale(model=upscaler(models, source, dtype), image=Image(pictures), **inputs)


def larger_video(models: Path, source: str = "esrgan.safetensors", dtype: str = "float32", **inputs: Any) -> Node:
    frames = torch.rand(3, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    return VideoUpscale(model=upscaler(models, source, dtype), video=Video(frames, 7.0), **inputs)


CASES: Mapping[type[Node], tuple[Callable[..., Node], tuple[dict[str, Any], ...]]] = {
    KeyframeSampler: (keyframes, ({"negative_prompt": "blue"}, {"dtype": "float16"}, {"dtype": "bfloat16"})),
    SVDSampler: (video, ({"decode_chunk": 2}, {"dtype": "float16", "width": 32, "height": 32})),
    VideoSampler: (clip, ({"picture": True}, {"dtype": "bfloat16"})),
    ZipLoRAMerge: (merge, ({"steps": 2}, {"start": "closed-form", "gradient_checkpointing": True})),
    LoRATrain: (training, ({}, {"held_out": 1, "sample_every": 1})),
    LoRAMerge: (sum_of, ({"method": "ties"}, {"method": "dare", "rank": 2})),
    LoRAExtract: (extract, ({"rank": 2},)),
    LookaheadDecode: (text, ({}, {"temperature": 1.0}, {"dtype": "float16"}, {"dtype": "bfloat16", "stop": ("a",)})),
    MedusaTrain: (heads, ({}, {"dtype": "bfloat16"})),
    PromptWriter: (prompts, ({"temperature": 0.0, "style": "crayon"},)),
    ImageUpscale: (
        larger_pictures,
        ({"tile": 16, "overlap": 8}, {"source": "swin2sr", "scale": 1.5}, {"dtype": "float16"}),
    ),
    VideoUpscale: (larger_video, ({}, {"source": "swin2sr", "dtype": "bfloat16"})),
}
"""How to make a node of each kind that is compared, and inputs to try."""

QUICK = {kind: tried[0] for kind, (_, tried) in CASES.items() if kind is not ZipLoRAMerge}
FULL = pytest.mark.full


def test_every_kind_that_computes_on_the_device_is_tried_here() -> None:
    """What computes there in LVDCurate is tried by itself: the rest takes processes and seconds."""
    assert {kind for kind in registry().values() if kind.spec.uses == "device"} == {*CASES, LVDCurate}


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated")  # diffusers' own call
@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        pytest.param(make, inputs, id=f"{kind.__name__} {inputs}", marks=() if inputs is QUICK.get(kind) else FULL)
        for kind, (make, tried) in CASES.items()
        for inputs in tried
    ],
)
def test_results_are_those_of_the_cpu(make: Callable[..., Node], inputs: dict[str, Any], models: Path) -> None:
    expected = [*tensors(make(models, **inputs).run(Context()))]
    shown: list[Image | None] = []
    with fake_cuda() as gpu:
        ctx = Context("cuda", wants_preview=lambda: True, on_progress=lambda *report: shown.append(report[-1]))
        found = [*tensors(make(models, **inputs).run(ctx))]
        assert gpu.peak > 0, "nothing was on the device"
    assert all(a.equal(b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(found, expected, strict=True))
    assert not any(isinstance(picture.pixels, CudaTensor) for picture in shown if picture)


@pytest.mark.full
def test_noise_that_a_pipeline_draws_in_its_own_way_is_drawn_on_the_host(models: Path) -> None:
    expected = clip(models, "ltx", picture=True).run(Context()).frames
    with fake_cuda():
        found = clip(models, "ltx", picture=True).run(Context("cuda")).frames
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.full
def test_clips_are_described_on_the_device(models: Path) -> None:
    views = [cv2.imencode(".jpg", shade * np.ones((64, 64, 3), np.uint8))[1].tobytes() for shade in (0, 90, 250)]
    named = {"clip": "sprite/clip", "aesthetics": "sprite/clip/aesthetic.safetensors"}
    named |= {"image_captioner": "sprite/captioner", "video_captioner": "sprite/captioner"}
    with fake_cuda() as gpu:
        describe = Describer(Context("cuda"), DescribeSettings(**named), text(models).llm)
        (found,) = describe([{"views": views}])
        assert gpu.peak > 0, "nothing was on the device"
    assert found["image_caption"]
    assert found["summary"]
    assert -1 <= found["image_caption_similarity"] <= 1


def test_words_are_found_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(craft, "PIXELS", 64 * 64)
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with fake_cuda(), torch.no_grad():
        assert 0 <= craft.CraftDetector(craft.Craft().eval().to("cuda")).area(picture) <= 1


@pytest.mark.full
def test_training_gives_the_lora_of_the_cpu() -> None:
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    settings = TrainingSettings(rank=2, steps=2, text_encoders=True, snr_gamma=5.0, ema_decay=0.9)

    def trained(device: str) -> list[torch.Tensor]:
        pipeline = tiny_sdxl().to(device)
        try:
            made = train_lora(pipeline, [Example(picture, "a red snail")], settings, name="snail")
        finally:
            pipeline.to("cpu")
        return [*tensors(made)]

    expected = trained("cpu")
    with fake_cuda():
        found = trained("cuda")
    assert all(a.equal(b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda here, host: here + host,
        lambda here, host: torch.cat([here, host]),
        lambda here, host: host[here.long()],
        lambda here, host: torch.multinomial(here, 1, generator=torch.Generator()),
        lambda here, host: here.numpy(),
        lambda here, host: torch.nn.functional.linear(here, host[None]),
    ],
)
def test_the_pretended_gpu_refuses_what_a_gpu_refuses(wrong: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
    with fake_cuda():
        here, host = torch.ones(3, device="cuda"), torch.ones(3)
        assert (here * torch.tensor(2.0)).sum().item() == 6, "numbers may be on the host"
        assert here[host.long()].tolist() == [1, 1, 1], "so may indices"
        with pytest.raises((RuntimeError, TypeError)):
            wrong(here, host)


def test_the_pretended_gpu_has_as_much_memory_as_is_asked_for() -> None:
    with fake_cuda(capacity=100) as gpu:
        held = torch.ones(20, device="cuda")
        view = held[:5]
        assert (gpu.used, torch.cuda.mem_get_info()) == (80, (20, 100))
        with pytest.raises(torch.OutOfMemoryError):
            held + 1
        del held
        assert gpu.used == 80, "the view holds it"
        del view
        assert (gpu.used, gpu.peak) == (0, 80)


def tensors(value: Any) -> Iterator[Any]:
    """The tensors in outputs, in host memory, and what else there is."""
    if isinstance(value, Value):
        yield from value.on_host().to_tensors()[0].values()
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors(item)
    else:
        yield value


def test_what_does_not_fit_into_pinned_memory_is_spilled_all_the_same() -> None:
    with fake_cuda() as gpu:
        value = Image(torch.ones(1, 3, 2, 2, device="cuda"))
        assert torch.equal(value.on_host(pinned=True).pixels, torch.ones(1, 3, 2, 2))
        assert gpu.pinned == 1
        gpu.fails = lambda operation: RuntimeError("CUDA error: out of memory") if operation == "pin" else None
        assert torch.equal(value.on_host(pinned=True).pixels, torch.ones(1, 3, 2, 2))
        assert gpu.pinned == 1


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated")  # diffusers' own call
def test_a_model_that_ran_out_of_memory_while_it_decoded_draws_as_before(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, ctx = keyframes(models, dtype="float16"), Context()
    expected = node.run(ctx).pixels
    with monkeypatch.context() as patched:
        patched.setattr(AutoencoderKL, "decode", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            node.run(ctx)
    assert torch.equal(node.run(ctx).pixels, expected)


def test_a_model_that_ran_out_of_memory_while_it_encoded_is_as_before(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, ctx = video(models, dtype="float16"), Context()
    monkeypatch.setattr(AutoencoderKLTemporalDecoder, "encode", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        node.run(ctx)
    assert {weight.dtype for weight in pipeline_for(ctx, node.model, "image to video").vae.parameters()} == {
        torch.float16
    }


def test_weights_are_restored_where_the_device_has_no_room_to_convert_them() -> None:
    with fake_cuda() as gpu:
        layers = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(3))).half().to("cuda")
        used = gpu.used

        def convert_in_part() -> None:
            with precision_kept(layers):
                layers[0].float()
                gpu.capacity = gpu.used
                layers[1].float()

        with pytest.raises(torch.OutOfMemoryError):
            convert_in_part()
        assert {(weight.dtype, weight.device.type) for weight in layers.parameters()} == {(torch.float16, "cuda")}
        assert gpu.used == used


def out_of_memory(*arguments: Any, **named: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.full
def test_a_video_that_does_not_fit_is_decoded_with_less_on_the_device(models: Path) -> None:
    node = video(models, width=32, height=32)
    expected, normed = node.run(Context()).frames, 0

    def full(operation: Any) -> BaseException | None:
        nonlocal normed
        normed += (norm := operation is torch.ops.aten.var_mean.correction)
        return torch.OutOfMemoryError("CUDA out of memory") if norm and normed == 20 else None

    with fake_cuda() as gpu:
        gpu.fails = full
        assert torch.equal(node.run(Context("cuda")).frames.cpu(), expected)
    assert normed > 20, "it ran out of memory in the middle"
