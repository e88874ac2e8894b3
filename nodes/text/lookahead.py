"""Lookahead decoding: several tokens for each forward pass of a language model, without changing what it writes.

Fu, Bailis, Stoica, Zhang, "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
arXiv:2402.02057, sections 3 and 4. It is used through transformers' own `generate`, which prepares the cache, the
logits processors and the stopping criteria:

    model.generate(**inputs, do_sample=False, custom_generate=lookahead_decode, window=5, ngram=4, candidates=5)

Each forward pass reads a tree rooted at the last written token, with two kinds of branch:

- the lookahead branch, N−1 rows of guesses that a Jacobi iteration improves: row 0 is a chain, and below each of its W
  columns hang the rows of later iterations. The last row's predictions complete W n-grams for the pool;
- the verification branch, the pool's n-grams that start with the last written token.

A token sees its ancestors and the cache; its position is one after its parent's. Decoding then walks down from the
root: each token is chosen from the model's distribution given exactly what precedes it, as without lookahead; while the
chosen token is a child of the current node, its own prediction has already been computed. So sampling needs no
rejection step: each draft is certain of its token, so accepting it with probability p(draft), or else drawing from the
rest, is the same as drawing from p and checking whether a draft was hit. The same generator state gives the same text
as without lookahead.

Row 0 and the first column start at the root too, so the walk may take them as well as the pool's candidates.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nodes.text.reading import Reader, Tree, windows

PROMPT_ALONE = 512
"""Prompts of more tokens are read before the first tree; shorter ones are its beginning, which saves a pass."""


class Pool:
    """n-grams by their first token, at most `per_token` for each: the least recently added is dropped.

    Args:
        ngram: N, tokens in an n-gram, at least 2.
        per_token: G, how many n-grams are kept, and so verified, for one first token.
    """

    def __init__(self, ngram: int, per_token: int) -> None:
        self.ngram = ngram
        self.per_token = per_token
        self._tails: dict[int, dict[tuple[int, ...], None]] = {}

    def add(self, tokens: Sequence[int]) -> None:
        """Add every n-gram within `tokens`; one that is known becomes the most recent."""
        for start in range(len(tokens) - self.ngram + 1):
            first, *tail = tokens[start : start + self.ngram]
            tails = self._tails.setdefault(first, {})
            tails.pop(tuple(tail), None)
            tails[tuple(tail)] = None
            if len(tails) > self.per_token:
                del tails[next(iter(tails))]

    def after(self, token: int) -> list[tuple[int, ...]]:
        """The N−1 tokens that followed `token`, most recent first."""
        return list(reversed(self._tails.get(token, {})))


class Window:
    """The lookahead branch: W columns of guesses in N−1 rows.

    It starts with row 0 alone, tokens drawn from the prompt and N−2 wider than W; each of the N−2 passes that fill the
    other rows takes one column.
    """

    def __init__(self, columns: int, ngram: int, prompt: Sequence[int], seed: int) -> None:
        draw = random.Random(seed)
        self.height = ngram - 1
        self.rows = [[draw.choice(prompt) for _ in range(columns + ngram - 3)]] if columns else []
        """Row 0 without the last written token, which stands before it."""
        self._nodes: list[list[int]] = []

    def plant(self, tree: Tree) -> list[int]:
        """Add the branch to the tree; returns the nodes of its last row, whose predictions `advance` needs."""
        if not self.rows:
            return []
        chain = [tree.root]
        for token in self.rows[0]:
            chain.append(tree.draft(chain[-1], token))
        self._nodes = [chain]
        for row in self.rows[1:]:
            above, *others = self._nodes[-1]
            below = [tree.guess(parent, token) for parent, token in zip(others, row[1:], strict=True)]
            self._nodes.append([tree.draft(above, row[0]), *below])
        return self._nodes[-1]

    def advance(self, tree: Tree, predictions: list[int]) -> Iterator[list[int]]:
        """Take in the last row's predictions and move on by one column; yields the n-grams completed, once filled."""
        if not self.rows:
            return
        if len(self.rows) < self.height:
            self.rows = [row[1:] for row in (*self.rows, predictions)]
            return
        for *column, prediction in zip(*self._nodes, predictions, strict=True):
            yield [*(tree.tokens[node] for node in column), prediction]
        first, *others = [*self.rows[1:], predictions]
        self.rows = [first[1:], *others]


