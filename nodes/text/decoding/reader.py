"""Reading a tree of tokens with a language model, in one forward pass on top of its KV cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nodes.text.decoding.tree import Tree


class Reader:
    """A model with its KV cache, which holds every written token but the last.

    Layers with a sliding window have a mask of their own, and keep what leaves the window until `keep`.
    """

    def __init__(self, model: Any, cache: Any, max_length: int) -> None:
        self.model = model
        self.cache = cache
        self.cached = int(cache.get_seq_length())
        self.tokens: list[int] = []
        """What was read and kept by this reader, without what the cache had before."""
        self.windows = windows(model.config.get_text_config(decoder=True))
        self.last_position = max_length - 2
        self.picks_rows = "logits_to_keep" in inspect.signature(model.forward).parameters

    def read_prompt(
        self, tokens: Sequence[int], chunk: int | None = None, heard: Callable[[int, int], None] | None = None
    ) -> None:
        """Read all tokens but the last, as `generate` does: in one pass, or in passes over `chunk` tokens.

        The model knows a plain text's mask, so none is built: it would have a number for each pair of tokens. In parts
        it takes one from the second on, and with it another way of computing attention, which is slower. `heard` is
        called before each layer of a pass, with the tokens read, in proportion, and those to be read.
        """
        device, end = self.model.device, len(tokens) - 1
        for start in range(self.cached, end, chunk or end):
            stop = min(start + (chunk or end), end)
            with _told(self.model, range(start, stop), end, heard):
                self.model(
                    input_ids=torch.tensor([tokens[start:stop]], device=device),
                    position_ids=torch.arange(start, stop, device=device)[None],
                    past_key_values=self.cache,
                    use_cache=True,
                    **({"logits_to_keep": 1} if self.picks_rows else {}),
                )
        self.tokens += tokens[self.cached : end]
        self.cached = end

    def read(self, tree: Tree, nodes: list[int]) -> Tensor:
        """Logits (len(nodes), vocabulary) for the token after each of the nodes."""
        device = self.model.device
        if any(self.cache.is_sliding):
            self.cache.activate_past_recording()
        depths = torch.tensor(tree.depths())
        # Guesses beyond the end are never written, and a model may have no position for them.
        positions = (depths + self.cached).clamp(max=self.last_position)
        rows = torch.tensor(nodes, device=device)
        logits: Tensor = self.model(
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=self._masks(tree, depths),
            position_ids=positions[None].to(device),
            past_key_values=self.cache,
            use_cache=True,
            **({"logits_to_keep": rows} if self.picks_rows else {}),
        ).logits[0]
        return logits if self.picks_rows else logits[rows]

    def row(self, node: int, nodes: list[int]) -> int:
        """Where the output embedding had a node's state when `nodes` were read."""
        return nodes.index(node) if self.picks_rows else node

    def _masks(self, tree: Tree, depths: Tensor) -> Tensor | dict[str, Tensor] | None:
        """The mask of each kind of layers, or of all; None for a single token, which sees all that is held."""
        if len(tree.tokens) == 1:
            return None
        visible = tree.visible()
        masks = {kind: self._mask(visible, depths, window) for kind, window in self.windows.items()}
        return masks if len(masks) > 1 else next(iter(masks.values()))

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
        return mask[None, None].to(self.model.device)

    def keep(self, tree: Tree, path: list[int]) -> None:
        """Trim the cache to the chain and the nodes of the path, as if they had been read in this order."""
        size, chain = len(tree.tokens), tree.root + 1
        end = chain + len(path)
        self.cached += end
        self.tokens += [*tree.tokens[:chain], *(tree.tokens[node] for node in path)]
        if path != list(range(chain, end)):
            kept = torch.tensor(path) - size
            for layer in self.cache.layers:
                at = kept.to(layer.keys.device)
                start = layer.keys.shape[-2] - size
                for states in (layer.keys, layer.values):
                    states[..., start + chain : start + end, :] = states[..., at, :]
        if size > end or any(self.cache.is_sliding):
            self.cache.crop(end - size)

    def take_back(self, count: int) -> None:
        """Forget the last tokens, of a cache without sliding windows."""
        if count:
            self.cache.crop(-count)
            self.cached -= count
            del self.tokens[-count:]


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


@contextmanager
def _told(model: Any, read: range, total: int, heard: Callable[[int, int], None] | None) -> Iterator[None]:
    """Within it `heard` is called before each layer of a pass that reads tokens, out of a total."""
    layers = next((module for module in model.modules() if isinstance(module, nn.ModuleList)), ()) if heard else ()

    def tell(layer: int) -> Callable[..., None]:
        done = read.start + len(read) * layer // len(layers)
        return lambda *_: heard(done, total) if heard else None

    with ExitStack() as stack:
        for layer, module in enumerate(layers):
            stack.callback(module.register_forward_pre_hook(tell(layer)).remove)
        yield


@contextmanager
def watched(model: Any, see: Callable[[Tensor], None]) -> Iterator[None]:
    """Within it `see` gets what the output embedding reads in each pass, (batch, tokens, h)."""
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: see(given[0]))
    try:
        yield
    finally:
        hook.remove()
