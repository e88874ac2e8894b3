"""Guesses from elsewhere: a small draft model, or the last place in the text that looks like its end.

Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding", arXiv:2211.17192, with drafts
that are certain of their tokens; Saxena, "Prompt Lookup Decoding" (2023). What transformers has of these is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nodes.text.decoding.loop import PROMPT_ALONE, Step
from nodes.text.decoding.reader import Reader
from nodes.text.decoding.support import unsupported
from nodes.text.decoding.tree import Tree
from nodes.text.decoding.turned import quickened

UNBOUNDED = 2**31

Heard = Callable[[int, int], None]
"""Called before each pass over a part of a long text, with the tokens read and those to be read; what it raises ends
the decoding."""


class DraftModel:
    """Drafts by a smaller model with the same tokens, always its likeliest ones.

    Args:
        model: a causal language model of transformers.
        length: how many tokens are drafted for a pass, at most; at least 1.
        confidence: a draft ends before the first token that is less likely; transformers' assisted generation has 0.4.
        heard: told how far a long text is read.

    Raises:
        ValueError: the model can't draft.
    """

    wants_hidden = False

    def __init__(self, model: Any, length: int = 8, confidence: float = 0.4, *, heard: Heard | None = None) -> None:
        from transformers import DynamicCache

        if length < 1:
            raise ValueError(f"need drafts of at least 1 token, not {length}")
        self.length, self.confidence, self.heard = length, confidence, heard
        self.room = room_of_draft(model)
        config = model.config.get_text_config(decoder=True)
        self.reader = Reader(quickened(model), DynamicCache(config=config), self.room + 1)
        self._text: list[int] = []

    def begin(self, text: Sequence[int]) -> None:
        self._text = list(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        text = [*self._text, *tree.ahead]
        length = min(self.length, self.room - len(text))
        if length > 0:
            tree.draft_chain(self._draft(text, length))
        return ()

    def method_of(self, node: int) -> str:
        return "draft model"

    def learn(self, step: Step) -> None:
        self._text += step.written

    def _draft(self, text: list[int], length: int) -> list[int]:
        # What was read of the last draft and not written is taken back; the last token is always read anew.
        read = self.reader.tokens
        same = next((at for at, pair in enumerate(zip(read, text, strict=False)) if pair[0] != pair[1]), len(read))
        self.reader.take_back(len(read) - min(same, len(text) - 1))
        if len(text) - self.reader.cached > PROMPT_ALONE:
            self.reader.read_prompt(text, heard=self.heard)
        drafted: list[int] = []
        while len(drafted) < length:
            chain = Tree([*text, *drafted][self.reader.cached :])
            (logits,) = self.reader.read(chain, [chain.root])
            self.reader.keep(chain, [])
            probability, token = logits.float().softmax(-1).max(-1)
            if probability < self.confidence:
                break
            drafted.append(int(token))
        return drafted


def room_of_draft(model: Any) -> int:
    """How many tokens a draft model can read.

    Raises:
        ValueError: it can't draft, as what it has read can't be taken back.
    """
    from transformers import DynamicCache

    if reason := unsupported(model):
        raise ValueError(reason)
    config = model.config.get_text_config(decoder=True)
    if any(DynamicCache(config=config).is_sliding):
        raise ValueError(f"{type(model).__name__} can't draft: it forgets what leaves its sliding window")
    return int(getattr(config, "max_position_embeddings", UNBOUNDED))


class Candidates:
    """Drafts by one of transformers' candidate generators, such as a draft model with other tokens.

    Args:
        generator: a `CandidateGenerator`.
        device: where it takes the text.
        name: of the method.
    """

    wants_hidden = False

    def __init__(self, generator: Any, device: torch.device, name: str) -> None:
        self.name = name
        self.generator = generator
        self.device = device
        self._text: list[int] = []

    def begin(self, text: Sequence[int]) -> None:
        self._text = list(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        text = [*self._text, *tree.ahead]
        found, _ = self.generator.get_candidates(torch.tensor([text], device=self.device))
        tree.draft_chain(found[0, len(text) :].tolist())
        return ()

    def method_of(self, node: int) -> str:
        return self.name

    def learn(self, step: Step) -> None:
        self._text += step.written


def prompt_lookup(model: Any, length: int) -> Candidates:
    """What followed the last two tokens of the text, or the last, where they came before; at most `length` tokens."""
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

    found = PromptLookupCandidateGenerator(
        num_output_tokens=length, max_matching_ngram_size=2, max_length=UNBOUNDED, vocab_size=_vocabulary(model)
    )
    return Candidates(found, model.device, "prompt lookup")


def universal_draft(
    model: Any, tokenizer: Any, draft: Any, draft_tokenizer: Any, length: int, *, heard: Heard | None = None
) -> Candidates:
    """Drafts by a model with other tokens: they are read as text and written in the model's tokens.

    Timor et al., "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous
    Vocabularies", arXiv:2502.05202. `heard` is told how far a long prompt is read.
    """
    from transformers import GenerationConfig
    from transformers.generation.candidate_generator import AssistedCandidateGeneratorDifferentTokenizers

    settings = GenerationConfig(do_sample=False, min_length=0, max_length=UNBOUNDED)
    nothing = torch.zeros(1, 0, dtype=torch.long, device=draft.device)
    drafter = AssistedCandidateGeneratorDifferentTokenizers(nothing, draft, tokenizer, draft_tokenizer, settings, {})
    drafter.num_assistant_tokens = length
    known = _Known(drafter, _vocabulary(model), room_of_draft(draft) - length, heard)
    return Candidates(known, model.device, "draft model")


class _Known:
    """A candidate generator whose drafts have only tokens of the model, while the text fits into the draft model.

    Args:
        generator: transformers' own for a draft model with other tokens.
        vocabulary: how many tokens the model has.
        room: how many of the draft model's tokens a text may have.
        heard: told of the passes that read a long prompt.
    """

    def __init__(self, generator: Any, vocabulary: int, room: int, heard: Heard | None) -> None:
        self.generator, self.vocabulary, self.room, self.heard = generator, vocabulary, room, heard
        self._has_read = False

    def get_candidates(self, input_ids: Tensor) -> tuple[Tensor, None]:
        tokenizers = self.generator.target_tokenizer, self.generator.assistant_tokenizer
        tokens = self.generator.convert_source_tokens_to_target_tokens(input_ids, *tokenizers)[0].tolist()
        if len(tokens) > self.room:
            return input_ids, None
        if not self._has_read:
            self._read(tokens)
        found, _ = self.generator.get_candidates(input_ids)
        unknown = (found[0] >= self.vocabulary).nonzero()
        return (found[:, : int(unknown[0])] if len(unknown) else found), None

    def _read(self, tokens: list[int]) -> None:
        """Read a long text; its last token, and a short text, the generator reads itself, in one pass."""
        from transformers import DynamicCache

        draft = self.generator.assistant_model
        if len(tokens) > PROMPT_ALONE:
            cache = DynamicCache(config=draft.config.get_text_config(decoder=True))
            Reader(draft, cache, len(tokens) + 1).read_prompt(tokens, heard=self.heard)
            self.generator.assistant_kwargs["past_key_values"] = cache
        self._has_read = True


def _vocabulary(model: Any) -> int:
    return int(model.config.get_text_config(decoder=True).vocab_size)
