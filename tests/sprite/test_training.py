"""How the sprite models are trained: a growing stock of drawn samples, analytic encoders, and courses that run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNetSpatioTemporalConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from models.sprite import world
from models.sprite.training import autoencoder, captioner, encoders, loop, sdxl, svd
from models.sprite.training.ahead import Ahead, drawn_ahead
from models.sprite.training.autoencoder import LATENT_CHANNELS, LATENT_SIDE
from models.sprite.training.data import pictures
from models.sprite.training.graphs import Recorded, _HalfNorms
from models.sprite.training.principal import set_components
from models.sprite.training.stock import Stock

CPU = torch.device("cpu")


def stock_of_numbers(kept: int, steps: int, drawn: list[int]) -> Stock[int]:
    def draw(index: int) -> int:
        drawn.append(index)
        return index

    def prepare(numbers: Sequence[int]) -> tuple[Tensor, ...]:
        return torch.tensor(numbers), -torch.tensor(numbers)

    return Stock(draw, prepare, kept, steps, CPU)


def test_a_stock_grows_with_the_steps_and_draws_everything_once() -> None:
    drawn: list[int] = []
    stock = stock_of_numbers(800, steps=100, drawn=drawn)
    rng = np.random.default_rng(0)
    first, negative = stock.batch(0, rng, 1000)
    assert torch.equal(first, -negative)
    assert 90 < int(first.max()) < 110
    last, _ = stock.batch(99, rng, 20_000)
    assert int(last.max()) == 799
    assert drawn == list(range(800))


def test_a_restarted_stock_gives_the_same_batches() -> None:
    whole, resumed = (stock_of_numbers(500, 50, []) for _ in range(2))
    for step in range(30):
        before = whole.batch(step, np.random.default_rng(step), 16)
    assert torch.equal(before[0], resumed.batch(29, np.random.default_rng(29), 16)[0])


def test_samples_drawn_ahead_by_all_cores_come_in_order() -> None:
    assert list(drawn_ahead(abs, range(20), processes=2)) == list(range(20))


def test_samples_of_coming_steps_are_drawn_in_order_from_any_step_on() -> None:
    ahead = Ahead(abs, 12)
    assert [ahead(step) for step in range(2, 12)] == list(range(2, 12))


def test_norms_in_half_precision_differ_only_by_rounding() -> None:
    norm, x = nn.GroupNorm(4, 16), torch.randn(2, 16, 8, 8).bfloat16()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    with _HalfNorms(), torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    assert torch.equal(found, F.group_norm(x, 4, norm.weight.bfloat16(), norm.bias.bfloat16()))
    assert torch.allclose(found.float(), norm(x.float()), atol=0.1)


def test_a_recorded_pass_is_the_networks_own() -> None:
    network = nn.Linear(8, 4)
    x = torch.randn(3, 8)
    found = Recorded(network, lambda tensor: network(tensor))(x)
    assert found.dtype == torch.float32
    assert torch.allclose(found, network(x), atol=0.05)  # bfloat16
    found.sum().backward()
    assert network.weight.grad is not None


def test_the_analytic_encoder_gives_the_principal_components_of_blocks() -> None:
    rng = np.random.default_rng(3)
    shown = pictures([world.random_scene(rng) for _ in range(60)]) * 2 - 1
    model = autoencoder.build()
    set_components(model, shown)
    with torch.no_grad():
        found = model.encode(shown).latent_dist.mode()
    assert found.shape == (60, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
    deviation = found.movedim(1, -1).reshape(-1, LATENT_CHANNELS).std(0)
    side = world.SIZE // LATENT_SIDE
    blocks = shown.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * side**2)
    singular = np.sqrt(np.linalg.eigvalsh(np.cov(blocks.T.double().numpy()))[::-1][:LATENT_CHANNELS])
    assert np.allclose(deviation.numpy() ** 2, singular, rtol=0.01)


@pytest.fixture
def untrained(tmp_path: Path) -> encoders.Towers:
    return untrained_towers(tmp_path)[1]


def untrained_towers(folder: Path) -> tuple[CLIPTokenizer, encoders.Towers]:
    torch.manual_seed(0)
    tokenizer = encoders.train_tokenizer(folder / "bpe", captions=200)
    return tokenizer, encoders.Towers(tokenizer).eval().requires_grad_(False)


@pytest.fixture
def _in_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINTS", tmp_path)


@pytest.mark.usefixtures("_in_a_moment")
def test_the_picture_models_courses_change_all_of_its_weights(tmp_path: Path) -> None:
    tokenizer, towers = untrained_towers(tmp_path)
    courses = (sdxl.Course(1, 2, 0.0, 8), sdxl.Course(1, 2, 0.5, 8))
    trained = sdxl.train_unet(tokenizer, towers, laid(), courses)
    torch.manual_seed(0)
    assert unchanged(sdxl.build_unet(), trained) == []
    assert loop.finished("sdxl-2-cpu", batch=2).steps == 1


@pytest.mark.full
@pytest.mark.usefixtures("_in_a_moment")
def test_the_video_model_learns_from_clips_of_both_lengths(
    untrained: encoders.Towers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def loss(unet: Recorded, vae: AutoencoderKL, clips: Sequence[Tensor], noise: torch.Generator) -> Tensor:
        seen.append(tuple(clips[0].shape[:2]))
        return _loss(unet, vae, clips, noise)

    _loss = svd._loss
    monkeypatch.setattr(svd, "_loss", loss)
    trained = svd.train_unet(untrained, laid(), [svd.Course(3, 2, 8, lengths=(14, 25, 40))])
    assert seen == [(2, 14), (1, 25), (1, 40)]  # never none
    torch.manual_seed(0)
    # The key frame's embedding is a single token, so attention always returns it. Hence queries and keys have no
    # gradient; their weights still shrink, and a bias of 0 stays.
    asking = [f"{block}.norm2.bias" for block, module in trained.named_modules() if hasattr(module, "attn2")]
    assert sorted(unchanged(svd.build_unet(), trained)) == sorted(asking)


def test_a_finer_video_model_starts_as_the_one_before() -> None:
    torch.manual_seed(0)
    unet = svd.build_unet().eval()
    finer = svd.refined(unet).eval()
    noisy = torch.randn(2, 3, 2 * LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
    ids = torch.tensor([[6.0, 127, 0.02]] * 2)

    @torch.inference_mode()
    def velocity(network: UNetSpatioTemporalConditionModel) -> Tensor:
        made = network(noisy, 0.5, encoder_hidden_states=torch.ones(2, 1, encoders.EMBEDDING), added_time_ids=ids)
        assert isinstance(made.sample, Tensor)
        return made.sample

    before = velocity(unet)
    assert torch.allclose(velocity(finer), before, atol=1e-4)
    nn.init.normal_(finer.down_blocks[1].attentions[0].proj_out.weight)
    assert not torch.allclose(velocity(finer), before, atol=1e-2)
    with pytest.raises(ValueError, match="already"):
        svd.refined(finer)


@pytest.mark.full
@pytest.mark.usefixtures("_in_a_moment")
def test_the_video_models_courses_build_on_each_other_and_are_resumed(
    untrained: encoders.Towers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refined: list[UNetSpatioTemporalConditionModel] = []

    def seen(unet: UNetSpatioTemporalConditionModel) -> UNetSpatioTemporalConditionModel:
        refined.append(unet)
        return _refined(unet)

    _refined = svd.refined
    monkeypatch.setattr(svd, "refined", seen)
    courses = [svd.Course(1, 1, 8), svd.Course(1, 1, 8, refines=True)]
    trained = svd.train_unet(untrained, laid(), courses)
    (attention,) = trained.down_blocks[1].attentions
    assert attention.proj_out.weight.abs().max() > 0
    kept = torch.load(tmp_path / "svd-1-cpu.pt", weights_only=True)["parts"][1]
    assert all(torch.equal(weight, kept[name]) for name, weight in refined[0].state_dict().items())
    monkeypatch.delattr(svd, "_loss")  # nothing is learnt a second time
    again = svd.train_unet(untrained, laid(), courses)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in trained.state_dict().items())


def test_a_course_of_the_video_model_decides_what_its_clips_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def film(scene: world.Scene, motion: world.Motion, count: int, fps: float) -> NDArray[np.uint8]:
        shown.append(scene.subject)
        return np.zeros((count, 8, 8, 3), np.uint8)

    monkeypatch.setattr(world, "film", film)
    course = svd.Course(1, 1, 1, invented=0, subjects=("car", "boat"), lengths=(2, 5), fps=(5, 6), buckets=(200, 240))
    frames, rates, buckets = zip(*(svd.draw_clip(index, course) for index in range(40)), strict=True)
    assert set(shown) == {"car", "boat"}
    assert {len(clip) for clip in frames} == {5}
    assert set(rates) == {5, 6}
    assert 200 <= min(buckets) < 210
    assert 230 < max(buckets) <= 240


@pytest.mark.full
@pytest.mark.usefixtures("_in_a_moment")
def test_the_captioners_eyes_learn_in_all_courses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner, "EYE_COURSES", (1, 1, 1, 1))
    torch.manual_seed(0)
    encoder = captioner.build(captioner.build_tokenizer()).git.image_encoder
    before = copy.deepcopy(encoder)
    assert unchanged(before, captioner.train_eyes(encoder)) == []
    assert loop.finished("captioner-eyes-4", batch=captioner.EYE_BATCH).steps == 1


def laid() -> AutoencoderKL:
    model = autoencoder.build().eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    set_components(model, pictures([world.random_scene(rng) for _ in range(20)]) * 2 - 1)
    return model


def unchanged(before: nn.Module, after: nn.Module) -> list[str]:
    """Names of the parameters that training left as they were."""
    trained = dict(after.named_parameters())
    return [name for name, weight in before.named_parameters() if torch.equal(weight, trained[name])]
