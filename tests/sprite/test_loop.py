"""Training can be stopped at any moment, and is resumed as if it hadn't been."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.sprite.training import loop
from models.sprite.training.loop import Recipe, Step, train


@pytest.fixture(autouse=True)
def _own_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINTS", tmp_path)


class Stopped(Exception):
    pass


def fit(recipe: Recipe, stop_at: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def loss_of(step: Step) -> Tensor:
        if step.index == stop_at:
            raise Stopped
        x = torch.randn(8, 3, generator=step.noise) + float(step.rng.normal())
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    return train(model, loss_of, recipe)


RECIPE = Recipe("line", steps=60, learning_rate=0.1, warmup=5, ema=0.9)


def test_it_learns() -> None:
    learnt = fit(RECIPE)
    assert torch.allclose(learnt.weight, torch.ones(1, 3), atol=0.05)


def test_a_stopped_training_ends_in_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    uninterrupted = fit(Recipe("whole", steps=60, learning_rate=0.1, warmup=5, ema=0.9))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(Stopped):
        fit(RECIPE, stop_at=31)
    assert (loop.CHECKPOINTS / "line.pt").exists()
    assert torch.equal(fit(RECIPE).weight, uninterrupted.weight)
    run = loop.finished("line", batch=8)
    assert (run.steps, run.batch) == (60, 8)
    assert "thread" in run.machine


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [RECIPE.rate_at(step) for step in range(60)]
    assert rates[0] < rates[4]
    assert max(rates) == rates[4]
    assert rates[-1] < 0.03
