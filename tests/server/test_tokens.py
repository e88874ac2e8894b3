"""Guessing a token takes time, over however many connections, and is told in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from engine.server.http.tokens import FREE_TRIES, MOST_ADDRESSES, MOST_WAITING, Tokens, cookie_name

TOKEN = "a secret of these tests"


class Guesses:
    """A server's tokens, with a clock that sleeping moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 100.0
        self.tokens = Tokens(TOKEN, lambda: self.time)
        self.slept: list[float] = []

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        monkeypatch.setattr("engine.server.http.tokens.asyncio.sleep", sleep)

    def ask(self, token: str = "", remote: str = "192.0.2.1", cookie: str = "") -> bool:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if cookie:
            headers["Cookie"] = f"{cookie_name(make_mocked_request('GET', '/'))}={cookie}"
        request = make_mocked_request("GET", "/queue", headers).clone(remote=remote)
        return asyncio.run(self.tokens.carried_by(request))

    def guess(self, times: int, remote: str = "192.0.2.1") -> None:
        assert not any(self.ask("wrong", remote) for _ in range(times))


@pytest.fixture
def guesses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guesses]:
    return Guesses(monkeypatch)


def test_a_few_mistakes_cost_nothing(guesses: Guesses) -> None:
    guesses.guess(FREE_TRIES)
    assert guesses.ask(TOKEN)
    assert guesses.slept == []


def test_further_ones_take_turns_right_ones_too(guesses: Guesses) -> None:
    guesses.guess(FREE_TRIES + 1)
    guesses.guess(3)
    assert guesses.slept == [1, 2, 3]
    assert guesses.ask(TOKEN)
    assert guesses.ask(TOKEN)
    assert guesses.slept == [1, 2, 3, 4, 4]


def test_they_are_forgotten_as_time_passes(guesses: Guesses) -> None:
    guesses.guess(FREE_TRIES + 1)
    guesses.time += 1
    assert guesses.ask(TOKEN)
    assert guesses.slept == []
    guesses.time += 3600
    guesses.guess(FREE_TRIES)
    assert guesses.slept == []


def test_no_more_than_some_wait(guesses: Guesses) -> None:
    guesses.guess(FREE_TRIES + MOST_WAITING + 1)
    with pytest.raises(web.HTTPTooManyRequests) as refused:
        guesses.ask(TOKEN)
    assert refused.value.headers["Retry-After"] == "31"
    guesses.time += 1
    assert guesses.ask(TOKEN)


def test_browsers_and_other_addresses_never_wait(guesses: Guesses) -> None:
    guesses.guess(20)
    guesses.slept.clear()
    assert guesses.ask(cookie=guesses.tokens.cookie)
    assert guesses.ask(TOKEN, remote="192.0.2.2")
    assert not guesses.ask(cookie=TOKEN)
    assert not guesses.ask()
    assert guesses.slept == []


def test_a_network_of_ipv6_counts_as_one_address(guesses: Guesses) -> None:
    guesses.guess(FREE_TRIES + 1, "2001:db8::1")
    assert guesses.ask(TOKEN, remote="2001:db8::2")
    assert guesses.ask(TOKEN, remote="2001:db8:0:1::1")
    assert guesses.slept == [1]


def test_addresses_are_not_remembered_without_bound(guesses: Guesses) -> None:
    for number in range(MOST_ADDRESSES + 10):
        guesses.tokens._owe(str(number))
    assert len(guesses.tokens._debts) == MOST_ADDRESSES


def test_the_log_says_where_wrong_tokens_come_from_but_not_which(
    guesses: Guesses, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        guesses.ask("nearly right")
        guesses.ask()
    assert caplog.messages == ["a wrong token came from 192.0.2.1"]


def test_the_cookie_is_the_same_after_a_restart_and_tells_no_token() -> None:
    assert Tokens("one").cookie == Tokens("one").cookie != Tokens("two").cookie
    assert len(Tokens("one").cookie) == 64
