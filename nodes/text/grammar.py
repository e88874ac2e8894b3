"""Grammars that a written text keeps to, a JSON schema or a regular expression, as masks over a model's tokens.

llguidance follows the grammar: it says which tokens may come next, and which must. Its form of a grammar, a text, is
what `json_grammar` and `pattern_grammar` return, once it is known to be one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from engine.errors import InputError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from torch import Tensor

_AS_JSON_DUMPS: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Fixed spaces: they cost no passes, and a model can't go on writing them for ever."""

_OTHER_PROPERTIES = {"additionalProperties", "patternProperties", "unevaluatedProperties", "anyOf", "oneOf", "$ref"}
"""Keywords by which an object's other properties are known."""
_BY_NAME = {"properties", "patternProperties", "$defs", "definitions"}
_SCHEMAS = _BY_NAME | {"items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"}
"""Keywords that hold schemas, some of them by name."""


class GrammarError(ValueError):
    """A schema or a pattern that can't be followed; the message is one line."""


def schema_text(given: Any) -> Any:
    """A JSON schema as text, of a dictionary or a pydantic model too; anything else is returned as it is.

    Raises:
        ValueError: the model has no JSON schema, or the dictionary is no JSON.
    """
    if isinstance(given, type) and issubclass(given, BaseModel):
        try:
            given = given.model_json_schema()
        except PydanticUserError as error:
            raise ValueError(f"{given.__name__} has no JSON schema: {error.message}") from error
    if not isinstance(given, dict):
        return given
    try:
        return json.dumps(given, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"can't be written as JSON: {error}") from error


def grammar_of(json_schema: str, pattern: str) -> str:
    """The grammar that a node's inputs ask for; "" if they ask for none.

    Raises:
        InputError: they can't be followed, or not both.
    """
    if json_schema.strip() and pattern:
        raise InputError("a text can't keep to both json_schema and pattern", input="pattern", hint="leave one out")
    try:
        return json_grammar(json_schema) if json_schema.strip() else pattern_grammar(pattern) if pattern else ""
    except GrammarError as error:
        name = "pattern" if pattern else "json_schema"
        raise InputError(str(error), input=name, hint="correct it, or leave out what isn't supported") from error


def json_grammar(schema: str) -> str:
    """The grammar of the JSON texts that fit a schema, spaced as `json.dumps` spaces them.

    An object has no properties but those that the schema lists, unless it says what others may be: a model might never
    come to their end.

    Raises:
        GrammarError: it isn't a schema, or has what llguidance doesn't support.
    """
    from llguidance import LLMatcher

    try:
        parsed = json.loads(schema)
        if not isinstance(parsed, dict):
            raise GrammarError(f"a JSON schema is an object in braces, not {schema[:40].strip()}")
        return _checked(LLMatcher.grammar_from_json_schema(_closed(parsed), overrides=_AS_JSON_DUMPS))
    except GrammarError:
        raise
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"not a JSON schema: {_one_line(error)}") from error


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, its objects without other properties than they list; as it is if it adds up schemas of objects."""
    whole = copy.deepcopy(schema)
    waiting: list[Any] = [whole]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        if "allOf" in part:
            return schema
        if "properties" in part and not _OTHER_PROPERTIES & part.keys():
            part["additionalProperties"] = False
        for name in _SCHEMAS & part.keys():
            inner = part[name]
            if name in _BY_NAME and isinstance(inner, dict):
                waiting += inner.values()
            else:
                waiting += inner if isinstance(inner, list) else [inner]
    return whole


def pattern_grammar(pattern: str) -> str:
    """The grammar of the texts that a regular expression matches from end to end, in the syntax of Rust's.

    Raises:
        GrammarError: it isn't a regular expression, or looks around, which llguidance doesn't support.
    """
    from llguidance import LLMatcher

    try:
        return _checked(LLMatcher.grammar_from_regex(pattern))
    except GrammarError as error:
        reason = str(error).rpartition("error: ")[2]  # before it, where in llguidance's form of the grammar
        raise GrammarError(f"not a regular expression that can be followed: {reason}") from error


def _checked(grammar: str) -> str:
    from llguidance import LLMatcher

    is_wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if is_wrong:
        raise GrammarError(_one_line(messages[0]))
    return grammar


def _one_line(message: object) -> str:
    """llguidance's message without the excerpts that point to places in it."""
    first = str(message).split("\n   1 | ")[0]  # an excerpt of llguidance's form of the grammar
    return " ".join(word for word in first.split() if word.strip("^"))


