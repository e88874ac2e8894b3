"""The sprite models load like the real ones, draw what they are asked for and animate what they are given."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, StableVideoDiffusionPipeline
from safetensors.torch import load_file

from benchmarks import sprite as family
from benchmarks.measures import auc, flow
from benchmarks.sprite import animate, generate, verdicts
from models.sprite import world
from models.sprite.judging import Judge, load_judge
from models.sprite.training import clip
from models.sprite.training import svd as training
from models.sprite.training.data import pictures, tensor
from models.sprite.training.loras import IN_PEFT
from models.sprite.training.sdxl import VARIETY
from nodes.diffusion.adapters import applied
from nodes.lora.reading import read_lora

FAMILY = Path(world.__file__).parent.parent


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def sdxl() -> StableDiffusionXLPipeline:
    return family.sdxl()


@pytest.fixture(scope="module")
def svd() -> StableVideoDiffusionPipeline:
    return family.svd()


def scenes(count: int, **kinds: object) -> list[world.Scene]:
    rng = np.random.default_rng(2024)
    return [world.random_scene(rng, **kinds) for _ in range(count)]


def test_the_family_stays_small() -> None:
    files = {sha256(path.read_bytes()).digest(): path.stat().st_size for path in FAMILY.rglob("*.safetensors")}
    assert sum(files.values()) <= 40e6  # git keeps parts that members share, such as the autoencoder, once


def test_the_judge_is_right_on_drawn_sprites_of_every_class(judge: Judge) -> None:
    drawn = scenes(400, subjects=world.SUBJECTS, styles=world.STYLES)
    for attribute, hits in verdicts(judge, pictures(drawn), drawn).items():
        assert np.mean(hits) >= 0.995, attribute


@pytest.mark.full
def test_pictures_show_what_the_prompt_says(judge: Judge, sdxl: StableDiffusionXLPipeline) -> None:
    asked = scenes(40)
    images = generate(sdxl, [world.plain_caption(scene) for scene in asked], steps=20)
    for attribute, hits in verdicts(judge, images, asked).items():
        assert np.mean(hits) >= 0.85, attribute


def test_another_seed_gives_another_picture(sdxl: StableDiffusionXLPipeline) -> None:
    first, second = (generate(sdxl, ["a red fish on the beach in flat style"], steps=8, seed=s) for s in (1, 2))
    assert (first - second).abs().mean() > 0.02


@pytest.mark.full
@pytest.mark.parametrize("concept", family.taught())
def test_each_lora_teaches_its_concept_until_it_is_removed(
    concept: str, judge: Judge, sdxl: StableDiffusionXLPipeline
) -> None:
    slot = "subject" if concept in world.HELD_OUT_SUBJECTS else "style"
    subjects, styles = family.holding(concept)
    asked = scenes(24, subjects=tuple(subjects), styles=tuple(styles))
    prompts = [world.plain_caption(scene) for scene in asked]
    with applied(sdxl, [read_lora(family.lora_file(concept))]):
        with_it = verdicts(judge, generate(sdxl, prompts, steps=15), asked)
    without = verdicts(judge, generate(sdxl, prompts, steps=15), asked)[slot]
    assert np.mean(with_it.pop(slot)) >= 0.7
    assert np.mean([hit for hits in with_it.values() for hit in hits]) >= 0.75
    assert np.mean(without) <= 0.2


@pytest.mark.parametrize(("concept", "end"), [("snail", ".lora_down.weight"), (*IN_PEFT, ".lora_A.weight")])
def test_loras_of_both_spellings_mean_the_same_to_diffusers_and_to_us(
    concept: str, end: str, sdxl: StableDiffusionXLPipeline
) -> None:
    file = family.lora_file(concept)
    assert any(key.endswith(end) for key in load_file(file))
    prompts = [f"a red {concept if concept in world.SUBJECTS else 'boat'} on a beach"]
    with applied(sdxl, [read_lora(file)]):
        ours = generate(sdxl, prompts, steps=4)
    sdxl.load_lora_weights(file)
    theirs = generate(sdxl, prompts, steps=4)
    sdxl.unload_lora_weights()
    assert torch.allclose(ours, theirs, atol=0.01)
    assert not torch.allclose(ours, generate(sdxl, prompts, steps=4), atol=0.1)


@pytest.mark.full
@pytest.mark.parametrize("frames", [14, 25])
def test_a_video_starts_at_its_key_frame_moves_and_keeps_its_subject(
    judge: Judge, svd: StableVideoDiffusionPipeline, frames: int
) -> None:
    shown = scenes(6, variety=VARIETY)
    key_frames = pictures(shown)
    videos = animate(svd, key_frames, 160, 15, frames)
    assert videos.shape == (6, frames, 3, 64, 64)
    kept = verdicts(judge, videos[:, -1], shown)["subject"]
    for video, frame in zip(videos, key_frames, strict=True):
        assert -10 * torch.log10((video[0] - frame).square().mean()) > 18
        assert (video[1:] - video[:-1]).abs().mean() > 1 / 255
    assert np.mean(kept) >= 0.5


def test_the_video_model_is_the_network_that_its_courses_train(svd: StableVideoDiffusionPipeline) -> None:
    finer = any(course.refines for course in training.COURSES_OF_A_GPU)
    trained = training.build_unet(finer=finer).state_dict()
    shapes = ({name: weight.shape for name, weight in state.items()} for state in (svd.unet.state_dict(), trained))
    assert next(shapes) == next(shapes)


@pytest.mark.full
def test_a_higher_motion_bucket_moves_more(svd: StableVideoDiffusionPipeline) -> None:
    slow, fast = (movement(svd, bucket=bucket) for bucket in (16, 220))
    assert slow < fast


@pytest.mark.full
def test_more_frames_a_second_move_less_from_one_to_the_next(svd: StableVideoDiffusionPipeline) -> None:
    slow, fast = (movement(svd, bucket=200, fps=fps) for fps in (5, 15))
    assert fast < slow


def movement(svd: StableVideoDiffusionPipeline, bucket: int, fps: int = 7) -> float:
    """Mean optical flow of a few clips."""
    key_frames = pictures(scenes(3, variety=VARIETY))
    return float(np.mean([flow(video) for video in animate(svd, key_frames, bucket, 12, fps=fps)]))


def test_the_clip_finds_the_picture_of_a_caption() -> None:
    model, tokenizer, _ = family.clip_model()
    described = scenes(50)
    captions = family.read(model, tokenizer, [world.plain_caption(scene) for scene in described])
    nearest = (captions @ clip.embeddings(model, pictures(described)).T).argmax(1)
    assert (nearest == torch.arange(50)).float().mean() >= 0.8


@pytest.mark.parametrize("kind", world.DEGRADATIONS)
def test_the_aesthetic_head_recognises_spoilt_pictures(kind: str) -> None:
    model, _, head = family.clip_model()
    rng = np.random.default_rng(5)
    clean = np.stack([world.draw(scene) for scene in scenes(60)])
    spoilt = np.concatenate([world.Degradation(kind, 0.7)(frame[None], rng) for frame in clean])

    def scores(frames: np.ndarray) -> list[float]:
        seen = clip.embeddings(model, tensor(frames))
        return (seen @ head["weight"].T + head["bias"]).flatten().tolist()

    assert auc(scores(clean), scores(spoilt)) >= 0.9
