"""The judge: a classifier of subject, colour, background and style, used only to measure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.sprite import world
from models.sprite.training.data import pictures
from models.sprite.training.loop import Recipe, Step, train

ANSWERS: Mapping[str, tuple[str, ...]] = {
    "subject": world.SUBJECTS,
    "colour": world.COLOURS,
    "background": world.BACKGROUNDS,
    "style": world.STYLES,
}
WEIGHTS = Path(__file__).parent / "judge" / "judge.safetensors"
STEPS, BATCH = 5000, 48


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)])
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(F.silu(self.norms[0](x)))
        y = self.second(F.silu(self.norms[1](y)))
        shortcut: Tensor = self.shortcut(F.avg_pool2d(x, 2))
        return shortcut + y


class Judge(nn.Module):
    """Pictures (N, 3, 64, 64) in [0, 1] → logits per attribute, in the order of `ANSWERS`."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 6 * width)
        self.stem = nn.Conv2d(3, width, 5, stride=2, padding=2)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(widths)))
        self.norm = nn.GroupNorm(8, widths[-1])
        self.heads = nn.ModuleDict({slot: nn.Linear(2 * widths[-1], len(names)) for slot, names in ANSWERS.items()})

    def features(self, x: Tensor) -> Tensor:
        """The heads' input: (N, 192)."""
        maps = F.silu(self.norm(self.blocks(self.stem(x * 2 - 1))))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.features(x)
        return {slot: head(features) for slot, head in self.heads.items()}

    @torch.inference_mode()
    def answers(self, x: Tensor) -> list[dict[str, str]]:
        """The most likely name of each attribute, for each picture."""
        chosen = {slot: logits.argmax(1).tolist() for slot, logits in self(x).items()}
        return [{slot: ANSWERS[slot][chosen[slot][i]] for slot in ANSWERS} for i in range(len(x))]


def load_judge(path: Path = WEIGHTS) -> Judge:
    """The trained judge, in evaluation mode."""
    judge = Judge()
    judge.load_state_dict({name: weight.float() for name, weight in load_file(path).items()})
    return judge.eval()


def _worn(x: Tensor, noise: torch.Generator) -> Tensor:
    """Add noise and softness as a generator might, so that the judge doesn't depend on perfect edges."""
    amount = torch.rand(len(x), 1, 1, 1, generator=noise)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, torch.where(amount < 0.5, 0.0, amount - 0.5) * 1.6)
    return x + torch.randn(x.shape, generator=noise) * 0.06 * torch.rand(len(x), 1, 1, 1, generator=noise)


def _scene(rng: np.random.Generator) -> world.Scene:
    """A scene of any class, in half of the cases after up to three seconds of motion: rotated, small or off-centre."""
    scene = world.random_scene(rng, world.SUBJECTS, world.STYLES)
    if rng.random() < 0.5:
        return scene
    return world.at_time(scene, world.random_motion(rng, rng.uniform(0, 255)), rng.uniform(0, 3))


def train_judge(steps: int = STEPS) -> None:
    """Train on freshly drawn sprites of every class and write `WEIGHTS`."""
    torch.manual_seed(0)
    judge = Judge()

    def loss_of(step: Step) -> Tensor:
        scenes = [_scene(step.rng) for _ in range(BATCH)]
        logits = judge(_worn(pictures(scenes), step.noise))
        losses = [
            F.cross_entropy(logits[slot], torch.tensor([names.index(getattr(s, slot)) for s in scenes]))
            for slot, names in ANSWERS.items()
        ]
        return torch.stack(losses).sum()

    trained = train(judge, loss_of, Recipe("judge", steps, 2e-3, ema=0.998))
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_file({name: weight.half().contiguous() for name, weight in trained.state_dict().items()}, WEIGHTS)