def grammar_tokens(tokenizer: Any, ends: Sequence[int]) -> LLTokenizer:
    """A tokenizer of transformers as llguidance reads it, which takes a second for one of 50,000 tokens.

    Args:
        ends: the tokens that end a text.

    Raises:
        GrammarError: llguidance can't know which characters its tokens stand for.
    """
    from llguidance.hf import from_tokenizer

    kind = type(tokenizer).__name__
    if not tokenizer.is_fast:
        raise GrammarError(f"{kind} is a tokenizer without a tokenizer.json, which grammars need")
    if not ends:
        raise GrammarError("the model has no token that ends a text, as its configuration names none")
    try:
        return from_tokenizer(tokenizer, eos_token=[*ends])
    except ValueError as error:
        raise GrammarError(f"the characters of the model's tokens can't be told: {_one_line(error)}") from error


@contextmanager
def following() -> Iterator[None]:
    """What keeps a model from following a grammar is an error of the node that asks for it."""
    try:
        yield
    except GrammarError as error:
        raise InputError(str(error), input="llm", hint="choose another language model, or another grammar") from error


class Constraint:
    """A logits processor of transformers that allows only tokens with which the text keeps to a grammar.

    When the text is complete, only the tokens that end it are left.

    Args:
        grammar: as `json_grammar` or `pattern_grammar` returns it.
        tokens: the model's tokenizer.
        start: tokens before the text, those of the prompt.
    """

    def __init__(self, grammar: str, tokens: LLTokenizer, start: int) -> None:
        self.grammar, self.tokens, self.start = grammar, tokens, start
        self._matcher = self._new()
        self._read: list[int] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (1, vocabulary) with -inf for what the grammar doesn't allow after the ids (1, length).

        Raises:
            GrammarError: no token of the model is allowed, or the text so far isn't.
        """
        allowed = self._allowed(input_ids[0].tolist(), scores.shape[-1])
        scores = scores.masked_fill(~allowed.to(scores.device), -float("inf"))
        if int(allowed.sum()) == 1:  # it must come, whatever other processors say
            scores = scores.masked_fill(allowed.to(scores.device), 0.0)
        return scores

    def forced(self, text: Sequence[int]) -> list[int]:
        """The tokens that must come after a text, the prompt's included; as far as they are known."""
        matcher = self._at(text)
        tokens = matcher.compute_ff_tokens()
        after = matcher
        if tokens:
            after = matcher.deep_copy()
            after.consume_tokens(tokens)
        is_over = after.is_stopped() and not after.is_error() and text[-1] not in self.tokens.eos_tokens
        return [*tokens, self.tokens.eos_token] if is_over else tokens

    def is_complete(self, text: Sequence[int]) -> bool:
        """Whether a text, the prompt included, fits the grammar as it is."""
        ended = len(text) > self.start and text[-1] in self.tokens.eos_tokens
        return self._at(text[:-1] if ended else text).is_accepting()

    def _allowed(self, text: list[int], width: int) -> Tensor:
        """Bool (width,): whether a token is allowed after the text. A model may have more tokens than its tokenizer."""
        import numpy as np
        import torch

        matcher = self._at(text)
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        known = torch.from_numpy(bits[: min(self.tokens.vocab_size, width)]).bool()
        if matcher.is_error():
            raise GrammarError(f"the grammar can't be followed: {matcher.get_error().splitlines()[0]}")
        must = matcher.compute_ff_tokens()
        if not known.any() or (must and not matcher.validate_tokens(must[:1])):
            raise GrammarError("the model's tokens can't write what the grammar asks for")
        return torch.nn.functional.pad(known, (0, width - len(known)))

    def _at(self, text: Sequence[int]) -> LLMatcher:
        """The matcher after a text: it reads on, or afresh if it has read another one."""
        own = text[self.start :]
        if list(own[: len(self._read)]) != self._read:
            self._matcher, self._read = self._new(), []
        for token in own[len(self._read) :]:
            if not self._matcher.consume_token(token):
                message = self._matcher.get_error().splitlines()[0]
                self._matcher, self._read = self._new(), []
                raise GrammarError(f"the text doesn't fit the grammar: {message}")
            self._read.append(token)
        return self._matcher

    def _new(self) -> LLMatcher:
        from llguidance import LLMatcher

        return LLMatcher(self.tokens, self.grammar, log_level=0)
