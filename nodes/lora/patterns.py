"""The patterns of layers' names in PEFT's configurations: a part of regular expressions that any text can be matched
with in a time that grows with its length and the pattern's, whoever wrote them.

There are names, `.`, `\\d`, `\\w`, escaped characters, simple classes such as `[0-9]` and `[^.]`, alternatives in
parentheses, which may be left out by `?`, anchors, and `*`, `+` and `?` behind a single character. What is repeated is
never a group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from functools import lru_cache

Step = Callable[[str, Set[int]], Set[int]]
"""A text and places in it → the places where a part of a pattern may end that begins at one of these."""

LONGEST = 2000
"""Characters of a pattern."""
DEEPEST = 20
"""Parentheses within each other."""

_CHARACTER = re.compile(
    r"(?P<any>\.)|\\(?P<kind>[dw])|\\(?P<escaped>[^\w\s])|\[(?P<not>\^?)(?P<class>[\w./-]+)\]|(?P<plain>[\w/: -])",
    re.ASCII,
)
_REPEATED = re.compile(r"([*+?])\??")
_KINDS = {"d": r"\d", "w": r"\w"}


def matches(pattern: str, text: str, *, behind_a_dot: bool = False) -> bool:
    """Whether a pattern is the whole text, or if wanted all that comes behind one of its dots.

    Raises ValueError for a pattern of another kind.
    """
    starts = {0} | ({at + 1 for at, letter in enumerate(text) if letter == "."} if behind_a_dot else set())
    return len(text) in parsed(pattern)(text, starts)


@lru_cache(maxsize=4096)
def parsed(pattern: str) -> Step:
    """A pattern; raises ValueError where it is of another kind."""
    if len(pattern) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} characters")
    step, end = _alternatives(pattern, 0, 0)
    if end < len(pattern):
        raise ValueError("a parenthesis is closed that isn't open")
    return step


def _alternatives(pattern: str, at: int, depth: int) -> tuple[Step, int]:
    if depth > DEEPEST:
        raise ValueError("too many parentheses are within each other")
    found: list[Step] = []
    while True:
        step, at = _sequence(pattern, at, depth)
        found.append(step)
        if pattern[at : at + 1] != "|":
            break
        at += 1
    return lambda text, starts: {end for step in found for end in step(text, starts)}, at


def _sequence(pattern: str, at: int, depth: int) -> tuple[Step, int]:
    steps: list[Step] = []
    while at < len(pattern) and pattern[at] not in "|)":
        step, at = _part(pattern, at, depth)
        steps.append(step)

    def run(text: str, places: Set[int]) -> Set[int]:
        for step in steps:
            if not places:
                break
            places = step(text, places)
        return places

    return run, at


def _part(pattern: str, at: int, depth: int) -> tuple[Step, int]:
    if pattern[at] == "^":
        return lambda text, starts: starts & {0}, at + 1
    if pattern[at] == "$":
        return lambda text, starts: starts & {len(text)}, at + 1
    if pattern[at] == "(":
        step, at = _alternatives(pattern, at + (3 if pattern.startswith("(?:", at) else 1), depth + 1)
        if pattern[at : at + 1] != ")":
            raise ValueError("a parenthesis isn't closed")
        if pattern[at + 1 : at + 2] == "?":
            return lambda text, starts: starts | step(text, starts), at + 2
        return step, at + 1
    match = _CHARACTER.match(pattern, at)
    if match is None:
        raise ValueError(f"{pattern[at:][:9]!r} is none of names, alternatives, anchors and repeated characters")
    fits = _fits(match)
    repeated = _REPEATED.match(pattern, match.end())
    return _repeated(fits, repeated[1] if repeated else ""), (repeated or match).end()


def _fits(match: re.Match[str]) -> Callable[[str], bool]:
    """Whether a letter is what a single character of a pattern stands for."""
    if match["any"]:
        return lambda letter: True
    if match["class"] or match["kind"]:
        text = match[0] if match["class"] else _KINDS[match["kind"]]
        try:
            own = re.compile(text)
        except re.error as error:
            raise ValueError(str(error)) from error
        return lambda letter: own.fullmatch(letter) is not None
    wanted = match["escaped"] or match["plain"]
    return lambda letter: letter == wanted


def _repeated(fits: Callable[[str], bool], how: str) -> Step:
    def once(text: str, starts: Set[int]) -> Set[int]:
        return {start + 1 for start in starts if start < len(text) and fits(text[start])}

    def often(text: str, starts: Set[int]) -> Set[int]:
        ends: set[int] = set()
        for at in range(min(starts, default=len(text)), len(text)):
            if (at in starts or at in ends) and fits(text[at]):
                ends.add(at + 1)
        return ends

    match how:
        case "*":
            return lambda text, starts: starts | often(text, starts)
        case "+":
            return often
        case "?":
            return lambda text, starts: starts | once(text, starts)
    return once
