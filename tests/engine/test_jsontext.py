"""A workflow's text is read as it stands, or refused with the place of what can't be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.document.jsontext import json_of
from engine.errors import Problem, WorkflowError

DATA = {"1": {"class_type": "Text", "inputs": {"text": 'é ": : \\', "more": [1, 2.5, None, {}]}}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ascii", [True, False])
def test_every_encoding_that_json_may_have_is_read(encoding: str, ascii: bool) -> None:
    assert json_of(json.dumps(DATA, ensure_ascii=ascii).encode(encoding)) == DATA


def test_a_text_may_begin_with_a_byte_order_mark() -> None:
    assert json_of("\ufeff[1]") == [1]


@pytest.mark.parametrize("data", ['{"text": "é"}'.encode("latin-1"), b"\xff\xfe\x00\xd8\x00"])
def test_what_is_no_text_is_refused_with_the_files_name(data: bytes) -> None:
    with pytest.raises(WorkflowError, match=r"^'a.json' is not JSON: .*\(save it in UTF-8\)"):
        json_of(data, "'a.json'")


NUMBER = '{"3": {"class_type": "Mix", "inputs": {"a": 1, "scale": %s}}}'
TWICE = "is written twice"


def wrong(text: str) -> list[tuple[str, str | None, str | None]]:
    """The message, node and input of each problem."""
    with pytest.raises(WorkflowError) as caught:
        json_of(text)
    return [(problem.message, problem.node, problem.input) for problem in caught.value.problems]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "1" * 400 + ".0"])
@pytest.mark.parametrize("around", ["%s", '{"prompt": %s, "client_id": "a"}', '{"kinograph": 1, "graph": %s}',
                                    '{"subgraphs": {"Face": {"graph": %s}}, "graph": {}}',
                                    '{"prompt": {"graph": {}, "subgraphs": {"Face": {"graph": %s}}}}'])  # fmt: skip
def test_a_number_that_json_lacks_is_named_with_its_node_and_input(number: str, around: str) -> None:
    assert wrong(around % (NUMBER % number)) == [(f"{number} is no number that JSON has", "3", "scale")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (NUMBER % '[0, {"x": NaN}]', ("1.x: NaN is no number that JSON has", "3", "scale")),
        ('{"3": {"_meta": {"at": NaN}}}', ("_meta.at: NaN is no number that JSON has", "3", None)),
        ('{"graph": {}, "layout": [NaN]}', ("layout.0: NaN is no number that JSON has", None, None)),
        (
            '{"nodes": [{"id": 7, "widgets_values": [1, NaN]}]}',
            ("widgets_values.1: NaN is no number that JSON has", "7", None),
        ),
        (
            '{"definitions": {"subgraphs": [{"nodes": [{"id": 7, "pos": [1, NaN]}]}]}, "nodes": []}',
            ("pos.1: NaN is no number that JSON has", "7", None),
        ),
        ("NaN", ("NaN is no number that JSON has", None, None)),
    ],
)
def test_elsewhere_it_is_named_with_its_place(text: str, found: tuple[str, str | None, str | None]) -> None:
    assert wrong(text) == [found]


@pytest.mark.parametrize("colon", [":", " :", "\t:", "\n :"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"graph": {"3": {}, "4": {}, "3": {}}}', (TWICE, "3", None)),
        ('{"3": {"inputs": {"a": 1, "b": "\\":", "a": 2}}}', (TWICE, "3", "a")),
        ('{"3": {"class_type": "A", "inputs": {"a": {"x": 1, "x": 1}}}}', (f"x: {TWICE}", "3", "a")),
        ('{"3": {}, "3": {}}', (f"3: {TWICE}", None, None)),
    ],
)
def test_a_name_that_is_there_twice_is_told(text: str, found: tuple[str, str | None, str | None], colon: str) -> None:
    assert wrong(text.replace(":", colon) if "\\" not in text else text) == [found]


def test_all_of_them_are_told_in_order() -> None:
    text = '{"1": {"inputs": {"a": NaN, "b": [1e999], "c": 1, "c": 2}}, "2": {"inputs": {"a": NaN}}}'
    assert [place for _, *place in wrong(text)] == [["1", "c"], ["1", "a"], ["1", "b"], ["2", "a"]]


def test_a_thousand_are_not() -> None:
    assert len(wrong("[" + "NaN, " * 999 + "NaN]")) == 20


@pytest.mark.parametrize("text", ["{", "[" * 100_000 + "NaN", '{"a": NaN,}', '"\\ud800"', "Infinity and more"])
def test_what_is_no_json_at_all_is_said_to_be_none(text: str) -> None:
    with pytest.raises(WorkflowError, match="the workflow is not JSON: "):
        json_of(text)


TEXTS = st.text(st.sampled_from('a":: \\\t\n{},[]éN1')) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(JSON, st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\n", "\t:\n")]), st.booleans())
def test_all_that_json_can_say_is_read(data: Any, separators: tuple[str, str], ascii: bool) -> None:
    try:
        text = json.dumps(data, separators=separators, ensure_ascii=ascii).encode()
    except UnicodeEncodeError:  # half of a pair
        return
    assert json_of(text) == data


def test_a_problem_says_what_to_do() -> None:
    with pytest.raises(WorkflowError) as caught:
        json_of(NUMBER % "NaN")
    assert caught.value.problems == (Problem("NaN is no number that JSON has", "3", "scale", "write a finite number"),)
