"""What a model's card says of its training."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cards
from models.sprite.training import card
from models.sprite.training.loop import Run

CPU = Run("svd-2-cpu", 300, 4, 1800.0, "2 threads")
GPU = Run("svd-1-cuda", 10_000, 64, 540.0, "NVIDIA H100")


@pytest.mark.parametrize(
    ("runs", "training"),
    [
        ([CPU], "300 steps of batch 4 in 30 minutes (2 threads): `python -m models.sprite.train svd`."),
        (
            [GPU, CPU],
            "10,000 steps of batch 64 in 9 minutes (NVIDIA H100), then 300 steps of batch 4 in 30 minutes (2 threads): "
            "`python -m models.sprite.train svd --device cuda`.",
        ),
    ],
)
def test_a_card_says_where_each_course_ran_and_gives_the_command_for_all(
    runs: list[Run], training: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "FAMILY", tmp_path)
    (tmp_path / "svd").mkdir()
    card.write_card(tmp_path / "svd", "A small Stable Video Diffusion", runs)
    assert f"**Training.** From seed 0, {training}\n" in cards.write_card("svd", [("first frame", "25 dB")]).read_text()
