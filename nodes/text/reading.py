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
    """A model with its KV cache, which holds every written token but the last.

    Layers with a sliding window have a mask of their own, and keep what leaves the window until `keep`.
    """

    def __init__(self, model: Any, cache: Any, max_length: int) -> None:
        self.model = model
        self.cache = cache
        self.cached = int(cache.get_seq_length())
        self.windows = windows(model.config.get_text_config(decoder=True))
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
        device = self.model.device
        if any(self.cache.is_sliding):
            self.cache.activate_past_recording()
        depths, visible = torch.tensor(tree.depths()), tree.visible()
        masks = {kind: self._mask(visible, depths, window).to(device) for kind, window in self.windows.items()}
        # Guesses beyond the end are never written, and a model may have no position for them.
        positions = (depths + self.cached).clamp(max=self.last_position)
        rows = torch.tensor(nodes, device=device)
        logits: Tensor = self.model(
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=positions[None].to(device),
            past_key_values=self.cache,
            use_cache=True,
            **({"logits_to_keep": rows} if self.picks_rows else {}),
        ).logits[0]
        return logits if self.picks_rows else logits[rows]

    def _mask(self, visible: Tensor, depths: Tensor, window: int | None) -> Tensor:
        """What is added to the attention of the tree to the cache and itself, (1, 1, T, cache + T): 0 or the lowest.

        A cache without windows of its own has more columns than one with them, which holds what the next token sees.
        """
        held = self.cached
        if window is not None and any(self.cache.is_sliding):
            held = min(held, window - 1)
        size, dtype = len(depths), self.model.dtype
        mask = torch.zeros(size, held + size, dtype=dtype)
        lowest = torch.finfo(dtype).min
        mask[:, held:].masked_fill_(~visible, lowest)
        if window is not None:
            columns = torch.cat([torch.arange(-held, 0), depths])
            mask.masked_fill_(depths[:, None] - columns >= window, lowest)
        return mask[None, None]

    def keep(self, tree: Tree, path: list[int]) -> None:
        """Trim the cache to the chain and the nodes of the path, as if they had been read in this order."""
        size, chain = len(tree.tokens), tree.root + 1
        self.cached += chain + len(path)
        for layer in self.cache.layers:
            start = layer.keys.shape[-2] - size
            kept = torch.tensor(path, dtype=torch.long, device=layer.keys.device) + start
            for states in (layer.keys, layer.values):
                states[..., start + chain : start + chain + len(path), :] = states[..., kept, :]
        self.cache.crop(-(size - chain - len(path)))


def windows(config: Any) -> dict[str, int | None]:
    """The kinds of attention layers of a model, and how many tokens each sees, itself included; None: all.

    Args:
        config: transformers' configuration of the text model.

    Raises:
        ValueError: a kind that a mask over the tree can't describe.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    layers = DynamicCache(config=config).layers
    kinds = getattr(config, "layer_types", None) or [
        "sliding_attention" if layer.is_sliding else "full_attention" for layer in layers
    ]
    found: dict[str, int | None] = {}
    for kind, layer in zip(kinds, layers, strict=True):
        window = layer.sliding_window if type(layer) is DynamicSlidingWindowLayer else None
        known = type(layer) is DynamicSlidingWindowLayer if kind == "sliding_attention" else type(layer) is DynamicLayer
        if kind not in ("full_attention", "sliding_attention") or not known or found.setdefault(kind, window) != window:
            raise ValueError(f"no mask describes its layers of the kind {kind}")
    return found
