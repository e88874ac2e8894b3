"""Reading a tree of tokens with a language model, in one forward pass on top of its KV cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Tree:
    """Tokens to be read in one forward pass: a chain, the last of which is the root of the branches."""

    def __init__(self, chain: Sequence[int]) -> None:
        self.tokens = list(chain)
        self.parents = list(range(-1, len(chain) - 1))
        self.root = len(chain) - 1
        self.drafts: dict[tuple[int, int], int] = {}
        """Nodes that a walk may take, by parent and token."""

    def draft(self, parent: int, token: int) -> int:
        """The child of `parent` with `token`, shared by all branches with the same beginning."""
        if (parent, token) not in self.drafts:
            self.drafts[parent, token] = self.guess(parent, token)
        return self.drafts[parent, token]

    def guess(self, parent: int, token: int) -> int:
        """A child of `parent` that no walk takes."""
        self.tokens.append(token)
        self.parents.append(parent)
        return len(self.tokens) - 1

    def depths(self) -> list[int]:
        """The depth of each token; 0 is the first of the chain."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    def visible(self) -> Tensor:
        """Bool (T, T): whether row's token sees column's, that is, itself and its ancestors."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return torch.from_numpy(sees)


class Reader:
    """A model with its KV cache, which holds every written token but the last."""

    def __init__(self, model: Any, cache: Any, max_length: int) -> None:
        self.model = model
        self.cache = cache
        self.cached = int(cache.get_seq_length())
        self.last_position = max_length - 2
        self.picks_rows = "logits_to_keep" in inspect.signature(model.forward).parameters

    def read_prompt(self, tokens: Sequence[int], chunk: int | None) -> None:
        """Read all tokens but the last, as `generate` does: in one pass, or in passes over `chunk` tokens.

        The model knows a plain text's mask, so none is built: it would have a number for each pair of tokens.
        """
        device, end = self.model.device, len(tokens) - 1
        for start in range(self.cached, end, chunk or end):
            stop = min(start + (chunk or end), end)
            self.model(
                input_ids=torch.tensor([tokens[start:stop]], device=device),
                position_ids=torch.arange(start, stop, device=device)[None],
                past_key_values=self.cache,
                use_cache=True,
                **({"logits_to_keep": 1} if self.picks_rows else {}),
            )
        self.cached = end

    def read(self, tree: Tree, nodes: list[int]) -> Tensor:
        """Logits (len(nodes), vocabulary) for the token after each of the nodes."""
        device, dtype, size = self.model.device, self.model.dtype, len(tree.tokens)
        mask = torch.zeros(size, self.cached + size, dtype=dtype)
        mask[:, self.cached :].masked_fill_(~tree.visible(), torch.finfo(dtype).min)
        # Guesses beyond the end are never written, and a model may have no position for them.
        positions = (torch.tensor(tree.depths()) + self.cached).clamp(max=self.last_position)
        rows = torch.tensor(nodes, device=device)
        logits: Tensor = self.model(
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=mask[None, None].to(device),
            position_ids=positions[None].to(device),
            past_key_values=self.cache,
            use_cache=True,
            **({"logits_to_keep": rows} if self.picks_rows else {}),
        ).logits[0]
        return logits if self.picks_rows else logits[rows]

    def keep(self, tree: Tree, path: list[int]) -> None:
        """Trim the cache to the chain and the nodes of the path, as if they had been read in this order."""
        start = self.cached + tree.root + 1
        self.cached = start + len(path)
        for layer in self.cache.layers:
            kept = torch.tensor(path, dtype=torch.long, device=layer.keys.device) + (start - tree.root - 1)
            for states in (layer.keys, layer.values):
                states[..., start : self.cached, :] = states[..., kept, :]
        self.cache.crop(self.cached - self.cache.get_seq_length())