def lookahead_decode(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    window: int = 5,
    ngram: int = 4,
    candidates: int = 5,
    pool_from_prompt: bool = True,
    window_seed: int = 0,
    generator: torch.Generator | None = None,
    on_tokens: Callable[[list[int]], None] | None = None,
    **model_kwargs: Any,
) -> Any:
    """Decode greedily or by sampling, for `generate(custom_generate=lookahead_decode, …)`, which passes on the options.

    Greedy output is that of `generate` without it, up to ties: exactly in exact arithmetic, in practice in float32.
    Sampling draws the same text as `generate` does from the same state of the generator.

    Args:
        window: W, columns of the lookahead branch; 0 leaves only the pool.
        ngram: N, at least 2: rows of the lookahead branch plus one, and the length of the pool's n-grams.
        candidates: G, most n-grams verified in a pass, and kept for one first token.
        pool_from_prompt: whether the pool also collects n-grams of the prompt and of the text written so far.
        window_seed: seed of the window's first guesses; it changes how many passes are needed, never the text.
        generator: where sampling draws from, on its own device, perhaps another than the model's; torch's default
            generator of the model's device if None.
        on_tokens: called after each forward pass with the tokens it wrote; what it raises ends the decoding.

    Returns:
        What `generate` returns: ids (1, length), or a GenerateDecoderOnlyOutput. A cache passed in ends up one token
        short of the text, as usual.

    Raises:
        ValueError: lookahead doesn't support the model or the call; see `unsupported`.
    """
    if ngram < 2 or window < 0 or candidates < 0:
        raise ValueError(f"need ngram >= 2, window >= 0, candidates >= 0, not {ngram}, {window}, {candidates}")
    if reason := unsupported(model) or _unsupported_call(input_ids, generation_config, model_kwargs):
        raise ValueError(reason)
    reader = Reader(model, model_kwargs["past_key_values"], stopping_criteria.max_length)
    writer = _Writer(input_ids, logits_processor, stopping_criteria, generation_config, generator)
    if len(writer.tokens) - reader.cached > PROMPT_ALONE:
        reader.read_prompt(writer.tokens, generation_config.prefill_chunk_size)
    streamer = _streamer()
    pool = Pool(ngram, candidates)
    branch = Window(window, ngram, writer.tokens, window_seed)
    if pool_from_prompt:
        pool.add(writer.tokens)
    while not writer.done:
        start = len(writer.tokens)
        tree = Tree(writer.tokens[reader.cached :])
        last_row = branch.plant(tree)
        for candidate in pool.after(writer.tokens[-1]):
            node = tree.root
            for token in candidate:
                node = tree.draft(node, token)
        nodes = sorted({tree.root, *last_row, *tree.drafts.values()})
        logits = reader.read(tree, nodes)
        picks = dict(zip(nodes, logits.argmax(-1).tolist(), strict=True))
        reader.keep(tree, writer.walk(tree, dict(zip(nodes, logits, strict=True)), picks))
        for grams in branch.advance(tree, [picks[node] for node in last_row]):
            pool.add(grams)
        if pool_from_prompt:
            pool.add(writer.tokens[max(start - ngram + 1, 0) :])
        if streamer is not None:
            for token in writer.tokens[start:]:
                streamer.put(torch.tensor([token]))
        if on_tokens:
            on_tokens(writer.tokens[start:])
    if streamer is not None:
        streamer.end()
    return writer.result(reader.cache)


class _Writer:
    """The text so far, and the choice of its next token, one after the other as in transformers' own loop."""

    def __init__(
        self, input_ids: Tensor, processors: Any, criteria: Any, config: Any, generator: torch.Generator | None
    ) -> None:
        self.ids = input_ids
        self.tokens: list[int] = input_ids[0].tolist()
        self.done = False
        self.processors, self.criteria, self.config, self.generator = processors, criteria, config, generator
        self.plain = not config.do_sample and not processors and not config.return_dict_in_generate
        self.scores: list[Tensor] = []
        self.logits: list[Tensor] = []

    def walk(self, tree: Tree, logits: dict[int, Tensor], picks: dict[int, int]) -> list[int]:
        """Write one token, and more while they are drafts in the tree; returns the nodes of all but the last."""
        path: list[int] = []
        node: int | None = tree.root
        while node is not None:
            token = picks[node] if self.plain else self._choose(logits[node])
            self.tokens.append(token)
            self.ids = torch.cat([self.ids, self.ids.new_tensor([[token]])], dim=1)
            self.done = bool(self.criteria(self.ids, tuple(self.scores) or None).all())
            node = None if self.done else tree.drafts.get((node, token))
            if node is not None:
                path.append(node)
        return path

    def _choose(self, logits: Tensor) -> int:
        row = logits[None].to(torch.float32, copy=True)
        scores = self.processors(self.ids, row)
        if self.config.return_dict_in_generate:
            self.logits.append(row)
            self.scores.append(scores)
        if not self.config.do_sample:
            return int(scores.argmax(-1))
        if self.generator is not None:
            scores = scores.to(self.generator.device)
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self.generator))

    def result(self, cache: Any) -> Any:
        if not self.config.return_dict_in_generate:
            return self.ids
        from transformers.generation.utils import GenerateDecoderOnlyOutput

        fields: dict[str, Any] = {
            "sequences": self.ids,
            "scores": tuple(self.scores) if self.config.output_scores else None,
            "logits": tuple(self.logits) if self.config.output_logits else None,
            "past_key_values": cache,
        }
        return GenerateDecoderOnlyOutput(**fields)


