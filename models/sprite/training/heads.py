"""Linear heads that name attributes which the main loss alone would learn late or never.

They are used only in training and are not part of the saved models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Heads(nn.Module):
    """One linear classifier for each slot of `names`, on features of `width`."""

    def __init__(self, width: int, names: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.names = names
        self.readers = nn.ModuleDict({slot: nn.Linear(width, len(words)) for slot, words in names.items()})

    def losses(self, features: Tensor, truths: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
        """The cross entropy of each slot, for features (N, width) and what each shows."""
        return {
            slot: F.cross_entropy(self.readers[slot](features), torch.tensor([words.index(t[slot]) for t in truths]))
            for slot, words in self.names.items()
        }

    def loss(self, features: Tensor, truths: Sequence[Mapping[str, str]]) -> Tensor:
        """Their mean."""
        return torch.stack(list(self.losses(features, truths).values())).mean()
