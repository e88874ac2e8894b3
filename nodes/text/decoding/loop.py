"""transformers' decoding loop with a tree of guesses in each pass of the model, for any source of guesses.

It is used through transformers' own `generate`, which prepares the cache, the logits processors and the stopping
criteria:

    model.generate(**inputs, do_sample=False, custom_generate=tree_decode, drafter=Jacobi(8))

Each pass reads a tree rooted at the last written token, in which a token sees its ancestors and the cache. Decoding
then walks down from the root: each token is chosen from the model's distribution given exactly what precedes it, as
without guesses; while the chosen token is a child of the current node, its own prediction has already been computed. So
sampling needs no rejection step: each draft is certain of its token, so accepting it with probability p(draft), or else
drawing from the rest, is the same as drawing from p and checking whether a draft was hit. The same generator state
gives the same text as without guesses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from nodes.text.decoding import calls
from nodes.text.decoding.reader import Reader, watched
from nodes.text.decoding.support import unsupported, unsupported_call
from nodes.text.decoding.tree import Tree
from nodes.text.decoding.turned import quickened

PROMPT_ALONE = 512
"""Prompts of more tokens are read before the first tree; shorter ones are its beginning, which saves a pass."""

PHASES = ("prompt", "model", "guesses", "choice")
"""Reading the prompt; later passes; making guesses and learning from them; choosing tokens and trimming the cache."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass came to."""

    tree: Tree
    path: list[int]
    """The nodes of guesses that were right, from below the root."""
    written: list[int]
    """The tokens that it wrote: those of the path, and one more."""
    picks: dict[int, int]
    """The likeliest next token at the root and the nodes that the drafter had asked for, before any processor."""
    walked: list[Tensor]
    """(vocabulary,): the model's logits for each token that it wrote, before any processor."""
    hidden: Tensor | None
    """(hidden size,): what the last written token was predicted from, for drafters that want it."""


class Drafter(Protocol):
    """Where guesses at the coming tokens come from. They never change the text, only how many passes it takes."""

    wants_hidden: bool
    """Whether it reads `Step.hidden`."""

    def begin(self, text: Sequence[int]) -> None:
        """Called once, with the tokens of the prompt."""

    def plant(self, tree: Tree) -> Sequence[int]:
        """Add guesses below the root, before a pass; returns the nodes whose likeliest next tokens it wants to know."""

    def learn(self, step: Step) -> None:
        """Called after each pass."""

    def method_of(self, node: int) -> str:
        """The name of the method by which a node of the last tree was guessed."""


class Greedy:
    """No guesses: a token for each pass."""

    wants_hidden = False

    def begin(self, text: Sequence[int]) -> None: ...

    def plant(self, tree: Tree) -> Sequence[int]:
        return ()

    def learn(self, step: Step) -> None: ...

    def method_of(self, node: int) -> str:
        raise ValueError(f"nothing was guessed, nor node {node}")


