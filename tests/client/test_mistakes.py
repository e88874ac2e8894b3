"""Calls of the client with the wrong kind of thing: told in plain words before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.client import Client
from engine.errors import UsageError

NOBODY = "http://127.0.0.1:9"
WORKFLOW = {"1": {"class_type": "SaveText", "inputs": {"text": "x"}}}


@pytest.mark.parametrize("given", [3, b"secret", ["secret"], object()])
def test_an_address_or_a_token_that_is_no_text(given: Any) -> None:
    with pytest.raises(UsageError, match="is not the address of a server") as told:
        Client(given)
    assert "0x" not in str(told.value)
    with pytest.raises(UsageError, match=r"^token: .* is not a text \(give the text that the server was started with"):
        Client(NOBODY, token=given)


@pytest.mark.parametrize("given", ["10", [1], -1, True, float("nan"), 0])
@pytest.mark.parametrize("name", ["connect_timeout", "silence_timeout"])
def test_a_timeout_that_is_no_time(name: str, given: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name}: .* is not a time \(give seconds"):
        Client(NOBODY, **{name: given})


def test_patience_and_waiting_may_be_none_at_all_but_not_less() -> None:
    with pytest.raises(UsageError, match=r"^patience: the number -1 is not a time"):
        Client(NOBODY, patience=-1)
    for patience in (0, None):
        Client(NOBODY, patience=patience).close()


@pytest.fixture
def client() -> Any:
    with Client(NOBODY, patience=0) as client:
        yield client


@pytest.mark.parametrize("given", [3, None, [1], object()])
def test_what_is_sent_under_names_that_are_no_texts(client: Client, given: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a")
    with pytest.raises(UsageError, match=r"^id: .* is not a text"):
        client.job(given)
    with pytest.raises(UsageError, match=r"^path: .* is not a path \(name a picture, a video or a text\)"):
        client.upload(given)
    with pytest.raises(UsageError, match=r"^subfolder: .* is not a text"):
        client.upload(file, subfolder=given)


def test_other_arguments_of_the_wrong_kind(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a")
    with pytest.raises(UsageError, match=r"^name: the number 3 is not a text"):
        client.upload(file, name=3)  # type: ignore[arg-type]
    for targets in (3, "1", [3]):
        with pytest.raises(UsageError, match=r"^targets: .* is not a (list|text) \(give ids of nodes"):
            client.submit(WORKFLOW, targets=targets)  # type: ignore[arg-type]
    for limit in (2.5, None, -1, True):
        with pytest.raises(UsageError, match=r"^limit: .* is not a whole number"):
            client.history(limit)  # type: ignore[arg-type]
