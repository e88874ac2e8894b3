"""Texts that keep to a JSON schema or a pattern, written by a tiny model that would rather babble."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from jsonschema import validate
from pydantic import BaseModel, Field, ValidationError

from engine.errors import InputError
from engine.models import Models
from engine.node import Context
from engine.values import LanguageModel, Vocabulary
from nodes.text.grammar import Constraint, GrammarError, grammar_tokens, json_grammar, pattern_grammar
from nodes.text.models import LoadedModel, language_model
from nodes.text.nodes import LLMLoad, LookaheadDecode
from tests.text.conftest import babbler, scribe

SCENE = {
    "type": "object",
    "properties": {
        "subject": {"type": "string", "minLength": 1, "maxLength": 12},
        "colour": {"enum": ["red", "blue"]},
        "size": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "minItems": 1, "maxItems": 3},
    },
    "required": ["subject", "colour", "size", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scribe(tmp_path_factory.mktemp("scribe"))


@pytest.fixture
def llm(ctx: Context, folder: Path) -> LoadedModel:
    return language_model(ctx, LLMLoad(source=str(folder)).run(ctx))


def decode(ctx: Context, folder: Path, **inputs: Any) -> Any:
    llm = LLMLoad(source=str(folder)).run(ctx)
    return LookaheadDecode(llm=llm, **{"prompt": "a picture", "max_new_tokens": 200} | inputs).run(ctx)


def constraint(llm: LoadedModel, grammar: str, start: int = 0) -> Constraint:
    return Constraint(grammar, llm.grammar_tokens, start)


def allowed(llm: LoadedModel, limits: Constraint, text: str) -> set[str]:
    """The tokens that may follow a text, as texts."""
    ids = llm.tokenizer(text, return_tensors="pt").input_ids.long()
    scores = limits(ids, torch.zeros(1, llm.model.config.vocab_size))
    return {llm.tokenizer.decode([token]) for token in (scores[0] > -torch.inf).nonzero()[:, 0].tolist()}


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_json_that_fits_the_schema(ctx: Context, folder: Path, seed: int) -> None:
    answer = decode(ctx, folder, json_schema=json.dumps(SCENE), temperature=1.5, seed=seed).text
    validate(json.loads(answer), SCENE)
    assert json.dumps(json.loads(answer), ensure_ascii=False) == answer, "spaced as json.dumps spaces it"


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("method", ["auto", "lookahead", "jacobi", "prompt_lookup", "suffix", "greedy"])
def test_every_method_writes_what_generate_writes_by_the_same_grammar(
    ctx: Context, folder: Path, llm: LoadedModel, temperature: float, method: str
) -> None:
    ids = llm.tokenizer("user a picture ", return_tensors="pt").input_ids
    limits = constraint(llm, json_grammar(json.dumps(SCENE)), ids.shape[1])
    sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0} if temperature else {}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        reference = llm.model.generate(
            ids, max_new_tokens=200, logits_processor=[limits], eos_token_id=2, pad_token_id=0, **sampling
        )
    inputs = {"json_schema": json.dumps(SCENE), "temperature": temperature, "seed": 5, "method": method}
    assert decode(ctx, folder, **inputs).text == llm.tokenizer.decode(reference[0, ids.shape[1] : -1])
    assert reference[0, -1] == 2


def test_what_must_come_costs_no_pass(shared: Models, folder: Path) -> None:
    """Of a schema that leaves one choice of two words and no other."""
    figures: list[Any] = []
    ctx = Context(models=shared, on_report=figures.append)
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
    written = decode(ctx, folder, json_schema=schema, method="greedy")
    assert json.loads(written.text)["colour"] in ("red", "blue")
    assert written.tokens > 10
    assert figures[-1]["passes"].value <= 3


def test_the_answer_matches_the_pattern(ctx: Context, folder: Path) -> None:
    texts = {decode(ctx, folder, pattern="(red|blue) fish", temperature=2.0, seed=seed).text for seed in range(8)}
    assert texts == {"red fish", "blue fish"}


class Scene(BaseModel):
    """A model whose schema refers to another."""

    class Light(BaseModel):
        kind: Literal["dawn", "noon"]

    light: Light
    people: int = Field(ge=0, le=20)


def test_a_pydantic_model_or_a_dictionary_is_a_schema(ctx: Context, folder: Path) -> None:
    Scene.model_validate_json(decode(ctx, folder, json_schema=Scene).text)
    validate(json.loads(decode(ctx, folder, json_schema=SCENE).text), SCENE)


def test_a_pydantic_model_that_has_no_schema_is_refused() -> None:
    class Odd(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        thing: torch.Tensor

    with pytest.raises(ValidationError, match="Odd has no JSON schema"):
        LookaheadDecode.model_validate({"prompt": "a", "json_schema": Odd})


@pytest.mark.parametrize("value", [{1, 2}, [float("nan")]])
def test_a_dictionary_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="can't be written as JSON"):
        LookaheadDecode.model_validate({"prompt": "a", "json_schema": {"enum": value}})


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompt": "\ud800"},
        {"pattern": "\ud800"},
        {"json_schema": {"enum": ["\ud800"]}},
        {"stop": ("a", "\ud800")},
        {"messages": [{"role": "user", "content": "\ud800"}]},
    ],
)
def test_half_a_surrogate_pair_is_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"holds U\+D800, half of a surrogate pair"):
        LookaheadDecode(llm=LanguageModel("a", "a", "a", "float32"), **inputs)


def test_only_the_end_may_follow_a_complete_text(llm: LoadedModel) -> None:
    limits = constraint(llm, json_grammar('{"enum": ["a", "b"]}'))
    assert allowed(llm, limits, '"') == {"a", "b"}
    assert allowed(llm, limits, '"a"') == {"</s>"}


def test_what_must_come_comes_though_others_forbid_it(llm: LoadedModel) -> None:
    """As a processor of transformers may do that knows nothing of the grammar, such as one for banned words."""
    limits = constraint(llm, pattern_grammar("ab"))
    ids, banned = llm.tokenizer("a", return_tensors="pt").input_ids.long(), torch.full((1, 281), -torch.inf)
    scores = limits(ids, banned)
    assert scores.softmax(-1).argmax() == llm.tokenizer.convert_tokens_to_ids("b")
    assert scores.isfinite().sum() == 1


def test_a_vocabulary_that_the_models_is_larger_or_smaller_than(llm: LoadedModel) -> None:
    limits = constraint(llm, json_grammar('{"type": "string"}'))
    ids = llm.tokenizer('"a', return_tensors="pt").input_ids.long()
    size = len(llm.tokenizer)
    for width in (size - 5, size, size + 40):
        scores = limits(ids, torch.zeros(1, width))
        assert scores.shape == (1, width)
        assert not scores[:, size:].isfinite().any()
        assert scores[:, 3:size].isfinite().any()


def test_another_text_starts_afresh_and_the_prompt_is_no_part_of_it(llm: LoadedModel) -> None:
    limits = constraint(llm, pattern_grammar("abc|axy"), start=2)
    assert allowed(llm, limits, "??ab") == {"c"}
    assert allowed(llm, limits, "??ax") == {"y"}
    assert allowed(llm, limits, "!!a") == {"b", "x"}


def test_a_text_outside_the_grammar_is_refused_and_forgotten(llm: LoadedModel) -> None:
    limits = constraint(llm, pattern_grammar("abc"))
    with pytest.raises(GrammarError, match="doesn't fit the grammar"):
        allowed(llm, limits, "b")
    assert allowed(llm, limits, "ab") == {"c"}


@pytest.mark.parametrize(
    ("before", "must"),
    [
        ("", ['{"', *"subject", '":']),
        ('{"subject": "a', []),
        ('{"subject": "a",', [' "', *"colour", '":', ' "']),
        ('{"subject": "a", "colour": "r', ["ed", '",', ' "', *"size", '":', " "]),
        ('{"subject": "a", "colour": "red", "size": 3, "tags": ["a", "b", "c"', ["]", "}", "</s>"]),
        ('{"subject": "a", "colour": "red", "size": 3, "tags": ["a"]}', ["</s>"]),
        ('{"subject": "a", "colour": "red", "size": 3, "tags": ["a"]}</s>', []),
    ],
)
def test_it_knows_what_must_come(llm: LoadedModel, before: str, must: list[str]) -> None:
    limits = constraint(llm, json_grammar(json.dumps(SCENE)))
    text = llm.tokenizer(before).input_ids
    forced = limits.forced(text)
    assert [llm.tokenizer.decode([token]) for token in forced] == must
    for at, token in enumerate(forced):
        assert allowed(llm, limits, llm.tokenizer.decode([*text, *forced[:at]])) == {llm.tokenizer.decode([token])}


def test_half_an_answer_is_an_error(ctx: Context, folder: Path) -> None:
    with pytest.raises(InputError, match=r"not complete after max_new_tokens, 24: \{\"subject\"") as caught:
        decode(ctx, folder, json_schema=SCENE, max_new_tokens=24)
    assert caught.value.input == "max_new_tokens"
    assert "raise it" in str(caught.value)


def test_an_answer_may_be_complete_before_its_end(ctx: Context, folder: Path) -> None:
    assert re.fullmatch("[0-9]{4}", decode(ctx, folder, pattern="[0-9]{2,50}", max_new_tokens=4).text)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("{", "not a JSON schema: EOF while parsing|not a JSON schema: Expecting"),
        ("3", "a JSON schema is an object in braces, not 3|not a JSON schema: Expecting object"),
        ('{"type": "strin"}', "Invalid type: strin"),
        ('{"not": {"type": "string"}}', 'Unimplemented keys: \\["not"\\]'),
        ('{"type": "string", "pattern": "("}', "regex parse error: \\( error: unclosed group"),
        ('{"$ref": "http://localhost/x"}', "Resource 'http://localhost/x' is not present"),
        ("[" * 100_000, "not a JSON schema"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "not a JSON schema"),
    ],
)
def test_a_schema_that_cant_be_followed_is_refused_before_the_run(schema: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        LookaheadDecode.check_inputs({"json_schema": schema})
    assert caught.value.input == "json_schema"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["(", "(?=a)b"])
def test_a_pattern_that_cant_be_followed_is_refused_before_the_run(pattern: str) -> None:
    with pytest.raises(InputError, match=r"not a regular .* followed: (unclosed group|look-around)") as caught:
        LookaheadDecode.check_inputs({"pattern": pattern})
    assert caught.value.input == "pattern"
    assert "\n" not in str(caught.value)


def test_what_doesnt_go_with_a_schema_is_refused(ctx: Context, folder: Path) -> None:
    with pytest.raises(InputError, match="both json_schema and pattern"):
        LookaheadDecode.check_inputs({"json_schema": "{}", "pattern": "a"})
    with pytest.raises(InputError, match="ends at stop can't keep to json_schema"):
        LookaheadDecode.check_inputs({"json_schema": "{}", "stop": ("a",)})
    with pytest.raises(InputError, match="a vocabulary can't keep to pattern"):
        decode(ctx, folder, pattern="a", vocabulary=Vocabulary({"subject": ("cat",)}))


def test_a_tokenizer_that_cant_write_it_is_refused(ctx: Context, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model's tokens can't write what the grammar asks for"):
        decode(ctx, babbler(tmp_path), json_schema=SCENE)


def test_a_tokenizer_that_grammars_cant_read_is_refused(llm: LoadedModel) -> None:
    from tokenizers import Tokenizer, models
    from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "end": 2}, unk_token="a"))
    with pytest.raises(GrammarError, match="the characters of the model's tokens can't be told"):
        grammar_tokens(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="end"), [2])
    with pytest.raises(GrammarError, match=r"ByT5Tokenizer is a tokenizer without a tokenizer\.json"):
        grammar_tokens(ByT5Tokenizer(), [1])
    with pytest.raises(GrammarError, match="no token that ends a text"):
        grammar_tokens(llm.tokenizer, [])