def _streamer() -> Any:
    """What `generate(streamer=…)` got, or None.

    transformers puts the prompt into it and doesn't pass it on to a callable, so whoever reads it would wait for ever.
    """
    from transformers import GenerationMixin

    generate = inspect.unwrap(GenerationMixin.generate).__code__
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not generate:
        frame = frame.f_back
    return frame.f_locals["streamer"] if frame is not None else None


def unsupported(model: Any) -> str | None:
    """Why lookahead doesn't support a transformers model, or None if it does.

    It needs a decoder that takes a 4-D attention mask and explicit positions, and a cache that gives tokens back;
    layers may have sliding windows.
    """
    from transformers import DynamicCache

    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder or not model.can_generate():
        return f"{name} is not a decoder-only language model"
    if not {"position_ids", "attention_mask", "past_key_values"} <= inspect.signature(model.forward).parameters.keys():
        return f"{name} does not let its caller choose positions, mask and cache"
    if getattr(config, "alibi", False):
        return f"{name} takes positions from a mask over the whole text (alibi), which has no room for guesses"
    if config._attn_implementation not in ("eager", "sdpa"):
        return f"{config._attn_implementation} takes no 4-D mask: load {name} with attn_implementation='sdpa'"
    if {"dynamic", "longrope"} & _rope_types(config):
        return f"{name} scales its positions by the length of the text, which guesses would change"
    forgets = not _takes_back(DynamicCache(config=config)) or "local" in getattr(config, "attention_layers", ())
    if forgets or not model._supports_default_dynamic_cache():
        return f"{name} forgets tokens as it reads on (a recurrent state, say): guesses can't be taken back"
    try:
        windows(config)
    except ValueError as error:
        return f"{name} can't read guesses: {error}"
    return None


def _rope_types(config: Any) -> set[str]:
    """The types of position embedding: one for all layers, or one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters, *(kind for kind in parameters.values() if isinstance(kind, dict))]
    return {kind["rope_type"] for kind in kinds if "rope_type" in kind}


def _takes_back(cache: Any) -> bool:
    """Whether tokens can be taken back from the cache."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    kinds = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and not cache.offloading and all(type(at) in kinds for at in cache.layers)


def _unsupported_call(input_ids: Tensor, config: Any, kwargs: dict[str, Any]) -> str | None:
    """Why lookahead doesn't support this call of `generate`, or None if it does."""
    batch, length = input_ids.shape
    positions = kwargs.get("position_ids")
    known = {"past_key_values", "use_cache", "position_ids", "logits_to_keep"}
    if batch != 1 or config.num_beams != 1:
        return f"lookahead decodes one sequence at a time, not {batch}: call it for each"
    if kwargs.get("attention_mask") is not None:
        return "lookahead takes no padding: leave it out of input_ids and attention_mask"
    if not config.use_cache or not _takes_back(kwargs["past_key_values"]):
        return "lookahead needs a dynamic KV cache that is neither offloaded nor quantised"
    if kwargs["past_key_values"].get_seq_length() >= length:
        return "input_ids must hold the whole text, and more than the cache has seen"
    if positions is not None and not torch.equal(positions.cpu(), torch.arange(length)[None]):
        return "lookahead places the tokens itself: leave out position_ids"
    if odd := sorted(name for name, value in kwargs.items() if value is not None and name not in known):
        return f"lookahead passes nothing but tokens to the model, so not {', '.join(odd)}"
    if config.output_attentions or config.output_hidden_states:
        return "lookahead returns neither attentions nor hidden states"
    return None
