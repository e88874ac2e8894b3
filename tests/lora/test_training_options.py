"""Every option of a training changes what it says."""

from __future__ import annotations

import copy
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn

import nodes.lora.training.loop as loop
from engine.errors import InputError, MissingError, NodeError
from engine.values import LoRA
from nodes.diffusion.adapters import applied
from nodes.diffusion.layers import layers
from nodes.lora.closed_form import closed_form_passes
from nodes.lora.formats import write_lora
from nodes.lora.reading import read_lora
from nodes.lora.training.family import SDXL
from nodes.lora.training.loop import Course, train_lora, training
from nodes.lora.training.network import Network
from nodes.lora.training.optimisers import _leaves, _put
from nodes.lora.training.pictures import Example, Pictures, bucket, framed
from nodes.lora.training.settings import PRESETS, TrainingSettings, settled
from tests.engine.test_encoding import same as same_state
from tests.lora.reference import Names, OnApple, output, state, untouched

FEW = TrainingSettings(rank=2, steps=3, batch=2, learning_rate=1e-2)
SMALL = replace(FEW, resolution=32)
PICTURES = [
    Example(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)), caption)
    for i, caption in enumerate(("a red snail", "a blue snail", "a snail on grass"))
]


def train(pipeline: StableDiffusionXLPipeline, settings: TrainingSettings = FEW, **rest: Any) -> LoRA:
    return train_lora(pipeline, PICTURES, settings, **{"name": "snail"} | rest)


def parts(lora: LoRA) -> list[Tensor]:
    return [tensor for _, tensor in sorted(lora.to_tensors()[0].items())]


def same(first: LoRA, second: LoRA) -> bool:
    return all(torch.equal(a, b) for a, b in zip(parts(first), parts(second), strict=True))


@pytest.fixture(scope="module")
def plain(pipeline: StableDiffusionXLPipeline) -> LoRA:
    """What is trained without further options."""
    return train(pipeline, SMALL)


def test_a_limit_of_0_weighs_all_noise_alike(pipeline: StableDiffusionXLPipeline, plain: LoRA) -> None:
    assert same(train(pipeline, replace(SMALL, snr_gamma=0.0)), plain)


