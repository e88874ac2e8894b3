"""Guesses where nothing was found, or what was found is wrong."""

from __future__ import annotations

import pytest
import torch

from nodes.text.decoding.alternatives import COMMON, LIKELY, Alternatives, likeliest
from nodes.text.decoding.loop import Step
from nodes.text.decoding.suffix import Memory
from nodes.text.decoding.tree import Tree


def tried(
    alternatives: Alternatives, last: int, known: dict[int, float] | None = None, *, next_: bool = True
) -> list[int]:
    return [token for token, _ in alternatives.after(last, {} if known is None else known, is_next=next_)]


def chance(alternatives: Alternatives, last: int, token: int) -> float:
    return dict(alternatives.after(last, {}, is_next=False))[token]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_likeliest_tokens_come_with_their_probabilities(dtype: torch.dtype) -> None:
    rows = [torch.log(torch.tensor(row)).to(dtype) for row in ([0.1, 0.5, 0.25, 0.15], [0.7, 0.1, 0.1, 0.1])]
    first, second = likeliest(rows)
    assert [token for token, _ in first] == [1, 2, 3, 0]
    assert [share for _, share in first] == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.01)
    assert second[0] == (0, pytest.approx(0.7, abs=0.01))
    assert likeliest([]) == []
    assert len(likeliest([torch.zeros(50)])[0]) == LIKELY


def test_what_the_model_nearly_wrote_after_a_token_is_tried_when_the_token_comes_again() -> None:
    found = Alternatives()
    found.learn(7, set(), 20, [(20, 0.5), (21, 0.4)])
    found.learn(20, set(), 30, [(30, 0.9)])
    assert tried(found, 7, next_=False)[:2] == [20, 21]
    assert chance(found, 7, 20) > chance(found, 7, 21)


def test_what_was_passed_over_is_tried_in_the_next_place_and_not_later() -> None:
    found = Alternatives()
    found.learn(7, set(), 20, [(20, 0.5), (21, 0.4)])
    assert 21 in tried(found, 20)
    assert 21 not in tried(found, 20, next_=False)


def test_common_tokens_are_tried_the_commonest_first_and_not_too_many() -> None:
    found = Alternatives()
    found.begin([5, 5, 5, 6, 6, *range(100, 130)])
    assert tried(found, 1)[:2] == [5, 6]
    assert len(tried(found, 1)) == COMMON
    for _ in range(4):
        found.learn(1, set(), 6, [])
    assert tried(found, 1)[0] == 6


def test_tokens_that_are_tried_anyhow_leave_the_rest_for_others() -> None:
    found, known = Alternatives(), {5: 0.9}
    found.begin([5, 6])
    assert tried(found, 1, known) == [6]
    assert sum(known.values()) <= 1


def test_what_turns_out_right_is_tried_before() -> None:
    found = Alternatives()
    found.begin([5, 6, 5])
    before = chance(found, 1, 5)
    for _ in range(30):
        found.learn(1, set(), 5, [])
    assert chance(found, 1, 5) > 2 * before


def test_a_memory_tries_them_after_all_that_it_finds() -> None:
    memory, tree = Memory(), Tree([2])
    memory.begin([1, 2])
    row = torch.log(torch.tensor([0.0, 0.0, 0.0, 0.6, 0.4]))
    memory.learn(Step(tree, [], [3], {tree.root: 3}, [row], None))
    memory.text.add([2])
    found = [(branch.path, branch.source) for branch in memory.branches() if len(branch.path) == 1]
    assert found[0] == ((3,), 0), "it followed before"
    assert ((4,), 1) in found, "it nearly did"
