"""The sprite models load as the real ones do, draw what they are asked for and move what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, StableVideoDiffusionPipeline

from benchmarks import sprite as family
from benchmarks.sprite import animate, generate, verdicts
from models.sprite import world
from models.sprite.judging import Judge, load_judge
from models.sprite.training.data import pictures
from nodes.lora.apply import applied
from nodes.lora.formats import read_lora

FAMILY = Path(world.__file__).parent.parent
LORAS = sorted((FAMILY / "loras").glob("*.safetensors"))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def sdxl() -> StableDiffusionXLPipeline:
    return family.sdxl()


@pytest.fixture(scope="module")
def svd() -> StableVideoDiffusionPipeline:
    return family.svd()


def scenes(count: int, **kinds: tuple[str, ...]) -> list[world.Scene]:
    rng = np.random.default_rng(2024)
    return [world.random_scene(rng, **kinds) for _ in range(count)]


def test_the_family_stays_small() -> None:
    weights = [path for path in FAMILY.rglob("*.safetensors") if ".train" not in path.parts]
    assert sum(path.stat().st_size for path in weights) <= 40 * 2**20


def test_the_judge_is_right_on_drawn_sprites_of_every_class(judge: Judge) -> None:
    drawn = scenes(400, subjects=world.SUBJECTS, styles=world.STYLES)
    for attribute, hits in verdicts(judge, pictures(drawn), drawn).items():
        assert np.mean(hits) >= 0.99, attribute


def test_pictures_show_what_the_prompt_says(judge: Judge, sdxl: StableDiffusionXLPipeline) -> None:
    asked = scenes(40)
    images = generate(sdxl, [world.plain_caption(scene) for scene in asked], steps=20)
    for attribute, hits in verdicts(judge, images, asked).items():
        assert np.mean(hits) >= 0.7, attribute


def test_another_seed_gives_another_picture(sdxl: StableDiffusionXLPipeline) -> None:
    first, second = (generate(sdxl, ["a red fish on the beach in flat style"], steps=8, seed=s) for s in (1, 2))
    assert (first - second).abs().mean() > 0.02


@pytest.mark.parametrize("file", LORAS, ids=lambda file: file.stem)
def test_each_lora_teaches_its_concept_and_leaves_when_it_is_removed(
    file: Path, judge: Judge, sdxl: StableDiffusionXLPipeline
) -> None:
    concept = file.stem
    slot = "subject" if concept in world.HELD_OUT_SUBJECTS else "style"
    asked = scenes(20, subjects=(concept,)) if slot == "subject" else scenes(20, styles=(concept,))
    prompts = [world.plain_caption(scene) for scene in asked]
    with applied(sdxl, [read_lora(file)]):
        with_it = verdicts(judge, generate(sdxl, prompts, steps=15), asked)[slot]
    without = verdicts(judge, generate(sdxl, prompts, steps=15), asked)[slot]
    assert np.mean(with_it) >= 0.7
    assert np.mean(without) <= 0.2


def test_a_video_starts_at_its_key_frame_moves_and_keeps_its_subject(
    judge: Judge, svd: StableVideoDiffusionPipeline
) -> None:
    shown = scenes(6)
    clips = [animate(svd, frame, bucket=160, steps=15, seed=seed) for seed, frame in enumerate(pictures(shown))]
    kept = verdicts(judge, torch.stack([clip[-1] for clip in clips]), shown)["subject"]
    for clip, frame in zip(clips, pictures(shown), strict=True):
        assert clip.shape == (14, 3, 64, 64)
        assert -10 * torch.log10((clip[0] - frame).square().mean()) > 18
        assert (clip[1:] - clip[:-1]).abs().mean() > 1 / 255
    assert np.mean(kept) >= 0.5


def test_a_higher_motion_bucket_moves_more(svd: StableVideoDiffusionPipeline) -> None:
    frames = pictures(scenes(3))

    def movement(bucket: int) -> float:
        clips = [animate(svd, frame, bucket, steps=12, seed=7) for frame in frames]
        return float(torch.stack([(clip[1:] - clip[:-1]).abs().mean() for clip in clips]).mean())

    assert movement(16) < movement(220)
