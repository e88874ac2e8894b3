"""Scores of pictures and clips, compared with OpenCV's and transformers' own."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from engine.errors import InputError, MissingError
from engine.node import Context
from models.sprite import world
from nodes.dataset.describe.clip import load_aesthetic_head, load_clip
from nodes.dataset.scan.motion import flow, flow_map, grey, motion
from nodes.dataset.scan.quality import mean, quality
from nodes.files.footage import Footage
from tests.dataset.films import REAL

PICTURE = next(iter(Footage(REAL / "bikes.mp4"))).small
TEXTURE = np.random.default_rng(0).integers(0, 255, (90, 160), np.uint8)
TEXTURE = cv2.GaussianBlur(TEXTURE, (0, 0), 2).astype(np.uint8)


def moved(matrix: Any) -> np.ndarray:
    return np.asarray(cv2.warpAffine(TEXTURE, np.float32(matrix), (160, 90), borderMode=cv2.BORDER_REFLECT), np.uint8)


class TestMotion:
    def test_flow_is_farnebaecks_as_opencv_has_it(self) -> None:
        frames = [grey(frame.small) for frame in Footage(REAL / "bikes.mp4")][:13:12]
        reference = cv2.calcOpticalFlowFarneback(*frames, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        assert np.array_equal(flow(*frames), reference)

    def test_it_is_in_percent_of_the_longer_side_per_second(self) -> None:
        shifted = motion([flow_map(TEXTURE, moved([[1, 0, 4], [0, 1, 0]]), 0.5)])
        assert shifted.total == pytest.approx(100 * 4 / 160 / 0.5, rel=0.15)
        assert flow_map(TEXTURE, TEXTURE, 0.5).shape == (16, 28, 2)

    def test_pans_rotations_and_zooms_are_the_cameras(self) -> None:
        for matrix in ([[1, 0, 4], [0, 1, 2]], cv2.getRotationMatrix2D((80, 45), 3, 1), [[1.05, 0, -4], [0, 1.05, -2]]):
            found = motion([flow_map(TEXTURE, moved(matrix), 0.5)])
            assert found.objects < 0.3 * found.camera

    def test_what_moves_in_front_of_a_steady_camera_is_objects(self) -> None:
        after = TEXTURE.copy()
        after[30:60, 64:104] = TEXTURE[30:60, 60:100]
        found = motion([flow_map(TEXTURE, after, 0.5)])
        assert found.camera < 0.3 * found.objects

    def test_nothing_moves_where_nothing_can_be_compared(self) -> None:
        assert motion([]) == (0, 0, 0)
        assert motion([flow_map(TEXTURE, TEXTURE, 0.5)]).total < 0.01

    def test_static_scenes_are_distinguished_from_moving_ones(self) -> None:
        """The AUC over drawn clips with some noise, a third of them static."""
        rng, scores = np.random.default_rng(5), list[tuple[bool, float]]()
        for index in range(30):
            static = index % 3 == 0
            move = world.random_motion(rng, float(rng.uniform(64, 255)))
            shot = world.film(world.random_scene(rng), move, 4, 2.0)
            shot = shot[[0, 0, 0, 0]] if static else shot
            noisy = np.clip(shot + rng.normal(0, 3, shot.shape), 0, 255).astype(np.uint8)
            greys = [grey(picture) for picture in noisy]
            maps = [flow_map(a, b, 0.5) for a, b in pairwise(greys)]
            scores.append((static, motion(maps).total))
        better = [still < moving for s, still in scores if s for m, moving in scores if not m]
        assert np.mean(better) >= 0.99


class TestQuality:
    def test_blur_costs_sharpness_and_contrast_does_not(self) -> None:
        sharp = quality(PICTURE).sharpness
        blurred = [quality(np.asarray(cv2.GaussianBlur(PICTURE, (0, 0), s), np.uint8)).sharpness for s in (1, 2, 4)]
        assert sharp > blurred[0] > blurred[1] > blurred[2]
        assert quality((PICTURE // 2 + 60).astype(np.uint8)).sharpness == pytest.approx(sharp, rel=0.1)

    def test_exposure(self) -> None:
        assert quality(np.zeros((4, 4, 3), np.uint8)) == (0, 0, 1)
        assert quality(np.full((4, 4, 3), 255, np.uint8)) == (0, 1, 1)
        assert quality(PICTURE).clipped < 0.1
        assert mean([quality(PICTURE)] * 2) == pytest.approx(quality(PICTURE))


class TestClip:
    def test_embeddings_are_those_of_transformers(self) -> None:
        from transformers import AutoProcessor, CLIPModel

        scenes = [world.random_scene(np.random.default_rng(i)) for i in range(3)]
        captions = [world.plain_caption(scene) for scene in scenes]
        model = CLIPModel.from_pretrained("models/sprite/clip", dtype=torch.float32).eval()
        inputs = AutoProcessor.from_pretrained("models/sprite/clip")(
            text=captions, images=[world.draw(scene) for scene in scenes], return_tensors="pt", padding="longest"
        )
        with torch.inference_mode():
            reference = model(**inputs)
        clip = load_clip(Context(), "sprite/clip")
        pictures = clip.of_pictures([world.draw(scene)[..., ::-1] for scene in scenes])
        torch.testing.assert_close(pictures, reference.image_embeds, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(clip.of_texts(captions), reference.text_embeds, atol=1e-5, rtol=1e-4)
        assert clip.of_pictures([]).shape == (0, 128)

    def test_another_kind_of_model_is_refused(self) -> None:
        with pytest.raises((InputError, MissingError), match="sprite/svd/image_encoder"):
            load_clip(Context(), "sprite/svd/image_encoder")


class TestAestheticHead:
    def test_the_shipped_head_recognises_spoilt_pictures(self) -> None:
        head = load_aesthetic_head(Path("models/sprite/clip/aesthetic.safetensors"))
        clip = load_clip(Context(), "sprite/clip")
        drawn = [world.draw(world.random_scene(np.random.default_rng(i)))[..., ::-1] for i in range(12)]
        spoilt = [np.asarray(cv2.GaussianBlur(picture, (0, 0), 3), np.uint8) for picture in drawn]
        assert head.score(clip.of_pictures(drawn)).min() > head.score(clip.of_pictures(spoilt)).max()

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_heads_of_one_and_of_several_layers_are_read(self, suffix: str, tmp_path: Path) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        single = {"weight": random(1, 16), "bias": random(1)}
        first, second = (random(8, 16), random(8)), (random(1, 8), random(1))
        several = {"layers.0.weight": first[0], "layers.0.bias": first[1]}
        several |= {"layers.2.weight": second[0], "layers.2.bias": second[1]}
        seen = random(5, 16)
        for state, reference in (
            (single, seen @ single["weight"].T + single["bias"]),
            (several, (seen @ first[0].T + first[1]) @ second[0].T + second[1]),
        ):
            path = tmp_path / f"head{suffix}"
            if suffix == ".pth":
                torch.save(state, path)
            else:
                from safetensors.torch import save_file

                save_file(state, path)
            head = load_aesthetic_head(path)
            np.testing.assert_allclose(head.score(seen), reference[:, 0].numpy(), rtol=1e-4)
        with pytest.raises(InputError, match="the aesthetic head takes embeddings of 16 numbers, but CLIP gives 12"):
            head.score(torch.randn(2, 12))

    def test_other_files_and_pickles_that_run_code_are_refused(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return (Path.touch, (tmp_path / "ran",))

        (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"weight": Bomb()}, protocol=2))
        torch.save({"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, tmp_path / "three.pth")
        (tmp_path / "text.safetensors").write_text("no tensors")
        for name in ("bomb.pth", "three.pth", "text.safetensors", "missing.pth"):
            with pytest.raises(MissingError, match=name):
                load_aesthetic_head(tmp_path / name)
        assert not (tmp_path / "ran").exists()