@pytest.mark.parametrize(
    "change",
    [
        {"rslora": True},
        {"dropout": 0.5},
        {"max_norm": 0.01},
        {"accumulation": 2},
        {"optimiser": "adafactor"},
        {"weight_decay": 1.0},
        {"max_gradient_norm": 1e-6},
        {"ema_decay": 0.9},
        {"precision": "bfloat16"},
        {"resolution": 64},
        {"flip": True},
        {"noise_offset": 0.5},
        {"snr_gamma": 1.0},
        {"caption_dropout": 0.9},
        {"held_out": 1},
        {"batch": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_option_changes_the_result_and_leaves_no_trace(
    pipeline: StableDiffusionXLPipeline, plain: LoRA, change: dict[str, Any]
) -> None:
    before = state(pipeline)
    changed = train(pipeline, replace(SMALL, **change))
    assert untouched(pipeline, before)
    assert not same(changed, plain)


# Layers


def test_rslora_divides_by_the_root_of_the_rank(pipeline: StableDiffusionXLPipeline) -> None:
    """With alpha = √r it is the plain LoRA of alpha = r."""
    plain = train(pipeline, replace(FEW, rank=4, alpha=4.0))
    assert same(train(pipeline, replace(FEW, rank=4, alpha=2.0, rslora=True)), plain)


def course_of(pipeline: StableDiffusionXLPipeline, settings: TrainingSettings, **rest: Any) -> Any:
    return training(pipeline, PICTURES, settings, **rest)


def randomised(course: Course) -> None:
    """Give all that is trained random values, as after a long training."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in course.network.named():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.detach().copy_(parameter + 0.3 * noise if name.startswith("lengths.") else 0.2 * noise)
    course.network.changed()


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("format", ["kohya", "peft"])
def test_what_was_trained_is_what_is_saved_and_read(
    pipeline: StableDiffusionXLPipeline, tmp_path: Path, dora: bool, format: Any
) -> None:
    settings = replace(FEW, dora=dora, layers="all", text_encoders=True, alpha=1.0)
    with course_of(pipeline, settings) as course:
        randomised(course)
        trained = output(pipeline)
        lora = course.network.lora("snail", {})
    assert (output(pipeline) - trained).abs().max() > 1e-3
    file = tmp_path / "lora.safetensors"
    file.write_bytes(write_lora(lora, format))
    for made in (lora, read_lora(file)):
        with applied(pipeline, [made]):
            torch.testing.assert_close(output(pipeline), trained, atol=1e-5, rtol=1e-4)


def test_a_dora_s_layer_and_its_gradients_are_peft_s() -> None:
    """Linear, with a bias: output, and gradients of both matrices and the lengths."""
    torch.manual_seed(0)
    module, x = nn.Linear(6, 5), torch.randn(2, 3, 6)
    config = LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=["x"])
    theirs = PeftLinear(module, "default", config, r=2, lora_alpha=3, use_dora=True)
    up, down = torch.randn(5, 2), torch.randn(2, 6)
    lengths = module.weight.norm(dim=1) * 1.3
    theirs.lora_B["default"].weight.data.copy_(up)
    theirs.lora_A["default"].weight.data.copy_(down)
    theirs.lora_magnitude_vector["default"].weight.data.copy_(lengths)
    expected = theirs(x)
    expected.square().sum().backward()

    network = Network({"layer": module}, replace(FEW, rank=2, alpha=3.0, dora=True), lambda: None)
    layer = network.layers["layer"]
    assert layer.lengths is not None
    for parameter, value in ((layer.up, up), (layer.down, down), (layer.lengths, lengths)):
        parameter.data.copy_(value)
    handle = module.register_forward_hook(network.hooks()["layer"])
    found = module(x)
    handle.remove()
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for ours, other in (
        (layer.up, theirs.lora_B["default"].weight),
        (layer.down, theirs.lora_A["default"].weight),
        (layer.lengths, theirs.lora_magnitude_vector["default"].weight),
    ):
        torch.testing.assert_close(ours.grad, other.grad)


def test_a_dora_starts_as_the_model_and_learns(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    plain = output(pipeline)
    with course_of(pipeline, replace(FEW, dora=True)) as course:
        torch.testing.assert_close(output(pipeline), plain, atol=1e-5, rtol=1e-4)
        start = {name: parameter.detach().clone() for name, parameter in course.network.named()}
        course.step(0)
        course.step(1)
        now = dict(course.network.named())
    assert all(not torch.equal(now[name], start[name]) for name in now)
    lora = train(pipeline, replace(FEW, dora=True))
    assert sorted(lora.other) == sorted(names["attention"])
    assert not lora.up


def test_a_dora_at_another_strength_is_not_saved(pipeline: StableDiffusionXLPipeline) -> None:
    lora = train(pipeline, replace(FEW, steps=1, dora=True))
    with pytest.raises(InputError, match=r"is a DoRA, whose strength 0\.5 can't be folded"):
        write_lora(replace(lora, strength=0.5))


def test_dropout_leaves_out_whole_ranks(pipeline: StableDiffusionXLPipeline) -> None:
    network = Network({"layer": nn.Linear(4, 4)}, replace(FEW, rank=1000, dropout=0.3), lambda: None)
    inner = torch.ones(2, 5, 1000)
    assert torch.equal(network._thinned("layer", inner, -1), inner)  # outside of a step, as when it is measured
    with network.turn(7):
        thinned = network._thinned("layer", inner, -1)
        assert torch.equal(network._thinned("layer", inner, -1), thinned)  # in a second pass, of checkpointing
    with network.turn(8):
        assert not torch.equal(network._thinned("layer", inner, -1), thinned)
    assert torch.equal(thinned, thinned[:, :1].expand_as(thinned))
    assert not torch.equal(thinned[0], thinned[1])
    assert thinned.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (thinned == 0).double().mean() == pytest.approx(0.3, abs=0.05)


def test_updates_are_held_to_the_largest_norm(pipeline: StableDiffusionXLPipeline) -> None:
    def norms(lora: LoRA) -> list[float]:
        return [float((up.flatten(1) @ lora.down[name].flatten(1)).norm()) for name, up in lora.up.items()]

    settings = replace(FEW, layers="all", alpha=1.0)
    free = norms(train(pipeline, settings))
    limit = sorted(free)[len(free) // 2]
    held = norms(train(pipeline, replace(settings, max_norm=limit)))
    assert max(free) > 1.01 * limit
    assert max(held) <= 1.0001 * limit


# Steps


def test_accumulated_batches_are_one_larger_batch(pipeline: StableDiffusionXLPipeline) -> None:
    """The gradient of a step is the mean of those of its batches."""

    def gradients(course: Course, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
        seen: list[Tensor] = []
        monkeypatch.setattr(course.descent, "step", lambda number: seen.extend(grads(course)))
        course.step(0)
        return seen

    def grads(course: Course) -> list[Tensor]:
        return [p.grad.clone() for _, p in course.network.named() if p.grad is not None]

    with pytest.MonkeyPatch.context() as patch:
        with course_of(pipeline, replace(FEW, batch=1, accumulation=2)) as course:
            both = gradients(course, patch)
        with course_of(pipeline, replace(FEW, batch=1)) as course:
            one = gradients(course, patch)
            course.descent.forget()
            course._learn(course.own, 1, 1.0)
            other = grads(course)
    for mean, first, second in zip(both, one, other, strict=True):
        torch.testing.assert_close(mean, (first + second) / 2)


def test_a_rate_of_prodigy_is_one_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.lora.training.settings.find_spec", lambda name: object())
    assert settled("paper", {"optimiser": "prodigy"}).learning_rate == 1
    assert settled("paper", {"optimiser": "prodigy"}, {"learning_rate": 0.5}).learning_rate == 0.5
    with pytest.raises(InputError, match="Prodigy has one learning rate"):
        settled("paper", {"optimiser": "prodigy", "text_encoders": True}, {"learning_rate": 0.5})


@pytest.mark.parametrize(("optimiser", "package"), [("prodigy", "prodigyopt"), ("adamw8bit", "bitsandbytes")])
def test_a_missing_optimiser_is_told_with_what_to_install(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch, optimiser: Any, package: str
) -> None:
    monkeypatch.setattr("nodes.lora.training.settings.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=f"the optimiser {optimiser} needs {package}") as refusal:
        train(pipeline, replace(FEW, optimiser=optimiser))
    assert refusal.value.hint == f'pip install "kinograph[train]" or {package}, or choose adamw'


@pytest.mark.parametrize(
    ("optimiser", "module", "name"),
    [("prodigy", "prodigyopt", "Prodigy"), ("adamw8bit", "bitsandbytes.optim", "AdamW8bit")],
)
def test_optimisers_of_other_packages_are_used_where_they_are(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch, optimiser: Any, module: str, name: str
) -> None:
    class Stand(torch.optim.SGD):
        def __init__(self, groups: Any, weight_decay: float, **more: Any) -> None:
            super().__init__(groups, weight_decay=weight_decay)

    monkeypatch.setattr("nodes.lora.training.settings.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, module.partition(".")[0], ModuleType(module))
    made = ModuleType(module)
    setattr(made, name, Stand)
    monkeypatch.setitem(sys.modules, module, made)
    settings = replace(FEW, optimiser=optimiser, weight_decay=0.25)
    with course_of(pipeline, settings) as course:
        assert isinstance(course.descent.optimiser, Stand)
        assert [group["weight_decay"] for group in course.descent.optimiser.param_groups] == [0.25]
        course.step(0)


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_a_state_goes_on_to_the_same_bits(pipeline: StableDiffusionXLPipeline, optimiser: Any) -> None:
    settings = replace(
        FEW, steps=4, optimiser=optimiser, dora=True, ema_decay=0.9, dropout=0.3, text_encoders=True, warmup=1
    )
    with course_of(pipeline, settings) as course:
        for step in range(2):
            course.step(step)
        kept = course.descent.state()
        for step in range(2, 4):
            course.step(step)
        course.descent.finish()
        expected = course.network.lora("snail", {})
    with course_of(pipeline, settings) as course:
        course.descent.restore(*kept)
        for step in range(2, 4):
            course.step(step)
        course.descent.finish()
        assert same(course.network.lora("snail", {}), expected)


def test_a_state_within_a_state_is_kept_too() -> None:
    """As that of bitsandbytes, whose numbers of 8 bits have scales beside them."""
    given = {"step": 2, "quantised": {"state1": torch.ones(3, dtype=torch.uint8), "more": {"scale": torch.ones(1)}}}
    back: dict[str, Any] = {}
    for path, part in _leaves(given):
        assert not isinstance(part, dict)
        _put(back, path, part)
    assert same_state(back, given)


def test_text_encoders_have_a_rate_of_their_own(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    lora = train(pipeline, replace(FEW, text_encoders=True, text_learning_rate=0.0))
    assert all(lora.up[name].abs().max() == 0 for name in names["text"])
    assert all(lora.up[name].abs().max() > 0 for name in names["attention"])


def test_a_rate_that_is_far_too_high_ends_in_one_line(pipeline: StableDiffusionXLPipeline) -> None:
    before = state(pipeline)
    with pytest.raises(NodeError, match="the gradients are not finite in step") as error:
        train(pipeline, replace(FEW, learning_rate=1e30, weight_decay=0.0))
    assert error.value.hint
    assert untouched(pipeline, before)


def test_passes_compute_in_bfloat16_if_that_is_asked_for(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[torch.dtype] = set()
    handle = pipeline.unet.mid_block.register_forward_hook(lambda module, inputs, out: seen.add(out.dtype))
    try:
        for precision in ("model", "bfloat16"):
            train(pipeline, replace(FEW, steps=1, precision=precision))
            assert seen == {torch.float32 if precision == "model" else torch.bfloat16}
            seen.clear()
    finally:
        handle.remove()


# Pictures


def pictures(pipeline: StableDiffusionXLPipeline, examples: list[Example], **change: Any) -> Pictures:
    return Pictures(SDXL(pipeline), examples, replace(FEW, **change), "own", lambda: None)


def blank(width: int, height: int, caption: str = "") -> Example:
    return Example(torch.zeros(3, height, width), caption)


def test_buckets_keep_proportions(pipeline: StableDiffusionXLPipeline) -> None:
    several = [blank(64, 64), blank(128, 64), blank(64, 128), blank(640, 100)]
    assert pictures(pipeline, several).sizes == [(64, 64), (40, 96), (96, 40), (32, 128)]
    assert pictures(pipeline, several, buckets=False).sizes == [(64, 64)]
    assert bucket(1024, 1024, 1024, 32) == (1024, 1024)
    assert bucket(500, 500, 1000, 64) == (960, 960)
    height, width = bucket(1600, 900, 1024, 32)
    assert height * width <= 1024**2
    assert width / height == pytest.approx(16 / 9, rel=0.05)


def test_a_picture_is_scaled_to_cover_its_size_and_cut_evenly() -> None:
    wide = torch.arange(16).float().expand(3, 8, 16) / 16
    same_size, framing = framed(wide, 8, 8)
    assert torch.equal(same_size, wide[:, :, 4:12])
    assert framing == (8, 16, 0, 4)
    large, framing = framed(torch.rand(3, 40, 20), 10, 10)
    assert large.shape == (3, 10, 10)
    assert framing == (40, 20, 5, 0)


def test_the_model_is_told_sizes_and_crops(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[float]] = []
    whole = pipeline.unet.forward

    def forward(*given: Any, **options: Any) -> Any:
        told.extend(options["added_cond_kwargs"]["time_ids"].tolist())
        return whole(*given, **options)

    monkeypatch.setattr(pipeline.unet, "forward", forward)
    wide = [replace(PICTURES[0], pixels=torch.rand(3, 64, 100))]
    for wanted, expected in ((True, [64, 100, 0, 18, 64, 64]), (False, [64, 64, 0, 0, 64, 64])):
        told.clear()
        settings = replace(FEW, steps=1, batch=1, buckets=False, crop_conditioning=wanted)
        train_lora(pipeline, wide, settings, name="x")
        assert told == [expected]


def test_every_picture_is_shown_once_before_any_is_repeated(pipeline: StableDiffusionXLPipeline) -> None:
    several = [blank(64, 64, str(i)) for i in range(5)] + [blank(128, 64, str(i)) for i in range(5, 8)]
    made = pictures(pipeline, several, batch=1)
    first, second = ([made.batch(8 * turn + i).captions[0] for i in range(8)] for turn in range(2))
    assert sorted(first) == sorted(second) == [str(i) for i in range(8)]
    assert first != second


def test_batches_are_of_one_size_and_full(pipeline: StableDiffusionXLPipeline) -> None:
    several = [blank(64, 64, str(i)) for i in range(2)] + [blank(128, 64, "wide")]
    made = pictures(pipeline, several, batch=4)
    batches = [made.batch(i) for i in range(6)]
    assert all(len(batch.captions) == 4 for batch in batches)
    assert sum(batch.captions == ["wide"] * 4 for batch in batches) == 2
    counts = [caption for batch in batches for caption in batch.captions]
    assert counts.count("0") == counts.count("1") == 8


def test_half_of_the_pictures_are_mirrored(pipeline: StableDiffusionXLPipeline) -> None:
    half_white = torch.zeros(3, 64, 64)
    half_white[:, :, 32:] = 1
    made = pictures(pipeline, [Example(half_white, "")], flip=True, batch=40)
    plain, mirrored = (encoded.mean for encoded in made.encoded[0])
    assert not torch.allclose(plain, mirrored)
    near = [bool((latent - plain).norm() < (latent - mirrored).norm()) for latent in made.batch(0).latents]
    assert 8 < sum(near) < 32


def test_captions_are_shuffled_behind_the_prompt(pipeline: StableDiffusionXLPipeline) -> None:
    said = Example(torch.zeros(3, 64, 64), "a, b, c", "snail")
    made = pictures(pipeline, [said], shuffle_captions=True, batch=30)
    seen = set(made.batch(0).captions)
    assert all(caption.startswith("snail, ") for caption in seen)
    assert {", ".join(sorted(caption.split(", ")[1:])) for caption in seen} == {"a, b, c"}
    assert len(seen) > 3
    assert set(pictures(pipeline, [said], batch=30).batch(0).captions) == {"snail, a, b, c"}


def test_captions_are_dropped(pipeline: StableDiffusionXLPipeline) -> None:
    captions = pictures(pipeline, PICTURES, caption_dropout=0.3, batch=200).batch(0).captions
    assert captions.count("") == pytest.approx(60, abs=25)


def test_captions_are_encoded_once(pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    whole = SDXL.encode_captions
    monkeypatch.setattr(SDXL, "encode_captions", lambda self, some: seen.extend(some) or whole(self, some))
    train(pipeline, replace(FEW, caption_dropout=0.5))
    assert sorted(seen) == sorted([*(example.caption for example in PICTURES), ""])
    seen.clear()
    monkeypatch.setattr(loop, "REMEMBERED", 1)  # so that most captions are encoded again
    fewer = train(pipeline, replace(FEW, caption_dropout=0.5))
    assert seen.count("") > 1
    monkeypatch.undo()
    assert same(fewer, train(pipeline, replace(FEW, caption_dropout=0.5)))


def test_it_does_not_matter_when_a_caption_is_encoded(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, precision="bfloat16")
    many = train(pipeline, settings)
    monkeypatch.setattr(loop, "REMEMBERED", 1)  # so that most are encoded within a step
    assert same(train(pipeline, settings), many)


def test_the_loss_is_averaged_on_the_host_where_the_device_has_no_float64(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    with course_of(pipeline, SMALL) as course:
        monkeypatch.setattr(course, "errors", lambda *_, **__: torch.ones(1).as_subclass(OnApple))
        assert course.measure() == 1.0


def test_an_offset_is_the_same_all_over_a_picture(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    noises: list[Tensor] = []
    with course_of(pipeline, replace(FEW, noise_offset=1.0)) as course:
        whole = course.schedule.add_noise
        monkeypatch.setattr(course.schedule, "add_noise", lambda x, n, t: noises.append(n) or whole(x, n, t))
        for step in range(3):
            course.step(step)
        course.measure()
    means = torch.cat([noise.mean((2, 3)).flatten() for noise in noises[:3]])
    assert means.std() > 0.5
    assert torch.cat([noise.mean((2, 3)).flatten() for noise in noises[3:]]).std() < 0.2


def test_held_out_pictures_are_measured_and_not_learnt(pipeline: StableDiffusionXLPipeline) -> None:
    settings = replace(FEW, held_out=1)
    other = [*PICTURES[:2], Example(torch.zeros(3, 64, 64), "a robot")]
    assert same(train(pipeline, settings), train_lora(pipeline, other, settings, name="x"))
    with course_of(pipeline, settings) as course, training(pipeline, other, settings) as another:
        assert course.measure() == course.measure() != another.measure()


# Presets


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_given_comes_before_the_preset(preset: Any) -> None:
    plain = settled(preset)
    assert all(getattr(plain, name) == value for name, value in PRESETS[preset].items())
    given = settled(preset, {"steps": 7, "batch": 3, "schedule": None}, {"steps": 9, "rank": None})
    assert given == replace(plain, steps=9, batch=3, warmup=given.warmup)


def test_the_paper_s_settings_are_those_of_ziplora() -> None:
    paper = settled("paper")
    assert (paper.rank, paper.learning_rate, paper.steps, paper.batch) == (64, 5e-5, 1000, 1)
    assert (paper.layers, paper.text_encoders, paper.weight_decay) == ("attention", False, 0)


def test_another_rank_keeps_the_scale_of_a_preset() -> None:
    assert settled("kohya").alpha == 16
    assert settled("kohya", {"rank": 8}).alpha == 4
    assert settled("kohya", {"rank": 8, "alpha": 8.0}).alpha == 8
    assert settled("paper", {"rank": 8}).alpha is None


def test_a_short_course_shortens_the_warm_up_of_a_preset() -> None:
    assert settled("fast").warmup == 10
    assert settled("fast", {"steps": 4}).warmup == 1
    with pytest.raises(InputError, match="the warm-up takes 10 steps, and the training only 4"):
        settled("fast", {"steps": 4, "warmup": 10})


def test_quantised_layers_are_refused(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    packed = StableDiffusionXLPipeline(**copy.deepcopy(pipeline.components), add_watermarker=False)
    name = names["attention"][0]
    layers(packed)[name].weight = nn.Parameter(torch.zeros(4, 34, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(InputError, match=f"{re.escape(name)} is quantised, for which LoRAs can't be trained") as error:
        train(packed)
    assert error.value.input == "model"
    with pytest.raises(InputError, match="can't be merged from a closed-form start"):
        closed_form_passes(packed, [[name]], 1)