@dataclass(slots=True)
class Tally:
    """What decoding took; it is added to, so one may serve several texts."""

    tokens: int = 0
    """Written."""
    passes: int = 0
    """Trees read; a long prompt that is read before them doesn't count."""
    drafted: int = 0
    """Guesses that could have been right."""
    right: dict[str, int] = field(default_factory=dict)
    """Guesses that were, by method; the other tokens came from the model alone, one for each pass."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    def add(self, tree: Tree, tokens: int, methods: Sequence[str]) -> None:
        """Count a pass that wrote some tokens, with the method of each right guess."""
        self.passes += 1
        self.tokens += tokens
        self.drafted += len(tree.drafts)
        for method in methods:
            self.right[method] = self.right.get(method, 0) + 1


@calls.WithTokenizer
def tree_decode(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    drafter: Drafter,
    generator: torch.Generator | None = None,
    on_tokens: Callable[[list[int]], None] | None = None,
    on_prompt: Callable[[int, int], None] | None = None,
    tally: Tally | None = None,
    tokenizer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Decode greedily or by sampling, for `generate(custom_generate=tree_decode, …)`, which passes on the options.

    Greedy output is that of `generate` without it, up to ties: exactly in exact arithmetic, in practice in float32.
    Sampling draws the same text as `generate` does from the same state of the generator.

    Args:
        drafter: makes the guesses; used for this one text.
        generator: where sampling draws from, on its own device, perhaps another than the model's; torch's default
            generator of the model's device if None.
        on_tokens: called after each pass with the tokens it wrote; what it raises ends the decoding.
        on_prompt: called before each layer that reads a long prompt, with the tokens read, in proportion, and those to
            be read before the first one is written; what it raises ends the decoding. It is read in passes over
            `prefill_chunk_size` tokens if that is given.
        tally: what it took is added to it.
        tokenizer: taken so that `generate` gets it, for its `stop_strings`.

    Returns:
        What `generate` returns: ids (1, length), or a GenerateDecoderOnlyOutput. A cache passed in ends up one token
        short of the text, as usual.

    Raises:
        ValueError: the model or the call can't be served; see `support`.
    """
    if reason := unsupported(model) or unsupported_call(input_ids, generation_config, model_kwargs):
        raise ValueError(reason)
    tally = tally or Tally()
    clock = _Clock(tally)
    reader = Reader(quickened(model), model_kwargs["past_key_values"], stopping_criteria.max_length)
    writer = _Writer(input_ids, logits_processor, stopping_criteria, generation_config, generator)
    if len(writer.tokens) - reader.cached > PROMPT_ALONE:
        reader.read_prompt(writer.tokens, generation_config.prefill_chunk_size, on_prompt)
        clock.lap("prompt")
    streamer = calls.streamer()
    drafter.begin(writer.tokens)
    hidden: deque[Tensor] = deque(maxlen=1)
    with watched(model, hidden.append) if drafter.wants_hidden else nullcontext():
        while not writer.done:
            start = len(writer.tokens)
            tree = Tree(writer.tokens[reader.cached :])
            reads_prompt = tree.root > 0
            wanted = drafter.plant(tree)
            nodes = sorted({tree.root, *wanted, *tree.drafts.values()})
            clock.lap("guesses")
            logits = reader.read(tree, nodes)
            rows = dict(zip(nodes, logits, strict=True))
            picks = dict(
                zip((tree.root, *wanted), _likeliest([rows[node] for node in (tree.root, *wanted)]), strict=True)
            )
            clock.lap("prompt" if reads_prompt else "model")
            path = writer.walk(tree, rows, picks)
            reader.keep(tree, path)
            last = reader.row(path[-1] if path else tree.root, nodes)
            clock.lap("choice")
            walked = [rows[node] for node in (tree.root, *path)]
            state = hidden[0][0, last] if hidden else None
            drafter.learn(Step(tree, path, writer.tokens[start:], picks, walked, state))
            clock.lap("guesses")
            tally.add(tree, len(writer.tokens) - start, [drafter.method_of(node) for node in path])
            for token in writer.tokens[start:] if streamer is not None else ():
                streamer.put(torch.tensor([token]))
            if on_tokens:
                on_tokens(writer.tokens[start:])
            clock.skip()
    if streamer is not None:
        streamer.end()
    return writer.result(reader.cache)


class _Clock:
    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.skip()

    def skip(self) -> None:
        """What was done since is in no phase."""
        self.since = perf_counter()

    def lap(self, phase: str) -> None:
        """What was done since belongs to a phase."""
        now = perf_counter()
        self.tally.seconds[phase] += now - self.since
        self.since = now


def _likeliest(rows: Sequence[Tensor]) -> list[int]:
    """The index of the highest number in each row, the first of several."""
    # `argmax` of bfloat16 takes four times as long.
    return [int(token) for token in torch.stack(list(rows)).max(-1).indices.tolist()]


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
            token = self._choose(logits[node], picks.get(node))
            self.tokens.append(token)
            self.ids = torch.cat([self.ids, self.ids.new_tensor([[token]])], dim=1)
            self.done = bool(self.criteria(self.ids, tuple(self.scores) or None).all())
            node = None if self.done else tree.drafts.get((node, token))
            if node is not None:
                path.append(node)
        return path

    def _choose(self, logits: Tensor, likeliest: int | None) -> int:
        if self.plain:
            return _likeliest([logits])[0] if likeliest is None else likeliest
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
